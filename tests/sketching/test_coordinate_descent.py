"""Block coordinate descent against closed forms, scikit-learn's solvers and the ordering of the rules in NLS."""

import numpy as np
import pytest
import scipy.sparse
from scipy.special import expit
from sklearn.linear_model import Lasso, LogisticRegression

from numcore.algorithms.sketching import block_coordinate_descent
from numcore.algorithms.sketching.coordinate_descent import RULES, UPDATES, best_ratio
from numcore.results import ConvergenceWarning


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((300, 100)) * np.linspace(1, 10, 100)
    return A, A @ rng.standard_normal(100) + rng.standard_normal(300)


def smallest_subgradient(A, b, x, loss, l1, l2):
    """The certificate of a minimum, from its definition."""
    g = A.T @ (A @ x - b) if loss == "squared" else -A.T @ (b * expit(-b * (A @ x)))
    g = g + l2 * x
    return np.where(x != 0, g + l1 * np.sign(x), np.sign(g) * np.maximum(np.abs(g) - l1, 0))


def gap_after(A, b, iterations, **options):
    with pytest.warns(ConvergenceWarning):
        found = block_coordinate_descent(A, b, max_iter=iterations, tol=1e-16, rng=0, **options)
    best = np.linalg.lstsq(A, b, rcond=None)[0]
    least = np.sum((A @ best - b) ** 2) / 2
    return (np.sum((A @ found.x - b) ** 2) / 2 - least) / least


def test_better_rules_and_updates_come_nearer_in_400_blocks():
    ways = [
        ("gsq", "matrix"),
        ("gsd", "matrix"),
        ("gs", "matrix"),
        ("gs", "lipschitz"),
        ("gsd", "diagonal"),
        ("random", "lipschitz"),
    ]
    gaps = np.empty((6, len(ways)))
    for seed in range(len(gaps)):
        rng = np.random.default_rng(seed)
        A = rng.standard_normal((300, 100)) * np.linspace(1, 10, 100)
        b = A @ rng.standard_normal(100) + rng.standard_normal(300)
        gaps[seed] = [gap_after(A, b, 400, rule=rule, update=update) for rule, update in ways]
    means = np.log(gaps).mean(axis=0)  # on a single problem gs can beat gsd
    assert np.all(np.diff(means) > 0)
    assert np.all(gaps[:, 0] < 1e-9)


@pytest.mark.parametrize("blocks", ["variable", "fixed"])
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("loss", "l1", "l2"), [("squared", 500.0, 0.0), ("logistic", 4.0, 0.5)])
def test_every_rule_and_update_ends_at_the_minimum(problem, rule, update, blocks, loss, l1, l2):
    A, b = problem
    if loss == "logistic":
        A, b = A[:, :40] / 10, np.where(b > 0, 1.0, -1.0)
    options = {"loss": loss, "l1": l1, "l2": l2, "rule": rule, "update": update, "blocks": blocks}
    found = block_coordinate_descent(A, b, tol=1e-9, rng=0, **options)
    at_zero = np.abs(smallest_subgradient(A, b, np.zeros(A.shape[1]), loss, l1, l2)).max()
    left = np.abs(smallest_subgradient(A, b, found.x, loss, l1, l2)).max()
    assert found.converged
    assert left <= 1.001e-9 * max(1, at_zero)
    np.testing.assert_allclose(found.kkt, left, rtol=1e-3, atol=1e-12 * at_zero)
    np.testing.assert_array_equal(found.active_set, np.flatnonzero(found.x))


@pytest.mark.parametrize("l1", [50.0, 3000.0])
def test_agrees_with_scikit_learn_lasso(problem, l1):
    A, b = problem
    lasso = Lasso(alpha=l1 / len(b), fit_intercept=False, tol=1e-14, max_iter=100_000).fit(A, b)
    found = block_coordinate_descent(A, b, l1=l1)
    np.testing.assert_allclose(found.x, lasso.coef_, atol=1e-12)
    objective = np.sum((A @ found.x - b) ** 2) / 2 + l1 * np.abs(found.x).sum()
    np.testing.assert_allclose(found.objective, objective, rtol=1e-13)


def test_agrees_with_scikit_learn_logistic_regression(problem):
    A, b = problem[0][:, :30] / 10, np.where(problem[1] > 0, 1.0, -1.0)
    model = LogisticRegression(C=2.0, fit_intercept=False, solver="newton-cholesky", tol=1e-12).fit(A, b)
    found = block_coordinate_descent(A, b, loss="logistic", l2=0.5, update="newton", tol=1e-12)
    np.testing.assert_allclose(found.x, model.coef_[0], rtol=1e-8)


def test_without_penalty_it_solves_least_squares(problem):
    A, b = problem
    found = block_coordinate_descent(A, b, l2=3.0, tol=1e-12)
    np.testing.assert_allclose(found.x, np.linalg.solve(A.T @ A + 3 * np.eye(100), A.T @ b), rtol=1e-9, atol=1e-11)


