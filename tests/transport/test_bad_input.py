"""What is refused, by the name of the argument and before any work; and what has to be survived."""

import re
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore.algorithms.transport import (
    GridCost,
    PointCloudCost,
    sinkhorn,
    sinkhorn_batch,
    sinkhorn_divergence,
    sinkhorn_newton,
)
from numcore.results import ConvergenceWarning

NAN, INF = np.nan, np.inf
METHODS = ("auto", "log", "kernel", "newton")
SOLVERS = [sinkhorn, sinkhorn_newton]


def ones(*shape, **entries):
    C = np.ones(shape)
    for value in entries.values():
        C[1, 1] = value
    return C


BAD_COSTS = [
    (ones(3, 4, x=NAN), ValueError, r"cost must be free of nan and -inf; 1 of its 12 entries"),
    (ones(3, 4, x=-INF), ValueError, r"cost must be free of nan and -inf; 1 of its 12 entries"),
    (np.ones(4), ValueError, r"cost must be 2-D; got shape \(4,\)"),
    (np.ones((0, 4)), ValueError, r"cost must not be empty; got shape \(0, 4\)"),
    (np.ones((3, 4), np.complex128), TypeError, r"cost must be real.*complex128"),
    (np.ones((3, 4), object), TypeError, r"cost must be real numbers.*object"),
    (np.ones((3, 4), np.float16), ValueError, r"cost must be float32, float64.*float16"),
    (np.array([[INF, INF, INF, INF], [1, 1, 1, 1], [1, 1, 1, 1.0]]), ValueError, r"cost has 1 row.*\+inf"),
    (np.array([[INF, 1, 1, 1], [INF, 1, 1, 1], [INF, 1, 1, 1.0]]), ValueError, r"cost has 1 column.*\+inf"),
    ("text", TypeError, "cost"),
    ([[1, 2], [3]], ValueError, "cost"),
]
BAD_WEIGHTS = [
    ({"a": np.array([0.5, NAN, 0.5])}, ValueError, "a must be finite; 1 of its 3"),
    ({"b": np.array([0.5, INF, 0.5, 0])}, ValueError, "b must be finite; 1 of its 4"),
    ({"a": np.array([0.5, -0.5, 1.0])}, ValueError, "a must not be negative; 1 of its 3"),
    ({"b": np.array([-0.5, -0.5, 1, 1.0])}, ValueError, "b must not be negative; 2 of its 4"),
    ({"a": np.zeros(3)}, ValueError, "a must have a positive finite sum; got 0"),
    ({"b": np.zeros(4)}, ValueError, "b must have a positive finite sum; got 0"),
    ({"a": np.ones((3, 1)) / 3}, ValueError, r"a must be 1-D; got shape \(3, 1\)"),
    ({"a": np.ones(3, complex) / 3}, TypeError, "a must be real"),
    ({"b": np.ones(4, object) / 4}, TypeError, "b must be real"),
    ({"b": np.ones(4, np.float16) / 4}, ValueError, "b must be float32, float64"),
    ({"a": np.array([1.0, 1.0, 0.5])}, ValueError, r"a and b must have equal sums.*2\.5 and 1"),
]
BAD_OPTIONS = [
    ({"reg": 0.0}, ValueError, "reg must"),
    ({"reg": -1.0}, ValueError, "reg must"),
    ({"reg": NAN}, ValueError, "reg must"),
    ({"reg": INF}, ValueError, "reg must"),
    ({"reg": "small"}, TypeError, "reg must be a real number"),
    ({"reg": None}, TypeError, "reg must be a real number"),
    ({"reg_scale": "median"}, ValueError, "reg_scale must be one of 'absolute', 'mean', 'max'"),
    ({"tol": -1e-9}, ValueError, "tol must"),
    ({"tol": NAN}, ValueError, "tol must"),
    ({"max_iter": 0}, ValueError, "max_iter must be at least 1"),
    ({"max_iter": 1.5}, TypeError, "max_iter must be an integer"),
    ({"init": (np.zeros(2), None)}, ValueError, r"init\[0\] must have shape \(3\).*\(2,\)"),
    ({"init": (None, np.zeros(5))}, ValueError, r"init\[1\] must have shape \(4\).*\(5,\)"),
    ({"init": (np.full(3, NAN), None)}, ValueError, r"init\[0\] must be finite"),
    ({"init": 3}, TypeError, "init must be a SinkhornResult or a pair"),
    ({"init": np.zeros(3)}, TypeError, "init"),
    ({"callback": 3}, TypeError, "callback must be callable"),
]
SINKHORN_OPTIONS = [
    ({"method": "fast"}, ValueError, "method must be one of"),
    ({"annealing": "never"}, ValueError, "annealing must be one of"),
    ({"relaxation": 0.5}, ValueError, "relaxation must"),
    ({"relaxation": 2.0}, ValueError, "relaxation must"),
    ({"relaxation": "fast"}, TypeError, "relaxation must"),
    ({"storage": "float16"}, ValueError, "storage must be one of"),
    ({"marginal_reg": 0.0}, ValueError, "marginal_reg must"),
    ({"marginal_reg": (1.0, -1.0)}, ValueError, "marginal_reg must"),
    ({"marginal_reg": NAN}, ValueError, "marginal_reg must"),
    ({"marginal_reg": (1.0, 1.0, 1.0)}, ValueError, "marginal_reg must be one number or a pair"),
]
NEWTON_OPTIONS = [
    ({"warmup": -1}, ValueError, "warmup must be at least 0"),
    ({"drop": 0.0}, ValueError, "drop must"),
    ({"drop": 1.0}, ValueError, "drop must"),
    ({"cg_max_iter": 0}, ValueError, "cg_max_iter must be at least 1"),
    ({"annealing": "auto"}, ValueError, "annealing must be one of True, False"),
]


