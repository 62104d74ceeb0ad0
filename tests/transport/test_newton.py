"""Sparse Newton steps: few sweeps at small eps, and the same answers."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linear_sum_assignment

from numcore.algorithms.transport import GridCost, PointCloudCost, sinkhorn, sinkhorn_newton
from numcore.results import ConvergenceWarning

DEFAULTS = {
    "a": None,
    "b": None,
    "reg": inspect.Parameter.empty,
    "reg_scale": "absolute",
    "init": None,
    "annealing": True,
    "warmup": 3,
    "drop": 1e-2,
    "cg_max_iter": 300,
    "tol": None,
    "max_iter": 200,
    "callback": None,
    "verbose": 0,
}


def planar(rng, n):
    X, Y = rng.random((n, 2)), rng.normal(0.5, 0.2, (n, 2))
    C = ((X[:, None] - Y[None]) ** 2).sum(-1)
    return C / C.max()


def lattice(n):
    nodes = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2).astype(float)
    C = abs(nodes[:, None] - nodes[None]).sum(-1)
    return C / C.max()


def test_the_parameters_and_defaults_are_those_of_the_specification():
    parameters = inspect.signature(sinkhorn_newton).parameters
    assert list(parameters) == ["cost", *DEFAULTS]
    assert {name: parameters[name].default for name in DEFAULTS} == DEFAULTS


class TestPublishedNumbers:
    def test_random_assignment_of_500_at_eta_1200_takes_at_most_60_sweeps(self):
        # Tang et al. 2024, Table 1, first line: 29 iterations of theirs, 56 199 of Sinkhorn's
        for seed in range(3):
            result = sinkhorn_newton(np.random.default_rng(seed).random((500, 500)), reg=1 / 1200)
            assert result.converged and result.marginal_error <= 1e-12 and result.n_passes <= 60
            assert result.method == "newton"

    @pytest.mark.parametrize(
        ("eps", "random", "cloud", "grid"),
        [(1e-2, 12, 17, 20), (1e-3, 20, 24, 57), (4.2e-4, 26, 29, 74), (2e-4, 36, 32, 92)],
    )
    def test_sweeps_are_within_twice_those_of_the_prototype(self, rng, eps, random, cloud, grid):
        # its counts for n = 500, here of other draws, and the pass that thins the plan counts too; the median of three
        tol = max(1e-12, 10 * 2.0**-53 / eps)  # exponents of 1 / eps carry half an ulp each through several sums
        passes = []
        for _ in range(3):
            a, b = rng.random(484) + 0.1, rng.random(484) + 0.1
            results = (
                sinkhorn_newton(rng.random((500, 500)), reg=eps, tol=tol),
                sinkhorn_newton(planar(rng, 500), reg=eps, tol=tol),
                sinkhorn_newton(lattice(22), a / a.sum(), b / b.sum(), reg=eps, tol=tol),
            )
            assert all(result.converged and result.marginal_error <= tol for result in results)
            passes.append([result.n_passes for result in results])
        assert (np.median(passes, axis=0) <= 2 * np.array([random, cloud, grid])).all()

    def test_convergence_is_superlinear(self, rng):
        errors = sinkhorn_newton(planar(rng, 200), reg=1e-3).history["error"]
        orders = np.log(errors[-3:]) / np.log(errors[-4:-1])
        assert orders.max() > 1.3  # linear convergence tends to order 1

    @pytest.mark.parametrize("eps", [1e-3, 2e-4])
    def test_the_plan_of_a_non_unique_problem_meets_its_marginals(self, rng, eps):
        a, b = rng.random(64) + 0.1, rng.random(64) + 0.1
        a, b = a / a.sum(), b / b.sum()
        result = sinkhorn_newton(lattice(8), a, b, reg=eps)
        assert abs(result.plan.sum(1) - a).sum() + abs(result.plan.sum(0) - b).sum() <= 1.01e-12


class TestSolution:
    @pytest.mark.parametrize("eps", [0.5, 0.05, 0.02])
    @pytest.mark.parametrize("form", ["stored", "cloud"])
    def test_it_is_that_of_the_textbook_iteration(self, oracle, clouds, form, eps):
        cost = clouds.C if form == "stored" else PointCloudCost(clouds.X, clouds.Y)
        _, _, P = oracle.solve(clouds.C, clouds.a, clouds.b, eps)
        result = sinkhorn_newton(cost, clouds.a, clouds.b, reg=eps)
        assert_allclose(result.plan, P, atol=1e-11)
        assert_allclose(result.value, oracle.primal(P, clouds.C, clouds.a, clouds.b, eps), rtol=1e-11)
        assert abs(clouds.b @ result.g) < 1e-14

    @pytest.mark.parametrize("form", ["stored", "cloud"])
    def test_at_tiny_eps_the_linear_cost_is_that_of_the_assignment_within_eps_log_n(self, rng, form):
        X, Y = rng.random((60, 2)), rng.random((60, 2))
        C = ((X[:, None] - Y[None]) ** 2).sum(-1)
        exact = C[linear_sum_assignment(C)].mean()
        result = sinkhorn_newton(C if form == "stored" else PointCloudCost(X, Y), reg=1e-4, tol=1e-10)
        assert -1e-9 <= result.linear_cost - exact <= 1e-4 * np.log(60)
        assert result.dual_value <= result.value + 1e-12

    def test_stored_and_point_cloud_costs_give_one_answer(self, rng):
        X, Y = rng.random((150, 3)), rng.random((130, 3))
        cloud = PointCloudCost(X, Y)
        results = [sinkhorn_newton(cost, reg=2e-3) for cost in (cloud, cloud.to_array())]
        assert_allclose(results[0].plan, results[1].plan, atol=1e-11)

    @pytest.mark.parametrize("eps", [0.1, 1e-3])
    def test_zero_weights_are_dropped_and_their_potentials_extended(self, rng, eps):
        C = rng.random((20, 25))
        a, b = rng.random(20) + 0.1, rng.random(25) + 0.1
        a[[3, 7]] = b[[0, 24]] = 0
        a, b = a / a.sum(), b / b.sum()
        result = sinkhorn_newton(C, a, b, reg=eps)
        rows, columns = a > 0, b > 0
        part = sinkhorn_newton(C[np.ix_(rows, columns)], a[rows], b[columns], reg=eps)
        assert result.converged and not result.plan[~rows].any() and not result.plan[:, ~columns].any()
        assert_allclose(result.plan[np.ix_(rows, columns)], part.plan, atol=1e-11)
        with np.errstate(divide="ignore"):
            t, s = np.log(b) + (result.g - C) / eps, np.log(a)[:, None] + (result.f[:, None] - C) / eps
        assert_allclose(result.f, -eps * np.logaddexp.reduce(t, axis=1), atol=1e-9)
        assert_allclose(result.g, -eps * np.logaddexp.reduce(s, axis=0), atol=1e-9)

    def test_forbidden_pairs_stay_empty(self, rng):
        C = rng.random((30, 30))
        C[rng.random((30, 30)) < 0.3] = np.inf
        np.fill_diagonal(C, 1.0)  # so that a plan exists
        result = sinkhorn_newton(C, reg=1e-2)
        assert result.converged and not result.plan[np.isinf(C)].any()

    def test_total_mass_and_uneven_weights_over_many_magnitudes_are_no_obstacle(self, rng):
        C, a, b = rng.random((40, 40)), 10.0 ** rng.uniform(-8, 0, 40), rng.random(40)
        b *= a.sum() / b.sum()
        result = sinkhorn_newton(C, a, b, reg=2e-3, tol=1e-10)
        assert result.converged
        assert_allclose(result.plan.sum(1), a, rtol=1e-6)

    def test_float32_stays_float32_and_reaches_1e_5(self, rng):
        C = rng.random((80, 80))
        result, exact = sinkhorn_newton(C.astype(np.float32), reg=2e-3), sinkhorn_newton(C, reg=2e-3)
        assert result.converged and result.marginal_error <= 1e-5
        assert {x.dtype for x in (result.f, result.g, result.plan)} == {np.dtype(np.float32)}
        assert_allclose(result.value, exact.value, rtol=1e-4)


class TestOptions:
    @pytest.mark.parametrize(
        "options",
        [{"annealing": False}, {"warmup": 0}, {"warmup": 10}, {"drop": 0.5}, {"drop": 1e-6}, {"cg_max_iter": 5}],
    )
    def test_options_change_the_path_and_not_the_solution(self, rng, options):
        C = planar(rng, 60)
        plain, other = sinkhorn_newton(C, reg=5e-3), sinkhorn_newton(C, reg=5e-3, **options)
        assert other.converged
        assert_allclose(other.plan, plain.plan, atol=1e-11)

    def test_without_annealing_it_takes_more_sweeps(self, rng):
        C = planar(rng, 200)
        assert sinkhorn_newton(C, reg=2e-4).n_passes < sinkhorn_newton(C, reg=2e-4, annealing=False).n_passes

    def test_a_warm_start_goes_at_once_to_the_final_eps(self, rng):
        C = planar(rng, 60)
        first = sinkhorn_newton(C, reg=1e-3)
        again = sinkhorn_newton(C, reg=1e-3, init=first)
        assert again.converged and again.n_iter <= 2 and set(again.history.get("reg", [])) <= {1e-3}
        for init in ((first.f, None), (None, first.g)):
            assert sinkhorn_newton(C, reg=1e-3, init=init).n_iter <= 2

    def test_sinkhorn_with_method_newton_stops_at_its_own_tolerance(self, rng):
        C = planar(rng, 60)
        result = sinkhorn(C, reg=1e-3, method="newton")
        assert 1e-15 < result.marginal_error <= 1e-9

    @pytest.mark.parametrize("max_iter", [1, 3])
    def test_max_iter_bounds_the_newton_steps_and_is_reported(self, rng, max_iter):
        with pytest.warns(ConvergenceWarning, match="sinkhorn_newton did not converge") as caught:
            result = sinkhorn_newton(planar(rng, 60), reg=1e-4, max_iter=max_iter)
        assert not result.converged and result.n_iter == max_iter and caught[0].filename == __file__

    def test_a_tolerance_below_rounding_ends_with_a_warning(self, rng):
        with pytest.warns(ConvergenceWarning):
            result = sinkhorn_newton(planar(rng, 60), reg=1e-2, tol=0.0)
        assert not result.converged and result.marginal_error < 1e-12

    def test_an_infeasible_pattern_ends_with_a_warning_and_without_nan(self):
        C = np.zeros((3, 3))
        C[0, 1:] = C[1, 1:] = np.inf  # two sources share one target
        with pytest.warns(ConvergenceWarning):
            result = sinkhorn_newton(C, reg=0.1, max_iter=20)
        assert not result.converged and np.isfinite(result.plan).all() and np.isfinite(result.value)

    def test_the_callback_sees_newton_steps_and_can_stop_them(self, rng):
        seen = []

        def stop(state):
            seen.append((state.n_iter, state.marginal_error, state.reg))
            return state.n_iter == 3

        result = sinkhorn_newton(planar(rng, 60), reg=1e-3, callback=stop)
        assert [k for k, _, _ in seen] == [1, 2, 3] and result.n_iter == 3 and not result.converged
        assert seen[0][2] > 1e-3

    def test_grids_and_soft_marginals_are_refused(self, rng):
        with pytest.raises(ValueError, match="GridCost"):
            sinkhorn_newton(GridCost([np.arange(4.0)]), reg=0.1)
        with pytest.raises(ValueError, match="GridCost"):
            sinkhorn(GridCost([np.arange(4.0)]), reg=0.1, method="newton")
        with pytest.raises(ValueError, match="marginal_reg"):
            sinkhorn(rng.random((3, 3)), reg=0.1, method="newton", marginal_reg=1.0)
        sinkhorn(rng.random((3, 3)), reg=0.1, method="newton", marginal_reg=np.inf)  # hard marginals
