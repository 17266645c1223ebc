"""export_student: a student as a file for another runtime, checked and measured."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import keras

from aekd_tf import files
from aekd_tf.checks import check_choice
from aekd_tf.export import examples
from aekd_tf.export.arguments import check_path, check_quantization, check_surroundings, student_of
from aekd_tf.export.comparison import Comparison
from aekd_tf.export.report import run_and_compare, size_of
from aekd_tf.export.runtimes import on_cpu
from aekd_tf.export.wrapping import has_loops, in_float32, wrapped
from aekd_tf.export.write import check_installed, float_layers, quantization, write
from aekd_tf.names import EXPORT_FORMATS
from aekd_tf.outputs import squashing
from aekd_tf.refusals import refusal


def export_student(
    model: keras.Model,
    path: str | os.PathLike[str],
    *,
    format: str = "keras",
    quantize: str | None = None,
    calibration: Any = None,
    preprocessing: keras.layers.Layer | None = None,
    labels: Sequence[str] | None = None,
    integer_io: bool = False,
    probabilities: bool = False,
    check_with: Any = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Writes a student as a file for another runtime, runs the file and compares.

    The file is run by its own runtime: ai-edge-litert, onnxruntime, TensorFlow or Keras. What it
    gives is compared with the Keras student. The first two are optional packages
    (`pip install 'aekd_tf[export]'`). One line on stderr says so when a file was not checked.

    All outputs are exported. Agreement and accuracy look at the output that the distiller
    distills, else at the first. Dropout is off and batch norm takes its moving statistics. A
    mixed-precision student is exported, and compared, in float32.

    LiteRT files of recurrent students take one example at a time. The others take any batch size,
    and any size of axes that are None in the student's inputs.

    Args:
        model: the student, or the distiller that holds it. Regressors and teachers stay behind.
        path: file that ends in `.keras`, `.tflite` or `.onnx`, or a folder for `"saved_model"`.
            Missing folders are made. An earlier export is replaced once the new one is checked.
        format: `"keras"`, `"saved_model"`, `"litert"` or `"onnx"`.
        quantize: for LiteRT. `"dynamic"`: int8 weights, float activations. `"float16"`: float16
            weights. `"int8"`: int8 weights, per channel, and int8 activations.
        calibration: arrays or a data set of what the exported file takes; some hundred examples.
            `"int8"` requires it, unless the student comes from `quantize_aware`.
        preprocessing: layer or model in front of the student. A layer takes the student's own
            input shape and dtype; a `keras.Sequential` with a `keras.Input` takes others.
        labels: names of the K classes, copied into the report.
        integer_io: with `"int8"`, makes float inputs and outputs int8, too. Integer inputs stay.
        probabilities: whether a softmax follows the output that is distilled.
        check_with: x, `(x, y)` or a data set of either. Accuracy requires y. By default the
            calibration data, else noise; integer inputs are then zeros.
        threads: threads of LiteRT and onnxruntime. TensorFlow keeps those of the process.

    Returns:
        The report, which is also written to `<path>.json`:

        - `format`, `quantize`;
        - `bytes`: of the file, or of all files in the folder;
        - `largest_difference`: over all outputs, in units of the outputs;
        - `agreement`: share of answers that are the student's: the best class or, for independent
          labels, on or off; null for values (`head` says which it is);
        - `accuracy`, `keras_accuracy`: from 0 to 1, of the file and of the student; null without y;
        - `latency_ms`: median of 100 batches of one example after a warm-up, and `threads`;
        - `labels`;
        - `checked`: the data that file and student were compared on, or why they were not;
        - `float_layers`: operations that quantization left in float, else null.

    Raises:
        ValueError: arguments that contradict each other; data or a path that do not fit; a model
            that the format cannot hold; a float32 file that differs by more than 1e-4, or a
            float16 file by more than 5e-3, times the largest output if that is above 1. Such a
            file is removed.
        TypeError: something else than a student; preprocessing that is no layer.
        ImportError: ONNX without tf2onnx and onnx.

    Example::

        import keras
        import numpy as np
        from aekd_tf import export_student

        student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        x, y = np.random.rand(20, 4).astype("float32"), np.random.randint(0, 3, 20)
        report = export_student(
            student, "student.tflite", format="litert", quantize="dynamic", check_with=(x, y)
        )
        print(report["checked"], report["agreement"] > 0.5)  # 20 examples of check_with True
    """
    student, key, head = student_of(model)
    path = os.fspath(path).rstrip("/")
    check_choice("format", format, EXPORT_FORMATS)
    calibrates = check_quantization(student, format, quantize, integer_io)
    if calibrates and calibration is None:
        raise refusal("calibration_missing")
    check_surroundings(student, head, preprocessing, probabilities, threads)
    given = {"check_with": check_with, "calibration": calibration}
    given = {name: part for name, part in given.items() if part is not None}
    for name, part in given.items():
        examples.check_kind(name, part)
    check_installed(format)
    check_path(path, format)
    with in_float32(student, preprocessing):
        exported = wrapped(
            student,
            key,
            preprocessing=preprocessing,
            probabilities=probabilities,
            itself=format == "keras",
            example=next((examples.first_inputs(part) for part in given.values()), None),
        )
        for name, part in given.items():
            examples.check_first(name, part, exported)
        classes = exported.num_outputs
        names = None if labels is None else [labels] if isinstance(labels, str) else list(labels)
        if names is not None and len(names) != classes:
            raise refusal("class_names", given=len(names), name=student.name, classes=classes)
        function = exported.traced()
        loops = has_loops(function)
        if loops and calibrates:
            raise refusal("calibration_loops", name=student.name)
        one_by_one = loops and format == "litert"

        def calibration_inputs() -> Any:
            return (arrays for arrays, _, _ in examples.read("calibration", calibration, exported))

        options = quantization(
            quantize, exported, calibration_inputs if calibrates else None, integer_io
        )
        what, batches = next(
            ((name, examples.read(name, part, exported)) for name, part in given.items()),
            None,
        ) or examples.noise(exported)
        sigmoid = squashing(student, key) == "sigmoid"
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        replacing = files.replacing_folder if format == "saved_model" else files.replacing
        with replacing(path) as temporary:
            write(exported, temporary, format, batch_of_one=one_by_one, options=options)
            figures = run_and_compare(
                exported,
                on_cpu(function),
                temporary,
                format,
                quantize,
                Comparison(head, threshold=0.5 if sigmoid else 0.0),
                what=what,
                batches=batches,
                one_by_one=one_by_one,
                threads=threads,
            )
            report = {
                "format": format,
                "quantize": quantize,
                "bytes": size_of(temporary),
                **figures,
                "labels": names and [str(name) for name in names],
                "float_layers": None if quantize is None else float_layers(temporary, quantize),
            }
    files.write_json(f"{path}.json", report)
    return report
