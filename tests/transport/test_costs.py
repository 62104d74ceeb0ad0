"""Costs that are never stored are the matrices that they stand for."""

import inspect
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

import numcore
from numcore.algorithms.transport import GridCost, PointCloudCost, _loops, sinkhorn, sinkhorn_newton

NAMES = {"sqeuclidean": "sqeuclidean", "euclidean": "euclidean", "manhattan": "cityblock", "cosine": "cosine"}


def test_the_parameters_and_defaults_are_those_of_the_specification():
    points, grid = (inspect.signature(cost).parameters for cost in (PointCloudCost, GridCost))
    assert {name: p.default for name, p in points.items()} == {
        "X": inspect.Parameter.empty,
        "Y": None,
        "metric": "sqeuclidean",
    }
    assert list(grid) == ["axes", "p"] and grid["p"].default == 2


class TestPointCloudCost:
    @pytest.mark.parametrize("metric", NAMES)
    @pytest.mark.parametrize("d", [1, 2, 3, 5, 30])
    def test_its_matrix_is_that_of_scipy(self, rng, metric, d):
        X, Y = rng.normal(size=(9, d)), rng.normal(size=(11, d))
        assert_allclose(PointCloudCost(X, Y, metric).to_array(), cdist(X, Y, NAMES[metric]), atol=1e-13)
        # |x|^2 + |x|^2 - 2 x.x is 0 but for the rounding of three sums of d terms, of which a root may be taken
        off = np.sqrt(4 * (d + 2) * np.finfo(float).eps * (X**2).sum(axis=1).max())
        assert_allclose(PointCloudCost(X, metric=metric).to_array(), cdist(X, X, NAMES[metric]), atol=off)

    @pytest.mark.parametrize("p", [1.5, 2.0, 4.0])
    def test_powers_are_those_of_the_euclidean_distance_over_p(self, rng, p):
        X, Y = rng.normal(size=(9, 3)), rng.normal(size=(11, 3))
        assert_allclose(PointCloudCost(X, Y, ("power", p)).to_array(), cdist(X, Y) ** p / p, rtol=1e-12)

    @pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean", "manhattan"])
    @pytest.mark.parametrize("d", [1, 2, 3, 7, 16, 17, 40])
    def test_every_pass_is_that_of_the_stored_matrix(self, rng, weights, metric, d):
        # 16 features is where the form of the pass may change
        X, Y = rng.normal(size=(13, d)), rng.normal(size=(17, d))
        a, b, C = weights(rng, 13), weights(rng, 17), cdist(X, Y, NAMES[metric])
        eps = 0.1 * C.mean()
        cloud, stored = (sinkhorn(c, a, b, reg=eps, method="log") for c in (PointCloudCost(X, Y, metric), C))
        assert_allclose(cloud.plan, stored.plan, atol=1e-8)
        assert_allclose([cloud.value, cloud.linear_cost], [stored.value, stored.linear_cost], rtol=1e-8)
        assert_allclose(cloud.apply(Y), stored.apply(Y), atol=1e-7)
        assert_allclose(cloud.sparse_plan(1e-4).toarray(), stored.sparse_plan(1e-4).toarray(), atol=1e-8)

    @pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
    @pytest.mark.parametrize("d", [2, 30])
    def test_clouds_far_from_the_origin_lose_no_digits_to_cancellation(self, rng, metric, d):
        X, Y = rng.normal(size=(9, d)), rng.normal(size=(11, d))
        far = PointCloudCost(X + 2.0**20, Y + 2.0**20, metric).to_array()
        near = PointCloudCost((X + 2.0**20) - 2.0**20, (Y + 2.0**20) - 2.0**20, metric).to_array()
        assert_allclose(far, near, rtol=1e-9)

    @pytest.mark.parametrize("d", [2, 20])
    def test_float32_clouds_at_small_eps_reach_the_value_of_float64(self, rng, d):
        eps = 5e-3 if d == 2 else 0.3  # |x|^2 / eps is 1e4 and 2e3: folded norms would cost all digits
        X, Y = (rng.random((40, d)) + 5).astype(np.float32), (rng.random((40, d)) + 5).astype(np.float32)
        exact = sinkhorn(PointCloudCost(X.astype(float), Y.astype(float)), reg=eps, tol=1e-7)
        single = sinkhorn(PointCloudCost(X, Y), reg=eps, tol=1e-3)
        assert_allclose(single.value, exact.value, rtol=1e-3)

    def test_a_callable_is_given_rows_and_all_targets_and_never_everything(self, rng):
        shapes = []

        def metric(X, Y):
            shapes.append((len(X), len(Y)))
            return cdist(X, Y)

        X = rng.normal(size=(1500, 2))
        result = sinkhorn(PointCloudCost(X, X[:700] + 1, metric), reg=1.0, tol=1e-2)
        assert result.converged and {m for _, m in shapes} == {700} and max(n for n, _ in shapes) < 1000

    @pytest.mark.parametrize(
        ("answer", "error"),
        [(lambda X, Y: np.ones((1, 1)), "shape"), (lambda X, Y: np.full((len(X), len(Y)), np.nan), "nan")],
    )
    def test_a_callable_that_answers_wrongly_is_refused(self, rng, answer, error):
        with pytest.raises(ValueError, match=f"metric must.*{error}"):
            sinkhorn(PointCloudCost(rng.random((4, 2)), metric=answer), reg=1.0)

    def test_a_callable_may_forbid_pairs(self, rng):
        X = rng.random((30, 1))

        def metric(X, Y):
            C = cdist(X, Y)
            return np.where(C > 0.5, np.inf, C)

        result = sinkhorn(PointCloudCost(X, X, metric), reg=0.5)
        assert result.converged and not result.plan[cdist(X, X) > 0.5].any()

    def test_the_points_are_kept_uncopied_and_the_cost_pickles(self, rng):
        X, Y = rng.random((5, 2)), rng.random((4, 2))
        cost = PointCloudCost(X, Y, "euclidean")
        assert np.shares_memory(cost.X, X) and np.shares_memory(cost.Y, Y)
        assert cost.shape == (5, 4) and cost.dtype == np.float64 and "5 x 4" in repr(cost)
        assert np.array_equal(pickle.loads(pickle.dumps(cost)).to_array(), cost.to_array())

    def test_huge_and_tiny_vectors_have_a_cosine(self, rng):
        X = rng.normal(size=(5, 3))
        scales = np.array([1e-200, 1e-30, 1, 1e30, 1e200])[:, None]
        assert_allclose(PointCloudCost(X * scales, metric="cosine").to_array(), cdist(X, X, "cosine"), atol=1e-14)


