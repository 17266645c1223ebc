"""Writes a model in a format, and reads from a LiteRT file which operations it has."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from aekd_tf.export.quiet import quiet
from aekd_tf.export.wrapping import Exported, reason_of
from aekd_tf.refusals import refusal

TITLES = {"keras": "Keras", "litert": "LiteRT", "onnx": "ONNX", "saved_model": "SavedModel"}
_KERAS_FORMATS = {"litert": "litert", "onnx": "onnx", "saved_model": "tf_saved_model"}
# They only convert between float and integers.
_CONVERTING = ("QUANTIZE", "DEQUANTIZE")


def check_installed(file_format: str) -> None:
    """Refuses a format whose converter is not installed."""
    if file_format == "onnx" and not all(map(importlib.util.find_spec, ("tf2onnx", "onnx"))):
        raise refusal("onnx_missing")


def write(
    exported: Exported,
    path: str,
    file_format: str,
    *,
    batch_of_one: bool,
    options: dict[str, Any],
) -> None:
    """Writes the model to `path`.

    Args:
        exported: model that was called at least once.
        path: file or folder that does not exist.
        file_format: one of `EXPORT_FORMATS`.
        batch_of_one: whether a LiteRT file takes one example at a time.
        options: settings of the LiteRT converter, from `quantization`.

    Raises:
        ValueError: the format has no counterpart for an operation of the model, or no integers
            for its inputs or outputs.
    """
    if batch_of_one:
        specs = [keras.InputSpec(shape=(1, *t.shape[1:]), dtype=t.dtype, name=t.name)
                 for t in exported.flat_inputs]  # fmt: skip
        signature = keras.tree.pack_sequence_as(exported.inputs, specs)
        options = {**options, "input_signature": [signature]}
    try:
        with quiet(Exception), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if file_format == "keras":
                exported.model.save(path)
            else:
                form = _KERAS_FORMATS[file_format]
                exported.model.export(path, format=form, verbose=False, **options)
    except OSError:
        raise
    except Exception as error:
        lacking = re.search(r"^(?:Custom|Flex) ops: (.+)$", str(error), re.MULTILINE)
        if lacking:
            raise refusal(
                "not_in_litert", name=exported.name, operations=lacking[1].strip()
            ) from error
        title, reason = TITLES[file_format], reason_of(error)
        raise refusal("not_converted", name=exported.name, format=title, reason=reason) from error
    if file_format == "litert":
        foreign = [name for name, _ in _operations(path) if name.startswith("Flex")]
        if foreign:
            operations = list(dict.fromkeys(name.removeprefix("Flex") for name in foreign))
            raise refusal("not_in_litert", name=exported.name, operations=operations)
    if "inference_input_type" in options:
        graph = schema.Model.GetRootAs(Path(path).read_bytes()).Subgraphs(0)
        ends = {"an input": graph.InputsAsNumpy(), "an output": graph.OutputsAsNumpy()}
        for place, tensors in ends.items():
            if any(_is_float(graph.Tensors(index)) for index in tensors):
                raise refusal("integer_io_float", place=place, name=exported.name)


def quantization(
    quantize: str | None,
    exported: Exported,
    examples: Callable[[], Iterator[list[np.ndarray]]] | None,
    integer_io: bool,
) -> dict[str, Any]:
    """Returns the settings of the LiteRT converter.

    `examples` yields batches of calibration data; it is None for a quantization-aware student,
    whose ranges the converter finds in the graph.
    """
    if quantize is None:
        return {}
    options: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if quantize == "float16":
        options["target_spec"] = {"supported_types": [tf.float16]}
    if quantize == "int8" and examples is not None:
        names = [tensor.name for tensor in exported.flat_inputs]

        def one_by_one() -> Iterator[dict[str, np.ndarray]]:
            for arrays in examples():
                for index in range(len(arrays[0])):
                    yield {
                        name: array[index : index + 1]
                        for name, array in zip(names, arrays, strict=True)
                    }

        options["representative_dataset"] = one_by_one
    if integer_io:
        options |= {"inference_input_type": tf.int8, "inference_output_type": tf.int8}
    return options


def float_layers(path: str, quantize: str) -> list[str]:
    """Returns the operations of a quantized LiteRT file that are left in float.

    With `"int8"` they compute in float32. With `"dynamic"` they have float32 weights, which the
    converter leaves if they are few. With `"float16"` all weights are float16.
    """
    if quantize == "float16":
        return []
    operations = _operations(path)
    return [
        name for name, parts in operations if parts["result" if quantize == "int8" else "weights"]
    ]


def _operations(path: str) -> list[tuple[str, dict[str, bool]]]:
    """Returns each operation of a LiteRT file: its name, and which parts are float32."""
    model = schema.Model.GetRootAs(Path(path).read_bytes())
    kinds = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    operations = []
    for number in range(model.SubgraphsLength()):
        graph = model.Subgraphs(number)
        for index in range(graph.OperatorsLength()):
            operator = graph.Operators(index)
            code = model.OperatorCodes(operator.OpcodeIndex())
            kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if kind == "CUSTOM":
                operations.append((code.CustomCode().decode(), {"result": True, "weights": False}))
                continue
            results = [graph.Tensors(i) for i in operator.OutputsAsNumpy() if i >= 0]
            inputs = [graph.Tensors(i) for i in operator.InputsAsNumpy() if i >= 0]
            constants = [t for t in inputs if model.Buffers(t.Buffer()).DataLength()]
            counts = kind not in _CONVERTING
            place = "".join(t.Name().decode().partition(";")[0] for t in results[:1])
            parts = {
                "result": counts and any(map(_is_float, results)),
                "weights": counts
                and any(_is_float(tensor) and tensor.ShapeLength() > 1 for tensor in constants),
            }
            operations.append((f"{kind} {place}", parts))
    return operations


def _is_float(tensor: Any) -> bool:
    return tensor.Type() == schema.TensorType.FLOAT32
