"""Influence: exact where the model is linear, and right to first order where it is not."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore import autodiff as ad
from numcore.algorithms.curvature import EmpiricalFisher, influence


@pytest.fixture(scope="module")
def diabetes():
    """Least squares with an intercept on the first 400 patients; the others are the test."""
    from sklearn.datasets import load_diabetes

    X, y = load_diabetes(return_X_y=True)
    X = np.hstack([10 * X, np.ones((len(X), 1))])
    return X[:400], y[:400], X[400:], y[400:]


def least_squares(X, y):
    return np.linalg.lstsq(X, y, rcond=None)[0]


def refits(X, y):
    """The parameters without each of the examples."""
    return np.array([least_squares(np.delete(X, i, 0), np.delete(y, i)) for i in range(len(X))])


@pytest.fixture(scope="module")
def moves(diabetes):
    X, y = diabetes[:2]
    return refits(X, y) - least_squares(X, y)


def test_the_parameters_are_those_of_the_specification():
    parameters = inspect.signature(influence).parameters
    assert list(parameters) == ["train_grads", "test_grads", "solve", "n_train", "leverage"]
    assert parameters["n_train"].default is None and parameters["leverage"].default is False


def test_with_leverage_leaving_one_out_of_least_squares_is_exact(diabetes, moves):
    X, y, X_test, y_test = diabetes
    theta, n = least_squares(X, y), len(X)
    H, r = X.T @ X / n, X @ theta - y
    h = np.einsum("ij,ji->i", X, np.linalg.solve(X.T @ X, X.T))
    g_test = X_test * (X_test @ theta - y_test)[:, None]
    size = np.abs(moves @ g_test.T).max()

    def solve(B):
        return np.linalg.solve(H, B)

    # gradients of the losses, with the leverages given
    found = influence(X * r[:, None], g_test, solve, leverage=h)
    assert_allclose(found, moves @ g_test.T, rtol=1e-8, atol=1e-8 * size)
    # gradients of the residuals, which tell them
    found = r[:, None] * influence(X, g_test, solve, leverage=True)
    assert_allclose(found, moves @ g_test.T, rtol=1e-8, atol=1e-8 * size)
    # predictions change by just that
    found = r[:, None] * influence(X, X_test, solve, leverage=True)
    assert_allclose(found, moves @ X_test.T, rtol=1e-8, atol=1e-8 * np.abs(found).max())


def test_the_squared_loss_changes_by_the_second_order_term_more(diabetes, moves):
    X, y, X_test, y_test = diabetes
    theta, n = least_squares(X, y), len(X)
    r_test = X_test @ theta - y_test
    h = np.einsum("ij,ji->i", X, np.linalg.solve(X.T @ X, X.T))
    H = X.T @ X / n
    rows = X * (X @ theta - y)[:, None]
    linear = influence(rows, X_test * r_test[:, None], lambda B: np.linalg.solve(H, B), leverage=h)
    along = influence(rows, X_test, lambda B: np.linalg.solve(H, B), leverage=h)
    exact = 0.5 * ((r_test + moves @ X_test.T) ** 2 - r_test**2)
    assert_allclose(linear + 0.5 * along**2, exact, rtol=1e-6, atol=1e-9 * np.abs(exact).max())


def test_without_leverage_it_is_off_by_the_leverage(diabetes, moves):
    X, y, X_test, _ = diabetes
    theta, H = least_squares(X, y), X.T @ X / len(X)
    h = np.einsum("ij,ji->i", X, np.linalg.solve(X.T @ X, X.T))
    plain = influence(X * (X @ theta - y)[:, None], X_test, lambda B: np.linalg.solve(H, B))
    assert_allclose(plain, (1 - h)[:, None] * (moves @ X_test.T), rtol=1e-6, atol=1e-9 * np.abs(plain).max())


def test_the_leverage_does_not_follow_from_gradients_and_hessian():
    # two data sets of one feature with the same g = r x and the same mean of x^2, and other leverages
    for x in (np.array([1.0, 1.0]), np.sqrt([1.5, 0.5])):
        g = (x * (1 / x))[:, None]  # residuals 1 / x
        assert_allclose(g, 1)
        assert np.mean(x**2) == pytest.approx(1)


def test_a_ridge_penalty_keeps_the_exactness(diabetes):
    X, y, X_test, _ = diabetes
    n, reg = len(X), 3.0  # the objective is |X theta - y|^2 / 2 + reg |theta|^2 / 2, whoever is left out
    A = X.T @ X + reg * np.eye(X.shape[1])
    theta = np.linalg.solve(A, X.T @ y)
    r = X @ theta - y
    expected = [
        X_test @ (np.linalg.solve(A - np.outer(X[i], X[i]), X.T @ y - X[i] * y[i]) - theta) for i in range(0, n, 40)
    ]
    found = influence(
        X[::40], X_test, lambda B: np.linalg.solve(A / n, B), n_train=n, leverage=True
    ) * r[::40, None]  # fmt: skip
    assert_allclose(found, expected, rtol=1e-8, atol=1e-9 * np.abs(found).max())


def test_on_a_net_the_signs_and_order_are_those_of_retraining():
    # a logistic regression, strongly regularised so that the first order rules
    rng = np.random.default_rng(0)
    X, X_test = rng.standard_normal((80, 4)), rng.standard_normal((9, 4))
    y = np.sign(X @ rng.standard_normal(4) + rng.standard_normal(80))
    y_test = np.sign(X_test @ rng.standard_normal(4))

    def fit(keep):
        w = np.zeros(4)
        for _ in range(50):
            p = 1 / (1 + np.exp(y[keep] * (X[keep] @ w)))
            g = -(p * y[keep]) @ X[keep] / 80 + 0.1 * w
            H = (X[keep] * (p * (1 - p))[:, None]).T @ X[keep] / 80 + 0.1 * np.eye(4)
            w -= np.linalg.solve(H, g)
        return w, H

    def losses(w):
        return np.logaddexp(0, -y_test * (X_test @ w))

    everyone = np.arange(80)
    w, H = fit(everyone)
    train = -(y / (1 + np.exp(y * (X @ w))))[:, None] * X
    test = -(y_test / (1 + np.exp(y_test * (X_test @ w))))[:, None] * X_test
    found = influence(train, test, lambda B: np.linalg.solve(H, B))
    exact = np.array([losses(fit(np.delete(everyone, i))[0]) - losses(w) for i in everyone])
    assert np.corrcoef(found.ravel(), exact.ravel())[0, 1] > 0.999
    # what is left out is of the relative size of one leverage, 4 / 80
    assert np.abs(found - exact).max() <= 0.1 * np.abs(exact).max()


def test_solve_is_called_once_with_all_test_gradients(diabetes):
    X, _, X_test, _ = diabetes
    shapes = []
    found = influence(X, X_test, lambda B: shapes.append(B.shape) or B)
    assert shapes == [(11, len(X_test))]
    assert_allclose(found, X @ X_test.T / len(X), rtol=1e-12)


def test_a_fisher_matrix_and_structured_gradients_fit_in():
    rng = np.random.default_rng(0)
    net = ad.nn.MLP([6, 8, 3])
    theta = net.init(rng=0, dtype=np.float64)
    X, y = rng.standard_normal((40, 6)), rng.integers(0, 3, 40)
    J = ad.per_example_jacobian(net, theta, X, y)
    G = J.to_array()
    F = EmpiricalFisher(G, damp=1e-2)
    expected = G @ np.linalg.inv(F.todense()) @ G[:5].T / 40
    for rows in (G, J):
        assert_allclose(influence(rows, G[:5], F.solve), expected, rtol=1e-8, atol=1e-12)
    assert_allclose(influence(J, G[:5], F.inv.matmat, leverage=False), expected, rtol=1e-8, atol=1e-12)
    inside = np.einsum("ij,ji->i", G, np.linalg.inv(F.todense()) @ G.T) / 40
    with_leverage = influence(J, G[:5], F.solve, leverage=True)
    assert_allclose(with_leverage, expected / (1 - inside)[:, None], rtol=1e-8, atol=1e-12)


def test_float32_stays():
    G = np.random.default_rng(0).standard_normal((5, 3), dtype=np.float32)
    for leverage in (False, np.full(5, 0.1), True):
        assert influence(G, G[:2], lambda B: B / 10, leverage=leverage).dtype == np.float32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"train_grads": np.ones(3)}, ValueError, "train_grads"),
        ({"train_grads": np.full((4, 3), np.nan)}, ValueError, "train_grads must be finite; 12"),
        ({"test_grads": np.ones((2, 4))}, ValueError, "test_grads must have shape"),
        ({"test_grads": np.full((2, 3), np.inf)}, ValueError, "test_grads must be finite; 6"),
        ({"train_grads": np.ones((4, 3), complex)}, TypeError, "train_grads must be real"),
        ({"solve": np.eye(3)}, TypeError, "solve must be callable"),
        ({"solve": lambda B: B[:2]}, ValueError, r"solve\(X\) must have shape \(3, 2\)"),
        ({"solve": lambda B: B * np.nan}, ValueError, r"solve\(X\) must be finite; 6"),
        ({"n_train": 0}, ValueError, "n_train must be at least 1"),
        ({"leverage": np.ones(3)}, ValueError, "leverage must have shape"),
        ({"leverage": np.ones(4)}, ValueError, r"leverage holds 4 leverages outside \[0, 1\)"),
        ({"leverage": True, "solve": lambda B: 9 * B}, ValueError, "leverage=True needs.*gradients of residuals"),
    ],
)
def test_bad_input_is_refused_by_name(change, error, message):
    arguments = {"train_grads": np.ones((4, 3)), "test_grads": np.ones((2, 3)), "solve": lambda B: B / 10} | change
    with pytest.raises(error, match=message):
        influence(**arguments)
