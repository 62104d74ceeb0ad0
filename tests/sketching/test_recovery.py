"""SubGM on the problems of the specification: 800 Gaussian measurements of a 20 x 20 matrix of rank 2."""

import numpy as np
import pytest

from numcore.algorithms.sketching import robust_matrix_recovery
from numcore.algorithms.sketching.recovery import steepest_fall
from numcore.results import ConvergenceWarning

pytestmark = pytest.mark.filterwarnings("ignore::numcore.results.ConvergenceWarning")


def problem(seed, outliers=0):
    rng = np.random.default_rng(seed)
    U = rng.standard_normal((20, 2))
    X = U @ U.T
    X /= np.linalg.norm(X, 2)
    A = rng.standard_normal((800, 20, 20))
    A = (A + A.transpose(0, 2, 1)) / np.sqrt(2)
    y = np.einsum("mij,ij->m", A, X)
    y[:outliers] += 10 * rng.standard_normal(outliers)
    return A, y, X


# ten times what the specification's prototype reached
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("init_scale", "most"), [(1e-3, 8e-5), (1e-6, 5e-9)])
def test_polyak_steps_recover_from_clean_measurements(seed, init_scale, most):
    A, y, X = problem(seed)
    found = robust_matrix_recovery(A, y, init_scale=init_scale, max_iter=500)
    assert np.linalg.norm(found.X - X) < most
    assert found.rank_estimate == 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("init_scale", "rank", "most"), [(1e-6, 20, 2e-5), (1e-6, 2, 2e-5), (1e-3, 20, 2.5e-2), (1.0, 20, 8e-2)]
)
def test_geometric_steps_recover_though_a_fifth_is_wrong(seed, init_scale, rank, most):
    A, y, X = problem(seed, outliers=160)
    found = robust_matrix_recovery(A, y, init_scale=init_scale, rank=rank, step="geometric")
    assert np.linalg.norm(found.X - X) < most


def test_least_squares_fails_where_this_does_not():
    A, y, X = problem(0, outliers=160)
    upper = np.triu_indices(20)
    rows = (A * (2 - np.eye(20)))[:, *upper]
    fitted = np.zeros((20, 20))
    fitted[upper] = np.linalg.lstsq(rows, y, rcond=None)[0]
    assert np.abs(fitted - X)[upper].max() > 1e4 * np.abs(robust_matrix_recovery(A, y, step="geometric").X - X).max()


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_the_scale_of_the_measurements_does_not_matter(scale):
    A, y, _ = problem(1)
    plain, scaled = robust_matrix_recovery(A, y), robust_matrix_recovery(A, y * scale)
    assert scaled.n_iter == plain.n_iter
    np.testing.assert_allclose(scaled.X / scale, plain.X, atol=1e-8)


def test_a_clean_problem_of_known_rank_converges():
    A, y, X = problem(2)
    found = robust_matrix_recovery(A, y, rank=2)
    assert found.converged
    np.testing.assert_allclose(found.X, X, atol=2e-9)
    np.testing.assert_array_equal(found.X, found.U @ found.U.T)
    np.testing.assert_allclose(found.residual_l1, np.abs(np.einsum("mij,ij->m", A, found.X) - y).mean(), rtol=1e-3)


def test_only_the_symmetric_part_of_a_measurement_counts():
    A, y, _ = problem(3)
    skew = np.random.default_rng(0).standard_normal(A.shape)
    found = robust_matrix_recovery(A + skew - skew.transpose(0, 2, 1), y, rank=2, max_iter=50)
    np.testing.assert_allclose(found.X, robust_matrix_recovery(A, y, rank=2, max_iter=50).X, atol=1e-9)


def test_nothing_measured_is_the_zero_matrix_at_once():
    A, y, _ = problem(4)
    found = robust_matrix_recovery(A, 0 * y)
    assert (found.n_iter, found.converged, found.rank_estimate) == (0, True, 0)
    assert not found.X.any()


def test_float32_stays_and_short_runs_warn():
    A, y, X = problem(5)
    with pytest.warns(ConvergenceWarning, match="robust_matrix_recovery"):
        found = robust_matrix_recovery(A.astype(np.float32), y.astype(np.float32), max_iter=100)
    assert found.X.dtype == np.float32
    assert np.linalg.norm(found.X - X) < 0.1


def test_rank_is_read_where_the_spectrum_falls():
    assert steepest_fall(np.array([5.0, 4.0, 1e-3, 1e-4])) == 2
    assert steepest_fall(np.array([5.0, 4.0, 3.0])) == 3
    assert steepest_fall(np.array([1.0, 1e-9, 1e-20])) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank must be at least 1"),
        ({"rank": 21}, "rank must be at most 20"),
        ({"init_scale": 0.0}, "init_scale must"),
        ({"step": "constant"}, "step must be one of"),
        ({"decay": 1.5}, "decay must"),
        ({"decay": 0.0}, "decay must"),
        ({"step_size": -1}, "step_size must"),
        ({"tol": np.nan}, "tol must"),
        ({"y": np.ones(3)}, "y must have shape"),
        ({"measurements": np.ones((3, 2, 4))}, "measurements must have shape"),
        ({"measurements": np.ones((3, 2))}, "measurements must be 3-D"),
    ],
)
def test_bad_arguments_are_named(change, message):
    A, y, _ = problem(0)
    with pytest.raises(ValueError, match=message):
        robust_matrix_recovery(**({"measurements": A, "y": y} | change))
