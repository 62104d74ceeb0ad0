"""The replica-symmetric theory: published numbers, closed forms, and what must hold at any solution."""

from itertools import pairwise
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.special import erf
from scipy.stats import binom

import numcore
from numcore.algorithms.hebbian import (
    critical_load,
    detection_threshold,
    glass_transition,
    krotov_hopfield_error,
    one_step_magnetization,
    self_consistency,
)
from numcore.algorithms.hebbian._average import field_average, mixture_of
from numcore.algorithms.hebbian._glass import glass_curve, transitions
from numcore.algorithms.hebbian._kernel import noise_kernel
from numcore.algorithms.hebbian._replica import make_replica
from numcore.algorithms.hebbian._roots import bracketed_roots
from numcore.algorithms.hebbian._spinodal import retrieval_curve
from numcore.results import ConvergenceWarning


def gaussian_mean(f, turn, width):
    """E f(Z) by adaptive quadrature, cut where f may have a step."""
    cuts = sorted({z for z in turn + width * np.array([-30, -10, -3, 0, 3, 10, 30]) if -12 < z < 12})
    edges = [-12.0, *cuts, 12.0]
    density = lambda z: f(z) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)  # noqa: E731
    return sum(quad(density, low, high, epsabs=1e-14, limit=200)[0] for low, high in pairwise(edges))


class TestAverages:
    @settings(max_examples=60)
    @given(log_beta=st.floats(-1, 3), log_a=st.floats(-3, 0.5), log_s=st.floats(-3, 1))
    def test_averages_are_those_of_adaptive_quadrature_at_any_temperature(self, log_beta, log_a, log_s):
        beta, a, s = 10.0**log_beta, 10.0**log_a, 10.0**log_s
        found = field_average(mixture_of(1.0, 1, "exact"), beta, a, s, 101)
        turn, width = -a / s, 1 / (beta * s)
        tanh = lambda z: np.tanh(beta * (a + s * z))  # noqa: E731
        # tanh is taken as 1 beyond 12, to 4e-11, and the step is not followed where the Gaussian is below 2e-10
        assert_allclose(found.m, gaussian_mean(tanh, turn, width), atol=2e-10)
        assert_allclose(found.q, gaussian_mean(lambda z: tanh(z) ** 2, turn, width), atol=2e-10)

    @pytest.mark.parametrize("quality", [0.0, 0.3, 0.8, 1.0])
    @pytest.mark.parametrize("n_examples", [1, 2, 7, 200])
    def test_stored_patterns_have_second_moment_one(self, quality, n_examples):
        law = mixture_of(quality, n_examples, "exact")
        assert_allclose(law.w @ law.t**2, 1, rtol=1e-12)
        assert_allclose(law.w @ law.t, law.mean, atol=1e-12)

    def test_gaussian_overlaps_follow_from_integration_by_parts(self):
        beta, a, s, r, M = 3.0, 0.7, 0.4, 0.5, 4
        found = field_average(mixture_of(r, M, "gaussian"), beta, a, s, 101)
        rho = (1 - r**2) / (M * r**2)
        g, w = np.polynomial.hermite_e.hermegauss(60)
        w = w / np.sqrt(2 * np.pi)
        t = (1 + np.sqrt(rho) * g) / np.sqrt(1 + rho)
        inner = [field_average(mixture_of(1.0, 1, "exact"), beta, a * tk, s, 101) for tk in t]
        assert_allclose(found.x, sum(wk * tk * each.m for wk, tk, each in zip(w, t, inner, strict=True)), atol=1e-8)
        assert_allclose(found.q, sum(wk * each.q for wk, each in zip(w, inner, strict=True)), atol=1e-8)

    def test_zero_temperature_is_the_limit_of_low_ones(self):
        law = mixture_of(0.6, 5, "exact")
        cold, frozen = (field_average(law, beta, 0.8, 0.3, 101) for beta in (1e5, np.inf))
        for name in ("m", "x", "q"):
            assert_allclose(getattr(cold, name), getattr(frozen, name), atol=2e-5)
        assert_allclose(cold.chi, frozen.chi, rtol=1e-4)

    def test_roots_are_found_to_rounding(self):
        k = np.arange(1.0, 40.0)
        roots = bracketed_roots(lambda x, i: x**3 - k[i], np.zeros(39), np.full(39, 4.0))
        assert_allclose(roots, k ** (1 / 3), rtol=1e-14)


