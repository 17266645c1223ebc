"""American spelling everywhere, in identifiers too; this file leaves itself out."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENDINGS = (".py", ".md", ".toml", ".yml", ".cfg", ".html")
STEMS = (
    *("normalis", "regularis", "initialis", "optimis", "minimis", "maximis", "serialis"),
    *("summaris", "generalis", "recognis", "organis", "penalis", "vectoris", "factoris"),
    *("linearis", "symmetris", "randomis", "parallelis(?!m)", "synchronis", "categoris"),
    "visualis",
    *("utilis", "emphasis(?=e)", "characteris", "prioritis", "discretis", "quantis", "binaris"),
    *("programme(?!r|d)", "colour", "behaviour", "favour", "neighbour", "flavour", "honour"),
    *(r"\bcentre", "centred", "grey(?!danus)", "licence", "catalogue", "dialogue", r"\bdistil\b"),
    *("distils", "modell(?=ed|ing)", "labell(?=ed|ing)", r"cancell(?=(ed|ing)\b)", "travell"),
    *("fulfil(?!l)", "analys(?=e[sd]?\\b)", "artefact", "judgement", "whilst", "amongst"),
)
BRITISH = re.compile("|".join(STEMS), re.IGNORECASE)


def test_no_british_spelling():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    names = listed or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
    files = [ROOT / n for n in names if n.endswith(ENDINGS) and (ROOT / n).exists()]
    assert len(files) > 100
    wrong = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in files
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for match in BRITISH.finditer(line)
    ]
    assert wrong == []
