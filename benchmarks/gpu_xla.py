"""Times steps that XLA compiles for a GPU, on a machine that has JAX but no TensorFlow.

    python benchmarks/gpu_xla.py write /tmp/steps             # where this package is installed
    python benchmarks/gpu_xla.py run /tmp/steps docs/gpu.md   # where JAX sees the GPU

`write` lowers the contestants of benchmarks/gpu.py to StableHLO, which is what `jit_compile=True`
hands to XLA, and stores their variables. `run` compiles and times them; contestants take turns in
random order, in chains of steps with one wait at the end, and medians are reported. It also
compares what the program answers on this device with what it answered here.

Images and kernels are drawn anew by `run`, which makes the files small: weights are untrained.
"""

from __future__ import annotations

import json
import os
import random
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

# Name -> contestant of benchmarks/gpu.py, number of teachers.
CASES = {
    "plain": ("plain", 10),
    "AVER cached, M = 10": ("AVER cached", 10),
    "AE-KD cached, M = 10": ("AE-KD cached", 10),
    "AVER cached, M = 25": ("AVER cached", 25),
    "AE-KD cached, M = 25": ("AE-KD cached", 25),
    "AVER online, M = 10": ("AVER online", 10),
    "AE-KD online, M = 10": ("AE-KD online", 10),
}
POLICIES = ("float32", "mixed_bfloat16")
CHAIN, ROUNDS = 20, 31
# Batches of programs that `run` solves again: Gram matrices of so many teachers.
PROGRAMS = {"QP, M = 10": (1, 10), "QP, M = 25": (1, 25), "QP, 256 at once, M = 10": (256, 10)}


def write(directory: str) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import gpu
    import keras
    import tensorflow as tf

    from aekd_tf import models, solve_capped_simplex_qp

    os.makedirs(directory, exist_ok=True)
    for policy in POLICIES:
        for name, (case, size) in CASES.items():
            keras.config.set_dtype_policy(policy)
            keras.utils.set_random_seed(0)
            shape = (gpu.FULL.side, gpu.FULL.side, 3)
            teachers = [None] * size  # only their number counts where their outputs are given
            if "online" in case:
                teachers = [models.create("resnet56", 10, shape) for _ in range(size)]
            model, batch = gpu.contestant(gpu.FULL, case, teachers, jit_compile=True)
            step = tf.function(model.train_step, jit_compile=True, autograph=False)
            variables = [v for t in teachers if t is not None for v in t.variables]
            _store(directory, f"{policy} {name}", step, batch, variables)
            keras.config.set_dtype_policy("float32")
    for name, (count, size) in PROGRAMS.items():
        gradients = np.random.default_rng(0).normal(size=(count, size, 10))
        gram = tf.constant(gradients @ gradients.transpose(0, 2, 1), tf.float32)
        solve = tf.function(
            lambda gram: solve_capped_simplex_qp(gram, 0.6)[:2], jit_compile=True, autograph=False
        )
        np.save(os.path.join(directory, f"{name}.npy"), solve(gram)[0].numpy())
        _store(directory, name, solve, gram)


def _store(
    directory: str, name: str, function: Any, argument: Any, variables: Sequence[Any] = ()
) -> None:
    """Writes a function's StableHLO, and what it is called with; `variables` are the teachers'."""
    import tensorflow as tf

    concrete = function.get_concrete_function(argument)
    lower = function.experimental_get_compiler_ir(argument)
    with open(os.path.join(directory, f"{name}.hlo"), "wb") as file:
        file.write(lower(stage="stablehlo_serialized"))
    known = {id(v.handle): v for v in (*concrete.variables, *variables)}
    captured = [known.get(id(handle), handle) for handle in concrete.captured_inputs]
    arrays, drawn = {}, {}
    for index, value in enumerate([*tf.nest.flatten(argument), *captured]):
        array = value.numpy()
        if array.ndim == 4:
            drawn[index] = (array.shape, float(array.std()))
        else:
            arrays[str(index)] = array
    np.savez(os.path.join(directory, f"{name}.npz"), **arrays)
    with open(os.path.join(directory, f"{name}.json"), "w", encoding="utf-8") as file:
        json.dump({"drawn": drawn}, file)


