import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image
from sklearn.decomposition import sparse_encode as scikit_learn

import numcore
from numcore import prox
from numcore.algorithms.sparse_coding import _parallel, _problem, reg_max, sparse_encode
from numcore.algorithms.sparse_coding._problem import BLOCK
from numcore.results import ConvergenceWarning

CONVEX_SOLVERS = ("cd", "fista", "anderson", "homotopy")
NON_CONVEX = ("l0", "half", "two_thirds", "lq", "mcp", "scad", "cel0", "log_sum")
PARAMS = {"lq": {"q": 0.3}}
GROUPS = [[0, 1, 2], [3, 4], [5, 6, 7, 8], [9, 10, 11]]
TREE = [[0, 1, 2, 3, 4], [0, 1], [3, 4], [5, 6, 7, 8], [6, 7, 8], [9, 10, 11]]


def unit_rows(rng, k, p):
    D = rng.standard_normal((k, p))
    return D / np.linalg.norm(D, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    D = unit_rows(rng, 40, 16)
    return rng.standard_normal((30, 16)), D


def l1_value(X, D, A, reg, weights=1.0):
    return np.sum((X - A @ D) ** 2, axis=1) / 2 + reg * np.sum(weights * abs(A), axis=1)


def kkt(X, D, A, reg, positive=False):
    """How far each signal is from the conditions of optimality of the l1 problem."""
    g = (X - A @ D) @ D.T
    off = np.maximum((g if positive else abs(g)) - reg, 0)
    return np.where(A != 0, abs(g - reg * np.sign(A)), off).max(axis=1)


# l1


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("solver", CONVEX_SOLVERS)
def test_every_solver_finds_the_minimum_that_scikit_learn_finds(problem, solver, positive):
    X, D = problem
    result = sparse_encode(X, D, reg=0.2, solver=solver, positive=positive, tol=1e-9, max_iter=20_000)
    theirs = scikit_learn(X, D, algorithm="lasso_cd", alpha=0.2, positive=positive, max_iter=100_000)
    assert result.converged.all()
    # both are within their gaps of the minimum
    np.testing.assert_allclose(result.objective, l1_value(X, D, theirs, 0.2), rtol=1e-6)
    np.testing.assert_allclose(result.objective, l1_value(X, D, result.code, 0.2), rtol=1e-12)
    assert not positive or result.code.min() >= 0


@pytest.mark.parametrize("positive", [False, True])
def test_conditions_of_optimality_hold_to_a_millionth_of_reg(problem, positive):
    X, D = problem
    for reg in (1e-3, 0.05, 0.5):
        result = sparse_encode(X, D, reg=reg, positive=positive, tol=1e-12)
        assert kkt(X, D, result.code, reg, positive).max() <= 1e-6 * reg


def test_the_gap_bounds_what_is_left_to_gain(problem):
    X, D = problem
    best = sparse_encode(X, D, reg=0.05, tol=1e-13).objective
    for solver in ("cd", "fista", "proximal_gradient", "anderson"):
        for max_iter in (1, 5, 30):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                result = sparse_encode(X, D, reg=0.05, solver=solver, tol=1e-12, max_iter=max_iter)
            assert np.all(result.gap >= result.objective - best - 1e-13)
    loose = sparse_encode(X, D, reg=0.05, tol=1e-2)
    assert np.all(loose.gap <= 1e-2 * np.sum(X**2, axis=1))
    assert loose.gap.max() > 1e-6


def test_from_reg_max_on_codes_are_zero_and_just_below_they_are_not(problem):
    X, D = problem
    for positive in (False, True):
        top = reg_max(X, D, positive=positive)
        for i in range(5):
            at = sparse_encode(X[i : i + 1], D, reg=top[i], positive=positive)
            below = sparse_encode(X[i : i + 1], D, reg=0.999 * top[i], positive=positive, tol=1e-12)
            assert not at.code.any()
            assert at.gap[0] <= 1e-14
            assert below.n_nonzero[0] == 1
            for solver in CONVEX_SOLVERS:  # whether signals are multiplied one by one or together
                at = sparse_encode(X[i : i + 1], D, reg=top[i], positive=positive, solver=solver)
                assert not at.code.any() and at.converged.all()
    w = np.linspace(0.5, 2, len(D))
    top = reg_max(X, D, weights=w)
    np.testing.assert_allclose(top, (abs(X @ D.T) / w).max(axis=1), rtol=1e-14)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1e-150, 1e-9, 3.0, 1e6, 1e150]))
