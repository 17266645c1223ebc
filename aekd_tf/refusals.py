"""Everything that is refused because it would train wrongly, with its message and its reason.

`docs/what_can_go_wrong.md` is made from this table.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

LONGEST = 300


class BackendError(ImportError):
    """Keras runs on something else than TensorFlow."""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A misuse, what is said to it and why it is refused.

    Attributes:
        message: one line, with places for names and values.
        reason: what would happen otherwise.
        error: kind of exception.
    """

    message: str
    reason: str
    error: type[Exception] = ValueError


REFUSALS = {
    # What outputs are.
    "student_probabilities": Refusal(
        "student {name} ends in a {kind}, but the distillation loss takes logits: remove the "
        "{kind}, and compile with a loss with from_logits=True",
        "The softened KL divergence applies its own softmax. A second one flattens the student's "
        "answers, and half or all of the gain is lost.",
    ),
    "teacher_probabilities": Refusal(
        "teacher {index} ({name}) ends in a softmax or sigmoid: give a model whose outputs are "
        "logits, or wrap it in TeacherAdapter(..., outputs='probabilities')",
        "The softened KL divergence applies its own softmax. Applied to probabilities it gives "
        "nearly uniform targets.",
    ),
    "teacher_sigmoid": Refusal(
        "teacher {index} ({name}) ends in a sigmoid over {classes} outputs, which are independent "
        "labels: the softmax KL does not fit independent labels; remove the sigmoid if they are "
        "classes",
        "Independent labels do not compete, as the classes of a softmax do. Their logarithms are "
        "no logits of classes, so `outputs='probabilities'` would not help.",
    ),
    "cached_probabilities": Refusal(
        "teacher_logits of teacher {index} in the batches are probabilities: give logits, or their "
        "logarithms",
        "The softened KL divergence applies its own softmax. Applied to probabilities it gives "
        "nearly uniform targets.",
    ),
    "adapter_logits": Refusal(
        "teacher {index} ({name}) is declared outputs='probabilities', but its model gives logits: "
        "leave outputs out",
        "The logarithm of logits is no logit, and negative ones become one huge value.",
    ),
    "loss_of_probabilities": Refusal(
        "the compiled loss {loss} takes probabilities, but student {name} gives logits: compile "
        "with from_logits=True, as in SparseCategoricalCrossentropy(from_logits=True)",
        "Keras clips what it takes for probabilities. Logits then train the student badly or not "
        "at all.",
    ),
    "loss_of_labels": Refusal(
        "the compiled loss {loss} is for independent labels: the softmax KL does not fit "
        "independent labels; distill classes with CategoricalCrossentropy(from_logits=True)",
        "The softmax KL divergence ignores what all logits have in common, which independent "
        "labels depend on.",
    ),
    "loss_of_regression": Refusal(
        "the compiled loss {loss} is for regression: the softmax KL does not fit regression; "
        "distill classes with a crossentropy with from_logits=True",
        "The softmax KL divergence compares distributions over classes, not values.",
    ),
    # Models.
    "shared_variable": Refusal(
        "the student {name} shares the variable {variable} with teacher {index} ({teacher}): give "
        "the student weights of its own, or freeze the shared layers (trainable = False)",
        "Training the student would change the teacher, which drifts to whatever the student says.",
    ),
    "not_a_student": Refusal(
        "student is a {kind}: give a keras.Model from inputs to logits; the student is the first "
        "argument, the teachers are the second",
        "Only a Keras model can be trained and saved by the distiller.",
        TypeError,
    ),
    "not_teachers": Refusal(
        "teachers is a {kind}: give a list of keras.Model objects, a TeacherEnsemble or "
        "CachedTeachers",
        "Anything else has no outputs to learn from.",
        TypeError,
    ),
    "teacher_unbuilt": Refusal(
        "teacher {index} ({name}) was never built: its layer {layer} has no weights yet; give a "
        "trained model, as keras.models.load_model returns it",
        "Its layers would create random weights at the first batch, and the student would learn "
        "from noise.",
    ),
    "teacher_inputs": Refusal(
        "teacher {index} ({name}) cannot take the student's inputs {shapes} ({error}): wrap it in "
        "TeacherAdapter(model, input_size=(height, width), preprocessing=...)",
        "Student and teachers see the same batch.",
    ),
    "several_outputs": Refusal(
        "{role} {name} gives several outputs or a structure ({outputs}): make a keras.Model with "
        "its logits as the only output",
        "The distillation loss takes one tensor of logits per model.",
    ),
    "teachers_without_weights": Refusal(
        "this distiller was made from its configuration alone and its teachers have no trained "
        "weights: save and load it as a .keras file, or give the teachers to EnsembleDistiller",
        "A configuration holds the teachers' architectures, not their weights. The student would "
        "learn from random teachers.",
    ),
    "h5": Refusal(
        "{path} is an HDF5 file, which cannot hold the teachers' weights: save as a .keras file, "
        "or save the student alone",
        "Keras stores only the student's weights in it. The loaded distiller would have random "
        "teachers.",
    ),
    "preprocessing_unsaveable": Refusal(
        "TeacherAdapter {name} cannot be saved: Keras would not find its preprocessing function "
        "{function} when it loads the file; register it with "
        "keras.saving.register_keras_serializable, or give a layer",
        "A plain function is stored by its name alone, and another function of that name could "
        "take its place.",
    ),
    "class_map_none": Refusal(
        "class_map has None at {index}: it takes, for each of the student's classes, the index of "
        "the teacher's output (whole numbers)",
        "A teacher must have an opinion on every class.",
    ),
    "hints_list": Refusal(
        "hints is a {kind}: give a layer's name, such as 'stage2', or a Hints object",
        "One feature map per model is compared.",
        TypeError,
    ),
    # Training.
    "no_loss": Refusal(
        "student_loss_weight is {weight} but no loss was compiled: give compile(optimizer, loss), "
        "or student_loss_weight=0 to learn from the teachers alone",
        "The labels would be ignored without a word.",
    ),
    "no_labels": Refusal(
        "student_loss_weight is {weight} but the data have no labels: give y, or "
        "student_loss_weight=0 to learn from the teachers alone",
        "The student would learn from the teachers alone without a word.",
    ),
    "top_k_temperature": Refusal(
        "the cached logits keep the mass of the classes that were left out at temperature "
        "{cached}, the distiller's temperature is {given}: use {cached}, or a cache without top_k",
        "At another temperature the classes that were left out would get another probability than "
        "the teacher gave them.",
    ),
    # Data.
    "not_a_dataset": Refusal(
        "TeacherCache takes a data.Dataset, as data.load returns it, not a {kind}: make one of "
        "your arrays with data.Dataset(name, num_classes, train=data.Split(images, labels), ...)",
        "The cache must know every example's number, and how it is augmented.",
        TypeError,
    ),
    "same_name": Refusal(
        "names holds {name!r} twice: each teacher requires a name of its own",
        "The files of one teacher would be read for the other.",
    ),
    "labels_not_classes": Refusal(
        "labels are {dtype} {shape}: give one integer per example, or one-hot rows over {classes} "
        "classes",
        "Accuracy compares the best class with a label.",
    ),
    "backend": Refusal(
        "aekd_tf requires Keras on TensorFlow, but the backend is {backend}: set "
        "KERAS_BACKEND=tensorflow before Python starts",
        "The training step and the solver are written in TensorFlow.",
        BackendError,
    ),
}


