"""Shared fixtures: small networks and data, no chatter."""

import gc
import os
import random
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# XLA compiles a program once per test run, in seconds. Other workers, and the processes that tests
# start, load the same machine code from this directory, which ends with the run. Here XLA compiles
# in a quarter of its usual time, to slower code. test_readme.py lets it compile as for users.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
)
if "TF_XLA_FLAGS" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="compiled_programs_")
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={_programs.name}"

import numpy as np
import pytest

from tools import forked

# The collector takes a tenth of the time otherwise.
gc.set_threshold(50_000, 20, 20)


def pytest_collection_finish():
    """What the tests import stays: no need to look through it again and again."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _all_processes_end():
    yield
    forked.stop()


@pytest.fixture(autouse=True)
def _weights_of_a_test_are_its_own():
    """Keras draws the seeds of initial weights here, whatever tests ran before."""
    random.seed(0)


@pytest.fixture(autouse=True)
def _determinism_ends_with_the_test():
    """A command asks for deterministic kernels, process-wide, which excludes XLA."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        config.disable_op_determinism()


@pytest.fixture
def toy_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(48, 4)).astype(np.float32)
    return x, rng.integers(0, 3, 48)


@pytest.fixture
def teachers():
    """Three teachers whose batch norm statistics are not the initial ones."""
    from tools.networks import classifier  # the process that starts the workers needs no Keras

    models = [classifier(seed) for seed in (1, 2, 3)]
    rng = np.random.default_rng(5)
    for model in models:
        norm = model.layers[1]
        norm.moving_mean.assign(rng.normal(size=8))
        norm.moving_variance.assign(rng.uniform(0.5, 2, 8))
    return models