class TestGridCost:
    @pytest.mark.parametrize("p", [1, 1.5, 2, 3])
    @pytest.mark.parametrize("lengths", [(6,), (3, 4), (2, 3, 4), (1, 5)])
    def test_its_matrix_is_the_sum_over_the_axes_in_c_order(self, rng, p, lengths):
        axes = [np.sort(rng.normal(size=n)) for n in lengths]
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
        expected = (abs(nodes[:, None] - nodes[None]) ** p).sum(-1)
        assert_allclose(GridCost(axes, p).to_array(), expected, rtol=1e-13, atol=1e-15)

    @pytest.mark.parametrize("eps", [10.0, 0.3, 0.01, 1e-3])
    def test_solutions_are_those_of_the_stored_matrix_at_any_eps(self, rng, weights, eps):
        # products with the kernel of an axis where it is in range, sums of logs where not
        cost = GridCost([np.linspace(0, 1, 5), np.linspace(0, 1, 4)])
        a, b = weights(rng, 20), weights(rng, 20)
        options = {"reg": eps, "tol": 1e-7, "max_iter": 50_000, "method": "log"}
        grid, stored = (sinkhorn(c, a, b, **options) for c in (cost, cost.to_array()))
        assert_allclose(grid.plan, stored.plan, atol=1e-6)
        assert_allclose([grid.value, grid.linear_cost], [stored.value, stored.linear_cost], rtol=1e-5)

    @pytest.mark.parametrize("eps", [0.1, 1e-3])
    def test_empty_nodes_stay_empty_and_nothing_is_nan(self, rng, eps):
        cost = GridCost([np.linspace(0, 1, 6), np.linspace(0, 1, 5)])
        a, b = rng.random(30) * (rng.random(30) < 0.4), rng.random(30) * (rng.random(30) < 0.4)
        a, b = a / a.sum(), b / b.sum()
        result = sinkhorn(cost, a, b, reg=eps, tol=1e-6, max_iter=50_000)
        assert not result.plan[a == 0].any() and not result.plan[:, b == 0].any()
        assert np.isfinite(result.f).all() and np.isfinite(result.g).all() and np.isfinite(result.value)

    def test_apply_takes_values_of_any_sign(self, rng):
        result = sinkhorn(GridCost([np.linspace(0, 1, 5), np.linspace(0, 1, 4)]), reg=0.1)
        V = rng.normal(size=(20, 3))
        V[3] = 0
        assert_allclose(result.apply(V), result.plan @ V, atol=1e-15)
        assert_allclose(result.apply(V, transpose=True), result.plan.T @ V, atol=1e-15)

    @pytest.mark.parametrize("scale", ["mean", "max"])
    def test_the_scale_is_that_of_the_matrix(self, rng, weights, scale):
        cost, a, b = GridCost([np.linspace(0, 1, 5), np.linspace(0, 2, 4)]), weights(rng, 20), weights(rng, 20)
        grid, stored = (sinkhorn(c, a, b, reg=0.5, reg_scale=scale).reg for c in (cost, cost.to_array()))
        assert_allclose(grid, stored, rtol=1e-13)

    def test_unbalanced_transport_on_a_grid_is_that_of_the_stored_matrix(self, rng, weights):
        cost, a, b = GridCost([np.linspace(0, 1, 5), np.linspace(0, 2, 4)]), 2 * weights(rng, 20), weights(rng, 20)
        grid, stored = (sinkhorn(c, a, b, reg=0.1, marginal_reg=0.5) for c in (cost, cost.to_array()))
        assert_allclose(grid.plan, stored.plan, atol=1e-8)

    def test_a_grid_pickles(self):
        cost = GridCost([np.arange(3.0), np.arange(2.0)], 1)
        assert np.array_equal(pickle.loads(pickle.dumps(cost)).to_array(), cost.to_array())


