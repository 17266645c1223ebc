import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

import aekd_tf
from aekd_tf.names import IN_GRAPH_SOLVERS, REFERENCE_SOLVERS, SOLVERS
from aekd_tf.qp import algebra as qp_algebra
from aekd_tf.qp import references as qp_references
from aekd_tf.qp import solve as qp
from tools import qp_problems, reference

# Problems of each size and generator: 1,170 x 9 generators = 10,530 in each dtype.
COUNTS = {2: 400, 5: 400, 10: 300, 25: 70}


def solve(gram, tolerance=1.0, **options):
    solution = aekd_tf.solve_capped_simplex_qp(gram, tolerance, **options)
    return [value.numpy() for value in solution]


def optimum(gram, caps):
    """CVXOPT's weights, made exactly feasible."""
    weights = np.stack(
        [
            qp_references.solve_scaled(qp_references.solve_cvxopt, g, c)[0]
            for g, c in zip(gram, caps, strict=True)
        ]
    )
    weights = np.clip(weights, 0, caps)
    return weights / weights.sum(-1, keepdims=True)


# One worker a dtype: each compiles its programs once.
@pytest.mark.parametrize(
    "dtype", [pytest.param(t, marks=pytest.mark.xdist_group(t)) for t in ("float32", "float64")]
)
@pytest.mark.parametrize("generator", qp_problems.GENERATORS)
def test_exact_against_cvxopt(generator, dtype):
    allowed = 1e-5 if dtype == "float32" else 1e-9
    for size, count in COUNTS.items():
        rng = np.random.default_rng(size)
        gram, caps = qp_problems.problems(rng, generator, count, size, dtype)
        exact = gram.astype(np.float64)
        largest = np.abs(exact).max((1, 2))
        largest[largest == 0] = 1
        exact /= largest[:, None, None]
        # 1/M in float32 may sum to more than 1, which leaves nothing to choose all the same.
        wide = np.where(caps == caps.dtype.type(1 / size), 1 / size, caps.astype(np.float64))
        lowest = optimum(exact, wide)
        best = reference.objective(exact, lowest)
        uniform = reference.objective(exact, np.full_like(wide, 1 / size))
        curvature = np.linalg.eigvalsh(exact).min(-1)
        for solver in IN_GRAPH_SOLVERS:
            weights, gap, _ = solve(gram, caps, solver=solver)
            weights = weights.astype(np.float64)
            np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
            assert weights.min() >= 0
            assert (weights <= wide + 1e-6).all()
            weights /= weights.sum(-1, keepdims=True)
            found = reference.objective(exact, weights)
            scale = np.maximum(np.maximum(np.minimum(best, found), 0.1 * uniform), 1e-300)
            excess = found - best - 1e-15  # the rounding of these float64 objectives
            worst = (excess / scale).argmax()
            assert excess[worst] <= allowed * scale[worst], (solver, size, worst, excess[worst])
            # A Gram matrix that rounding made indefinite has several local minima: the gap is an
            # upper bound but for the negative curvature between them.
            between = np.square(weights - lowest).sum(-1)
            excess -= np.maximum(-curvature, 0) / 2 * between
            # Weights whose sum rounds move along the gradient; beside that, products' rounding.
            steepest = np.abs(np.einsum("nij,nj->ni", exact, weights)).max(-1)
            rounding = np.finfo(dtype).eps
            noise = 4 * rounding * steepest + max(rounding**1.5, 1e-15)
            assert (excess <= gap * scale + noise).all(), (solver, size)
            residual = reference.duality_gap(exact, wide, weights)
            assert (residual <= gap * scale + noise).all(), (solver, size)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_agree(solver):
    gram, caps = qp_problems.problems(np.random.default_rng(3), "full_rank", 20, 6, "float64")
    weights, gap, iterations = solve(gram, caps, solver=solver)
    np.testing.assert_allclose(weights, optimum(gram, caps), atol=1e-4)
    assert gap.max() < 1e-6
    assert iterations.dtype == np.int32


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_scaling_and_permuting(solver):
    rng = np.random.default_rng(0)
    gram = qp_problems.kd_gradients(rng, 50, 7)
    weights, _, _ = solve(gram, 0.4, solver=solver)
    for factor in (1e-20, 1e-6, 1e20):
        np.testing.assert_allclose(solve(gram * factor, 0.4, solver=solver)[0], weights, atol=1e-7)
    order = rng.permutation(7)
    permuted = solve(gram[:, order][:, :, order], 0.4, solver=solver)[0]
    np.testing.assert_allclose(permuted, weights[:, order], atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [1, 3, 25])
