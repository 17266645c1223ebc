"""Refusals of students and teachers."""

from __future__ import annotations

from aekd_tf.refusals.base import Refusal

MODELS = {
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
    "fixed_attribute": Refusal(
        "distiller.{name} is set when the distiller is made: make a new EnsembleDistiller with "
        "{name}=..., around the same student",
        "The losses of a distiller are made of it once, so a later value would change nothing.",
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
        "{role} {name} gives several outputs ({outputs}): name the one to distill, "
        "EnsembleDistiller(..., output=...) for the student and TeacherAdapter(model, output=...) "
        "for a teacher",
        "The distillation loss compares one tensor per model.",
    ),
    "shapes_differ": Refusal(
        "student {name} gives {shape}, its teachers give {teachers}: give both logits "
        "[batch, classes] or [batch, ..., classes] of the same classes",
        "Other shapes would broadcast to another loss.",
    ),
    "no_such_input": Refusal(
        "teacher {name} takes the input {key}, but the student's inputs are {inputs}: give "
        "TeacherAdapter(model, inputs=...) one of these",
        "Student and teachers see the same batch.",
    ),
    "no_such_output": Refusal(
        "{role} {name} has no output {output!r}: choose from {outputs}",
        "The distillation loss compares one tensor per model.",
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
    "not_hints": Refusal(
        "hints is a {kind}: give a layer's name, such as 'stage2', a Hints object, or a list of "
        "these",
        "Nothing else says which feature maps are compared.",
        TypeError,
    ),
    # Quantization.
    "not_functional": Refusal(
        "quantize_aware cannot see the layers of {name}, a {kind}: give a functional or sequential "
        "keras.Model that is built",
        "The places where a file rounds follow from how the layers are connected.",
    ),
    "not_quantizable": Refusal(
        "quantize_aware cannot simulate layers of {name} ({layers}): give a student of "
        "convolutions, Dense, batch norm, ReLU, Add, Concatenate and pooling, or quantize it after "
        "training",
        "A layer that the file rounds in another way would train for another file.",
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
}