def test_once_the_support_is_found_the_end_takes_few_blocks(problem):
    found = block_coordinate_descent(*problem, l1=3000.0, tol=1e-12)
    # two rounds of d coordinates to be sure of the signs, and the step that is exact then
    assert found.n_iter <= found.active_set_iter + 2 * 100 / 5 + 2


def test_more_columns_than_rows_and_sparse_columns_give_the_same(problem):
    rng = np.random.default_rng(1)
    A = rng.standard_normal((40, 120)) * (rng.random((40, 120)) < 0.3)
    b = rng.standard_normal(40)
    dense = block_coordinate_descent(A, b, l1=1.0, tol=1e-11)
    thin = block_coordinate_descent(scipy.sparse.csr_array(A), b, l1=1.0, tol=1e-11)
    np.testing.assert_allclose(thin.x, dense.x, atol=1e-12)
    lasso = Lasso(alpha=1.0 / 40, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(A, b)
    np.testing.assert_allclose(dense.x, lasso.coef_, atol=1e-9)


def test_duplicate_and_zero_columns_are_survived():
    rng = np.random.default_rng(2)
    base = rng.standard_normal((50, 6))
    A = np.column_stack([base, base[:, :3], np.zeros(50)])
    b = rng.standard_normal(50)
    for rule in RULES:
        found = block_coordinate_descent(A, b, rule=rule, tol=1e-10, rng=0)
        assert found.x[-1] == 0
        np.testing.assert_allclose(A @ found.x, base @ np.linalg.lstsq(base, b, rcond=None)[0], atol=1e-8)


def test_a_start_at_the_minimum_takes_no_block(problem):
    A, b = problem
    first = block_coordinate_descent(A, b, l1=500.0, tol=1e-9)
    again = block_coordinate_descent(A, b, l1=500.0, tol=2e-9, x0=first.x)
    assert again.n_iter == 0
    assert again.converged
    assert block_coordinate_descent(A, b, l1=1e9).n_iter == 0


def test_objective_falls_with_every_block(problem):
    A, b = problem
    for loss, y in (("squared", b), ("logistic", np.where(b > 0, 1.0, -1.0))):
        values = block_coordinate_descent(A, y, loss=loss, l1=20.0, l2=1.0).history["objective"]
        assert np.all(np.diff(values) <= 1e-12 * values[0])


def test_float32_stays_and_the_callback_can_end_it(problem):
    A, b = (x.astype(np.float32) for x in problem)
    seen = []
    found = block_coordinate_descent(A, b, callback=lambda s: seen.append(s.kkt) or s.n_iter == 5)
    assert found.x.dtype == np.float32
    assert (found.n_iter, found.converged, len(seen)) == (5, False, 5)


def test_dinkelbach_finds_the_best_ratio_of_all_blocks():
    from itertools import combinations

    rng = np.random.default_rng(3)
    for _ in range(20):
        gain, cost = rng.random(8), rng.random(8) + 0.01
        block = best_ratio(gain, cost, 3)
        best = max(gain[list(c)].sum() / cost[list(c)].sum() for c in combinations(range(8), 3))
        np.testing.assert_allclose(gain[block].sum() / cost[block].sum(), best)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "best"}, "rule must be one of"),
        ({"update": "exact"}, "update must be one of"),
        ({"blocks": "some"}, "blocks must be one of"),
        ({"loss": "hinge"}, "loss must be one of"),
        ({"l1": -1.0}, "l1 must"),
        ({"l2": np.nan}, "l2 must"),
        ({"block_size": 0}, "block_size must be at least 1"),
        ({"x0": np.ones(3)}, "x0 must have shape"),
        ({"tol": -1e-8}, "tol must"),
        ({"loss": "logistic"}, "b must be -1 or 1 for the logistic loss; 300 of its 300"),
    ],
)
def test_bad_arguments_are_named(problem, change, message):
    with pytest.raises(ValueError, match=message):
        block_coordinate_descent(*problem, **change)


def test_bad_data_are_named(problem):
    A, b = problem
    with pytest.raises(ValueError, match="b must have shape"):
        block_coordinate_descent(A, b[:-1])
    with pytest.raises(ValueError, match="A must be finite; 1 of"):
        block_coordinate_descent(np.where(np.arange(A.size).reshape(A.shape) == 7, np.nan, A), b)
    with pytest.raises(ValueError, match="A must have rows and columns"):
        block_coordinate_descent(np.zeros((0, 3)), np.zeros(0))
    with pytest.raises(TypeError, match="A must be real"):
        block_coordinate_descent(A * 1j, b)


def test_single_precision_ends_where_it_gets_no_nearer(problem):
    A, b = (v.astype(np.float32) for v in problem)
    with pytest.warns(ConvergenceWarning, match="in this dtype"):
        found = block_coordinate_descent(A, b, l1=1.0, tol=1e-9, max_iter=100_000)
    assert found.n_iter < 1000 and found.x.dtype == np.float32
    # roundings of the gradient, over the least curvature
    rounding = 16 * np.finfo(np.float32).eps * np.abs(A.T @ b).max() / np.linalg.eigvalsh(A.T @ A)[0]
    assert np.abs(found.x - block_coordinate_descent(*problem, l1=1.0).x).max() <= 10 * rounding
