"""Every command in README and docs is one that the programs take."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from tools.commands import parse

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if DOCS / "results" not in page.parents),
]
COMMAND = re.compile(r"(?:python -m aekd_tf\.experiments\.|aekd-tf )(\w+)([^\n`'|;)&]*)")


def blocks(text):
    """Code blocks, and what is left with its inline code; lines that go on are joined."""
    text = text.replace("\\\n", " ")
    fenced = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    text = re.sub(r"```\w*\n.*?```", "", text, flags=re.DOTALL)
    indented = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [*fenced, *indented, re.sub(r"(?:^    .*\n)+", "", text, flags=re.MULTILINE)]


def commands(block):
    """`(name, arguments)` of each command in a block, once per turn of its loops."""
    loops = dict(re.findall(r"for (\w+) in ([^;\n]+)", block))
    turns = itertools.product(*(values.split() for values in loops.values()))
    for turn in turns:
        text = block
        for name, value in zip(loops, turn, strict=True):
            text = text.replace(f"${{{name}}}", value).replace(f"${name}", value)
        for name, arguments in COMMAND.findall(text):
            yield name, shlex.split(arguments)


def commands_of(page):
    text = page.read_text(encoding="utf-8")
    return [command for block in blocks(text) for command in commands(block)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page):
    for name, arguments in commands_of(page):
        if arguments or name not in ("paper", "distill"):  # which ask for more
            assert parse(name, arguments) is not None


def test_the_loop_makes_tables_1_and_2():
    rows = [
        parse(name, arguments)
        for name, arguments in commands_of(ROOT / "docs" / "experiments.md")
        if "--hint_weight=cv" in arguments
    ]
    assert len({config.output_dir for config in rows}) == len(rows) == 2 * 3 * 6
    for config in rows:
        assert config.teachers == ("resnet56",)
        assert {"average", "aekd", "fitnets", "aekd_hints"} <= set(config.methods)
        if config.student == "mobilenetv2":
            assert (config.epochs, config.learning_rate) == (240, 0.01)
    small = ["--preset=quick", "--student=resnet8", "--teachers=resnet8"]
    for name, arguments in commands_of(ROOT / "docs" / "experiments.md"):
        if name == "cifar":
            config = parse(name, [*arguments, *small])
            assert (config.student, config.teachers) == ("resnet8", ("resnet8",))


def test_rows_of_the_table_of_flags_parse():
    table_3 = parse("imagenet", ["--ensemble_size=5"])
    assert (table_3.student, table_3.epochs) == ("imagenet_resnet18", 100)
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    mixed = re.search(r"`cifar (--dataset=cifar100[^`]+)`", text)[1]
    config = parse("cifar", mixed.split())
    assert config.networks() == ["resnet110", "wrn_40_2", "vgg13"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_paths_in_prose_are_there():
    """Files that README, CONTRIBUTING and the docs name."""
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:aekd_tf|tests|tools|benchmarks|examples)/[\w/.]*)`", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
        for path in re.findall(r"python ((?:tests|tools|benchmarks|examples)/[\w/.]+\.py)", text):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
