"""The page of the mathematics: its equations, the code that it includes, and what they compute."""

import ast
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from aekd_tf.gradients import gram_matrix, teacher_gradients
from aekd_tf.losses.kl import distillation_loss
from aekd_tf.qp.certificate import duality_gap
from aekd_tf.qp.solve import solve_capped_simplex_qp
from aekd_tf.signals import Signals
from aekd_tf.terms.hints import hint_loss
from aekd_tf.weightings.fixed import FixedWeighting
from aekd_tf.weightings.reference import residuals

PAGE = Path(__file__).parents[2] / "docs" / "mathematics.md"
TEXT = PAGE.read_text(encoding="utf-8")
INCLUDES = re.findall(r"```\{literalinclude\} (\S+)\n(.*?)```", TEXT, re.DOTALL)
M, B, K, T = 4, 6, 5, 4.0


def definition(source, name):
    """The lines of a function or method, as Sphinx finds them by `pyobject`."""
    body = ast.parse(source).body
    for part in name.split("."):
        node = next(node for node in body if getattr(node, "name", None) == part)
        body = getattr(node, "body", [])
    return source.splitlines()[node.lineno - 1 : node.end_lineno]


def excerpt(path, options):
    """The lines that a `literalinclude` shows."""
    given = dict(re.findall(r"^:([\w-]+): ?(.*)$", options, re.MULTILINE))
    lines = definition((PAGE.parent / path).read_text(encoding="utf-8"), given["pyobject"])
    first = next(i for i, line in enumerate(lines) if given["start-at"] in line)
    rest = lines[first:]
    end = given.get("end-at", given.get("end-before"))
    last = next(i for i, line in enumerate(rest) if end in line)
    return rest[: last + ("end-at" in given)]


def test_all_equations_are_there_in_order():
    headings = re.findall(r"^### Eq\. (\d+): ", TEXT, re.MULTILINE)
    labels = re.findall(r"^\$\$ \((\d+)\)$", TEXT, re.MULTILINE)
    assert headings == labels == [str(number) for number in range(1, 17)]


@pytest.mark.parametrize(("path", "options"), INCLUDES, ids=[path for path, _ in INCLUDES])
def test_included_code_is_there(path, options):
    lines = excerpt(path, options)
    assert 1 <= len(lines) <= 12
    ast.parse("async def _():\n" + textwrap.indent(textwrap.dedent("\n".join(lines)), "    "))


def test_every_excerpt_stands_below_its_name():
    """The link above an excerpt leads to its file and names its function."""
    above = ""
    for part in re.split(r"(```\{literalinclude\}.*?```)", TEXT, flags=re.DOTALL):
        if part.startswith("```"):
            path, name = re.search(r"\} (\S+)\n.*?:pyobject: (\S+)", part, re.DOTALL).groups()
            assert f"]({path})" in above, (path, name)
            assert f"`{name}`" in above, (path, name)
        elif part.strip():
            above = part.rstrip().rsplit("\n\n", 1)[-1]


def softmax(z):
    exponent = np.exp(z - z.max(-1, keepdims=True))
    return exponent / exponent.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def outputs():
    """Outputs `s [B, K]` and `z [M, B, K]`, and what they are softened."""
    generator = np.random.default_rng(0)
    s, z = 3 * generator.normal(size=(B, K)), 3 * generator.normal(size=(M, B, K))
    return s.astype(np.float32), z.astype(np.float32), softmax(s / T), softmax(z / T)


def test_eq_1(outputs):
    s, z, p, p_m = outputs
    divergence = T**2 * (p_m * (np.log(p_m) - np.log(p))).sum(-1)
    np.testing.assert_allclose(distillation_loss(z, s, T), divergence, rtol=1e-4, atol=1e-6)
    # Eq. 1 itself differs by the entropy of the teacher.
    cross_entropy = -(p_m * np.log(p)).sum(-1)
    entropy = -(p_m * np.log(p_m)).sum(-1)
    np.testing.assert_allclose(divergence, T**2 * (cross_entropy - entropy))


def test_eq_2(outputs):
    *_, p, p_m = outputs
    losses = -(p_m * np.log(p)).sum(-1)
    np.testing.assert_allclose(losses.mean(0), -(p_m.mean(0) * np.log(p)).sum(-1))


def test_eq_5():
    generator = np.random.default_rng(1)
    teacher, student = generator.normal(size=(2, B, 3, 3, 2)).astype(np.float32)
    distance = ((teacher - student) ** 2).reshape(B, -1).sum(-1) / 2
    np.testing.assert_allclose(hint_loss(teacher, student), distance / (3 * 3 * 2), rtol=1e-5)