def test_scaling_signals_and_reg_scales_codes(seed, scale):
    rng = np.random.default_rng(seed)
    D, X = unit_rows(rng, 12, 8), rng.standard_normal((4, 8))
    plain = sparse_encode(X, D, reg=0.1, tol=1e-12)
    scaled = sparse_encode(scale * X, D, reg=scale * 0.1, tol=1e-12)
    np.testing.assert_allclose(scaled.code / scale, plain.code, rtol=1e-7, atol=1e-9)
    assert scaled.converged.all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_permuting_atoms_permutes_codes(seed):
    rng = np.random.default_rng(seed)
    D, X = unit_rows(rng, 20, 12), rng.standard_normal((3, 12))
    order = rng.permutation(20)
    plain = sparse_encode(X, D, reg=0.1, tol=1e-12).code
    np.testing.assert_allclose(sparse_encode(X, D[order], reg=0.1, tol=1e-12).code, plain[:, order], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans(), st.sampled_from([1e-4, 0.02, 0.3]))
def test_hard_dictionaries_are_coded_to_the_same_minimum_by_the_path(seed, positive, reg):
    # many more atoms than features, two alike, two opposite, two nearly alike
    rng = np.random.default_rng(seed)
    D, X = unit_rows(rng, 40, 9), rng.standard_normal((3, 9))
    D[5], D[7], D[11] = D[3], -D[3], D[12] + 1e-9 * D[13]
    result = sparse_encode(X, D, reg=reg, positive=positive, tol=1e-10)
    path = sparse_encode(X, D, reg=reg, positive=positive, solver="homotopy", tol=1e-8)
    assert result.converged.all()
    square = np.sum(X**2, axis=1)
    np.testing.assert_allclose(result.objective / square, path.objective / square, atol=1e-8)


def test_of_equal_atoms_the_first_is_used():
    D = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    result = sparse_encode([[2.0, 1.0], [-3.0, 0.0]], D, reg=0.5, tol=1e-12)
    np.testing.assert_allclose(result.code, [[1.5, 0, 0.5], [-2.5, 0, 0]])
    assert result.degenerate.all()


@pytest.mark.parametrize("penalty", ["l1", "mcp", "l0"])
def test_copies_of_atoms_change_nothing_but_the_flag(problem, penalty):
    X, D = problem[0][:10], problem[1][:12]
    options = {"penalty": penalty, "reg": 0.1, "max_iter": 20_000}
    twice, plain = sparse_encode(X, np.concatenate([D, D]), **options), sparse_encode(X, D, **options)
    assert not twice.code[:, 12:].any()
    np.testing.assert_allclose(twice.code[:, :12], plain.code, atol=1e-12)
    assert twice.degenerate.all()
    once = sparse_encode(X, np.concatenate([D, D[5:6]]), **options)
    np.testing.assert_array_equal(once.degenerate | plain.degenerate, (once.code[:, 5] != 0) | plain.degenerate)
    if penalty == "l1":  # the price decides where it differs, and a start over the copy counts
        w = np.r_[np.ones(12), np.full(12, 0.5)]
        assert not sparse_encode(X, np.concatenate([D, D]), weights=w, reg=0.1).code[:, :12].any()
        start = np.concatenate([np.zeros((10, 12)), plain.code], axis=1)
        again = sparse_encode(X, np.concatenate([D, D]), init=start, **options)
        assert again.n_iter.max() == 0 and not again.code[:, 12:].any()


def test_an_elastic_net_shares_between_copies():
    result = sparse_encode([[2.0]], [[1.0], [1.0]], penalty="elastic_net", reg=0.5, tol=1e-12)
    # (1 + 1 + reg / 2) a = 2 - reg / 2
    np.testing.assert_allclose(result.code, [[7 / 9, 7 / 9]], rtol=1e-6)


