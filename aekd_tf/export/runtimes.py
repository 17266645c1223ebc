"""Runs an exported file by its own runtime.

Each function loads a file and returns a function from arrays, in the order of the model's inputs,
to all outputs.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from aekd_tf.export.wrapping import Exported

Run = Callable[[list[np.ndarray]], list[np.ndarray]]

# The package of a format's runtime, by the name of its module; TensorFlow and Keras are there.
_PACKAGES = {"litert": ("ai_edge_litert", "ai-edge-litert"), "onnx": ("onnxruntime",) * 2}


def missing(file_format: str) -> str | None:
    """Returns the package whose absence leaves a file unchecked; None if nothing is missing."""
    module, package = _PACKAGES.get(file_format, (None, None))
    return package if module and importlib.util.find_spec(module) is None else None


def load(file_format: str, path: str, exported: Exported, threads: int) -> Run:
    """Returns a function that runs a file; `threads` counts for LiteRT and ONNX alone."""
    if file_format == "litert":
        return _litert(path, exported, threads)
    if file_format == "onnx":
        return _onnx(path, exported, threads)
    return (_saved_model if file_format == "saved_model" else _keras)(path, exported)


def threads_of(file_format: str, threads: int) -> int:
    """Returns how many threads a runtime uses: TensorFlow's are those of the process."""
    if file_format in _PACKAGES:
        return threads
    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1


def on_cpu(function: Any) -> Run:
    """Returns a function of TensorFlow that takes and gives arrays, on the CPU."""

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        with tf.device("CPU:0"):
            return [part.numpy() for part in function(*map(tf.constant, arrays))]

    return run


def _keras(path: str, exported: Exported) -> Run:
    model = keras.models.load_model(path, compile=False, safe_mode=False)  # we wrote it
    return on_cpu(Exported(model, model, exported.inputs, None, None).traced())


def _saved_model(path: str, exported: Exported) -> Run:
    loaded = tf.saved_model.load(path)
    names = [tensor.name for tensor in exported.flat_inputs]

    def call(*arrays: Any) -> list[Any]:
        given = dict(zip(names, arrays, strict=True))
        return _in_order(loaded.signatures["serving_default"](**given))

    return on_cpu(call)


def _onnx(path: str, exported: Exported, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in exported.flat_inputs]
    return lambda arrays: session.run(None, dict(zip(names, arrays, strict=True)))


def _litert(path: str, exported: Exported, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    signature = interpreter.get_signature_runner()
    details = signature.get_input_details()
    inputs = [details[tensor.name] for tensor in exported.flat_inputs]
    outputs = _in_order(signature.get_output_details())
    del signature  # the interpreter refuses to resize while it is held
    shapes: list[tuple[int, ...]] = []

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        if shapes != [array.shape for array in arrays]:
            shapes[:] = [array.shape for array in arrays]
            for detail, array in zip(inputs, arrays, strict=True):
                interpreter.resize_tensor_input(detail["index"], array.shape)
            interpreter.allocate_tensors()
        for detail, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(detail["index"], _quantized(array, detail))
        interpreter.invoke()
        return [_dequantized(interpreter.get_tensor(d["index"]), d) for d in outputs]

    return run


def _quantized(array: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if detail["dtype"] is not np.int8 or not scale:
        return array
    return np.clip(np.round(array / scale) + zero, -128, 127).astype(np.int8)


def _dequantized(array: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if detail["dtype"] is not np.int8 or not scale:
        return array
    return (array.astype(np.float32) - zero) * np.float32(scale)


def _in_order(outputs: dict[str, Any]) -> list[Any]:
    """Returns the outputs in Keras's order: `output_2` before `output_10`, names by alphabet."""

    def place(name: str) -> tuple[int, str]:
        match = re.fullmatch(r"output_(\d+)", name)
        return (int(match[1]), "") if match else (0, name)

    return [outputs[name] for name in sorted(outputs, key=place)]
