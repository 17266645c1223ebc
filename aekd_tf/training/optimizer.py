"""SGD with the weight decay of the paper's recipe (section 4.1)."""

from __future__ import annotations

from typing import Any

import keras


@keras.saving.register_keras_serializable("aekd_tf")
class SGDWithL2(keras.optimizers.SGD):
    """SGD whose weight decay is part of the gradient, and so of the momentum.

    The recipe's 5e-4 has this meaning. Keras's own `weight_decay` is decoupled: with momentum
    0.9 it would be about ten times weaker.

    Args:
        l2: coefficient of the variable in its gradient.
        **kwargs: arguments of `keras.optimizers.SGD`.
    """

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        variable_value = keras.ops.cast(variable, gradient.dtype)
        super().update_step(gradient + self.l2 * variable_value, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}
