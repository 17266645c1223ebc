"""Random capped-simplex problems: the shapes that gradients of real and of broken teachers take."""

from __future__ import annotations

import functools

import numpy as np


def _gram(vectors):
    return vectors @ np.swapaxes(vectors, -1, -2)


def kd_gradients(rng, count, size, classes=10):
    """Draws mean gradients of softened KD losses: students near and far from their teachers."""
    spread = rng.choice([0.1, 1, 5], (count, 1, 1, 1))
    student = rng.normal(size=(count, 1, 16, classes)) * spread
    shared = rng.normal(size=(count, 1, 16, classes)) * 3
    teachers = shared + rng.normal(size=(count, size, 16, classes))

    def softened(logits):
        exponent = np.exp((logits - logits.max(-1, keepdims=True)) / 4)
        return exponent / exponent.sum(-1, keepdims=True)

    return _gram(4 * (softened(student) - softened(teachers)).mean(2))


def full_rank(rng, count, size):
    return _gram(rng.normal(size=(count, size, size + 3)))


def low_rank(rng, count, size):
    return _gram(rng.normal(size=(count, size, max(1, size // 3))))


def duplicated(rng, count, size):
    vectors = rng.normal(size=(count, size, 8))
    return _gram(vectors[:, np.arange(size) // 2])


def some_zero(rng, count, size):
    vectors = rng.normal(size=(count, size, 8))
    return _gram(vectors * (rng.random((count, size, 1)) > 0.3))


def one_huge(rng, count, size):
    vectors = rng.normal(size=(count, size, 12))
    vectors[:, 0] *= 10 ** rng.uniform(1, 4, (count, 1))
    return _gram(vectors)


def near_collinear(rng, count, size):
    return _gram(rng.normal(size=(count, 1, 12)) + 1e-2 * rng.normal(size=(count, size, 12)))


def ill_conditioned(rng, count, size):
    """Draws matrices of condition number 1e12."""
    basis, _ = np.linalg.qr(rng.normal(size=(count, size, size)))
    values = np.logspace(0, -12, size)
    gram = (basis * values) @ np.swapaxes(basis, -1, -2)
    return (gram + np.swapaxes(gram, -1, -2)) / 2


def rescaled(rng, count, size):
    return full_rank(rng, count, size) * 10 ** rng.uniform(-20, 20, (count, 1, 1))


# Two classes leave gradients one direction, so that teachers can cancel.
GENERATORS = {
    f"kd_gradients of {classes} classes": functools.partial(kd_gradients, classes=classes)
    for classes in (2, 10, 100)
} | {
    generator.__name__: generator
    for generator in (
        full_rank,
        low_rank,
        duplicated,
        some_zero,
        one_huge,
        near_collinear,
        ill_conditioned,
        rescaled,
    )
}


def problems(rng, generator, count, size, dtype):
    """Draws `(gram [count, size, size], caps [count, size])`, caps from 1/M to 1."""
    gram = GENERATORS[generator](rng, count, size).astype(dtype)
    caps = np.where(
        rng.random(count) < 0.15, 1.0, 1 / size + rng.random(count) ** 2 * (1 - 1 / size)
    )
    caps = np.where(rng.random(count) < 0.05, 1 / size, caps)
    return gram, np.repeat(caps[:, None], size, 1).astype(dtype)