def test_elastic_net_meets_its_own_conditions(problem):
    X, D = problem
    reg, ratio = 0.3, 0.6
    for solver in ("cd", "fista", "anderson"):
        options = {"penalty_params": {"l1_ratio": ratio}, "tol": 1e-12, "max_iter": 20_000}
        result = sparse_encode(X, D, penalty="elastic_net", reg=reg, solver=solver, **options)
        A = result.code
        g = (X - A @ D) @ D.T - reg * (1 - ratio) * A
        residual = np.where(A != 0, abs(g - reg * ratio * np.sign(A)), np.maximum(abs(g) - reg * ratio, 0))
        assert residual.max() <= 1e-5 * reg
        value = np.sum((X - A @ D) ** 2, axis=1) / 2
        value += prox.penalty_value("elastic_net", A, reg=reg, l1_ratio=ratio)
        np.testing.assert_allclose(result.objective, value, rtol=1e-12)
    ridge = sparse_encode(X, D, penalty="elastic_net", reg=reg, penalty_params={"l1_ratio": 0.0})
    np.testing.assert_allclose(ridge.code, np.linalg.solve(D @ D.T + reg * np.eye(40), D @ X.T).T, atol=1e-12)


# weights


def test_weights_that_are_zero_infinite_or_a_signals_own_are_minimised_exactly(problem):
    X, D = problem
    rng = np.random.default_rng(1)
    w = rng.uniform(0.5, 2, 40)
    w[[3, 8]], w[5] = 0, np.inf
    result = sparse_encode(X, D, reg=0.2, weights=w, tol=1e-12)
    g = (X - result.code @ D) @ D.T
    assert np.all(result.code[:, 5] == 0)
    np.testing.assert_allclose(g[:, [3, 8]], 0, atol=1e-12)
    used = result.code != 0
    t = np.broadcast_to(0.2 * w, g.shape)
    np.testing.assert_allclose(g[used], t[used] * np.sign(result.code[used]), atol=1e-6)
    assert np.all(abs(g)[~used] <= t[~used] * (1 + 1e-6))
    own = w * rng.uniform(0.5, 2, (30, 1))
    many = sparse_encode(X, D, reg=0.2, weights=own, tol=1e-10)
    for i in (0, 17):
        single = sparse_encode(X[i : i + 1], D, reg=0.2, weights=own[i], tol=1e-12)
        np.testing.assert_allclose(many.code[i], single.code[0], atol=1e-5)


@pytest.mark.parametrize(("reg", "weights", "tol"), [(0.0, [1, 1, 1, 1, 1, 1], 1e-10), (0.3, [0, 1, 1, 0, 1, 1], 1e-7)])
def test_unpenalised_coefficients_that_may_not_be_negative_solve_least_squares(reg, weights, tol):
    from scipy.optimize import nnls

    rng = np.random.default_rng(2)
    D, X = unit_rows(rng, 6, 10), rng.standard_normal((8, 10))
    result = sparse_encode(X, D, reg=reg, weights=weights, positive=True, tol=tol)
    assert result.converged.all()
    L, t = np.linalg.cholesky(D @ D.T), reg * np.array(weights)
    for x, a in zip(X, result.code, strict=True):
        # |x - a D|^2 / 2 + t a is |L^T a - L^-1 (D x - t)|^2 / 2 and a constant
        best = nnls(L.T, np.linalg.solve(L, D @ x - t))[0]
        excess = np.sum((x - a @ D) ** 2) / 2 + a @ t - np.sum((x - best @ D) ** 2) / 2 - best @ t
        # a slight threshold, 1e-8 |x|, stands for none; it costs so much at most, and the gap may be left
        allowed = 1e-8 * np.linalg.norm(x) * best.sum() + tol * x @ x
        assert excess <= allowed
        assert np.linalg.norm(a - best) <= np.sqrt(2 * allowed) / np.linalg.svd(D)[1][-1]


@pytest.mark.parametrize("solver", ["cd", "homotopy"])
@pytest.mark.parametrize("k", [6, 12, 30])
def test_gaps_close_where_some_coefficients_are_only_kept_from_being_negative(solver, k):
    # the correlations of such atoms end at 0 but for rounding, which must not count as a violation
    rng = np.random.default_rng(k)
    D, X = unit_rows(rng, k, 10), rng.standard_normal((20, 10))
    for weights in (np.zeros(k), np.r_[0, 0, np.ones(k - 2)]):
        result = sparse_encode(X, D, reg=0.3, weights=weights, positive=True, tol=1e-10, solver=solver)
        assert result.converged.all()
        g = (X - result.code @ D) @ D.T - 0.3 * weights
        # a gap of 1e-10 |x|^2 leaves the residual within its root, and so the correlations
        assert np.all(g.max(axis=1) <= np.sqrt(2e-10 * np.sum(X**2, axis=1)))
        assert abs(np.sum(g * result.code, axis=1)).max() <= 1e-4


