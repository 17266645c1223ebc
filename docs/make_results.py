"""Writes docs/results.md and its pictures from the results that lie in docs/results.

python docs/make_results.py

Each folder there is named by its preset and holds results.csv and trajectories.json as a run of
`aekd_tf.experiments.paper` left them. A test compares docs/results.md with what this writes.
"""

from __future__ import annotations

from pathlib import Path

from aekd_tf.experiments import cells, paper, report, sweep

HERE = Path(__file__).parent
FOLDER = HERE / "results"
# What was asked for with each preset.
ASKED = {
    "digits": ["--table=1", "--figure=2,3", "--question=1,2,3"],
    "quick": ["--table=1", "--figure=3"],
}


def text(pictures: Path) -> str:
    """docs/results.md; its pictures are written below `pictures`."""
    parts: list[report.Part] = [
        report.Heading("Results", 1),
        report.Code("python docs/make_results.py"),
    ]
    for preset, arguments in ASKED.items():
        folder = FOLDER / preset
        results = cells.read(str(folder / "results.csv"))
        if not results:
            continue
        trajectories = sweep.read_trajectories(str(folder / "trajectories.json"))
        config = paper.parse([f"--preset={preset}", *arguments])
        assert config is not None
        target = pictures / preset
        target.mkdir(parents=True, exist_ok=True)
        for part in paper.report_parts(config, results, trajectories, str(target)):
            if isinstance(part, report.Picture):
                part = report.Picture(f"results/{preset}/{part.file}", part.caption)
            elif isinstance(part, report.Heading):
                part = report.Heading(part.text, part.level + 1)
            parts.append(part)
    return report.markdown(parts)


if __name__ == "__main__":
    (HERE / "results.md").write_text(text(FOLDER), encoding="utf-8")