class TestKernel:
    @pytest.mark.parametrize("order", [2, 3, 4, 5, 8])
    def test_repeated_indices_give_the_moments_of_a_gaussian_overlap(self, order):
        # E z1^P z2^P for correlation q is 4 xi(q) / alpha, and its square of the mean
        z, w = np.polynomial.hermite_e.hermegauss(40)
        w = w / np.sqrt(2 * np.pi)
        kernel = noise_kernel(order, "full").value
        for q in (0.0, 0.3, 0.9, 1.0):
            second = q * z[:, None] + np.sqrt(1 - q**2) * z
            expected = w @ (z[:, None] ** order * second**order) @ w - (w @ z**order) ** 2
            assert_allclose(4 * kernel(q), expected, rtol=1e-9, atol=1e-9)

    def test_distinct_indices_leave_the_highest_power(self):
        assert_allclose(noise_kernel(4, "distinct").value.coef, [0, 0, 0, 0, 6])


class TestSelfConsistency:
    @pytest.mark.parametrize(
        ("settings", "m", "x"),
        [
            ({"beta": 5.0, "load": 0.02, "quality": 0.5, "n_examples": 20}, 0.95577, 0.92484),
            ({"beta": 5.0, "load": 0.02, "quality": 0.7, "n_examples": 8}, 0.95713, 0.9352),
            ({"beta": 2.0, "load": 0.02}, 0.98897, None),
            ({"beta": 2.0, "load": 0.05}, 0.97049, None),
            ({"beta": 2.0, "load": 0.02, "interaction": "full"}, 0.98396, None),
        ],
    )
    def test_order_three_has_its_known_overlaps(self, settings, m, x):
        state = self_consistency(order=3, **settings)
        assert_allclose(state.m, m, atol=5e-6)
        if x is not None:
            assert_allclose(state.x, x, atol=5e-5)

    @pytest.mark.parametrize("learning", ["supervised", "unsupervised"])
    @pytest.mark.parametrize(("quality", "n_examples"), [(0.6, 3), (0.9, 1)])
    def test_solutions_satisfy_the_equations_written_out(self, learning, quality, n_examples):
        P, beta, alpha, r, M = 4, 2.5, 0.005, quality, n_examples
        state = self_consistency(
            order=P, beta=beta, load=alpha, quality=r, n_examples=M, learning=learning, averaging="exact"
        )
        R = r**2 + (1 - r**2) / M
        kappa = (r ** (2 * P) + (1 - r ** (2 * P)) / M) / R**P if learning == "unsupervised" else 1
        width = np.sqrt(kappa * alpha * factorial(P) / 4 * P * state.q ** (P - 1))
        m = x = q = 0.0
        for k in range(M + 1):
            t, w = (2 * k - M) / M / np.sqrt(R), binom.pmf(k, M, (1 + r) / 2)
            a = P / 2 * state.x ** (P - 1) * t
            one = lambda z, a=a: np.tanh(beta * (a + width * z))  # noqa: E731
            mean = gaussian_mean(one, -a / width, 1 / (beta * width))
            m, x = m + w * mean, x + w * t * mean
            q += w * gaussian_mean(lambda z, one=one: one(z) ** 2, -a / width, 1 / (beta * width))
        assert state.x > 0.5
        assert_allclose([state.m, state.x, state.q], [m, x, q], atol=1e-8)
        assert_allclose(state.n, state.x / np.sqrt(1 + (1 - r**2) / (M * r**2)), rtol=1e-12)

    @pytest.mark.parametrize(
        "settings",
        [
            {"order": 3, "load": 0.05},
            {"order": 4, "load": 0.01, "quality": 0.6, "n_examples": 5},
            {"order": 3, "load": 0.05, "quality": 0.6, "n_examples": 9, "averaging": "gaussian"},
            {"order": 3, "load": 0.04, "quality": 0.8, "n_examples": 6, "learning": "unsupervised"},
            {"order": 5, "load": 0.0008, "interaction": "full"},
        ],
    )
    def test_the_pressure_is_stationary_at_a_solution(self, settings):
        beta = 2.2
        replica = make_replica(**{k: v for k, v in settings.items() if k != "load"})
        state, load = self_consistency(beta=beta, **settings), settings["load"]
        assert state.x > 0.6

        def pressure(x, q):
            s = np.sqrt(load * replica.kernel.slope(q))
            return replica.pressure_and_stability(beta, load, x, q, s)[0]

        assert_allclose(pressure(state.x, state.q), state.pressure, rtol=1e-12)
        step = 1e-5
        slopes = [
            (pressure(state.x + step, state.q) - pressure(state.x - step, state.q)) / (2 * step),
            (pressure(state.x, state.q + step) - pressure(state.x, state.q - step)) / (2 * step),
        ]
        # rounding of the pressure over the step, and a third derivative of order 10 times its square
        assert_allclose(slopes, 0, atol=1e-8)

    def test_the_pairwise_pressure_is_stationary_too(self):
        replica, beta, load = make_replica(order=2), 2.0, 0.03
        state = self_consistency(order=2, beta=beta, load=load)

        def pressure(x, q):
            s = np.sqrt(load * q) / (1 - beta * (1 - q))
            return replica.pressure_and_stability(beta, load, x, q, s)[0]

        step = 1e-5
        for dx, dq in ((step, 0), (0, step)):
            rise = pressure(state.x + dx, state.q + dq) - pressure(state.x - dx, state.q - dq)
            assert_allclose(rise / (2 * step), 0, atol=1e-8)

    def test_the_derivative_of_the_pressure_by_beta_is_minus_the_energy(self):
        load, h, beta = 0.03, 1e-4, 2.0
        low, mid, high = (self_consistency(order=3, beta=b, load=load) for b in (beta - h, beta, beta + h))
        # N / 2 times the memory's own cube, and the covariance of the noise of two replicas
        energy = -(mid.x**3) / 2 - beta * load * 6 / 4 * (1 - mid.q**3)
        assert_allclose((high.pressure - low.pressure) / (2 * h), -energy, rtol=1e-7)

    def test_a_hot_pairwise_memory_has_the_pressure_of_its_determinant(self):
        # -1/2 log det(1 - beta J) for Wishart couplings without diagonal, where all loops but those of one mode vanish
        load, beta = 0.2, 0.4
        state = self_consistency(order=2, beta=beta, load=load, init="paramagnet")
        expected = np.log(2) - load / 2 * (np.log(1 - beta) + beta)
        assert_allclose(state.pressure, expected, rtol=1e-12)

    @pytest.mark.parametrize("beta", [1.2, 2.0, 10.0])
    def test_one_pattern_of_order_two_is_a_ferromagnet(self, beta):
        state = self_consistency(order=2, beta=beta)
        assert_allclose(state.m, np.tanh(beta * state.m), atol=1e-9)
        assert state.m > 0.5
        assert_allclose(state.q, state.m**2, rtol=1e-8)

    def test_many_examples_are_as_good_as_the_archetype(self):
        exact = self_consistency(order=3, beta=3.0, load=0.03)
        gaps = [
            abs(self_consistency(order=3, beta=3.0, load=0.03, quality=0.4, n_examples=M).m - exact.m)
            for M in (10**3, 10**5, 10**7)
        ]
        assert gaps[0] > gaps[1] > gaps[2]
        assert gaps[2] < 1e-5

    @pytest.mark.parametrize("learning", ["supervised", "unsupervised"])
    def test_exact_and_gaussian_averages_agree_for_many_examples(self, learning):
        settings = {"order": 3, "beta": 4.0, "load": 0.01, "quality": 0.5, "n_examples": 150, "learning": learning}
        exact, gaussian = (self_consistency(averaging=kind, **settings) for kind in ("exact", "gaussian"))
        # the binomial's fourth cumulant is of order 1 / M
        assert_allclose(exact.m, gaussian.m, atol=2e-3)
        assert_allclose(exact.q, gaussian.q, atol=2e-3)

    def test_one_perfect_example_is_the_archetype(self):
        plain = self_consistency(order=3, beta=2.0, load=0.03)
        for learning in ("supervised", "unsupervised"):
            learned = self_consistency(order=3, beta=2.0, load=0.03, quality=1.0, n_examples=7, learning=learning)
            assert_allclose(learned.m, plain.m, rtol=1e-12)

    @pytest.mark.parametrize("beta", [2.0, np.inf])
    @pytest.mark.parametrize("n_examples", [1, 20, 500])
    def test_examples_without_quality_say_nothing(self, beta, n_examples):
        state = self_consistency(order=3, beta=beta, load=0.02, quality=0.0, n_examples=n_examples)
        assert state.m == 0 and state.n == 0
        assert np.isfinite([state.x, state.q]).all()

    def test_pressure_and_stability_are_unknown_at_zero_temperature(self):
        state = self_consistency(order=3, beta=np.inf, load=0.05)
        assert np.isnan(state.pressure) and np.isnan(state.at_stability)
        assert state.q == 1

    @pytest.mark.parametrize("order", [2, 3, 4])
    def test_low_temperatures_tend_to_zero_temperature(self, order):
        load = 0.5 * critical_load(order=order)
        cold = self_consistency(order=order, beta=1e4, load=load)
        frozen = self_consistency(order=order, beta=np.inf, load=load)
        assert_allclose(cold.m, frozen.m, atol=1e-6)

    @pytest.mark.parametrize("order", [2, 3])
    @pytest.mark.parametrize("beta", [2.0, 5.0, np.inf])
    def test_retrieval_ends_at_the_critical_load(self, order, beta):
        limit = critical_load(order=order, beta=beta)
        inside, outside = (self_consistency(order=order, beta=beta, load=limit * f) for f in (0.999, 1.001))
        assert inside.m > 0.5 and inside.converged
        assert abs(outside.m) < 1e-8

    def test_an_accelerated_run_does_not_end_at_the_unstable_solution(self):
        limit = critical_load(order=3, beta=2.0)
        curve = retrieval_curve(make_replica(order=3), 2.0)
        for share in (0.9, 0.99, 0.9999, 0.999999):
            state = self_consistency(order=3, beta=2.0, load=limit * share)
            assert state.x > curve.x_end
            assert_allclose(state.x, curve.states(np.array([limit * share]))[0][0], rtol=1e-6)

    @pytest.mark.parametrize("order", [2, 3, 20])
    @pytest.mark.parametrize("beta", [1e-300, 1e-12, 1e12, 1e90, 1e300])
    @pytest.mark.parametrize("load", [0.0, 1e-300, 1e6])
    def test_extreme_temperatures_and_loads_give_numbers(self, order, beta, load):
        state = self_consistency(order=order, beta=beta, load=load)
        assert np.isfinite([state.m, state.x, state.q]).all()
        assert -1e-9 <= state.m <= 1 and 0 <= state.q <= 1

    @pytest.mark.parametrize("order", [2, 3])
    def test_cancellation_does_not_spoil_the_cold(self, order):
        for beta in (1e8, 1e12, 1e50):  # the correction is of the order of T
            assert_allclose(critical_load(order=order, beta=beta), critical_load(order=order), rtol=2 / beta + 1e-9)

    def test_paramagnet_and_glass_start_where_they_say(self):
        paramagnet = self_consistency(order=3, beta=1.0, load=0.1, init="paramagnet")
        assert paramagnet.q == 0 and paramagnet.n_iter == 1
        assert_allclose(paramagnet.pressure, np.log(2) + 0.1 * 6 / 4 / 2)
        glass = self_consistency(order=3, beta=20.0, load=0.2, init="glass")
        assert abs(glass.x) < 1e-12 and glass.q > 0.9
        middle = self_consistency(order=3, beta=2.0, load=0.02, init=(0.9, 0.9, 0.9))
        assert_allclose(middle.m, 0.98897, atol=5e-6)

    def test_the_ferromagnet_below_its_load_is_stable_and_the_glass_is_not(self):
        assert self_consistency(order=3, beta=2.0, load=0.02).at_stability > 0
        assert self_consistency(order=3, beta=20.0, load=0.2, init="glass").at_stability < 0

    def test_gamma_is_the_load_in_units_of_the_glass(self):
        alpha = self_consistency(order=4, beta=2.0, load=0.01)
        gamma = self_consistency(order=4, beta=2.0, load=0.01 * 12, load_unit="gamma")
        assert_allclose(gamma.m, alpha.m, rtol=1e-12)

    def test_a_run_that_is_cut_short_says_so(self):
        with pytest.warns(ConvergenceWarning, match="self_consistency did not converge"):
            state = self_consistency(order=3, beta=2.0, load=0.15, max_iter=3)
        assert not state.converged and state.n_iter == 3
        assert len(state.history["residual"]) == 3

    def test_results_come_back_from_a_file(self, tmp_path):
        state = self_consistency(order=3, beta=2.0, load=0.02)
        numcore.save(state, tmp_path / "state")
        again = numcore.load(tmp_path / "state")
        assert again.m == state.m and again.converged


