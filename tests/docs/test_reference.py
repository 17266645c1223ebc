"""The reference shows the public names, each once, as they are imported."""

import re
from pathlib import Path

import aekd_tf
from aekd_tf import data, losses, models, weightings

PAGES = sorted((Path(__file__).parents[2] / "docs" / "reference").glob("*.md"))
SUBMODULES = (data, losses, models, weightings)


def documented():
    """`(kind, name)` of each entry of the reference."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    return re.findall(r"^\.\. auto(\w+):: aekd_tf\.([\w.]+)$", text, re.M)


def public():
    """Public names under `aekd_tf.`; what both levels have counts once, at the top."""
    modules = {module.__name__.removeprefix("aekd_tf.") for module in SUBMODULES}
    top = set(aekd_tf.__all__) - modules - {"__version__"}
    below = {
        f"{module.__name__.removeprefix('aekd_tf.')}.{name}"
        for module in SUBMODULES
        for name in module.__all__
        if name not in top
    }
    return top | below


def test_all_public_names_are_there_and_no_others():
    names = [name for _, name in documented()]
    assert len(names) == len(set(names))
    assert set(names) == public()


def test_each_entry_is_of_its_kind():
    for kind, name in documented():
        found = aekd_tf
        for part in name.split("."):
            found = getattr(found, part)
        is_class = isinstance(found, type)
        if kind == "exception":
            assert issubclass(found, Exception), name
        else:
            assert kind == ("class" if is_class else "function"), name


def test_each_entry_has_a_heading_and_each_page_a_place_in_the_list():
    index = PAGES[[page.stem for page in PAGES].index("index")].read_text(encoding="utf-8")
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for _, name in re.findall(r"^\.\. auto(\w+):: aekd_tf\.([\w.]+)$", text, re.M):
            assert f"\n## `{name}`\n" in text, name
        if page.stem != "index":
            assert f"\n{page.stem}\n" in index, page
