"""The capped-simplex program: exact at every shape, scale and precision, and certified."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aekd_tf
from aekd_tf.names import IN_GRAPH_SOLVERS, REFERENCE_SOLVERS, SOLVERS
from aekd_tf.qp import certificate
from aekd_tf.qp import references as qp_references
from aekd_tf.qp import solve as qp
from aekd_tf.qp.problem import Problem
from tools import qp_problems, reference

# Problems per generator by size: 970 x 11 generators = 10,670 in each precision.
COUNTS = {2: 200, 5: 400, 10: 300, 25: 70}

# XLA compiles one program per shape, which costs more than all problems: tests share shapes.
COUNT, SIZE = 20, 6


def solve(gram, tolerance=1.0, **options):
    solution = aekd_tf.solve_capped_simplex_qp(gram, tolerance, **options)
    return [value.numpy() for value in solution]


def optimum(gram, caps):
    """Returns CVXOPT's weights, made exactly feasible."""
    weights = np.stack(
        [
            qp_references.solve_scaled(qp_references.solve_cvxopt, g, c)[0]
            for g, c in zip(gram, caps, strict=True)
        ]
    )
    weights = np.clip(weights, 0, caps)
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", COUNTS)
def test_exact_against_cvxopt(size, dtype):
    """All generators are one batch: one truth, one program per solver."""
    allowed, rounding = 1e-5 if dtype == "float32" else 1e-9, np.finfo(dtype).eps
    batches = [
        qp_problems.problems(np.random.default_rng(size), name, COUNTS[size], size, dtype)
        for name in qp_problems.GENERATORS
    ]
    names = np.repeat(list(qp_problems.GENERATORS), COUNTS[size])
    gram, caps = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    exact = gram.astype(np.float64)
    largest = np.abs(exact).max((1, 2))
    largest[largest == 0] = 1
    exact /= largest[:, None, None]
    # 1/M in float32 may sum to more than 1, which leaves nothing to choose all the same.
    fixed = (caps == caps.dtype.type(1 / size)).all(-1)
    wide = np.where(fixed[:, None], 1 / size, caps.astype(np.float64))
    lowest = optimum(exact, wide)
    best = reference.objective(exact, lowest)
    uniform = reference.objective(exact, np.full_like(wide, 1 / size))
    curvature = np.linalg.eigvalsh(exact).min(-1)
    for solver in IN_GRAPH_SOLVERS:
        weights, gap, _ = solve(gram, caps, solver=solver)
        assert (weights[fixed] == caps.dtype.type(1 / size)).all()
        assert (gap[fixed] == 0).all()
        assert weights.min() >= 0
        assert (weights <= caps).all()
        weights = weights.astype(np.float64)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
        weights /= weights.sum(-1, keepdims=True)
        reached = reference.objective(exact, weights)
        scale = np.maximum(np.maximum(np.minimum(best, reached), 0.1 * uniform), 1e-300)
        excess = reached - best - 1e-15  # the rounding of these float64 objectives
        worst = (excess / scale).argmax()
        assert excess[worst] <= allowed * scale[worst], (solver, names[worst], excess[worst])
        # A Gram matrix that rounding made indefinite has several local minima: the gap is an
        # upper bound except for the negative curvature between them.
        between = np.square(weights - lowest).sum(-1)
        excess -= np.maximum(-curvature, 0) / 2 * between
        # Weights whose sum rounds move along the gradient; products round, too.
        steepest = np.abs(np.einsum("nij,nj->ni", exact, weights)).max(-1)
        noise = 4 * rounding * steepest + max(rounding**1.5, 1e-15)
        above = excess > gap * scale + noise
        assert not above.any(), (solver, names[above])
        above = reference.duality_gap(exact, wide, weights) > gap * scale + noise
        assert not above.any(), (solver, names[above])


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_agree(solver):
    gram = qp_problems.full_rank(np.random.default_rng(3), COUNT, SIZE)
    caps = np.full((COUNT, SIZE), 0.4)
    weights, gap, iterations = solve(gram, 0.4, solver=solver)
    np.testing.assert_allclose(weights, optimum(gram, caps), atol=1e-4)
    assert gap.max() < 1e-6
    assert iterations.dtype == np.int32


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_scaling_and_permuting(solver):
    rng = np.random.default_rng(0)
    gram = qp_problems.kd_gradients(rng, COUNT, SIZE)
    weights, _, _ = solve(gram, 0.4, solver=solver)
    for factor in (1e-20, 1e-6, 1e20):
        np.testing.assert_allclose(solve(gram * factor, 0.4, solver=solver)[0], weights, atol=1e-7)
    order = rng.permutation(SIZE)
    permuted = solve(gram[:, order][:, :, order], 0.4, solver=solver)[0]
    np.testing.assert_allclose(permuted, weights[:, order], atol=1e-6)


