"""Refusals of exports."""

from __future__ import annotations

from aekd_tf.refusals.base import Refusal

EXPORT = {
    "not_exportable": Refusal(
        "export_student was given a {kind}: give the student, a keras.Model, or the "
        "EnsembleDistiller that holds it; teachers stay behind",
        "Only the student is made to run elsewhere.",
        TypeError,
    ),
    "export_unbuilt": Refusal(
        "student {name} was never built: make it with a keras.Input, or call it on a batch once, "
        "before it is exported",
        "Its weights do not exist yet, and nothing says what it takes.",
    ),
    "export_half": Refusal(
        "student {name} has weights in {dtype}: give one with a mixed policy or float32, such as "
        "a float32 copy with the same weights",
        "Files are written in float32, which weights in half precision have lost.",
    ),
    "export_call": Refusal(
        "student {name} cannot be called on {inputs} ({reason}): give check_with, which shows "
        "the dtypes that a subclassed student takes",
        "A subclassed student keeps the shapes that it was built for, but not the dtypes.",
    ),
    "export_suffix": Refusal(
        "path is {path}, but format={format!r} writes {place}: give a path such as {example}",
        "Runtimes tell formats by the ending.",
    ),
    "export_place": Refusal(
        "{path} is a {kind}, which the export would replace: give another path",
        "Only an earlier export is replaced.",
    ),
    "quantize_format": Refusal(
        "quantize={quantize!r} is for LiteRT, but the format is {format!r}: set format='litert', "
        "or leave quantize out",
        "The other formats keep float32 weights, so the file would not be what was asked for.",
    ),
    "integer_io": Refusal(
        "integer_io=True is for quantize='int8', but quantize is {quantize!r}: set "
        "quantize='int8', or leave integer_io out",
        "Without int8 activations there are no scales for integer inputs and outputs.",
    ),
    "integer_io_float": Refusal(
        "integer_io=True, but {place} of the file stays float32, because quantization-aware "
        "student {name} has no ranges for what preprocessing takes: leave out preprocessing or "
        "integer_io",
        "The device would have to give float32 numbers to a file that was asked for without.",
    ),
    "threads": Refusal(
        "threads is {threads!r}: give a whole number of at least 1",
        "The latency would be measured with another number of threads than the report says.",
    ),
    "calibration_missing": Refusal(
        "quantize='int8' requires calibration: give calibration=x, some hundred examples of what "
        "the exported file takes, or train with quantize_aware",
        "The ranges of the activations come from examples.",
    ),
    "quantize_aware_other": Refusal(
        "student {name} was trained for int8, but quantize is {quantize!r}: set quantize='int8', "
        "or leave quantize out",
        "The converter takes the student's own ranges, so the file would be int8 all the same.",
    ),
    "calibration_loops": Refusal(
        "quantize='int8' cannot calibrate the loops of student {name}: use quantize='dynamic' or "
        "'float16', or recurrent layers with unroll=True",
        "The converter's calibration ends the whole process on recurrent layers.",
    ),
    "preprocessing_kind": Refusal(
        "preprocessing is a {kind}: give a layer or a model, such as "
        "keras.layers.Rescaling(1 / 255)",
        "A file holds layers, not Python code.",
        TypeError,
    ),
    "preprocessing_misfit": Refusal(
        "preprocessing {preprocessing} does not fit student {name} ({reason}): give a "
        "keras.Sequential that starts with keras.Input(shape, dtype=...) and ends with what the "
        "student takes",
        "A layer alone is given inputs of the student's own shape and dtype.",
    ),
    "probabilities": Refusal(
        "probabilities=True puts a softmax behind student {name}, whose outputs are {kind}: leave "
        "probabilities out",
        "A softmax is for the logits of classes, and a second one flattens the answers.",
    ),
    "class_names": Refusal(
        "labels has {given} entries, but student {name} has {classes} outputs: give the name of "
        "each class, in order, as a list of strings",
        "Names that do not fit would call classes by the names of others.",
    ),
    "examples_kind": Refusal(
        "{what} is a {kind}: give arrays, or a tf.data.Dataset of batches",
        "Examples are read once for the student and once for the file.",
        TypeError,
    ),
    "examples_endless": Refusal(
        "{what} is a dataset that repeats forever: give {what}.take(n)",
        "The export would read examples and never end.",
    ),
    "examples_none": Refusal(
        "{what} has no examples: give some hundred",
        "Nothing could be compared or calibrated.",
    ),
    "examples_inputs": Refusal(
        "{what} has inputs {given}, but the exported file takes {expected}: give batches of these, "
        "in the structure of the model's inputs",
        "Other shapes would be broadcast, or fail inside the runtime.",
    ),
    "examples_dtype": Refusal(
        "{what} has {given} values that {expected} cannot hold: give {name} as {expected}",
        "Values would wrap around or lose their fraction without a word.",
    ),
    "examples_labels": Refusal(
        "check_with has {given} labels for {examples} examples: give one label per example",
        "Accuracy would compare answers with other examples' labels.",
    ),
    "examples_classes": Refusal(
        "check_with has labels from {low} to {high}, but student {name} has {classes} classes: "
        "give labels from 0 to {last}",
        "A label beyond the classes is never right.",
    ),
    "not_finite": Refusal(
        "student {name} gives values that are not finite on {what}: give other examples, or "
        "a student whose training did not diverge",
        "NaN equals nothing, so the file could not be compared.",
    ),
    "onnx_missing": Refusal(
        "format='onnx' is written by tf2onnx and onnx, which are not installed: use "
        "pip install 'aekd_tf[export]'",
        "Keras leaves the conversion to these packages.",
        ImportError,
    ),
    "not_converted": Refusal(
        "student {name} cannot be written as {format} ({reason}): use another format or "
        "quantization, or other layers",
        "The converter has no counterpart for a part of the model.",
    ),
    "not_in_litert": Refusal(
        "student {name} requires operations that LiteRT's runtime lacks ({operations}): use "
        "format='onnx' or 'saved_model', or other layers",
        "The converter writes such a file, which runs only beside the whole of TensorFlow.",
    ),
    "not_run": Refusal(
        "the {format} file of student {name} was written, but its runtime cannot run it "
        "({reason}): use another format, or other layers",
        "A file that does not run is not delivered.",
    ),
    "not_loaded": Refusal(
        "the .keras file of student {name} was written, but Keras cannot load it ({reason}): "
        "register own classes with keras.saving.register_keras_serializable",
        "A file that only this process could read is not delivered.",
    ),
    "export_differs": Refusal(
        "the {format} file of student {name} differs from it by {difference} on {what}, more than "
        "{limit}: use another format, or other layers; the file was removed",
        "A float file computes the same function, so a larger difference is a fault.",
    ),
}