def test_reg_zero_is_least_squares_with_the_least_change_from_init(problem):
    X, D = problem
    plain = sparse_encode(X, D, reg=0.0)
    np.testing.assert_allclose(plain.code, X @ np.linalg.pinv(D), atol=1e-12)
    assert plain.degenerate.all()  # 40 atoms in 16 dimensions
    init = np.random.default_rng(0).standard_normal(plain.code.shape)
    near = sparse_encode(X, D, reg=0.0, init=init)
    np.testing.assert_allclose(near.code, init + (X - init @ D) @ np.linalg.pinv(D), atol=1e-12)
    assert not sparse_encode(X, D[:10], reg=0.0).degenerate.any()


# groups and trees


@pytest.mark.parametrize(("penalty", "groups"), [("group", GROUPS), ("tree", TREE)])
@pytest.mark.parametrize("solver", ["fista", "proximal_gradient"])
def test_codes_of_groups_and_trees_are_fixed_points_and_their_gap_closes(penalty, groups, solver):
    rng = np.random.default_rng(3)
    D, X = unit_rows(rng, 12, 20), rng.standard_normal((10, 20))
    params = {"groups": groups}
    options = {"penalty_params": params, "reg": 0.2, "tol": 1e-10, "max_iter": 50_000}
    result = sparse_encode(X, D, penalty=penalty, solver=solver, **options)
    A = result.code
    V = A + 0.1 * (X - A @ D) @ D.T
    sizes = np.sqrt([len(g) for g in groups])
    fixed = prox.tree(V, groups=groups, thresholds=0.02 * sizes)
    np.testing.assert_allclose(fixed, A, atol=1e-5)
    assert np.all((A == 0).reshape(10, 12)[:, :3].all(axis=1) | (A[:, :3] != 0).any(axis=1))
    value = np.sum((X - A @ D) ** 2, axis=1) / 2
    value += prox.penalty_value("group_l2" if penalty == "group" else "tree", A, reg=0.2, groups=groups)
    np.testing.assert_allclose(result.objective, value, rtol=1e-12)


def test_groups_of_one_are_l1_and_coefficients_in_no_group_are_free(problem):
    X, D = problem[0][:8], problem[1][:20]
    singles = {"groups": [[j] for j in range(20)]}
    for penalty in ("group", "tree"):
        result = sparse_encode(X, D, penalty=penalty, reg=0.2, penalty_params=singles, tol=1e-7, max_iter=20_000)
        np.testing.assert_allclose(result.objective, sparse_encode(X, D, reg=0.2).objective, rtol=1e-6)
    some = {"groups": [[j] for j in range(2, 20)]}
    w = np.r_[0, 0, np.ones(18)]
    free = sparse_encode(X, D, penalty="tree", reg=0.2, penalty_params=some, tol=1e-7, max_iter=20_000)
    exact = sparse_encode(X, D, reg=0.2, weights=w, tol=1e-12)
    np.testing.assert_allclose(free.objective, exact.objective, rtol=1e-6)


@pytest.mark.parametrize(("penalty", "reg"), [("group", 0.2), ("tree", 0.2), ("group", 0.0)])
def test_the_gap_also_bounds_what_atoms_in_no_group_can_gain_where_codes_may_not_be_negative(penalty, reg):
    rng = np.random.default_rng(5)
    X, D = rng.standard_normal((8, 12)), unit_rows(rng, 9, 12)
    options = {
        "penalty": penalty,
        "reg": reg,
        "penalty_params": {"groups": [[j] for j in range(2, 9)]},
        "positive": True,
    }
    exact = sparse_encode(X, D, reg=reg, weights=np.r_[0, 0, np.ones(7)], positive=True, tol=1e-8)
    square = np.sum(X**2, axis=1)
    for max_iter in (1, 5, 20_000):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            result = sparse_encode(X, D, max_iter=max_iter, **options)
        # the exact ones are so to 1e-8, and so much room, times a code's size, is left to the dual
        assert np.all(result.objective - exact.objective <= result.gap + 1e-7 * square)
    assert result.converged.all()
    np.testing.assert_allclose(result.objective / square, exact.objective / square, atol=1.2e-6)


