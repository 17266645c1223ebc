"""Makes runs of commands small: ResNets of three layers, MobileNetV2 of one block per group.

Nor are there pictures of the training.
"""

import contextlib

import pytest

from aekd_tf.experiments.run import distillation
from aekd_tf.models import mobilenet_v2
from tools.networks import small_resnet


@contextlib.contextmanager
def small_runs(pictures=False):
    """Makes them small meanwhile, in this process."""
    with pytest.MonkeyPatch.context() as context:
        for module in ("resnet", "imagenet_resnet"):
            context.setattr(f"aekd_tf.models.{module}.build", small_resnet)
        groups = [(*group[:2], 1, group[3]) for group in mobilenet_v2._GROUPS]
        context.setattr(mobilenet_v2, "_GROUPS", groups)
        if not pictures:
            drawing = "aekd_tf.monitoring.tensorboard.DistillationTensorBoard._draw"
            context.setattr(drawing, lambda self: None)
        yield


def run(config):
    """Runs a configuration small, for a process of its own: see `small_command.py`."""
    with small_runs(pictures=True):
        distillation.run(config)
