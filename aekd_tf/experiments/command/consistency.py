"""Refuses settings of an experiment that contradict each other; `config` is a `Config`."""

from __future__ import annotations

from typing import Any

from aekd_tf.checks import check_choice, check_number, check_weight_bits, parse_interval
from aekd_tf.experiments.command.presets import CROSS_VALIDATION
from aekd_tf.experiments.run.methods import ADAPTIVE, HINTED, METHODS
from aekd_tf.names import ANCHORS, REFERENCE_SOLVERS

# Weightings that soften the teachers' outputs at temperature 1, whatever the loss's.
READ_AT_ONE = ("cross_entropy", "ca_mkd", "ebkd", "mtkd")
STRATEGIES = ("none", "mirrored", "multi_worker", "tpu")
# Section 4.1's candidates for beta.
HINT_WEIGHTS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def check_anchor(config: Any) -> None:
    """Checks what the program compares the teachers with."""
    check_choice("anchor_to", config.anchor_to, ANCHORS)
    check_number("anchor_temperature", config.anchor_temperature, above_zero=True)
    if config.anchor is not None and not 0 <= config.anchor <= 1:
        raise ValueError(
            f"anchor is {config.anchor}: give a number from 0 (the student) to 1 (the truth)"
        )
    changed = config.anchor is not None or config.per_example
    if changed and not {"anchored", *ADAPTIVE} & set(config.methods):
        raise ValueError(
            "anchor and per_example are settings of the methods anchored and aekd: name one of them"
        )
    reading = [name for name in config.methods if METHODS[name].weighting in READ_AT_ONE]
    if config.cache_top_k and reading and config.temperature != 1:
        raise ValueError(
            f"cache_top_k keeps what is beyond the largest logits at temperature "
            f"{config.temperature:g}, but {reading[0]} reads all of them at 1: leave it out"
        )
    reads = "anchored" in config.methods or bool(config.anchor)
    if config.cache_top_k and reads and config.anchor_temperature != config.temperature:
        raise ValueError(
            f"cache_top_k keeps what is beyond the largest logits at temperature "
            f"{config.temperature:g}, anchor_temperature is {config.anchor_temperature:g}: give "
            "both the same"
        )


def check_held_out(config: Any) -> None:
    """Refuses a choice that requires validation images, if there are none."""
    for method in config.methods:
        if METHODS[method].weighting == "stacked" and config.validation_examples == 0:
            raise ValueError(
                f"{method} chooses weights on validation images but validation_examples is 0: give "
                f"--validation_examples, or leave {method} out"
            )


def check_strategy(config: Any) -> None:
    """Checks what several devices cannot do."""
    check_choice("strategy", config.strategy, STRATEGIES)
    _, seconds = parse_interval(config.checkpoint_every)
    if config.strategy == "multi_worker" and seconds is not None:
        raise ValueError(
            f"checkpoint_every is {config.checkpoint_every} but the clocks of several workers "
            "differ: give a number of steps"
        )
    if config.strategy in ("mirrored", "multi_worker"):
        if config.jit_compile:
            raise ValueError(
                f"jit_compile cannot compile a step of strategy={config.strategy}: leave "
                "jit_compile out, or use strategy=none"
            )
        if (config.steps_per_execution or 1) > 1:
            raise ValueError(
                f"steps_per_execution is {config.steps_per_execution}, which "
                f"strategy={config.strategy} cannot do: leave it out and give a larger "
                "--batch_size"
            )
    if config.strategy == "tpu" and config.jit_compile:
        raise ValueError("jit_compile is for GPUs, a TPU compiles every step: leave it out")
    if config.strategy == "tpu" and config.mixed_precision == "float16":
        raise ValueError("mixed_precision is float16, a TPU computes in bfloat16: give that")
    if config.strategy == "tpu" and config.solver in REFERENCE_SOLVERS:
        raise ValueError(
            f"solver={config.solver} leaves the graph for Python, which a TPU cannot: use "
            "solver=smo"
        )


def check_hints(config: Any) -> None:
    """Checks the weight, the layers and the start of hints."""
    if isinstance(config.hint_weight, str):
        if config.hint_weight != CROSS_VALIDATION:
            raise ValueError(
                f"hint_weight is {config.hint_weight}: give a number, or {CROSS_VALIDATION} to "
                f"choose it from {', '.join(f'{b:g}' for b in HINT_WEIGHTS)} on validation data"
            )
    else:
        check_number("hint_weight", config.hint_weight)
    if config.hint_weight == 0 and (hinted := sorted(set(HINTED) & set(config.methods))):
        raise ValueError(
            f"methods names {', '.join(hinted)} but hint_weight is 0: give --hint_weight, a "
            f"number or {CROSS_VALIDATION}"
        )
    if set(HINTED) & set(config.methods) and config.hint_first_epoch > config.epochs:
        raise ValueError(
            f"hint_first_epoch is {config.hint_first_epoch} but there are {config.epochs} epochs: "
            "no hint would ever be used; give a smaller one"
        )
    if len(config.hint_layers) not in (1, 1 + config.ensemble_size) or not all(config.hint_layers):
        raise ValueError(
            f"hint_layers names {len(config.hint_layers)} layers: give one for all, or the "
            f"student's and then one for each of the {config.ensemble_size} teachers"
        )


def check_quantization(config: Any) -> None:
    """Checks the bits of kernels, which only a quantization-aware student has."""
    check_weight_bits(config.weight_bits)
    if config.weight_bits != 8 and not config.quantize_aware:
        raise ValueError(
            f"weight_bits is {config.weight_bits} but no student is quantization-aware: give "
            "--quantize_aware, or leave weight_bits out"
        )
    if config.quantize_aware and config.strategy == "multi_worker":
        raise ValueError(
            "quantize_aware starts from a file that only the first of several workers writes: "
            "leave it out, or use strategy=mirrored"
        )