class TestRefused:
    @pytest.mark.parametrize("solve", SOLVERS)
    @pytest.mark.parametrize(("cost", "error", "message"), BAD_COSTS)
    def test_a_bad_cost(self, solve, cost, error, message):
        with pytest.raises(error, match=message):
            solve(cost, reg=0.1)

    @pytest.mark.parametrize("solve", SOLVERS)
    @pytest.mark.parametrize(("weights", "error", "message"), BAD_WEIGHTS)
    def test_bad_weights(self, solve, weights, error, message):
        with pytest.raises(error, match=message):
            solve(np.ones((3, 4)), **weights, reg=0.1)

    @pytest.mark.parametrize("solve", SOLVERS)
    @pytest.mark.parametrize(("options", "error", "message"), BAD_OPTIONS)
    def test_a_bad_option(self, solve, options, error, message):
        with pytest.raises(error, match=message):
            solve(np.ones((3, 4)), **({"reg": 0.1} | options))

    @pytest.mark.parametrize(("options", "error", "message"), SINKHORN_OPTIONS)
    def test_a_bad_option_of_sinkhorn(self, options, error, message):
        with pytest.raises(error, match=message):
            sinkhorn(np.ones((3, 4)), reg=0.1, **options)

    @pytest.mark.parametrize(("options", "error", "message"), NEWTON_OPTIONS)
    def test_a_bad_option_of_newton(self, options, error, message):
        with pytest.raises(error, match=message):
            sinkhorn_newton(np.ones((3, 4)), reg=0.1, **options)

    @pytest.mark.parametrize(
        ("cost", "error", "message"), [c for c in BAD_COSTS if not re.search("2-D|column|row", c[2])]
    )
    def test_a_bad_cost_of_a_batch(self, cost, error, message):
        with pytest.raises(error, match=message.replace("12 entries", "24 entries")):
            sinkhorn_batch(cost if isinstance(cost, str | list) else np.stack([np.ones_like(cost), cost]), reg=0.1)

    @pytest.mark.parametrize("solve", SOLVERS)
    @pytest.mark.parametrize("weights", [{"a": np.ones(4) / 4}, {"b": np.ones(3) / 3}])
    def test_mismatched_shapes_with_all_three_in_the_message(self, solve, weights):
        with pytest.raises(ValueError, match="must have shape") as caught:
            solve(np.ones((3, 4)), **weights, reg=0.1)
        shapes = [(3, 4), *(weights.get(k, np.empty(n)).shape for k, n in (("a", 3), ("b", 4)))]
        assert all(str(shape) in str(caught.value) for shape in shapes)

    def test_float32_problems_allow_sums_to_differ_by_1e_4_and_float64_by_1e_6(self):
        a = np.ones(3) / 3
        for dtype, slack in ((np.float32, 1e-4), (np.float64, 1e-6)):
            C = np.ones((3, 3), dtype)
            b = sinkhorn(C, a, a * (1 + 0.5 * slack), reg=0.1).plan.sum()
            assert_allclose(b, 1, rtol=1e-6)  # b is rescaled to the sum of a
            with pytest.raises(ValueError, match="equal sums"):
                sinkhorn(C, a, a * (1 + 2 * slack), reg=0.1)

    @pytest.mark.parametrize("bad", [NAN, INF, -INF])
    @pytest.mark.parametrize("name", ["X", "Y"])
    def test_points_that_are_not_finite(self, bad, name):
        points = {"X": np.ones((3, 2)), "Y": np.ones((3, 2))}
        points[name][1, 0] = bad
        for call in (PointCloudCost, lambda X, Y: sinkhorn_divergence(X, Y, reg=1.0)):
            with pytest.raises(ValueError, match=f"{name} must be finite; 1 of its 6"):
                call(**points)

    @pytest.mark.parametrize(
        ("X", "Y", "options", "error", "message"),
        [
            (np.ones((3, 2)), np.ones((3, 4)), {}, ValueError, r"X and Y.*\(3, 2\) and \(3, 4\)"),
            (np.ones(3), None, {}, ValueError, "X must be 2-D"),
            (np.ones((3, 2)), np.ones((0, 2)), {}, ValueError, "Y must hold points"),
            (np.ones((3, 2), complex), None, {}, TypeError, "X must be real"),
            (np.ones((3, 2), np.float16), None, {}, ValueError, "X must be float32"),
            (np.eye(3, 2), None, {"metric": "cosine"}, ValueError, "X has 1 zero row"),
            (np.ones((3, 2)), np.eye(3, 2), {"metric": "cosine"}, ValueError, "Y has 1 zero row"),
            (np.ones((3, 2)), None, {"metric": "chebyshev"}, ValueError, "metric must be"),
            (np.ones((3, 2)), None, {"metric": ("power", 1.0)}, ValueError, "metric"),
        ],
    )
    def test_bad_point_clouds(self, X, Y, options, error, message):
        with pytest.raises(error, match=message):
            PointCloudCost(X, Y, **options)

    @pytest.mark.parametrize(
        ("axes", "p", "error", "message"),
        [
            ([], 2, ValueError, "axes must hold"),
            ([np.arange(3.0), np.ones((2, 2))], 2, ValueError, r"axes\[1\] must be 1-D"),
            ([np.array([0, NAN])], 2, ValueError, r"axes\[0\] must be finite"),
            ([np.arange(3.0), np.empty(0)], 2, ValueError, r"axes\[1\] must not be empty"),
            ([np.arange(3.0)], 0.5, ValueError, "p must"),
            ([np.arange(3.0)], "two", TypeError, "p must"),
        ],
    )
    def test_bad_grids(self, axes, p, error, message):
        with pytest.raises(error, match=message):
            GridCost(axes, p)

    def test_weights_that_do_not_fit_a_grid(self):
        with pytest.raises(ValueError, match=r"a must have shape \(6,\)"):
            sinkhorn(GridCost([np.arange(3.0), np.arange(2.0)]), np.ones(5) / 5, reg=0.1)

    @pytest.mark.parametrize(
        ("V", "transpose", "message"),
        [
            (np.ones(3), False, "V must have 4 rows"),
            (np.ones(4), True, "V must have 3 rows"),
            (np.ones((4, 1, 1)), False, "V must be"),
        ],
    )
    def test_what_a_plan_cannot_be_applied_to(self, V, transpose, message):
        with pytest.raises(ValueError, match=message):
            sinkhorn(np.ones((3, 4)), reg=0.1).apply(V, transpose=transpose)

    def test_a_pair_of_marginal_penalties_for_a_divergence(self):
        with pytest.raises(ValueError, match="marginal_reg"):
            sinkhorn_divergence(np.ones((3, 2)), np.ones((3, 2)), reg=0.1, marginal_reg=(1.0, 2.0))

    def test_nothing_is_called_back_or_printed_before_the_checks_have_passed(self, capsys):
        def fail(state):
            raise AssertionError

        with pytest.raises(ValueError, match="init"):
            sinkhorn(np.ones((3, 4)), reg=0.1, init=(np.zeros(9), None), callback=fail, verbose=1)
        assert capsys.readouterr() == ("", "")