class TestCriticalLoad:
    @pytest.mark.parametrize(
        ("order", "distinct", "full", "overlap"),
        [
            (3, 0.1260952154, 0.0840634769, 0.83848),
            (4, 0.0329766865, 0.0131906746, 0.91792),
            (5, 0.0071988564, 0.0016454529, 0.94724),
            (6, 0.0013139961, 0.0001668567, 0.96199),
        ],
    )
    def test_zero_temperature_loads_are_those_of_the_table(self, order, distinct, full, overlap):
        # the digits that are printed
        assert_allclose(critical_load(order=order), distinct, atol=6e-11)
        assert_allclose(critical_load(order=order, interaction="full"), full, atol=6e-11)
        assert_allclose(retrieval_curve(make_replica(order=order), np.inf).x_end, overlap, atol=6e-6)

    @pytest.mark.parametrize(
        ("order", "gamma"), [(3, 0.3782856462), (4, 0.3957202384), (5, 0.4319313850), (6, 0.4730386103)]
    )
    def test_they_are_also_those_of_the_table_in_gamma(self, order, gamma):
        assert_allclose(critical_load(order=order, load_unit="gamma"), gamma, atol=6e-11)

    def test_pairs_reach_the_load_of_amit_gutfreund_and_sompolinsky(self):
        assert_allclose(critical_load(order=2), 0.1379055665, atol=6e-11)
        assert_allclose(retrieval_curve(make_replica(order=2), np.inf).x_end, 0.96742, atol=6e-6)

    @pytest.mark.parametrize("order", [10, 30, 100])
    def test_high_orders_follow_the_closed_form(self, order):
        y = np.linspace(0.5, 4, 200_001)
        peak = (erf(y) ** (2 * order - 2) / (2 * y**2)).max()
        # the grid misses the peak by its square
        assert_allclose(critical_load(order=order) * factorial(order - 1), peak, rtol=1e-8)

    def test_order_three_is_reentrant(self):
        assert_allclose(critical_load(order=3, beta=2.0), 0.15434, atol=6e-6)
        assert critical_load(order=3, beta=2.0) > critical_load(order=3)

    @pytest.mark.parametrize("averaging", ["exact", "gaussian"])
    @pytest.mark.parametrize("beta", [2.0, 5.0, 50.0])
    def test_it_is_where_plain_iterations_lose_the_memory(self, averaging, beta):
        # at beta 5 and 50 there are other solutions, at small x, up to greater loads
        replica = make_replica(order=3, quality=0.5, n_examples=20, averaging=averaging)
        limit = retrieval_curve(replica, beta).load_end
        for factor, kept in ((0.98, True), (1.02, False)):
            state = np.ones(2)
            for _ in range(1000):
                state = replica.step(beta, factor * limit, state)[0]
            assert (state[0] > 0.3) == kept

    @pytest.mark.parametrize("order", [2, 3, 5])
    def test_above_the_temperature_of_a_single_memory_nothing_is_held(self, order):
        x = np.linspace(1e-3, 1, 100_001)[:-1]
        hottest = (order / 2 * x ** (order - 1) / np.arctanh(x)).max()  # of x = tanh(beta P/2 x^(P-1))
        assert critical_load(order=order, beta=1 / (1.001 * hottest)) == 0
        assert critical_load(order=order, beta=1 / (0.99 * hottest)) > 0

    def test_more_and_better_examples_hold_more(self):
        loads = [critical_load(order=3, quality=r, n_examples=M) for r, M in ((0.3, 10), (0.5, 10), (0.5, 40), (1, 1))]
        assert np.all(np.diff(loads) > 0)

    def test_states_lie_on_the_curve_at_the_loads_asked_for(self):
        replica = make_replica(order=3, quality=0.6, n_examples=9)
        curve = retrieval_curve(replica, 3.0)
        loads = curve.load_end * np.array([0, 1e-6, 0.3, 0.9, 0.99999, 1.0])
        x, s = curve.states(loads)
        found = replica.average(3.0, replica.signal(x), s)
        assert_allclose(found.x, x, rtol=1e-12)
        assert_allclose(loads * replica.kernel.slope(found.q), s**2, rtol=1e-6, atol=1e-12)
        assert np.all(np.diff(x) < 0) and np.all(x >= curve.x_end)


