"""The methods: one row each. Every other list of methods is derived from this table."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train a student.

    Attributes:
        name: what flags, files and results call it.
        title: what tables call it.
        weighting: identifier of the weighting; None for a student that has no teachers.
        terms: which losses the teachers give: `outputs`, `hints`.
        first_teacher_alone: whether only the first teacher teaches.
    """

    name: str
    title: str
    weighting: str | None
    terms: tuple[str, ...] = ("outputs",)
    first_teacher_alone: bool = False

    @property
    def student_title(self) -> str:
        """What a run's table calls its student."""
        return f"student {self.title}" if self.weighting is None else f"student, {self.title}"

    @property
    def adaptive(self) -> bool:
        """Whether it solves the program, and C matters."""
        return self.weighting == "aekd"

    @property
    def hinted(self) -> bool:
        """Whether it compares feature maps, and beta matters."""
        return "hints" in self.terms


_BOTH = ("outputs", "hints")
METHODS = {
    method.name: method
    for method in (
        Method("alone", "alone", None, ()),
        Method("kd", "first teacher", "average", first_teacher_alone=True),
        Method("average", "AVER", "average"),
        Method("average_outputs", "AVER of outputs", "average_outputs"),
        Method("aekd", "AE-KD", "aekd"),
        Method("fitnets", "FitNets", "average", _BOTH),
        Method("aekd_hints", "AE-KD*", "aekd", _BOTH),
    )
}
HINTED = tuple(name for name, method in METHODS.items() if method.hinted)
ADAPTIVE = tuple(name for name, method in METHODS.items() if method.adaptive)
