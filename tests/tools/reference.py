"""The slow NumPy truth that the tests compare with, written from the paper's equations."""

from __future__ import annotations

import numpy as np


def softmax(logits):
    exponent = np.exp(logits - logits.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


def distillation_losses(teacher_logits, student_logits, temperature):
    """Computes Eq. 1 with T^2 and without the teacher's entropy: `[M, B]`."""
    teacher = softmax(np.asarray(teacher_logits, np.float64) / temperature)
    student = softmax(np.asarray(student_logits, np.float64) / temperature)
    return temperature**2 * (teacher * (np.log(teacher) - np.log(student))).sum(-1)


def logit_gradients(teacher_logits, student_logits, temperature):
    """Computes Eq. 14 times T^2, for the batch mean: `[M, B, K]`."""
    teacher = softmax(np.asarray(teacher_logits, np.float64) / temperature)
    student = softmax(np.asarray(student_logits, np.float64) / temperature)
    return temperature * (student - teacher) / student.shape[0]


def gram(gradients, batch_gradient):
    rows = gradients.mean(1) if batch_gradient == "mean" else gradients
    rows = rows.reshape(len(rows), -1)
    return rows @ rows.T


def objective(gram, weights):
    return 0.5 * np.einsum("...m,...mn,...n->...", weights, gram, weights)


def duality_gap(gram, caps, weights):
    """Computes w'Gw minus the smallest s'Gw, which fills the caps in ascending order."""
    gradient = np.einsum("...mn,...n->...m", gram, weights)
    order = np.argsort(gradient, -1)
    filled = np.take_along_axis(caps, order, -1)
    before = np.cumsum(filled, -1) - filled
    share = np.clip(1 - before, 0, filled)
    smallest = (share * np.take_along_axis(gradient, order, -1)).sum(-1)
    return (weights * gradient).sum(-1) - smallest


def project(point, caps):
    """Projects onto the capped simplex by bisection on the shift."""
    low, high = point.min() - 1 - caps.max(), point.max() + 1
    for _ in range(200):
        middle = (low + high) / 2
        if np.clip(point - middle, 0, caps).sum() > 1:
            low = middle
        else:
            high = middle
    return np.clip(point - low, 0, caps)
