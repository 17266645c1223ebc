"""Refusals of weightings and distillation losses."""

from __future__ import annotations

from aekd_tf.refusals.base import Refusal

TERMS = {
    "old_weighting": Refusal(
        "{name} overrides {method}, which weightings no longer do: override weights(self, signals) "
        "and read signals.gram; teachers that are not live are left out for you",
        "The old method would never be called, and the teachers weighted by the base class.",
    ),
    "weighting_without_weights": Refusal(
        "{name} has no weights of its own: override weights(self, signals), which returns [M] or "
        "[M, B]",
        "There would be no weights to train with.",
    ),
    "weighting_needs": Refusal(
        "{name}.needs names {given!r}: give a tuple of fields of Signals, {fields}",
        "A step computes only the fields that are asked for.",
    ),
    "not_signals": Refusal(
        "{name} was called with a {kind}: give it Signals(gram=..., live=...)",
        "A weighting may read more than the Gram matrix.",
        TypeError,
    ),
    "weights_shape": Refusal(
        "{name} returned weights of shape {shape} for {teachers} teachers: return [M], one weight "
        "per teacher, or [M, B], one per teacher and example",
        "Other shapes would broadcast to another loss.",
    ),
    "weights_off_simplex": Refusal(
        "{name} returned weights that are not on the simplex (least {least}, sum {total}): return "
        "weights of at least 0 that sum to 1 over the teachers",
        "The sum scales the distillation loss against the labels' loss, and a negative weight "
        "teaches the opposite.",
    ),
    "anchor_without_labels": Refusal(
        "{name} is anchored to labels, but the batch has none: give y, or use anchor_to='vote', "
        "which the teachers' majority stands for",
        "Without labels there is nothing that the program could compare the teachers with.",
    ),
    "anchor_changed": Refusal(
        "anchor is set to {anchor}, from {before}: a training program keeps its reference; make an "
        "AdaptiveWeighting(anchor={anchor}) instead",
        "At 0 the program reads gradients, above 0 outputs, and a traced step reads one of them.",
    ),
    "space_not_used": Refusal(
        "gradient_space='parameters' has one gradient per teacher and batch, which {name} does not "
        "read: use weighting='aekd', or gradient_space='logits'",
        "The M backward passes would be paid, and the weights would come from something else.",
    ),
    "top_k_weighting": Refusal(
        "{name} softens the teachers' outputs at temperature {reads}, but a top-k cache keeps what "
        "is beyond the largest logits at {cached} alone: give that temperature, or cache all "
        "logits",
        "At another temperature the rest would have another probability than the teachers gave.",
    ),
    "fixed_weights": Refusal(
        "FixedWeighting was given values of shape {shape}, least {least}, sums from {low} to "
        "{high}: give [M], or [K, M] by class, at least 0 and with sum 1 over the teachers",
        "The sum scales the distillation loss against the labels' loss.",
    ),
    "fixed_teachers": Refusal(
        "{name} has weights for {values} teachers, but there are {teachers}: give one per teacher",
        "Weights would go to another teacher than they were chosen for.",
    ),
    "fixed_classes": Refusal(
        "{name} has weights for {values} classes, but outputs have {classes}: give [K, M], or [M] "
        "for all classes",
        "An example would take the weights of another class.",
    ),
    "fixed_not_classes": Refusal(
        "{name} has weights by class, but the outputs are {head}: give one weight per teacher, or "
        "per_class=False",
        "Such an example has no class that could choose its weights.",
    ),
    "stacked_without_validation": Refusal(
        "weighting 'stacked' chooses the weights on held-out examples, but {why}: give "
        "fit(validation_data=(x, y)), or use weighting='auto'",
        "Weights that are chosen on training examples trust teachers that have memorized them.",
    ),
    "stacked_not_solved": Refusal(
        "weighting 'stacked' has no weights yet: call fit(validation_data=...) first, or give "
        "FixedWeighting.stacked(teachers, held_out)",
        "It solves its program on held-out examples, before the first step.",
    ),
    "stacked_already": Refusal(
        "tolerance is set to {tolerance}, but the weights are chosen already: make a new "
        "distiller with StackedWeighting(tolerance={tolerance})",
        "The program was solved once, and its weights would stay.",
    ),
    "accuracy_without_labels": Refusal(
        "FixedWeighting.from_accuracy requires labels of classes: give (x, y), or use "
        "FixedWeighting.stacked(..., anchor_to='vote')",
        "An accuracy compares answers with labels.",
    ),
    "outputs_not_held_out": Refusal(
        "teachers' outputs have shape {shape}: give [M, N, ..., K], all teachers' outputs for N "
        "held-out examples, or models and their data",
        "Another axis would be taken for the teachers.",
    ),
    "weighting_needs_labels": Refusal(
        "weighting {name} requires labels: give y, or use one that works without, such as "
        "'auto', 'average', 'aekd' or 'ebkd'",
        "It weights teachers by their cross-entropy with the labels.",
    ),
    "weighting_head": Refusal(
        "weighting {name} is for {heads}, but the outputs are {head}: use one that fits any "
        "outputs, such as 'average', 'aekd' or 'random'",
        "It would take the outputs for logits of something that they are not.",
    ),
    "not_a_weighting": Refusal(
        "Smoothed takes a Weighting, not a {kind}: give an instance, such as AdaptiveWeighting() "
        "or weightings.get('aekd')",
        "There would be no weights to smooth.",
        TypeError,
    ),
    "smoothed_per_example": Refusal(
        "Smoothed takes weights [M], but {name} returns one per teacher and example: an example "
        "has no history to average over; use {name} alone",
        "The next batch holds other examples.",
    ),
    "loss_is_a_class": Refusal(
        "distillation_loss is the class {name}: give an instance, {name}()",
        "A class computes nothing until an instance is made.",
    ),
    "one_class": Refusal(
        "distillation_loss={loss!r} is a softmax over one output: use "
        "distillation_loss='binary_kl' for one logit",
        "A softmax over one class is always 1, and its gradient 0.",
    ),
    "loss_needs_labels": Refusal(
        "distillation_loss {loss} requires labels: give y, or use distillation_loss='kl'",
        "It treats the label's class apart from the others.",
    ),
    "loss_without_batch": Refusal(
        "distillation_loss {loss} returned shape {shape}: return one loss per example, "
        "[batch] or [batch, ...], not their mean",
        "Sample weights, replicas and weightings require the loss of each example.",
    ),
    "loss_without_gradient": Refusal(
        "distillation_loss {loss} has no gradient w.r.t. the student's outputs: compute it from "
        "student_outputs with TensorFlow or keras.ops, without rounding or argmax",
        "Teachers are weighted by these gradients, and the student would learn nothing.",
    ),
    "loss_unsaveable": Refusal(
        "distillation_loss {loss} cannot be saved: Keras would not find it when it loads the file; "
        "register it with keras.saving.register_keras_serializable",
        "A plain function is stored by its name alone, and another function of that name could "
        "take its place.",
    ),
    "keras_loss_of_probabilities": Refusal(
        "distillation_loss {loss} compares probabilities or classes, but teachers give raw "
        "outputs: use distillation_loss='kl' for classes, 'binary_kl' for labels",
        "Logits taken for probabilities train the student badly or not at all.",
    ),
    "specialists": Refusal(
        "a teacher's class_map has None, but distillation_loss {loss} cannot leave out the classes "
        "that it does not know: use 'kl' or 'dkd'",
        "The placeholder in its outputs would be taken for an opinion.",
    ),
    "head_mismatch": Refusal(
        "distillation_loss {loss} is for {expected}, but the TeacherEnsemble has head={head!r}: "
        "give both the same",
        "The ensemble's vote would read outputs as something that they are not.",
    ),
    "averaged_twice": Refusal(
        "UniformWeighting('outputs') is short for distillation_loss='averaged_outputs', but the "
        "distillation loss is {loss}: use weighting='average'",
        "One of the two would be ignored.",
    ),
}