def test_smallest_cap_is_uniform_exactly(solver, size):
    gram = qp_problems.full_rank(np.random.default_rng(1), 2, size).astype(np.float32)
    weights, gap, _ = solve(gram, 1 / size, solver=solver)
    assert (weights == np.float32(1 / size)).all()
    assert (gap == 0).all()


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_without_cap_is_minimum_norm_point(solver):
    # Of two gradients it has a closed form: the clipped foot of the perpendicular.
    rng = np.random.default_rng(2)
    g = rng.normal(size=(200, 2, 3))
    gram = g @ np.swapaxes(g, -1, -2)
    share = (gram[:, 1, 1] - gram[:, 0, 1]) / (gram[:, 0, 0] + gram[:, 1, 1] - 2 * gram[:, 0, 1])
    weights, _, _ = solve(gram, 1.0, solver=solver)
    np.testing.assert_allclose(weights[:, 0], np.clip(share, 0, 1), atol=1e-9)


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_theorem_1(solver):
    """Teachers below their cap do not lose along d = -sum w_m g_m (Eq. 12, slack zero)."""
    rng = np.random.default_rng(4)
    gram = qp_problems.full_rank(rng, 100, 8)
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
    weights, gap, _ = solve(np.zeros((3, 3), np.float32), 0.5, solver=solver)
    np.testing.assert_array_equal(weights, np.float32(1 / 3))
    assert gap == 0
    weights, gap, _ = solve(np.array([[5.0]]), 1.0, solver=solver)
    assert weights == 1
    assert gap == 0


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_gives_uniform_and_infinite_gap(solver, bad):
    gram = np.stack([np.eye(4), np.diag([1.0, 2.0, 3.0, 4.0])])
    gram[0, 1, 2] = bad
    weights, gap, _ = solve(gram, 0.6, solver=solver)
    np.testing.assert_array_equal(weights[0], 0.25)
    assert gap[0] == np.inf
    np.testing.assert_allclose(weights[1], np.array([12, 6, 4, 3]) / 25, atol=1e-5)
    assert gap[1] < 1e-6


@pytest.mark.parametrize("solver", ["smo", "projected", "cvxopt"])
def test_caps_of_each_teacher(solver):
    weights, gap, _ = solve(np.eye(3), np.array([0.1, 0.5, 1.0]), solver=solver)
    np.testing.assert_allclose(weights, [0.1, 0.45, 0.45], atol=1e-6)
    assert gap < 1e-6


def test_batch_shapes_and_empty_batch():
    gram = qp_problems.full_rank(np.random.default_rng(0), 6, 4).reshape(2, 3, 4, 4)
    weights, gap, iterations = solve(gram, 0.5)
    assert weights.shape == (2, 3, 4)
    assert gap.shape == iterations.shape == (2, 3)
    np.testing.assert_allclose(weights[1, 2], solve(gram[1, 2], 0.5)[0], atol=1e-12)
    assert solve(np.zeros((0, 4, 4)), 0.5)[0].shape == (0, 4)


