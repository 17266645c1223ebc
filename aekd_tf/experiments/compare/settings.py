"""The table of settings: which teachers there are, and which labels."""

from __future__ import annotations

import dataclasses

# The share of random labels of the student and on held-out examples, if they are noisy.
NOISE = 0.3


@dataclasses.dataclass(frozen=True)
class Setting:
    """An ensemble and the labels that it is distilled with.

    Attributes:
        name: name in flags, files and results.
        title: name in tables; `{M}` stands for the number of teachers, `{0}`, `{1}` and so on
            for the numbers of spoilt ones.
        spoilt: kinds of the first teachers and their numbers per ten teachers, see `kinds`.
        rest: kind of the other teachers.
        noisy_labels: whether the student's own labels are noisy.
        noisy_validation: whether the labels of held-out examples are noisy.
        labels: whether there are any labels.
    """

    name: str
    title: str
    spoilt: tuple[tuple[str, int], ...] = ()
    rest: str = "good"
    noisy_labels: bool = False
    noisy_validation: bool = False
    labels: bool = True

    def counts(self, size: int) -> list[int]:
        """Returns how many of `size` teachers are of each spoilt kind."""
        return [round(size * count / 10) for _, count in self.spoilt]

    def members(self, size: int) -> list[tuple[str, int]]:
        """Returns the kind and the number of each teacher, the spoilt ones first."""
        spoilt = [
            (kind, index)
            for (kind, _), count in zip(self.spoilt, self.counts(size), strict=True)
            for index in range(count)
        ]
        rest = [(self.rest, index) for index in range(len(spoilt), size)]
        # The same teacher several times.
        return [("small", 0) if kind == "copy" else (kind, i) for kind, i in spoilt + rest]

    def spoilt_count(self, size: int) -> int:
        """Returns how many of the teachers, the first ones, are spoilt."""
        return sum(self.counts(size))

    def shown(self, size: int) -> str:
        """Returns the title for an ensemble of `size` teachers."""
        return self.title.format(*self.counts(size), M=size)


_NOISE80 = (("labels80", 4),)
_NOISY = [
    Setting(
        f"labels{share}x{count}",
        f"{{0}} of {{M}} on {share}% random labels",
        ((f"labels{share}", count),),
    )
    for share in (40, 80)
    for count in (2, 4, 6)
]
SETTINGS = {
    setting.name: setting
    for setting in (
        Setting("good", "{M} good"),
        *_NOISY,
        Setting("undertrained", "{0} of {M} undertrained", (("undertrained", 4),)),
        Setting("small", "{0} of {M} small", (("small", 4),)),
        Setting("uniform", "{0} of {M} uniform", (("uniform", 4),)),
        Setting("confident", "{0} of {M} confident and wrong", (("confident", 4),)),
        Setting("overconfident", "{0} of {M} overconfident", (("overconfident", 4),)),
        Setting("copies", "one small teacher {0} times among {M}", (("copy", 4),)),
        Setting("architectures", "{M} of different architectures", rest="architecture"),
        Setting("quarter", "{0} of {M} on a quarter of the data", (("quarter", 4),)),
        Setting("specialists", "{M} specialists of half the classes", rest="specialist"),
        Setting(
            "mixed",
            "{0} specialists, {1} on 80% random labels, the rest of {M} good",
            (("specialist", 5), ("labels80", 2)),
        ),
        *(
            Setting(
                f"memorized{count}",
                "{0} of {M} memorized the student's noisy labels",
                (("memorized", count),),
                noisy_labels=True,
                noisy_validation=True,
            )
            for count in (4, 6)
        ),
        Setting("noisy_labels", "noisy student labels, {M} good", noisy_labels=True),
        Setting(
            "noisy_validation",
            "{0} of {M} on 80% random labels, noisy validation labels",
            _NOISE80,
            noisy_validation=True,
        ),
        Setting("no_labels", "{0} of {M} on 80% random labels, no labels", _NOISE80, labels=False),
    )
}