def arguments_of(directory: str, name: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Returns what a function is called with; images and kernels are drawn."""
    with open(os.path.join(directory, f"{name}.json"), encoding="utf-8") as file:
        drawn = json.load(file)["drawn"]
    stored = np.load(os.path.join(directory, f"{name}.npz"))
    found = {int(index): stored[index] for index in stored.files}
    for index, (shape, deviation) in drawn.items():
        found[int(index)] = (deviation * rng.normal(size=shape)).astype(np.float32)
    return [found[index] for index in range(len(found))]


def portable(content: bytes) -> str:
    """Returns StableHLO as text, without what is TensorFlow's own: copies, and shared buffers."""
    from jax._src.interpreters import mlir
    from jax._src.lib.mlir import ir

    context = mlir.make_ir_context()
    context.allow_unregistered_dialects = True
    with context:
        text = str(ir.Module.parse(content))
    head, rest = text.split("\n", 1)
    rest = re.sub(r"mhlo\.copy (%\w+) : (tensor<\S+>)", r"stablehlo.reshape \1 : (\2) -> \2", rest)
    return re.sub(r" attributes \{.*\} \{$", " {", head) + "\n" + rest


class Compiled:
    """A function on the device, with its arguments there."""

    def __init__(self, directory: str, name: str):
        import jax
        from jax._src.lib import xla_client

        device = jax.devices()[0]
        with open(os.path.join(directory, f"{name}.hlo"), "rb") as file:
            content = portable(file.read())
        begun = time.perf_counter()
        devices = xla_client.DeviceList((device,))
        options = xla_client.CompileOptions()
        self._executable = device.client.compile_and_load(content, devices, options)
        self.seconds = time.perf_counter() - begun
        print(f"{name}: compiled in {self.seconds:.1f} s", file=sys.stderr, flush=True)
        given = arguments_of(directory, name, np.random.default_rng(0))
        self._arguments = [jax.device_put(array, device) for array in given]

    def __call__(self) -> Any:
        """Starts the function, and does not wait for it."""
        return self._executable.execute_sharded(self._arguments)


def first(results: Any) -> Any:
    """Waits for a call's first result, and so for all of it."""
    return results.disassemble_into_single_device_arrays()[0][0].block_until_ready()


def run(directory: str, report: str) -> None:
    import jax

    jax.config.update("jax_enable_x64", True)  # the program's numbers
    device = jax.devices()[0]
    lines = [
        "# Training steps on a GPU",
        "",
        "    python benchmarks/gpu_xla.py write /tmp/steps",
        f"    python benchmarks/gpu_xla.py run /tmp/steps {report}",
        "",
        f"{device.device_kind}, JAX {jax.__version__}. resnet20 student, resnet56 teachers, batch "
        f"256 of 32x32 images in the device's memory, each step one program of XLA "
        f"(`jit_compile=True`). Medians of {ROUNDS} chains of {CHAIN} steps, which took turns.",
        "",
    ]
    compiled = {name: Compiled(directory, name) for name in PROGRAMS}
    rows = []
    for name, program in compiled.items():
        weights = np.asarray(first(program()))
        expected = np.load(os.path.join(directory, f"{name}.npy"))
        apart = float(np.abs(weights - expected).max())
        rows.append([name, f"{1e6 * np.median(timed({name: program})[name]):.0f}", f"{apart:.1g}"])
    lines += ["## The program", "", *table(["", "us", "apart from the CPU's weights"], rows), ""]
    for policy in POLICIES:
        steps = {name: Compiled(directory, f"{policy} {name}") for name in CASES}
        seconds = {name: float(np.median(each)) for name, each in timed(steps).items()}
        rows = [
            [
                name,
                f"{1e3 * seconds[name]:.2f}",
                f"{256 / seconds[name]:,.0f}",
                f"{seconds[name] / seconds['plain']:.3f}",
                f"{steps[name].seconds:.0f}",
            ]
            for name in CASES
        ]
        columns = ["step", "ms", "images/s", "to plain", "seconds to compile"]
        lines += [f"## {policy}", "", *table(columns, rows), ""]
        content = "\n".join(lines).rstrip() + "\n"
        with open(report, "w", encoding="utf-8") as file:
            file.write(content)
    print(content)


def timed(steps: dict[str, Compiled]) -> dict[str, list[float]]:
    """Returns the seconds per step of each contestant's chains."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    order = list(steps)
    for number in range(ROUNDS + 2):  # the first two warm up
        random.Random(number).shuffle(order)
        for name in order:
            begun = time.perf_counter()
            for _ in range(CHAIN):
                found = steps[name]()
            started = time.perf_counter() - begun
            first(found)
            if number == 2:
                print(f"{name}: {1e3 * started / CHAIN:.2f} ms to start", file=sys.stderr)
            if number >= 2:
                taken[name].append((time.perf_counter() - begun) / CHAIN)
    return taken


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Returns the lines of a Markdown table; this package's own needs TensorFlow."""
    ruler = ["|:--" + "|--:" * (len(columns) - 1) + "|"]
    body = ["| " + " | ".join(row) + " |" for row in rows]
    return ["| " + " | ".join(columns) + " |", *ruler, *body]


if __name__ == "__main__":
    {"write": write, "run": run}[sys.argv[1]](*sys.argv[2:])
