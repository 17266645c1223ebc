"""The distillation losses once more, in NumPy and float64, written from their formulas."""

import numpy as np


def softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def kl(teacher, student, t, labels=None):
    p, q = softmax(teacher / t), softmax(student / t)
    return t**2 * (p * (np.log(p) - np.log(q))).sum(-1)


def binary_kl(teacher, student, t, labels=None):
    p, q = (1 / (1 + np.exp(-z / t)) for z in (teacher, student))
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return t**2 * each.mean(-1)


def mse(teacher, student, t, labels=None):
    return ((teacher - student) ** 2).mean(-1)


def cosine(teacher, student, t, labels=None):
    lengths = np.linalg.norm(teacher, axis=-1) * np.linalg.norm(student, axis=-1)
    return 1 - (teacher * student).sum(-1) / lengths


def dkd(teacher, student, t, labels):
    """Row by row, as the paper's Eq. 7 has it, with weights 1 and 8."""
    found = np.zeros(student.shape[:-1])
    for place in np.ndindex(found.shape):
        p, q = softmax(teacher[place] / t), softmax(student[place] / t)
        label = labels[place]
        b, c = np.array([p[label], 1 - p[label]]), np.array([q[label], 1 - q[label]])
        p, q = np.delete(p, label), np.delete(q, label)
        p, q = p / p.sum(), q / q.sum()
        found[place] = np.sum(b * np.log(b / c)) + 8 * np.sum(p * np.log(p / q))
    return t**2 * found


def huber(teacher, student, t, labels=None):
    gap = np.abs(teacher - student)
    return np.where(gap <= 1, gap**2 / 2, gap - 0.5).mean(-1)


def averaged_outputs(weights, teachers, student, t):
    """The loss that is trained; weightings see those of `kl`."""
    mean = np.tensordot(weights, softmax(teachers / t), 1)
    return kl(t * np.log(mean), student, t)


def gradient(function, point, step=1e-6):
    """Central differences of a scalar function."""
    found = np.zeros_like(point)
    for place in np.ndindex(point.shape):
        moved = point.copy()
        moved[place] += step
        high = function(moved)
        moved[place] -= 2 * step
        found[place] = (high - function(moved)) / (2 * step)
    return found
