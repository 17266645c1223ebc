"""Every loss and head against NumPy: kd_loss, weights and one step's update."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf import AdaptiveWeighting, EnsembleDistiller, Weighting
from tools import losses as truth
from tools import reference

M, B, T, C = 3, 6, 3.0, 0.5
CE = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BCE = keras.losses.BinaryCrossentropy(from_logits=True)
MSE = keras.losses.MeanSquaredError()


class Shares(Weighting):
    """Weights of its own per example: a softmax of minus the losses."""

    needs = ("losses",)

    def weights(self, signals):
        return tf.nn.softmax(-signals.losses, 0)


def linear(seed, outputs, positions):
    """`[B, ..., 4]` to `[B, ..., K]`, by one dense layer."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((*positions, 4))
    normal = keras.initializers.RandomNormal(stddev=1.0, seed=seed)
    return keras.Model(inputs, keras.layers.Dense(outputs, kernel_initializer=normal)(inputs))


def labels_of(kind, outputs, positions, rng):
    shape = (B, *positions)
    if kind == "classes":
        return rng.integers(0, outputs, shape)
    if kind == "labels":
        return rng.integers(0, 2, (*shape, outputs)).astype(np.float32)
    return rng.normal(size=(*shape, outputs)).astype(np.float32)


def compiled_truth(kind, y, z):
    if kind == "classes":
        p = np.log(truth.softmax(z))
        return -np.take_along_axis(p, y[..., None], -1)[..., 0]
    if kind == "labels":
        return (np.log1p(np.exp(-np.abs(z))) + np.maximum(z, 0) - y * z).mean(-1)
    return ((y - z) ** 2).mean(-1)


CASES = {
    "kl": ("kl", truth.kl, "classes", 5, ()),
    "dkd": ("dkd", truth.dkd, "classes", 5, ()),
    "averaged_outputs": ("averaged_outputs", truth.kl, "classes", 5, ()),
    "mse of classes": ("mse", truth.mse, "classes", 5, ()),
    "cosine of classes": ("cosine", truth.cosine, "classes", 5, ()),
    "two classes": ("kl", truth.kl, "classes", 2, ()),
    "labels": ("binary_kl", truth.binary_kl, "labels", 5, ()),
    "one logit": ("binary_kl", truth.binary_kl, "labels", 1, ()),
    "regression": ("mse", truth.mse, "regression", 3, ()),
    "one value": ("mse", truth.mse, "regression", 1, ()),
    "cosine": ("cosine", truth.cosine, "regression", 3, ()),
    "own": (lambda t, s: keras.losses.huber(t, s), truth.huber, "regression", 3, ()),
    "Keras": (keras.losses.Huber(), truth.huber, "regression", 3, ()),
    "dense": ("kl", truth.kl, "classes", 4, (3, 2)),
    "dense dkd": ("dkd", truth.dkd, "classes", 4, (3,)),
    "dense averaged_outputs": ("averaged_outputs", truth.kl, "classes", 4, (3,)),
    "dense labels": ("binary_kl", truth.binary_kl, "labels", 3, (4,)),
    "dense regression": ("mse", truth.mse, "regression", 2, (4,)),
}
WEIGHTINGS = {
    "mean": lambda: AdaptiveWeighting(C),
    "full": lambda: AdaptiveWeighting(C, batch_gradient="full"),
    "per example": Shares,
}


FULL = ("kl", "labels", "dense")
PER_EXAMPLE = ("kl", "averaged_outputs", "one logit", "regression", "dense dkd")
RUNS = [(case, "mean", False) for case in CASES]
RUNS += [(case, "full", False) for case in FULL]
RUNS += [(case, "per example", False) for case in PER_EXAMPLE]
RUNS += [(case, "mean", True) for case in CASES if CASES[case][-1]]