# `test_exact_against_cvxopt` does the same for the sizes that it has.
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [1, 3])
def test_smallest_cap_is_uniform_exactly(solver, size):
    gram = qp_problems.full_rank(np.random.default_rng(1), 2, size).astype(np.float32)
    weights, gap, _ = solve(gram, np.full((2, size), 1 / size), solver=solver)
    assert (weights == np.float32(1 / size)).all()
    assert (gap == 0).all()


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_without_cap_is_minimum_norm_point(solver):
    # For two gradients it has a closed form: the clipped foot of the perpendicular.
    # Every other teacher is a copy of the first or of the second.
    rng = np.random.default_rng(2)
    for _ in range(10):
        g = rng.normal(size=(COUNT, 2, 3))
        gram = g @ np.swapaxes(g, -1, -2)
        share = gram[:, 1, 1] - gram[:, 0, 1]
        share /= gram[:, 0, 0] + gram[:, 1, 1] - 2 * gram[:, 0, 1]
        copies = np.arange(SIZE) % 2
        weights, _, _ = solve(gram[:, copies][:, :, copies], 1.0, solver=solver)
        first = weights[:, copies == 0].sum(-1)
        np.testing.assert_allclose(first, np.clip(share, 0, 1), atol=1e-9)


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_theorem_1(solver):
    """Teachers below their cap do not lose along d = -sum w_m g_m (Eq. 12, slack zero)."""
    rng = np.random.default_rng(4)
    gram = qp_problems.full_rank(rng, COUNT, SIZE)
    weights, _, _ = solve(gram, 0.3, solver=solver)
    change = -np.einsum("nij,nj->ni", gram, weights)
    norm = np.einsum("ni,nij,nj->n", weights, gram, weights)
    for row, w, size in zip(change, weights, norm, strict=True):
        free = (w > 1e-9) & (w < 0.3 - 1e-9)
        if free.any():
            level = row[free].mean()
            np.testing.assert_allclose(row[free], level, atol=1e-7 * max(1, size))
            assert (row[w < 0.3 - 1e-9] <= level + 1e-7 * max(1, size)).all()
    uncapped = solve(gram, 1.0, solver=solver)[0]
    assert (np.einsum("nij,nj->ni", gram, uncapped) >= -1e-9).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_degenerate(solver):
    weights, gap, _ = solve(np.zeros((2, 3, 3), np.float32), np.full((2, 3), 0.5), solver=solver)
    np.testing.assert_array_equal(weights, np.float32(1 / 3))
    assert (gap == 0).all()
    weights, gap, _ = solve(np.full((2, 1, 1), 5, np.float32), np.ones((2, 1)), solver=solver)
    assert (weights == 1).all()
    assert (gap == 0).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_not_finite_gives_uniform_and_infinite_gap(solver):
    diagonal = np.arange(1.0, SIZE + 1)
    gram = np.repeat(np.diag(diagonal)[None], COUNT, 0)
    gram[:3, 1, 2] = np.nan, np.inf, -np.inf
    weights, gap, _ = solve(gram, 0.6, solver=solver)
    np.testing.assert_array_equal(weights[:3], 1 / SIZE)
    assert (gap[:3] == np.inf).all()
    truth = (1 / diagonal) / (1 / diagonal).sum()
    np.testing.assert_allclose(weights[3:], np.repeat(truth[None], COUNT - 3, 0), atol=1e-5)
    assert gap[3:].max() < 1e-6


@pytest.mark.parametrize("solver", ["smo", "projected", "cvxopt"])
def test_caps_of_each_teacher(solver):
    gram = np.repeat(np.eye(3, dtype=np.float32)[None], 2, 0)
    caps = np.array([[0.1, 0.5, 1.0], [1.0, 0.0, 0.3]])
    weights, gap, _ = solve(gram, caps, solver=solver)
    np.testing.assert_allclose(weights, [[0.1, 0.45, 0.45], [0.7, 0.0, 0.3]], atol=1e-6)
    assert gap.max() < 1e-6


def test_batch_shapes_and_empty_batch():
    gram = qp_problems.full_rank(np.random.default_rng(0), 6, 4).reshape(2, 3, 4, 4)
    weights, gap, iterations = solve(gram, 0.5)
    assert weights.shape == (2, 3, 4)
    assert gap.shape == iterations.shape == (2, 3)
    np.testing.assert_allclose(weights[1, 2], solve(gram[1, 2], 0.5)[0], atol=1e-12)
    assert solve(np.zeros((0, 4, 4)), 0.5)[0].shape == (0, 4)


def certified(gram, caps, weights):
    """Certifies float64 weights of a float32 problem, in a program as the solver's."""
    program = tf.function(
        lambda *given: certificate.certify(Problem(*given[:2]), given[2]), jit_compile=True
    )
    kept, gap = (value.numpy() for value in program(gram, caps, weights.astype(np.float64)))
    assert kept.dtype == gap.dtype == np.float32
    return kept, gap