# penalties that are not convex


def value_of(penalty, A, D, reg):
    extra = {"norm": np.linalg.norm(D, axis=1)} if penalty == "cel0" else PARAMS.get(penalty, {})
    return prox.penalty_value(penalty, A, reg=reg, **extra)


def moved(penalty, V, step, D, reg):
    if penalty in ("mcp", "scad"):
        return getattr(prox, penalty)(V, step, reg=reg)
    if penalty == "cel0":
        return prox.cel0(V, step, reg=reg, norm=np.linalg.norm(D, axis=1))
    if penalty == "log_sum":
        return prox.log_sum(V, step, reg=reg)
    return getattr(prox, penalty)(V, step * reg, **PARAMS.get(penalty, {}))


@pytest.mark.parametrize("penalty", NON_CONVEX)
@pytest.mark.parametrize("solver", ["cd", "anderson"])
def test_coordinate_descent_ends_where_no_coefficient_alone_can_improve(problem, penalty, solver):
    X, D = problem[0][:5], problem[1] * np.linspace(0.5, 2, 40)[:, None]
    reg = 0.1
    options = {"penalty_params": PARAMS.get(penalty), "restarts": "none", "max_iter": 20_000, "solver": solver}
    result = sparse_encode(X, D, penalty=penalty, reg=reg, **options)
    A, squares = result.code, np.sum(D**2, axis=1)
    V = A + (X - A @ D) @ D.T / squares
    away = abs(A - moved(penalty, V, 1 / squares, D, reg)).max(axis=1)
    assert result.converged.all()
    # at a threshold, rounding may decide for either side; none of these signals is at one
    assert np.all(away <= 1.001e-6 * abs(A).max(axis=1))
    assert np.isnan(result.gap).all()
    value = np.sum((X - A @ D) ** 2, axis=1) / 2 + value_of(penalty, A, D, reg)
    np.testing.assert_allclose(result.objective, value, rtol=1e-12)


@pytest.mark.parametrize("penalty", NON_CONVEX)
@pytest.mark.parametrize("solver", ["cd", "proximal_gradient", "fista", "anderson"])
def test_restarts_never_end_higher_and_often_lower(problem, penalty, solver):
    X, D = problem[0], problem[1][:24]
    options = {"penalty": penalty, "reg": 0.1, "penalty_params": PARAMS.get(penalty), "solver": solver, "tol": 1e-4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        once = sparse_encode(X, D, restarts="none", max_iter=500, **options)
        best = sparse_encode(X, D, max_iter=500, **options)
    assert np.all(best.objective <= once.objective + 1e-12)
    assert best.objective.mean() < once.objective.mean()


def test_scaling_signals_scales_the_codes_of_homogeneous_penalties(problem):
    X, D = problem[0][:5], problem[1][:12]
    for penalty, q in (("l0", 0), ("half", 0.5), ("two_thirds", 2 / 3), ("mcp", 1), ("scad", 1), ("cel0", 0)):
        options = {"penalty": penalty, "restarts": "none", "max_iter": 20_000}
        plain = sparse_encode(X, D, reg=0.1, **options)
        scaled = sparse_encode(1000 * X, D, reg=0.1 * 1000 ** (2 - q), **options)
        np.testing.assert_allclose(scaled.objective, 1e6 * plain.objective, rtol=1e-4)


def test_penalties_come_in_the_order_that_was_measured_on_patches():
    # 300 patches over an overcomplete DCT, proximal gradient from zero, regularised to about ten coefficients each:
    # the squared errors are l1 .53, scad .51, mcp .42 and, of the others, .34 to .36, with CEL0 lowest, .30; 60 show it
    image = load_sample_image("china.jpg") / 255 @ np.array([0.299, 0.587, 0.114])
    rng = np.random.default_rng(0)
    corners = np.stack([rng.integers(0, n - 11, 60) for n in image.shape], axis=1)
    X = np.stack([image[i : i + 12, j : j + 12].ravel() for i, j in corners])
    X -= X.mean(axis=1, keepdims=True)
    X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-3 * 12)
    waves = np.cos(np.pi * np.outer(np.arange(16), np.arange(12)) / 16)
    waves[1:] -= waves[1:].mean(axis=1, keepdims=True)
    waves /= np.linalg.norm(waves, axis=1, keepdims=True)
    D = np.kron(waves, waves)

    def error(penalty):
        low, high = np.log(1e-6), np.log(1.0)
        for _ in range(9):
            reg = np.exp((low + high) / 2)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                options = {"solver": "proximal_gradient", "restarts": "none", "tol": 0.0, "max_iter": 200}
                A = sparse_encode(X, D, penalty=penalty, reg=reg, **options).code
            low, high = (low, np.log(reg)) if np.count_nonzero(A) < 10 * len(X) else (np.log(reg), high)
        return np.mean(np.sum((X - A @ D) ** 2, axis=1) / np.maximum(np.sum(X**2, axis=1), 1e-300))

    with numcore.backend("auto"):
        errors = {name: error(name) for name in ("cel0", "l0", "mcp", "scad", "l1")}
    assert errors["cel0"] < errors["l0"] < errors["mcp"] < errors["scad"] <= errors["l1"]


