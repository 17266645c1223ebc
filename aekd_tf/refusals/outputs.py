"""Refusals of outputs that are not what a loss takes them for."""

from __future__ import annotations

from aekd_tf.refusals.base import Refusal

OUTPUTS = {
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
        "labels: the softmax KL does not fit independent labels; use "
        "distillation_loss='binary_kl', or remove the sigmoid",
        "Independent labels do not compete, as the classes of a softmax do. Their logarithms are "
        "no logits of classes, so `outputs='probabilities'` would not help.",
    ),
    "teacher_softmax_of_labels": Refusal(
        "teacher {index} ({name}) ends in a softmax, whose outputs are classes: distill them with "
        "distillation_loss='kl', or remove the softmax if they are independent labels",
        "Independent labels do not compete, as the classes of a softmax do.",
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
        "independent labels; use distillation_loss='binary_kl', or a crossentropy of classes",
        "The softmax KL divergence ignores what all logits have in common, which independent "
        "labels depend on.",
    ),
    "loss_of_regression": Refusal(
        "the compiled loss {loss} is for regression: the softmax KL does not fit regression; use "
        "distillation_loss='mse', or a crossentropy of classes with from_logits=True",
        "The softmax KL divergence compares distributions over classes, not values.",
    ),
    "loss_not_of_labels": Refusal(
        "the compiled loss {loss} is not for independent labels, as distillation_loss='binary_kl' "
        "is: compile with BinaryCrossentropy(from_logits=True), or use another distillation loss",
        "Labels and teachers would teach two different things.",
    ),
    "teacher_hidden_sigmoid": Refusal(
        "teacher {index} ({name}) is declared outputs='probabilities', but its graph does not show "
        "a sigmoid: give a model whose outputs are logits",
        "Labels' logits are log(p / (1 - p)), those of a softmax's classes are log(p).",
    ),
}
