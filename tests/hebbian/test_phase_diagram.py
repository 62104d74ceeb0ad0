"""The grid agrees with the single points, and its borders with the lines."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import numcore
from numcore.algorithms.hebbian import critical_load, glass_transition, phase_diagram, self_consistency
from numcore.algorithms.hebbian._replica import make_replica


@pytest.fixture(scope="module")
def third():
    return phase_diagram(order=3, loads=np.linspace(0, 0.25, 21), temperatures=np.linspace(0.05, 1.2, 18))


@pytest.mark.parametrize(
    "settings",
    [
        {"order": 3},
        {"order": 2},
        {"order": 4, "interaction": "full"},
        {"order": 3, "quality": 0.6, "n_examples": 9},
        {"order": 3, "quality": 0.7, "n_examples": 9, "learning": "unsupervised"},
        {"order": 3, "quality": 0.6, "n_examples": 400},
    ],
)
def test_retrieval_points_are_the_iterated_solutions(settings):
    limit = critical_load(**settings)
    loads, temperatures = limit * np.array([0.2, 0.7]), np.array([0.1, 0.4])
    grid = phase_diagram(loads=loads, temperatures=temperatures, **settings)
    found = 0
    for i, T in enumerate(temperatures):
        for j, load in enumerate(loads):
            if grid.phase[i, j] < 2:
                continue
            state = self_consistency(beta=1 / T, load=load, tol=1e-12, **settings)
            found += 1
            for name in ("m", "q", "pressure", "at_stability"):
                assert_allclose(getattr(grid, name)[i, j], getattr(state, name), rtol=1e-7, atol=1e-7)
    assert found >= 2


def test_retrieval_ends_at_the_critical_load_of_each_temperature(third):
    for T, phases, m in zip(third.temperatures, third.phase, third.m, strict=True):
        limit = critical_load(order=3, beta=1 / T)
        assert_array_equal(phases >= 2, (third.loads <= limit) & (limit > 0))
        assert_array_equal(m > 0, phases >= 2)


def test_the_glass_begins_at_its_static_transition(third):
    for load, phases in zip(third.loads, third.phase.T, strict=True):
        glassy = third.temperatures < glass_transition(order=3, load=load)[1]
        assert_array_equal(phases[phases < 2] == 1, glassy[phases < 2])


def test_without_glass_and_retrieval_there_is_the_paramagnet(third):
    T, alpha = np.meshgrid(third.temperatures, third.loads, indexing="ij")
    free = third.phase == 0
    assert free.any()
    assert_allclose(third.pressure[free], (np.log(2) + alpha * 1.5 / (2 * T**2))[free], rtol=1e-12)
    assert np.all(third.q[free] == 0)
    assert np.all(third.at_stability[free] == 1)
    assert np.isnan(third.at_stability[third.phase == 1]).all()


def test_a_stable_memory_has_the_greatest_pressure():
    # across the border between metastable and stable retrieval the pressures of memory and rival cross
    loads = np.linspace(0.02, 0.15, 66)
    grid = phase_diagram(order=3, loads=loads, temperatures=[0.5])
    change = np.flatnonzero(np.diff(grid.phase[0]) == -1)
    assert change.size == 1
    paramagnet = np.log(2) + loads * 1.5 / (2 * 0.25)
    ahead = grid.pressure[0] > paramagnet
    assert_array_equal(ahead, grid.phase[0] == 3)


def test_the_glass_lowers_the_pressure_and_meets_the_paramagnet_at_the_transition():
    load = 0.2
    t_static = glass_transition(order=3, load=load)[1]
    T = t_static * np.array([0.3, 0.6, 0.9, 0.999999])
    grid = phase_diagram(order=3, loads=[load], temperatures=T)
    assert_array_equal(grid.phase[:, 0], 1)
    paramagnet = np.log(2) + load * 1.5 / (2 * T**2)
    lower = paramagnet - grid.pressure[:, 0]
    assert np.all(np.diff(lower) < 0)
    assert lower[0] > 0.1
    assert_allclose(lower[-1], 0, atol=1e-9)
    assert_allclose(grid.q[-1, 0], 0.8135, atol=1e-4)


def test_pairs_have_the_lines_of_amit_gutfreund_and_sompolinsky():
    # a glass below 1 + sqrt(alpha); at low temperature memories dominate up to a load of 0.05 and persist up to 0.138
    loads = np.linspace(0.01, 0.16, 31)
    grid = phase_diagram(order=2, loads=loads, temperatures=[0.01, 1.09, 1.11, 1.39, 1.41])
    cold = grid.phase[0]
    assert_array_equal(cold >= 2, loads <= critical_load(order=2, beta=100.0))
    assert 0.045 < loads[cold == 3].max() < 0.055
    assert_array_equal(grid.phase[1:3, 0], [1, 0])
    assert_array_equal(grid.phase[3:, -1], [1, 0])  # 1 + sqrt(0.16)


def test_the_symmetric_glass_is_the_iterated_one():
    settings = {"order": 3, "loads": [0.2], "temperatures": [0.05, 0.2]}
    grid = phase_diagram(glass="rs", **settings)
    assert_array_equal(grid.phase[:, 0], 1)
    for T, q, pressure in zip(grid.temperatures, grid.q[:, 0], grid.pressure[:, 0], strict=True):
        state = self_consistency(order=3, beta=1 / T, load=0.2, init="glass", tol=1e-12)
        assert_allclose([q, pressure], [state.q, state.pressure], rtol=1e-8)
    broken = phase_diagram(glass="1rsb", **settings)
    # symmetry is broken to lower the pressure
    assert np.all(broken.pressure < grid.pressure)


def test_a_random_field_orders_spins_at_any_temperature():
    grid = phase_diagram(order=3, interaction="full", loads=[0.2], temperatures=[0.3, 2.0])
    assert_array_equal(grid.phase[:, 0], [1, 0])
    for T, q in zip(grid.temperatures, grid.q[:, 0], strict=True):
        state = self_consistency(order=3, beta=1 / T, load=0.2, interaction="full", init="glass", tol=1e-12)
        assert state.q > 0.05
        assert_allclose(q, state.q, rtol=1e-8)


def test_unsupervised_noise_scales_the_glass():
    r, M, P, T = 0.5, 6, 3, 0.3
    replica = make_replica(order=P, quality=r, n_examples=M, learning="unsupervised")
    kappa = replica.kernel.value(1.0) / 1.5
    loads = np.linspace(0.001, 0.2, 60)
    grid = phase_diagram(order=P, loads=loads, temperatures=[T], quality=r, n_examples=M, learning="unsupervised")
    glassy = T < glass_transition(order=P, load=1.0)[1] * np.sqrt(kappa * loads)
    free = grid.phase[0] < 2
    assert glassy[free].any()
    assert_array_equal(grid.phase[0][free] == 1, glassy[free])


def test_without_other_memories_retrieval_is_stable_below_its_temperature():
    for order in (2, 3, 4):
        grid = phase_diagram(order=order, loads=[0.0], temperatures=[0.2, 3.0])
        assert_array_equal(grid.phase[:, 0], [3, 0])
        assert_allclose(grid.pressure[1, 0], np.log(2))


def test_examples_without_quality_have_no_overlap():
    grid = phase_diagram(order=3, loads=[0.0, 0.05], temperatures=[0.2], quality=0.0, n_examples=5)
    assert_array_equal(grid.m, 0)
    assert np.isfinite(grid.q).all()


def test_processes_change_nothing(third):
    again = phase_diagram(order=3, loads=third.loads, temperatures=third.temperatures[:3], n_jobs=2)
    assert_array_equal(again.phase, third.phase[:3])
    assert_array_equal(again.m, third.m[:3])


def test_diagrams_come_back_from_a_file(third, tmp_path):
    numcore.save(third, tmp_path / "diagram")
    assert_array_equal(numcore.load(tmp_path / "diagram").phase, third.phase)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"loads": [-0.1, 0.1]}, "loads must be at least 0, one or more; got 1 of 2"),
        ({"loads": []}, "loads must be"),
        ({"loads": 0.1}, "loads must be 1-D"),
        ({"temperatures": [0.0, 1.0]}, "temperatures must be positive"),
        ({"temperatures": [np.nan]}, "temperatures must be finite"),
        ({"glass": "full"}, "glass must be one of"),
        ({"n_jobs": 0}, "n_jobs must not be 0"),
        ({"learning": "unsupervised", "order": 2}, "learning must be 'supervised'"),
    ],
)
def test_bad_input_is_named(settings, match):
    with pytest.raises(ValueError, match=match):
        phase_diagram(**{"order": 3, "loads": [0.1], "temperatures": [0.5]} | settings)