def assert_solves(result, a, b, tol=1e-9):
    P = result.plan
    assert result.converged and np.isfinite(P).all()
    assert np.isfinite([result.value, result.linear_cost, result.entropy_value, result.dual_value]).all()
    assert np.isfinite(result.f).all() and np.isfinite(result.g).all()
    assert abs(P.sum(1) - a).sum() + abs(P.sum(0) - b).sum() <= 1.01 * tol


class TestSurvived:
    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("form", ["stored", "cloud"])
    @pytest.mark.parametrize("eps", [0.2, 5e-3])
    def test_zero_weights(self, clouds, method, form, eps):
        a, b = clouds.a.copy(), clouds.b.copy()
        a[:5] = b[20:] = b[0] = 0
        a, b = a / a.sum(), b / b.sum()
        cost = clouds.C if form == "stored" else PointCloudCost(clouds.X, clouds.Y)
        result = sinkhorn(cost, a, b, reg=eps, method=method, max_iter=50_000)
        assert_solves(result, a, b)
        assert not result.plan[:5].any() and not result.plan[:, 20:].any()
        with np.errstate(divide="ignore"):
            extension = -eps * np.logaddexp.reduce(np.log(b) + (result.g - clouds.C) / eps, axis=1)
            other = -eps * np.logaddexp.reduce(np.log(a)[:, None] + (result.f[:, None] - clouds.C) / eps, axis=0)
        # f comes from the row update; g of points with weight is one half step behind, by eps tol / min(b)
        assert_allclose(result.f, extension, atol=1e-8)
        assert_allclose(result.g, other, atol=1e-7)

    @pytest.mark.parametrize("method", METHODS)
    def test_all_mass_in_one_point_of_each_side(self, problem, method):
        a, b = np.eye(23)[4], np.eye(31)[7]
        result = sinkhorn(problem.C, a, b, reg=0.05, method=method)
        assert_solves(result, a, b)
        assert_allclose(result.plan, np.outer(a, b), atol=1e-12)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_costs_of_any_scale(self, problem, method, scale, dtype):
        C = problem.C.astype(dtype)
        plain = sinkhorn(C, problem.a, problem.b, reg=0.1, reg_scale="max", method=method)
        scaled = sinkhorn(
            (scale * problem.C).astype(dtype), problem.a, problem.b, reg=0.1, reg_scale="max", method=method
        )
        tol = 1e-9 if dtype == "float64" else 1e-5
        assert_allclose(scaled.plan, plain.plan, atol=10 * tol)
        assert_allclose(scaled.value / scale, plain.value, rtol=100 * tol)

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    @pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
    def test_point_clouds_of_any_scale(self, clouds, scale, metric):
        t = np.sqrt(scale)
        plain, scaled = (
            sinkhorn(PointCloudCost(s * clouds.X, s * clouds.Y, metric), reg=0.1, reg_scale="mean") for s in (1.0, t)
        )
        assert_allclose(scaled.plan, plain.plan, atol=1e-8)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("reg", [1e-6, 1e-3, 1.0, 1e3, 1e6])
    def test_eps_from_a_millionth_of_the_greatest_cost_to_a_million_of_it(self, rng, weights, method, reg):
        C, a = rng.random((15, 15)), np.full(15, 1 / 15)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # slow is allowed, nan is not
            result = sinkhorn(C, a, reg=reg, reg_scale="max", method=method, tol=1e-7)
        assert np.isfinite(result.plan).all() and np.isfinite(result.value)
        assert result.converged == (result.marginal_error <= 1e-7)
        assert_allclose(result.plan.sum(), 1, atol=1e-3)

    @pytest.mark.parametrize("method", METHODS)
    def test_weights_from_1e_300_to_1(self, rng, problem, method):
        a, b = 10.0 ** rng.uniform(-300, 0, 23), 10.0 ** rng.uniform(-300, 0, 31)
        a[0], b[0] = 1, 1
        a, b = a / a.sum(), b / b.sum()
        result = sinkhorn(problem.C, a, b, reg=0.1, method=method)
        assert_solves(result, a, b)
        # the relative error of a row, however light: f is a row update at g
        assert_allclose(result.plan.sum(1)[a > 1e-290], a[a > 1e-290], rtol=1e-6)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("eps", [0.3, 4e-3])
    def test_forbidden_pairs(self, rng, problem, method, eps):
        C = problem.C.copy()
        C[rng.random(C.shape) < 0.4] = INF
        b = np.ones(31) / 31
        a = np.where(np.isfinite(C), np.ones(23)[:, None] / np.isfinite(C).sum(0) / 31, 0).sum(1)  # feasible
        result = sinkhorn(C, a, b, reg=eps, method=method, max_iter=100_000)
        assert_solves(result, a, b)
        assert not result.plan[np.isinf(C)].any()

    @pytest.mark.parametrize("method", METHODS)
    def test_block_structure_of_forbidden_pairs(self, rng, method):
        # two problems that share nothing: potentials are determined up to a constant each
        C = np.full((8, 10), INF)
        C[:4, :5], C[4:, 5:] = rng.random((4, 5)), rng.random((4, 5))
        a, b = np.full(8, 1 / 8), np.full(10, 1 / 10)
        result = sinkhorn(C, a, b, reg=0.1, method=method)
        assert_solves(result, a, b)
        assert_allclose(result.plan[:4, :5], sinkhorn(C[:4, :5], reg=0.1).plan / 2, atol=1e-8)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_an_infeasible_pattern_ends_with_a_warning_and_without_nan(self, method, dtype):
        C = np.ones((3, 3), dtype)
        C[0, 1:] = C[1, 1:] = INF
        with pytest.warns(ConvergenceWarning):
            result = sinkhorn(C, reg=0.1, method=method, max_iter=2000)
        assert not result.converged and result.marginal_error > 0.1
        assert np.isfinite(result.plan).all() and np.isfinite([result.value, result.linear_cost]).all()
        assert np.isfinite(result.f).all() and np.isfinite(result.g).all()

    @pytest.mark.parametrize("method", METHODS)
    def test_a_forbidden_row_without_weight(self, problem, method):
        C, a = problem.C.copy(), problem.a.copy()
        C[3], C[:, 5], a[3] = INF, INF, 0
        b = problem.b * (np.arange(31) != 5)
        a, b = a / a.sum(), b / b.sum()
        result = sinkhorn(C, a, b, reg=0.1, method=method)
        assert result.converged and np.isfinite(result.plan).all()
        assert not result.plan[3].any() and not result.plan[:, 5].any()

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("eps", [0.1, 3e-3])
    def test_duplicated_points_and_ties(self, clouds, method, eps):
        X, Y = np.repeat(clouds.X, 3, axis=0), np.tile(clouds.Y, (2, 1))
        C = ((X[:, None] - Y[None]) ** 2).sum(-1)
        result = sinkhorn(C, reg=eps, method=method, max_iter=50_000)
        assert_solves(result, 1 / 60, 1 / 54)
        assert_allclose(result.plan[::3], result.plan[1::3], atol=1e-12)

    @pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan", "cosine"])
    def test_a_cloud_onto_itself_and_onto_a_single_place(self, clouds, metric):
        for Y in (clouds.X, np.ones((7, 2))):
            result = sinkhorn(PointCloudCost(clouds.X, Y, metric), reg=0.2, tol=1e-7)
            assert_solves(result, 1 / 20, 1 / len(Y), tol=1e-7)

    @pytest.mark.parametrize("method", ["auto", "log", "kernel", "newton"])
    def test_many_more_targets_than_sources(self, rng, method):
        C = rng.random((2, 3000))
        for cost, a, b in ((C, 1 / 2, 1 / 3000), (C.T, 1 / 3000, 1 / 2)):
            assert_solves(sinkhorn(cost, reg=0.05, method=method), a, b)

    @pytest.mark.parametrize("method", METHODS)
    def test_read_only_fortran_ordered_and_strided_arrays(self, problem, method):
        C, a, b = problem.C, problem.a, problem.b
        expected = sinkhorn(C, a, b, reg=0.05, method=method)
        wide = np.zeros((46, 62))
        wide[::2, ::2] = C
        padded = np.zeros(46)
        padded[::2] = a
        locked = [x.copy() for x in (C, a, b)]
        for x in locked:
            x.flags.writeable = False
        for args in (
            (np.asfortranarray(C), a, b),
            (wide[::2, ::2], padded[::2], b),
            (C[::-1][::-1], a[::-1][::-1], b),
            locked,
        ):
            assert_allclose(sinkhorn(*args, reg=0.05, method=method).plan, expected.plan, atol=1e-12)

    def test_strided_and_read_only_points(self, clouds):
        wide = np.zeros((40, 4))
        wide[::2, ::2] = clouds.X
        wide.flags.writeable = False
        plain, strided = (sinkhorn(PointCloudCost(X, clouds.Y), reg=0.1) for X in (clouds.X, wide[::2, ::2]))
        assert_allclose(strided.plan, plain.plan, atol=1e-14)

    @pytest.mark.parametrize("method", METHODS)
    def test_no_input_is_modified(self, problem, method):
        given = [problem.C.copy(), problem.a.copy(), problem.b.copy(), np.zeros(23), np.zeros(31)]
        before = [x.copy() for x in given]
        sinkhorn(*given[:3], reg=2e-3, method=method, init=tuple(given[3:]))
        assert all(np.array_equal(x, y) for x, y in zip(given, before, strict=True))

    def test_sums_that_differ_by_rounding(self, problem):
        b = problem.b * (1 + 1e-12)
        result = sinkhorn(problem.C, problem.a, b, reg=0.1, tol=1e-13)
        assert result.converged and result.marginal_error <= 1e-13

    def test_lists_and_nested_tuples(self):
        assert sinkhorn([[0, 1], (1, 0)], [0.5, 0.5], (0.5, 0.5), reg=1).converged


def test_a_metric_that_returns_complex_costs_is_refused():
    X = np.zeros((2, 1))
    with pytest.raises(TypeError, match="metric"):
        sinkhorn(PointCloudCost(X, X, lambda A, B: np.zeros((len(A), len(B)), complex)), reg=0.1)
