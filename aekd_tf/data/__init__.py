"""Data sets and tf.data pipelines that can be replayed exactly.

An augmented view is a function of (seed, epoch, example index) alone. So a run repeats, and
resumes at any epoch, whatever the batch size.
"""

from aekd_tf.data.augmentation import augment, normalize
from aekd_tf.data.dataset import DataError, Dataset, Split
from aekd_tf.data.loading import load
from aekd_tf.data.pipeline import (
    evaluation_pipeline,
    steps_per_epoch,
    training_pipeline,
    view_pipeline,
)
from aekd_tf.data.streaming import StreamedSplit

__all__ = [
    "DataError",
    "Dataset",
    "Split",
    "StreamedSplit",
    "augment",
    "evaluation_pipeline",
    "load",
    "normalize",
    "steps_per_epoch",
    "training_pipeline",
    "view_pipeline",
]