def listed(names: Sequence[Any], room: int = 120) -> str:
    """Returns names separated by commas, cut with "... and 40 more" to about `room` characters."""
    shown: list[str] = []
    for name in names:
        text = str(name)
        if shown and sum(len(part) + 2 for part in shown) + len(text) > room:
            return f"{', '.join(shown)}, ... and {len(names) - len(shown)} more"
        shown.append(text)
    return ", ".join(shown)


def refusal(row_name: str, /, **values: Any) -> Exception:
    """Returns the exception of a refusal: one line of at most 300 characters.

    Args:
        row_name: which of `REFUSALS`.
        **values: what its message names; a list is cut.
    """
    row = REFUSALS[row_name]

    def text(room: int) -> str:
        shown: dict[str, Any] = {}
        for key, value in values.items():
            part = listed(value, room) if isinstance(value, (list, tuple)) else value
            if isinstance(part, str):
                part = " ".join(part.split())
                part = part if len(part) <= room else f"{part[: room - 3]}..."
            shown[key] = part
        return row.message.format(**shown)

    room = 120
    while len(message := text(room)) > LONGEST and room > 12:
        room -= 8
    return row.error(message)


def check_backend() -> None:
    """Refuses a backend other than TensorFlow, by the variable that chooses it."""
    backend = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend != "tensorflow":
        raise refusal("backend", backend=backend)