class TestGlass:
    @pytest.mark.parametrize(
        ("order", "static", "overlap", "dynamic"), [(3, 0.65139, 0.8135, 0.6816), (4, 0.61688, 0.9481, 0.6784)]
    )
    def test_transitions_of_unit_coupling_are_the_known_ones(self, order, static, overlap, dynamic):
        t_dynamic, t_static = glass_transition(order=order, load=1.0, load_unit="gamma")
        assert_allclose(t_static, static, atol=6e-6)
        assert_allclose(t_dynamic, dynamic, atol=6e-5)
        curve = glass_curve(noise_kernel(order, "distinct"))
        assert_allclose(curve.q[0], overlap, atol=1e-4)

    def test_temperatures_grow_with_the_root_of_the_load(self):
        one, four = (np.array(glass_transition(order=3, load=a)) for a in (0.1, 0.4))
        assert_allclose(four, 2 * one, rtol=1e-12)
        assert glass_transition(order=3, load=0.0) == (0, 0)

    def test_high_orders_tend_to_the_random_energy_model(self):
        # Derrida: T_K = 1 / (2 sqrt(log 2)) and the energy -sqrt(log 2) below it
        kernel, unit = noise_kernel(30, "distinct"), np.sqrt(factorial(30) / 2)
        assert_allclose(transitions(kernel)[1] / unit, 1 / (2 * np.sqrt(np.log(2))), rtol=1e-6)
        assert_allclose(glass_curve(kernel).slope[-1] / unit, np.sqrt(np.log(2)), rtol=1e-6)

    def test_the_glass_of_pairs_lies_between_parisis_and_the_symmetric_one(self):
        # Sherrington and Kirkpatrick: -0.7632 and -sqrt(2 / pi) at T = 0; breaking can only raise the energy
        kernel = noise_kernel(2, "distinct")
        assert transitions(kernel) == (1, 1)
        assert 0.7632 < glass_curve(kernel).slope[-1] < 0.78 < np.sqrt(2 / np.pi)

    @pytest.mark.parametrize(("order", "interaction"), [(3, "distinct"), (5, "distinct"), (4, "full")])
    def test_the_glass_is_where_no_parameter_changes_the_pressure(self, order, interaction):
        kernel = noise_kernel(order, interaction)
        curve = glass_curve(kernel)
        z, w = np.polynomial.hermite_e.hermegauss(180)
        w = w / np.sqrt(2 * np.pi)

        def pressure(b, q, y):
            h = b * np.sqrt(kernel.slope(q)) * z
            log_mean = np.log(w @ np.cosh(h) ** y) + y * np.log(2)
            bare = kernel.value(1.0) + (1 - y) * kernel.excess(q) - kernel.slope(q)
            return b**2 / 2 * bare + log_mean / y

        # warm enough that Hermite nodes see the width of the field
        k = int(np.argmin(np.abs(curve.y - 0.6 * curve.y.max())))
        b, q, y, d = 1 / curve.temperature[k], curve.q[k], curve.y[k], 1e-4
        assert_allclose(pressure(b, q, y), curve.pressure[k], rtol=1e-6)
        assert_allclose((pressure(b, q + d, y) - pressure(b, q - d, y)) / (2 * d), 0, atol=1e-5)
        assert_allclose((pressure(b, q, y + d) - pressure(b, q, y - d)) / (2 * d), 0, atol=1e-5)
        assert_allclose((pressure(b + d, q, y) - pressure(b - d, q, y)) / (2 * d), curve.slope[k], rtol=1e-5)

    def test_the_entropy_falls_and_is_positive_where_one_step_is_enough(self):
        # Gardner: for P = 3 and unit coupling further steps are needed below T = 0.24 only
        curve = glass_curve(noise_kernel(3, "distinct"))
        entropy = curve.pressure - curve.slope / curve.temperature
        assert np.all(np.diff(entropy) < 0)
        assert np.all(entropy[curve.temperature > 0.24 * np.sqrt(3)] > 0)
        assert entropy[-1] > -0.01

    def test_repeated_indices_of_even_order_freeze_continuously(self):
        dynamic, static = glass_transition(order=4, load=1.0, interaction="full")
        assert dynamic == static == 6.0  # sqrt(xi''(0)) = sqrt(2 * 6^2 * 2 / 4)

    def test_in_a_random_field_symmetry_is_lost_where_the_eigenvalue_is_zero(self):
        t = glass_transition(order=3, load=0.2, interaction="full")[1]
        state = self_consistency(order=3, beta=1 / t, load=0.2, interaction="full", init="glass")
        assert state.q > 0.3
        assert_allclose(state.at_stability, 0, atol=1e-7)