@pytest.mark.parametrize(("case", "weighting", "masked"), RUNS)
def test_kd_loss_weights_and_update(case, weighting, masked):
    loss, per_example, kind, outputs, positions = CASES[case]
    rng = np.random.default_rng(3)
    x = rng.normal(size=(B, *positions, 4)).astype(np.float32)
    y = labels_of(kind, outputs, positions, rng)
    mask = rng.integers(0, 2, (B, *positions)) if masked else np.ones((B, *positions))
    if masked:
        mask[:, 0] = 1  # no example without any position
    student = linear(0, outputs, positions)
    teachers = [linear(seed, outputs, positions) for seed in range(1, M + 1)]
    distiller = EnsembleDistiller(
        student,
        teachers,
        weighting=WEIGHTINGS[weighting](),
        distillation_loss=loss,
        temperature=T,
        student_loss_weight=0.7,
        kd_weight=1.3,
    )
    compiled = {"classes": CE, "labels": BCE, "regression": MSE}[kind]
    distiller.compile(keras.optimizers.SGD(1.0), compiled, run_eagerly=True)
    start = [weight.astype(np.float64) for weight in student.get_weights()]
    targets = np.stack([teacher(x).numpy() for teacher in teachers]).astype(np.float64)
    sample_weight = mask.astype(np.float32) if masked else None
    logs = distiller.train_on_batch(x, y, sample_weight, return_dict=True)

    def of(function, z):
        """`[M, B]`: the mean over an example's own positions."""
        each = np.stack([function(target, z, T, y) for target in targets])
        if not positions:
            return each
        axes = tuple(range(2, each.ndim))
        return (each * mask).sum(axes) / mask.sum(tuple(range(1, mask.ndim)))

    def outputs_of(weights):
        return np.tensordot(x.astype(np.float64), weights[0], 1) + weights[1]

    z = outputs_of(start)
    per_teacher = of(per_example, z)
    if weighting == "per example":
        weights = np.exp(-per_teacher) / np.exp(-per_teacher).sum(0)
        found = np.array([float(logs[f"teacher_weight_{m}"]) for m in range(M)])
        np.testing.assert_allclose(found, weights.mean(1), rtol=1e-5)
    else:
        weights = np.array([float(logs[f"teacher_weight_{m}"]) for m in range(M)])
        gradients = np.stack(
            [truth.gradient(lambda z, m=m: of(per_example, z)[m].mean(), z) for m in range(M)]
        )
        flat = gradients.mean(1) if weighting == "mean" else gradients
        flat = flat.reshape(M, -1)
        gram = flat @ flat.T
        best = aekd_tf.solve_capped_simplex_qp(gram, C, solver="cvxopt").weights.numpy()
        optimum = reference.objective(gram, best)
        assert reference.objective(gram, weights) <= optimum * (1 + 1e-5) + 1e-12

    def kd(z):
        if "averaged" not in case:
            shares = weights if weights.ndim == 2 else weights[:, None]
            return (shares * of(per_example, z)).sum(0).mean()
        outputs = truth.softmax(targets / T)
        shares = weights.reshape(*weights.shape, *[1] * (outputs.ndim - weights.ndim))
        mean = T * np.log((shares * outputs).sum(0))
        each = truth.kl(mean, z, T)
        if positions:
            axes = tuple(range(1, each.ndim))
            each = (each * mask).sum(axes) / mask.sum(axes)
        return each.mean()

    def total(z):
        own = compiled_truth(kind, y, z) * mask
        return 0.7 * own.mean() + 1.3 * kd(z)

    assert float(logs["kd_loss"]) == pytest.approx(kd(z), rel=1e-5, abs=1e-7)
    assert float(logs["loss"]) == pytest.approx(total(z), rel=1e-5)
    expected = [
        truth.gradient(
            lambda w, i=i: total(outputs_of([w if j == i else start[j] for j in range(2)])),
            start[i],
        )
        for i in range(2)
    ]
    for before, after, slope in zip(start, student.get_weights(), expected, strict=True):
        np.testing.assert_allclose(before - after, slope, rtol=1e-5, atol=2e-6)
