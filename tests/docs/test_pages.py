"""Each page of docs/weightings, docs/losses and docs/how runs as printed and is complete."""

import inspect
import re

import pytest
from pages import DOCS, blocks_of, names_of, text_of

import aekd_tf
from aekd_tf import losses, weightings
from aekd_tf.names import DISTILLATION_LOSSES, WEIGHTINGS

FOLDERS = ("weightings", "losses", "how")
PAGES = {
    folder: sorted(f"{folder}/{page.name}" for page in (DOCS / folder).glob("*.md"))
    for folder in FOLDERS
}
ALL = [page for pages in PAGES.values() for page in pages]
UNNAMED = {"fixed": aekd_tf.FixedWeighting, "smoothed": aekd_tf.Smoothed}
MADE = {name: weightings.get(name) for name in WEIGHTINGS}
KINDS = {name: type(made) for name, made in MADE.items()} | UNNAMED
RESULTS = " ".join(text_of("weightings_results.md").split())


def sections(page):
    return re.findall(r"^## (.+)$", text_of(page), re.MULTILINE)


@pytest.mark.xdist_group("pages")  # which share what they compile
@pytest.mark.parametrize("page", ALL)
def test_examples_run_and_print_what_the_page_says(page):
    assert names_of(page)


@pytest.mark.parametrize("page", ALL)
def test_code_is_fenced(page):
    languages = {language for language, *_ in blocks_of(text_of(page))}
    assert "python" in languages
    assert languages <= {"python", "sh", "text"}
    outside = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    assert "```" not in outside
    assert not re.search(r"^    ", outside, re.MULTILINE)


def test_every_name_has_a_page():
    assert PAGES["weightings"] == sorted(f"weightings/{name}.md" for name in KINDS)
    assert PAGES["losses"] == sorted(f"losses/{name}.md" for name in DISTILLATION_LOSSES)


@pytest.mark.parametrize("name", KINDS)
def test_a_weighting_has_formula_limits_and_source(name):
    page = f"weightings/{name}.md"
    wanted = ["Formula", "At a glance", "Example", "When to use it", "Limits"]
    assert sections(page) == [*wanted, "Differences from the paper", "Reference"]
    assert text_of(page).split("## At a glance")[0].count("\n$$\n") >= 2
    title = text_of(page).splitlines()[0]
    assert title.startswith(
        f"# `{KINDS[name].__name__}`: " if name in UNNAMED else f'# `"{name}"`: '
    )
    assert re.search(rf"^\| class \| `[\w.]*{KINDS[name].__name__}\b", text_of(page), re.MULTILINE)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_a_loss_has_formula_limits_and_source(name):
    page = f"losses/{name}.md"
    assert sections(page) == ["Formula", "The role of T", "Example", "Limits", "Reference"]
    formula, temperature = text_of(page).split("## The role of T")
    assert formula.startswith(f'# `"{name}"`: ')
    assert formula.count("\n$$\n") >= 2
    taken = inspect.signature(losses.get(name).call).parameters
    assert ("T has no part" in temperature) == ("temperature" not in taken)


def options(page):
    return re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", text_of(page), re.MULTILINE)


@pytest.mark.parametrize("name", KINDS)
def test_options_of_a_weighting_are_the_code_s(name):
    taken = inspect.signature(KINDS[name]).parameters
    given = dict(options(f"weightings/{name}.md"))
    assert set(given) <= set(taken)
    if name not in ("anchored", "mgda"):  # whose other options are on the page of "aekd"
        assert set(given) == set(taken)
    for option, shown in given.items():
        default = taken[option].default
        if default is inspect.Parameter.empty:
            assert shown == "required"
        elif shown != f"`{default!r}`".replace("'", '"'):  # which the name sets
            assert shown.strip("`").strip('"') == str(getattr(MADE[name], option))


def test_options_of_dkd_are_the_code_s():
    taken = inspect.signature(losses.DKD).parameters
    assert dict(options("losses/dkd.md")) == {
        name: f"`{parameter.default}`" for name, parameter in taken.items()
    }


@pytest.mark.parametrize("page", PAGES["weightings"])
def test_measured_numbers_are_those_of_the_results(page):
    text = " ".join(text_of(page).split())
    for number in re.findall(r"[+-]\d+\.\d+ \+- \d+\.\d+(?: points \([a-z ]+\))?", text):
        assert number in RESULTS, number
    for claim in re.findall(r"not safe in \d+ of \d+ settings", text):
        assert claim in RESULTS
    assert "weightings_results.md" in text