def relative_gap(gram, caps, weights):
    gram, caps, weights = (value.astype(np.float64) for value in (gram, caps, weights))
    residual = reference.duality_gap(gram, caps, weights)
    uniform = reference.objective(gram, np.full_like(caps, 1 / caps.shape[-1]))
    return residual / np.maximum(reference.objective(gram, weights) - residual, 0.1 * uniform)


def test_certificate_of_any_weights():
    """The gap is that of the weights given, best or not."""
    rng = np.random.default_rng(7)
    gram, caps = qp_problems.problems(rng, "full_rank", 200, 8, "float32")
    caps = np.maximum(caps, np.float32(0.2))
    weights = reference_points(rng, caps)
    kept, gap = certified(gram, caps, weights)
    np.testing.assert_allclose(kept, weights, atol=1e-6)
    assert np.median(gap) > 0.1
    np.testing.assert_allclose(gap, relative_gap(gram, caps, kept), rtol=1e-3, atol=1e-6)


def test_certificate_sees_that_weights_round():
    """Two teachers cancel at weights that float32 misses: the gap is that of the neighbors."""
    ratio = 1 + np.random.default_rng(0).uniform(0.01, 0.02, 20).astype(np.float32)
    gram = np.stack([np.array([[1, -r], [-r, r * r]], np.float32) for r in ratio])
    caps = np.ones((20, 2), np.float32)
    best = np.stack([ratio / (1 + ratio.astype(float)), 1 / (1 + ratio.astype(float))], -1)
    kept, gap = certified(gram, caps, best)
    truth = relative_gap(gram, caps, kept)
    assert np.median(truth) > 1e-3
    np.testing.assert_allclose(gap, truth, rtol=1e-2, atol=1e-5)


def reference_points(rng, caps):
    """Draws feasible weights."""
    points = rng.normal(size=caps.shape)
    pairs = zip(points, caps.astype(float), strict=True)
    return np.stack([reference.project(point, cap) for point, cap in pairs]).astype(np.float32)


@pytest.mark.parametrize(
    ("generator", "size", "cap"), [("low_rank", 100, 0.3), ("full_rank", 256, 4 / 256)]
)
def test_many_teachers(generator, size, cap):
    gram = qp_problems.GENERATORS[generator](np.random.default_rng(0), 2, size).astype(np.float32)
    weights, gap, _ = solve(gram, cap)
    exact = gram.astype(np.float64) / np.abs(gram).max((1, 2), keepdims=True)
    lowest = reference.objective(exact, optimum(exact, np.full((2, size), cap)))
    scale = np.maximum(lowest, 0.1 * reference.objective(exact, np.full((2, size), 1 / size)))
    assert ((reference.objective(exact, weights.astype(np.float64)) - lowest) / scale < 1e-5).all()
    assert gap.max() < 1e-4


def test_the_solution_has_names_and_unpacks():
    solution = aekd_tf.solve_capped_simplex_qp(tf.eye(3))
    assert isinstance(solution, aekd_tf.QPSolution)
    weights, gap, iterations = solution
    assert (weights is solution.weights, gap is solution.gap) == (True, True)
    assert (weights.shape, iterations.dtype) == ((3,), tf.int32)


def test_no_gradient_flows():
    gram = tf.Variable(np.diag([1.0, 2.0, 3.0, 4.0]))
    cap = tf.Variable(0.6, dtype=tf.float64)
    with tf.GradientTape() as tape:
        weights, gap, _ = aekd_tf.solve_capped_simplex_qp(gram, cap)
        total = tf.reduce_sum(weights**2) + gap
    assert tape.gradient(total, [gram, cap]) == [None, None]


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_eager_graph_and_xla_agree(solver):
    gram = tf.constant(qp_problems.kd_gradients(np.random.default_rng(0), COUNT, SIZE))

    def weights(gram):
        return aekd_tf.solve_capped_simplex_qp(gram, 0.4, solver=solver).weights

    graph = tf.function(weights)(gram)
    compiled = tf.function(weights, jit_compile=True)(gram)
    tf.config.run_functions_eagerly(True)
    try:
        eager = weights(gram[:3])  # op by op, which takes its time
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(graph, compiled, atol=1e-5)
    np.testing.assert_allclose(graph[:3], eager, atol=1e-5)


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_no_sum_is_only_the_term_of_another(solver):
    """Grappler may break a loop with one outside XLA: it gathers both sums in one node."""
    graph = tf.function(lambda gram: qp.solve(solver, gram, tf.constant(0.4)), autograph=False)
    concrete = graph.get_concrete_function(tf.TensorSpec([None, 30, 30]))
    functions = concrete.graph.as_graph_def().library.function
    assert len(functions) > 5
    for function in functions:
        inputs = [i.split(":")[0] for node in function.node_def for i in node.input]
        inputs += [name.split(":")[0] for name in function.ret.values()]
        sums = {
            node.name: node
            for node in function.node_def
            if node.op in ("AddV2", "AddN") and node.attr["T"].type == tf.float64.as_datatype_enum
        }
        for node in sums.values():
            terms = [name for i in node.input if (name := i.split(":")[0]) in sums]
            assert all(inputs.count(name) > 1 for name in terms), (node.name, terms)