class TestOneStep:
    @pytest.mark.parametrize(
        ("learning", "quality", "n_examples", "exact", "gaussian"),
        [
            ("supervised", 0.5, 10, 0.8263, 0.8346),
            ("unsupervised", 0.5, 10, 0.6752, 0.6755),
            ("supervised", 0.6, 5, 0.7882, 0.8016),
            ("unsupervised", 0.6, 5, 0.7146, 0.7179),
        ],
    )
    def test_overlaps_are_the_known_ones(self, learning, quality, n_examples, exact, gaussian):
        settings = {"order": 3, "load": 0.05, "quality": quality, "n_examples": n_examples, "learning": learning}
        assert_allclose(one_step_magnetization(averaging="exact", **settings), exact, atol=1e-4)
        assert_allclose(one_step_magnetization(averaging="gaussian", **settings), gaussian, atol=1e-4)
        assert one_step_magnetization(**settings) == one_step_magnetization(averaging="exact", **settings)

    @given(
        order=st.integers(3, 6), load=st.floats(1e-4, 1), quality=st.floats(0.05, 1), n_examples=st.integers(1, 1000)
    )
    def test_gaussian_overlaps_are_the_published_error_functions(self, order, load, quality, n_examples):
        rho = (1 - quality**2) / (n_examples * quality**2)
        rho_P = (1 - quality ** (2 * order)) / (n_examples * quality ** (2 * order))
        for learning, factor in (("supervised", (1 + rho) ** order), ("unsupervised", 1 + rho_P)):
            found = one_step_magnetization(
                order=order, load=load, quality=quality, n_examples=n_examples, learning=learning, averaging="gaussian"
            )
            noise = rho + load * factorial(order - 1) * factor
            assert_allclose(found, erf(1 / np.sqrt(2 * noise)), rtol=1e-9)

    def test_without_other_memories_perfect_examples_lose_nothing(self):
        assert one_step_magnetization(order=3, load=0.0) == 1
        assert one_step_magnetization(order=3, load=0.0, quality=0.0, n_examples=3) == 0
        # an even number of examples may tie, and a tie is no spin
        tied = one_step_magnetization(order=3, load=0.0, quality=0.5, n_examples=2)
        assert_allclose(tied, 0.75**2 - 0.25**2)

    def test_the_threshold_is_where_the_target_is_reached(self):
        for learning in ("supervised", "unsupervised"):
            r = detection_threshold(
                order=4, n_features=50, n_patterns=500, n_examples=30, learning=learning, target=0.8
            )
            reached = one_step_magnetization(order=4, load=500 / 50**3, quality=r, n_examples=30, learning=learning)
            assert_allclose(reached, 0.8, atol=1e-9)

    def test_the_unsupervised_threshold_falls_as_the_root_of_the_load_per_example(self):
        # at small r the noise is alpha (P - 1)! / (M r^(2P)), while M r^2 stays large
        r = [detection_threshold(order=3, n_features=N, n_patterns=10, n_examples=10**6) for N in (10**3, 10**4, 10**5)]
        assert_allclose(np.diff(np.log(r)), -2 * np.log(10) / 6, rtol=0.05)

    def test_a_target_out_of_reach_has_no_threshold(self):
        assert np.isnan(detection_threshold(order=3, n_features=10, n_patterns=1000, n_examples=5, target=0.99))


