"""Tells Keras where our classes are, so that `import aekd_tf` alone lets it load our files.

Keras finds a class in a file by its registered name. Ours register when their modules are
imported, which `import aekd_tf` does not do. Until then a stand-in holds each name, and
imports the module when a file asks for it. A module that is imported replaces its stand-in.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from typing import Any

HOMES = {
    "AdaptiveWeighting": "aekd_tf.weightings.adaptive",
    "AutoWeighting": "aekd_tf.weightings.auto",
    "AveragedOutputs": "aekd_tf.losses.averaged_outputs",
    "BinaryKL": "aekd_tf.losses.binary_kl",
    "CAMKDWeighting": "aekd_tf.weightings.ca_mkd",
    "Cosine": "aekd_tf.losses.raw",
    "CrossEntropyWeighting": "aekd_tf.weightings.cross_entropy",
    "DKD": "aekd_tf.losses.dkd",
    "EBKDWeighting": "aekd_tf.weightings.ebkd",
    "EnsembleDistiller": "aekd_tf.distiller",
    "FakeQuantized": "aekd_tf.export.fake_quantization",
    "FixedWeighting": "aekd_tf.weightings.fixed",
    "HintRegressors": "aekd_tf.terms.regressors",
    "Hints": "aekd_tf.terms.hints",
    "KL": "aekd_tf.losses.kl",
    "MSE": "aekd_tf.losses.raw",
    "MTKDWeighting": "aekd_tf.weightings.mtkd",
    "MovingRange": "aekd_tf.export.fake_quantization",
    "OwnLoss": "aekd_tf.losses.own",
    "QuantizationAwareModel": "aekd_tf.export.quantize_aware",
    "RandomWeighting": "aekd_tf.weightings.random",
    "SGDWithL2": "aekd_tf.training.optimizer",
    "SharedRange": "aekd_tf.export.fake_quantization",
    "Smoothed": "aekd_tf.weightings.smoothed",
    "StackedWeighting": "aekd_tf.weightings.stacked",
    "TeacherAdapter": "aekd_tf.teachers.adapter",
    "UniformWeighting": "aekd_tf.weightings.uniform",
}


class _StandIn:
    """Answers for a class that is not imported yet."""

    def __init__(self, home: str, name: str):
        self._home, self._name = home, name

    def from_config(self, config: dict[str, Any], **options: Any) -> Any:
        real = getattr(importlib.import_module(self._home), self._name)
        return real.from_config(config, **options)


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Registers the stand-ins when Keras is imported later than this package."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: Any) -> None:
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def announce() -> None:
    """Registers the stand-ins, now or as soon as Keras is imported."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _register() -> None:
    known = sys.modules["keras"].saving.get_custom_objects()
    for name, home in HOMES.items():
        known.setdefault(f"aekd_tf>{name}", _StandIn(home, name))