def compiled():
    """Whether the hot loops are."""
    return numcore.get_backend() != "numpy" and _loops.sweep.twin("cpu") is not None


def peak_above_inputs(code):
    """Run `code` after imports, compilation and `inputs` in a fresh process; the growth of its peak memory, bytes."""
    program = """
        import resource, sys, warnings
        import numpy as np
        from numcore.algorithms.transport import GridCost, PointCloudCost, sinkhorn, sinkhorn_newton
        warnings.simplefilter("ignore")
        def run(n):
            X, Y = np.random.default_rng(0).random((2, n, 2))
            {code}
        run(50)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run({n})
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024))
    """
    # without compiled loops a sweep of 20 000 points takes ten seconds; a tenth of the pairs would still fill 288 MB
    n = 20_000 if compiled() else 6000
    program = textwrap.dedent(program).format(code=code, n=n)
    return int(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


class TestMemory:
    def test_twenty_thousand_points_each_take_less_than_100_mb(self):
        pytest.importorskip("resource")
        code = "r = sinkhorn(PointCloudCost(X, Y), reg=0.1, max_iter=1); r.apply(Y)"
        assert peak_above_inputs(code) < 100e6

    def test_a_grid_of_forty_thousand_nodes_takes_less_than_100_mb(self):
        pytest.importorskip("resource")
        axis = "np.linspace(0, 1, 10 if n < 100 else 200)"
        code = f"r = sinkhorn(GridCost([{axis}, {axis}]), reg=0.1, max_iter=2); r.apply(r.f)"
        assert peak_above_inputs(code) < 100e6

    def test_a_stored_cost_is_copied_once_at_most(self):
        pytest.importorskip("resource")
        # 128 MB each: the Fortran array, and its copy; all else is a few rows at a time
        code = """C = np.asfortranarray(np.zeros((n, n) if n < 100 else (4000, 4000)))
    sinkhorn(C, reg=0.1, method="log", max_iter=2)"""
        assert peak_above_inputs(code) < 2.3 * 128e6


def test_newton_on_a_point_cloud_keeps_a_thinned_plan_alone(rng):
    X = rng.random((300, 2))
    stored, cloud = (
        sinkhorn_newton(c, reg=1e-3)
        for c in (PointCloudCost(X, X[::-1] + 0.1).to_array(), PointCloudCost(X, X[::-1] + 0.1))
    )
    assert cloud.converged and abs(cloud.n_passes - stored.n_passes) <= 0.25 * stored.n_passes
    assert_allclose(cloud.value, stored.value, rtol=1e-9)