# blocks, threads, starts, callbacks


def test_codes_do_not_depend_on_threads_or_on_what_else_is_coded(monkeypatch):
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(_problem, "BLOCK", 128)
    monkeypatch.setattr(_parallel, "BLOCK", 128)
    rng = np.random.default_rng(4)
    D, X = unit_rows(rng, 20, 16), rng.standard_normal((2 * 128 + 70, 16))
    for penalty in ("l1", "mcp"):
        options = {"penalty": penalty, "reg": 0.3, "restarts": "none", "max_iter": 20_000}
        first = sparse_encode(X, D, **options)
        before = numba.get_num_threads()
        try:
            numba.set_num_threads(1)
            alone = sparse_encode(X, D, **options)
        finally:
            numba.set_num_threads(before)
        jobs = sparse_encode(X, D, n_jobs=2, **options)
        for other in (alone, jobs):
            np.testing.assert_array_equal(other.code, first.code)
            np.testing.assert_array_equal(other.gap, first.gap)
        some = sparse_encode(X[123:133], D, **options)
        np.testing.assert_allclose(some.code, first.code[123:133], atol=1e-9)


def test_threads_keep_the_callers_backend():
    rng = np.random.default_rng(5)
    D, X = unit_rows(rng, 6, 5), rng.standard_normal((BLOCK + 10, 5))
    with numcore.backend("numpy"):
        slow = sparse_encode(X, D, reg=1.0, n_jobs=2)
    np.testing.assert_allclose(sparse_encode(X, D, reg=1.0).code, slow.code, atol=1e-9)


def test_a_dask_array_is_coded_chunk_by_chunk(problem):
    array = pytest.importorskip("dask.array")
    X, D = problem
    result = sparse_encode(array.from_array(X, chunks=(7, 9)), D, reg=0.2)
    np.testing.assert_allclose(result.code, sparse_encode(X, D, reg=0.2).code, atol=1e-12)
    spoilt = X.copy()
    spoilt[20, 3] = np.nan
    with pytest.raises(ValueError, match=r"X must be finite"):
        sparse_encode(array.from_array(spoilt, chunks=(7, 9)), D)


def test_a_start_at_the_solution_ends_at_once(problem):
    X, D = problem
    for solver in ("cd", "fista", "anderson"):
        code = sparse_encode(X, D, reg=0.2, tol=1e-9).code
        again = sparse_encode(X, D, reg=0.2, init=code, solver=solver, tol=1e-6)
        assert again.n_iter.max() == 0
        np.testing.assert_array_equal(again.code, code)


@pytest.mark.parametrize("solver", [*CONVEX_SOLVERS, "proximal_gradient"])
def test_no_signal_gets_more_iterations_than_it_may(problem, solver):
    X, D = problem
    for max_iter in (1, 2, 3, 5, 11, 52):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            result = sparse_encode(X, D, reg=1e-3, solver=solver, max_iter=max_iter)
        assert result.n_iter.max() <= max_iter


