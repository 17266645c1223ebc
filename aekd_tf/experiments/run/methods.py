"""The table of methods, with one row per method; all other lists of methods derive from it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train a student.

    Attributes:
        name: name in flags, files and results.
        title: name in tables.
        weighting: identifier of the weighting; None for a student that has no teachers.
        terms: losses that the teachers give: `outputs`, `hints`.
        first_teacher_alone: whether only the first teacher teaches.
    """

    name: str
    title: str
    weighting: str | None
    terms: tuple[str, ...] = ("outputs",)
    first_teacher_alone: bool = False

    @property
    def student_title(self) -> str:
        """Returns the name of the method's student in a run's table."""
        return f"student {self.title}" if self.weighting is None else f"student, {self.title}"

    @property
    def adaptive(self) -> bool:
        """Tells whether the method is AE-KD, which solves the paper's program at every step."""
        return self.weighting == "aekd"

    @property
    def capped(self) -> bool:
        """Tells whether the method solves a quadratic program, so that C matters."""
        return self.weighting in ("auto", "stacked", "aekd", "anchored")

    @property
    def held_out(self) -> bool:
        """Tells whether the method chooses weights on validation images."""
        return self.weighting in ("auto", "stacked")

    @property
    def hinted(self) -> bool:
        """Tells whether the method compares feature maps, so that beta matters."""
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
        Method("anchored", "anchored", "anchored"),
        Method("stacked", "stacked", "stacked"),
        Method("auto", "auto", "auto"),
        Method("random", "random teacher", "random"),
        Method("mgda", "MGDA", "mgda"),
        Method("cross_entropy", "cross-entropy", "cross_entropy"),
        Method("ca_mkd", "CA-MKD", "ca_mkd"),
        Method("ebkd", "EBKD", "ebkd"),
        Method("mtkd", "MTKD", "mtkd"),
        Method("fitnets", "FitNets", "average", _BOTH),
        Method("aekd_hints", "AE-KD*", "aekd", _BOTH),
    )
}
HINTED = tuple(name for name, method in METHODS.items() if method.hinted)
ADAPTIVE = tuple(name for name, method in METHODS.items() if method.adaptive)