def test_certificate_of_any_weights():
    """The gap is that of the weights given, best or not."""
    rng = np.random.default_rng(7)
    gram, caps = qp_problems.problems(rng, "full_rank", 200, 8, "float32")
    caps = np.maximum(caps, np.float32(0.2))
    weights = reference_points(rng, caps)
    exact = gram / np.abs(gram).max((1, 2), keepdims=True)
    kept, gap = (
        value.numpy() for value in qp_algebra.certify(*map(tf.constant, (gram, caps, weights)))
    )
    np.testing.assert_allclose(kept, weights, atol=1e-6)
    residual = reference.duality_gap(exact.astype(float), caps.astype(float), kept.astype(float))
    objective = reference.objective(exact.astype(float), kept.astype(float))
    uniform = reference.objective(exact.astype(float), np.full((200, 8), 1 / 8))
    assert np.median(gap) > 0.1
    scale = np.maximum(objective - residual, 0.1 * uniform)
    np.testing.assert_allclose(gap, residual / scale, rtol=1e-3, atol=1e-6)


def reference_points(rng, caps):
    """Random feasible weights."""
    points = rng.normal(size=caps.shape)
    pairs = zip(points, caps.astype(float), strict=True)
    return np.stack([reference.project(point, cap) for point, cap in pairs]).astype(np.float32)


def test_many_dependent_teachers():
    size = 100
    gram = qp_problems.low_rank(np.random.default_rng(0), 2, size).astype(np.float32)
    weights, gap, _ = solve(gram, 0.3)
    exact = gram.astype(np.float64) / np.abs(gram).max((1, 2), keepdims=True)
    lowest = reference.objective(exact, optimum(exact, np.full((2, size), 0.3)))
    scale = np.maximum(lowest, 0.1 * reference.objective(exact, np.full((2, size), 1 / size)))
    assert ((reference.objective(exact, weights.astype(np.float64)) - lowest) / scale < 1e-5).all()
    assert gap.max() < 1e-4


def test_many_teachers():
    size = 256
    gram = qp_problems.full_rank(np.random.default_rng(0), 1, size).astype(np.float32)
    _, gap, _ = solve(gram, 4 / size)
    assert gap.max() < 1e-4


def test_no_gradient_flows():
    gram = tf.Variable(np.diag([1.0, 2.0, 3.0]))
    cap = tf.Variable(0.6, dtype=tf.float64)
    with tf.GradientTape() as tape:
        weights, gap, _ = aekd_tf.solve_capped_simplex_qp(gram, cap)
        total = tf.reduce_sum(weights**2) + gap
    assert tape.gradient(total, [gram, cap]) == [None, None]


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_eager_graph_and_xla_agree(solver):
    gram = tf.constant(qp_problems.kd_gradients(np.random.default_rng(0), 8, 5), tf.float32)

    def weights(gram):
        return aekd_tf.solve_capped_simplex_qp(gram, 0.4, solver=solver).weights

    graph = tf.function(weights)(gram)
    compiled = tf.function(weights, jit_compile=True)(gram)
    tf.config.run_functions_eagerly(True)
    try:
        eager = weights(gram)
    finally:
        tf.config.run_functions_eagerly(False)
    np.testing.assert_allclose(graph, eager, atol=1e-5)
    np.testing.assert_allclose(compiled, eager, atol=1e-5)


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
def test_no_sum_is_only_the_term_of_another(solver):
    """TensorFlow's optimizer may break a loop that holds one: see `qp_pairs`."""
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
            if node.op in ("AddV2", "AddN") and node.attr["T"].type == tf.float32.as_datatype_enum
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


@pytest.mark.parametrize("solver", IN_GRAPH_SOLVERS)
@pytest.mark.parametrize("batch", [1, 256])
def test_compiled_program_stays_on_the_device(solver, batch):
    gram, caps = tf.zeros([batch, 10, 10]), tf.constant(0.6)
    hlo = qp.COMPILED[solver].experimental_get_compiler_ir(gram, caps)(stage="hlo")
    assert "while" in hlo
    for foreign in ("custom-call", "f64[", "<=", "infeed", "outfeed", "send", "recv"):
        assert foreign not in hlo, foreign


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