def test_callback_sees_every_block_and_can_end_the_work():
    rng = np.random.default_rng(6)
    D, X = unit_rows(rng, 8, 6), rng.standard_normal((3 * BLOCK, 6))
    seen = []

    def stop(state):
        seen.append((state.n_iter, state.n_done, state.converged))
        return state.n_iter == 2

    result = sparse_encode(X, D, reg=0.5, callback=stop)
    assert seen == [(1, BLOCK, True), (2, 2 * BLOCK, True)]
    assert result.converged[: 2 * BLOCK].all() and not result.converged[2 * BLOCK :].any()
    assert not result.code[2 * BLOCK :].any()
    np.testing.assert_allclose(result.objective[2 * BLOCK :], np.sum(X[2 * BLOCK :] ** 2, axis=1) / 2)


def test_one_warning_counts_the_signals_that_did_not_converge(problem):
    X, D = problem
    with pytest.warns(ConvergenceWarning, match="30 of 30 signals") as seen:
        result = sparse_encode(X, D, reg=0.01, solver="fista", max_iter=2)
    assert len(seen) == 1
    assert not result.converged.any()


# what goes in


def test_float32_stays_and_is_coded_as_exactly_as_float64(problem):
    X, D = (x.astype(np.float32) for x in problem)
    result = sparse_encode(X, D, reg=0.2, tol=1e-10)
    wide = sparse_encode(X.astype(np.float64), D.astype(np.float64), reg=0.2, tol=1e-10)
    assert result.code.dtype == np.float32 and result.objective.dtype == np.float64
    assert result.converged.all()
    np.testing.assert_array_equal(result.code, wide.code.astype(np.float32))
    assert sparse_encode(np.ones((2, 3), int), np.eye(3, dtype=int)).code.dtype == np.float64


def test_layout_and_writeability_do_not_matter(problem):
    X, D = problem
    plain = sparse_encode(X, D, reg=0.2).code
    frozen, backwards = X.copy(), X[::-1, ::-1].copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(sparse_encode(np.asfortranarray(X), np.asfortranarray(D), reg=0.2).code, plain)
    np.testing.assert_array_equal(sparse_encode(frozen, D, reg=0.2).code, plain)
    np.testing.assert_array_equal(sparse_encode(backwards[::-1, ::-1], D, reg=0.2).code, plain)


@pytest.mark.parametrize("penalty", ["l1", "elastic_net", *NON_CONVEX])
def test_small_and_empty_problems_are_survived(penalty):
    options = {"penalty": penalty, "penalty_params": PARAMS.get(penalty), "reg": 0.1}
    D = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    empty = sparse_encode(np.zeros((0, 2)), D, **options)
    assert empty.code.shape == (0, 3) and empty.converged.shape == (0,)
    result = sparse_encode([[0.0, 0.0], [1.0, 3.0]], D, **options)
    assert not result.code[0].any() and result.converged.all()
    assert result.code[1, 1] == 0 and result.code[1, 0] > 0
    assert sparse_encode([[2.0]], [[1.0]], **options).code.shape == (1, 1)
    assert not sparse_encode([[2.0, 1.0]], np.zeros((2, 2)), **options).code.any()


