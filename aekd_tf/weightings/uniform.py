"""The plain average of the teachers (AVER)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from aekd_tf.checks import check_choice
from aekd_tf.names import AVERAGES
from aekd_tf.signals import Signals
from aekd_tf.weightings.base import Weighting, uniform_among


@keras.saving.register_keras_serializable("aekd_tf")
class UniformWeighting(Weighting):
    """Weights all teachers equally: AVER, the plain average of their losses (Eq. 2).

    Args:
        average: `"losses"`, or `"outputs"`, which is short for the distillation loss
            `"averaged_outputs"`: one loss against the mean of the teachers' softened outputs.
            Both train alike (Proposition 1): their `kd_loss` differs only by a term without a
            gradient.

    Raises:
        ValueError: an unknown `average`.

    Example::

        import numpy as np
        from aekd_tf import Signals, UniformWeighting

        # The third teacher's outputs are not finite on this batch.
        signals = Signals(live=np.array([True, True, False]))
        weights, diagnostics = UniformWeighting()(signals)
        print(weights.numpy())  # [0.5 0.5 0. ]
    """

    needs = ()

    def __init__(self, average: str = "losses"):
        check_choice("average", average, AVERAGES)
        self.average = average

    def get_config(self) -> dict[str, Any]:
        return {"average": self.average}

    def weights(self, signals: Signals) -> tf.Tensor:
        return uniform_among(signals.live)