class TestKrotovHopfield:
    @pytest.mark.parametrize(("N", "K", "n", "error"), [(60, 300, 3, 0.0228), (60, 9, 2, 0.0049)])
    def test_errors_are_the_known_ones(self, N, K, n, error):
        assert_allclose(krotov_hopfield_error(N, K, n), error, atol=6e-5)

    def test_small_errors_follow_the_asymptotic_formula(self):
        N, K, n = 500, 3000, 3
        ratio = N ** (n - 1) / (K * 3)
        asymptotic = np.sqrt(1 / (2 * np.pi * ratio)) * np.exp(-ratio / 2)
        # Mills: the relative error of the tail is below 1 / ratio
        assert_allclose(krotov_hopfield_error(N, K, n), asymptotic, rtol=1 / ratio)

    def test_high_orders_do_not_overflow(self):
        assert krotov_hopfield_error(1000, 10**6, 60) == 0
        assert_allclose(krotov_hopfield_error(100, 10**9, 300), 0.5)  # (2n - 3)!! wins over N^(n - 1) in the end

    def test_simulated_errors_agree_at_large_N(self):
        N, K, n, rng = 600, 20_000, 3, np.random.default_rng(0)
        wrong = total = 0
        for _ in range(8):
            xi = 2 * rng.integers(0, 2, size=(K, N), dtype=np.int8).astype(np.float32) - 1
            X = (xi @ xi[0]).astype(np.float64)[:, None]
            own = xi[:, :40] * xi[0, :40]
            field = np.sum((X - own + own) ** n - (X - own - own) ** n, axis=0)
            wrong, total = wrong + np.count_nonzero(field < 0), total + 40
        rate = wrong / total
        expected = krotov_hopfield_error(N, K, n)
        assert abs(rate - expected) < 4 * np.sqrt(expected * (1 - expected) / total) + 0.1 * expected


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "match"),
        [
            ({"order": 1}, "order"),
            ({"order": 2.5}, "order"),
            ({"order": 101}, "order must be at most 100"),
            ({"beta": 0.0}, "beta"),
            ({"beta": -1.0}, "beta"),
            ({"beta": float("nan")}, "beta"),
            ({"load": -0.1}, "load"),
            ({"load": float("inf")}, "load"),
            ({"quality": 1.1}, "quality"),
            ({"quality": -0.1}, "quality"),
            ({"n_examples": 0}, "n_examples"),
            ({"learning": "both"}, "learning must be one of"),
            ({"interaction": "rectified"}, "interaction must be one of"),
            ({"averaging": "none"}, "averaging must be one of"),
            ({"load_unit": "beta"}, "load_unit must be one of"),
            ({"init": "nowhere"}, "init must be one of"),
            ({"init": (1.0, 1.0)}, "init must have shape"),
            ({"init": (1.0, 1.0, 2.0)}, "init must be"),
            ({"order": 2, "learning": "unsupervised"}, "learning must be 'supervised' with order=2"),
            ({"interaction": "full", "learning": "unsupervised"}, "learning must be 'supervised' with interaction"),
            ({"max_iter": 0}, "max_iter"),
            ({"tol": 0.0}, "tol"),
        ],
    )
    def test_the_argument_is_named(self, settings, match):
        with pytest.raises(ValueError, match=match):
            self_consistency(**{"order": 3, "beta": 2.0} | settings)

    def test_the_other_functions_name_it_too(self):
        with pytest.raises(ValueError, match="learning must be 'supervised'"):
            critical_load(order=2, learning="unsupervised")
        with pytest.raises(ValueError, match="learning must be 'supervised'"):
            one_step_magnetization(order=2, load=0.1, learning="unsupervised")
        with pytest.raises(ValueError, match="order must be at least 3"):
            glass_transition(order=2, load=0.1)
        with pytest.raises(ValueError, match="target"):
            detection_threshold(order=3, n_features=10, n_patterns=10, n_examples=1, target=1.0)
        with pytest.raises(ValueError, match="n_features"):
            krotov_hopfield_error(0, 10, 3)