DEGREES = {
    "l1": 1,
    "l0": 0,
    "half": 1 / 2,
    "two_thirds": 2 / 3,
    "lq": 0.3,
    "mcp": 1,
    "scad": 1,
    "cel0": 0,
    "log_sum": 0,
}


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("penalty", DEGREES)
def test_signals_of_every_scale_side_by_side(problem, penalty, scale):
    X, D = problem[0][:3], problem[1][:10]
    mixed = np.vstack([X, scale * X, 0 * X[:1]])
    options = {"penalty": penalty, "restarts": "none", "max_iter": 20_000}
    params = {"eps": 0.1 * scale} if penalty == "log_sum" else PARAMS.get(penalty)
    reg = 0.1 * scale ** (2 - DEGREES[penalty])
    result = sparse_encode(mixed, D, reg=reg, penalty_params=params, **options)
    assert result.converged.all() and np.isfinite(result.code).all()
    alone = sparse_encode(X, D, reg=0.1, penalty_params=PARAMS.get(penalty), **options)
    np.testing.assert_allclose(result.code[3:6] / scale, alone.code, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
@pytest.mark.parametrize("penalty", [name for name in DEGREES if name not in ("scad", "log_sum")])
def test_scaling_atoms_scales_the_codes_back(problem, penalty, scale):
    X, D = problem[0][:5], problem[1][:10]
    options = {"penalty": penalty, "max_iter": 20_000}
    plain = sparse_encode(X, D, reg=0.1, penalty_params=PARAMS.get(penalty), **options)
    params = {"gamma": 3 / scale / scale} if penalty == "mcp" else PARAMS.get(penalty)
    scaled = sparse_encode(X, scale * D, reg=0.1 * scale ** DEGREES[penalty], penalty_params=params, **options)
    assert scaled.converged.all()
    np.testing.assert_allclose(scaled.code * scale, plain.code, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scaled.objective, plain.objective, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"penalty": "l3"}, "penalty must be one of"),
        ({"solver": "lars"}, "solver must be one of"),
        ({"solver": "homotopy", "penalty": "mcp"}, "solver='homotopy' must be used with penalty='l1'; got"),
        ({"solver": "cd", "penalty": "group", "penalty_params": {"groups": [[0]]}}, "solver must be 'fista'"),
        ({"restarts": "some"}, "restarts must be one of"),
        ({"reg": -1.0}, "reg must"),
        ({"reg": np.nan}, "reg must"),
        ({"weights": np.full(40, -1.0)}, "weights must not be negative; 40 of its 40"),
        ({"weights": np.full(40, np.nan)}, "weights must be free of nan"),
        ({"weights": np.ones(3)}, "weights must have shape"),
        ({"weights": np.ones((30, 40)), "penalty": "elastic_net"}, "weights must have shape"),
        ({"penalty": "lq"}, "penalty_params must hold 'q'"),
        ({"penalty": "lq", "penalty_params": {"q": 1.0}}, r"penalty_params\['q'\] must"),
        ({"penalty": "scad", "penalty_params": {"gamma": 2.0}}, r"penalty_params\['gamma'\] must"),
        ({"penalty": "mcp", "penalty_params": {"gamma": 0.0}}, r"penalty_params\['gamma'\] must"),
        ({"penalty": "log_sum", "penalty_params": {"eps": 0.0}}, r"penalty_params\['eps'\] must"),
        ({"penalty": "l1", "penalty_params": {"gamma": 3.0}}, "must not hold 'gamma'"),
        ({"penalty": "group", "penalty_params": {"groups": [[0, 1], [1, 2]]}}, "groups must not overlap"),
        ({"penalty": "tree", "penalty_params": {"groups": [[0, 1], [1, 2]]}}, "groups must be nested or disjoint"),
        ({"penalty": "tree"}, "penalty_params must hold 'groups'"),
        ({"init": np.zeros((2, 2))}, "init must have shape"),
        ({"tol": -1e-3}, "tol must"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"n_jobs": 0}, "n_jobs must not be 0"),
    ],
)
def test_bad_arguments_are_named(problem, change, message):
    with pytest.raises(ValueError, match=message):
        sparse_encode(*problem, **change)


def test_bad_data_are_named(problem):
    X, D = problem
    spoilt = X.copy()
    spoilt[3, 2], spoilt[4, 4] = np.nan, np.inf
    with pytest.raises(ValueError, match="X must be finite; 2 of its 480 entries are not"):
        sparse_encode(spoilt, D)
    with pytest.raises(ValueError, match="dictionary must be finite"):
        sparse_encode(X, np.full_like(D, np.nan))
    with pytest.raises(ValueError, match=r"got shape|reshape\(1, -1\)"):
        sparse_encode(X[0], D)
    with pytest.raises(ValueError, match="X must have as many features as dictionary, 16"):
        sparse_encode(X[:, :5], D)
    with pytest.raises(ValueError, match="dictionary must have atoms"):
        sparse_encode(X, np.zeros((0, 16)))
    for bad in (X * 1j, np.array([["a"]])):
        with pytest.raises(TypeError, match="X must be real"):
            sparse_encode(bad, D)
    with pytest.raises(TypeError, match="callback must be callable"):
        sparse_encode(X, D, callback=3)
    with pytest.raises(TypeError, match="penalty_params must be a mapping"):
        sparse_encode(X, D, penalty_params=3)