def program(outputs):
    """The code's losses and gradients, by Eq. 13."""
    s, z, _, _ = outputs
    shares = tf.fill([B], 1 / B)
    return teacher_gradients(
        lambda student: distillation_loss(z, student, T), tf.constant(s), M, shares
    )


def test_eq_14(outputs):
    *_, p, p_m = outputs
    _, gradients = program(outputs)
    np.testing.assert_allclose(gradients, T * (p - p_m) / B, atol=1e-6)


@pytest.mark.parametrize("batch_gradient", ["mean", "full"])
def test_eq_15(outputs, batch_gradient):
    """The objective of the program is the distance, whatever the weights."""
    *_, p, p_m = outputs
    gram = gram_matrix(program(outputs)[1], batch_gradient).numpy()
    weights = np.random.default_rng(2).dirichlet(np.ones(M), size=3)
    for w in weights:
        difference = p - np.tensordot(w, p_m, 1)
        difference = difference.mean(0) if batch_gradient == "mean" else difference
        distance = (difference**2).sum() / (2 * T**2)
        # T^2 in the loss, and the share of each example in the batch loss.
        np.testing.assert_allclose(w @ gram @ w / 2, distance * (T**2 / B) ** 2, rtol=1e-4)


def solved(gram, cap):
    """The solver's weights; always in the shape of the stacked program, to compile it once."""
    grams = tf.constant(np.broadcast_to(gram, (K, M, M)))
    return solve_capped_simplex_qp(grams, tf.constant(np.full(M, cap))).weights.numpy()[0]


@pytest.mark.parametrize("cap", [0.3, 0.6, 1.0])
def test_eq_9_to_12(cap):
    """The solver's weights give a solution of Eq. 9, for which the bound of Eq. 12 holds."""
    g = np.random.default_rng(3).normal(size=(M, 7)) + 0.5
    gram = g @ g.T
    w = solved(gram, cap)
    d = -w @ g
    along = g @ d
    # Given d, the smallest v + C sum(xi) is at one of the slopes.
    slack = np.maximum(along - along[:, None], 0)
    v, xi = min(zip(along, slack, strict=True), key=lambda pair: pair[0] + cap * pair[1].sum())
    primal = v + cap * xi.sum() + d @ d / 2
    np.testing.assert_allclose(primal, -w @ gram @ w / 2, rtol=1e-6)
    assert np.all(along <= v + xi + 1e-9)
    np.testing.assert_allclose(v + xi, -d @ d + xi - cap * xi.sum(), rtol=1e-6, atol=1e-9)
    if cap == 1:
        assert np.all(along <= 1e-9)


def test_the_gap_bounds_the_excess():
    g = np.random.default_rng(4).normal(size=(M, 7))
    gram, cap = g @ g.T, 0.6
    best = solved(gram, cap)
    caps = np.full((1, M), cap)
    for w in (np.full(M, 1 / M), np.array([0.6, 0.4, 0, 0]), best):
        gap = duality_gap(tf.constant(caps), tf.constant(w[None]), tf.constant((gram @ w)[None]))
        excess = w @ gram @ w / 2 - best @ gram @ best / 2
        assert excess <= gap.numpy()[0] + 1e-12
    assert gap.numpy()[0] < 1e-8
    assert np.max((gram @ best)[best > 0]) <= np.min((gram @ best)[best < cap]) + 1e-8


def test_the_anchored_reference(outputs):
    s, z, _, _ = outputs
    labels = np.arange(B) % K
    signals = Signals(
        live=np.ones(M, bool), teacher_outputs=z, student_outputs=s, labels=tf.constant(labels)
    )
    a, y = 0.25, np.eye(K)[labels]
    found = residuals(signals, a, T, "labels", "a test")
    np.testing.assert_allclose(found, (1 - a) * softmax(s / T) + a * y - softmax(z / T), atol=1e-6)


@pytest.mark.parametrize("anchor_to", ["labels", "agreed"])
def test_the_stacked_program(outputs, anchor_to):
    """The weights of a class solve the program that the page prints."""
    _, z, _, _ = outputs
    labels, prior, cap = np.arange(B) % 2, 5.0, 0.6
    weighting = FixedWeighting.stacked(
        z, labels, tolerance=cap, temperature=T, anchor_to=anchor_to, prior=prior
    )
    r = np.eye(K)[labels] - softmax(z / T)
    u = np.ones(B)
    if anchor_to == "agreed":
        u = ((z.argmax(-1) == labels).sum(0) + 0.5) / (M + 1)
        u *= B / u.sum()
    sums = np.stack([np.einsum("b,mbk,nbk->mn", u * (labels == c), r, r) for c in range(K)])
    for c, gram in enumerate(sums + prior / B * sums.sum(0)):
        w = solved(gram, cap)
        np.testing.assert_allclose(weighting.values[c], w, atol=1e-5)