@pytest.mark.parametrize("solver", REFERENCE_SOLVERS)
def test_references_run_in_a_graph(solver):
    gram = tf.constant(np.diag([1.0, 2.0, 4.0]))
    weights = tf.function(
        lambda gram: aekd_tf.solve_capped_simplex_qp(gram, 1.0, solver=solver).weights
    )(gram)
    assert weights.shape == (3,)
    np.testing.assert_allclose(weights, np.array([4, 2, 1]) / 7, atol=1e-5)


def test_many_sizes_bring_no_warning_of_tensorflow(caplog, monkeypatch):
    # Traced anew, whatever ran before; XLA compiles them for other tests, too.
    monkeypatch.setattr(qp, "compiled", functools.cache(qp.compiled.__wrapped__))
    with caplog.at_level("WARNING", logger="tensorflow"):
        for size in (2, 3, 4, 5, 10, 25):
            gram, caps = np.eye(size, dtype=np.float32), np.ones(size, np.float32)
            weights = aekd_tf.solve_capped_simplex_qp(gram, caps).weights
            np.testing.assert_allclose(weights, 1 / size, rtol=1e-6)
    assert caplog.records == []


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
@pytest.mark.parametrize("batch", [1, 256])
def test_compiled_program_stays_on_the_device(solver, batch):
    gram, caps = tf.zeros([batch, 10, 10]), tf.constant(0.6)
    program = qp.compiled(solver, "float32", (tuple(gram.shape), ()))
    hlo = program.experimental_get_compiler_ir(gram, caps)(stage="hlo")
    assert "while" in hlo
    for foreign in ("custom-call", "<=", "infeed", "outfeed", "send", "recv"):
        assert foreign not in hlo, foreign
    # A TPU emulates float64 arithmetic, and can neither see its bits nor multiply its matrices.
    for line in hlo.splitlines():
        if "f64[" in line:
            assert not any(
                foreign in line for foreign in ("bitcast-convert", "dot(", "convolution")
            )


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        (0.2, r"0\.2.*4 teachers.*0\.8.*1/M = 0\.25"),
        (0.0, r"C=0\.0.*\(0, 1\]"),
        (-1.0, r"C=-1\.0"),
        (1.5, r"C=1\.5"),
        (float("nan"), "C=nan"),
        ([0.1, 0.2, 0.3, 0.2], "sum to 0.8"),
        ([0.5, 0.5], "2 caps for 4 teachers"),
    ],
)
def test_bad_tolerance(tolerance, message):
    with pytest.raises(ValueError, match=message):
        aekd_tf.solve_capped_simplex_qp(np.eye(4), tolerance)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"unknown solver 'simplex'.*smo, projected"):
        aekd_tf.solve_capped_simplex_qp(np.eye(4), 1.0, solver="simplex")
    with pytest.raises(ValueError, match=r"\[..., M, M\]"):
        aekd_tf.solve_capped_simplex_qp(np.ones((4, 3)), 1.0)
    with pytest.raises(ValueError, match="one cap for all"):
        qp_references.solve_libsvm(np.eye(2), np.array([0.5, 0.7]))


@settings(max_examples=60, deadline=None)
@example([999.0] + [-640.0] * 5, 0.6606434724209368)  # the shift alone rounds by 1e-12
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6),
    st.floats(1 / 6, 1),
)
def test_projection_against_bisection(point, cap):
    point = np.array(point)
    found = aekd_tf.project_capped_simplex(point, cap).numpy()
    np.testing.assert_allclose(found, reference.project(point, np.full(6, cap)), atol=1e-9)
    assert abs(found.sum() - 1) < 1e-12


def test_projection_is_batched_and_idempotent():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3, 50, 9)).astype(np.float32) * 3
    caps = rng.uniform(0.15, 1, (50, 9)).astype(np.float32)
    found = aekd_tf.project_capped_simplex(points, caps).numpy()
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert (found <= caps).all()
    np.testing.assert_allclose(aekd_tf.project_capped_simplex(found, caps), found, atol=1e-6)
    truth = reference.project(points[1, 7].astype(float), caps[7].astype(float))
    np.testing.assert_allclose(found[1, 7], truth, atol=1e-6)
