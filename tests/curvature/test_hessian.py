"""Curvature operators against dense matrices, finite differences and closed forms."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.sparse.linalg import LinearOperator, aslinearoperator, eigsh

import numcore.linalg
from numcore import autodiff as ad
from numcore.algorithms import curvature
from numcore.algorithms.curvature import (
    EmpiricalFisher,
    fisher_operator,
    function_trace,
    ggn_operator,
    hessian_operator,
    lanczos,
    solve_cg,
    spectral_density,
    trace_estimate,
)
from numcore.autodiff.losses import by_name
from numcore.special import softmax

N, LOSSES = 13, ("softmax", "stablemax", "z", "bce", "squared", "huber")


class Problem:
    """A net, its loss and data; all curvature matrices by brute force."""

    def __init__(self, loss="softmax", activation="tanh", hidden=(6,), dtype=np.float64):
        rng = np.random.default_rng(0)
        self.X = rng.standard_normal((N, 5)).astype(dtype)
        if loss in ("softmax", "stablemax", "z"):
            n_out, self.y = 3, rng.integers(3, size=N)
        else:
            n_out, self.y = 2, rng.integers(2, size=(N, 2)).astype(dtype)
        self.loss, self.per_example = loss, by_name(loss)
        self.net = ad.nn.MLP([5, *hidden, n_out], activation)
        self.theta = self.net.init(rng=1, dtype=dtype)
        self.theta += 0.1 * rng.standard_normal(len(self.theta)).astype(dtype)

    def losses(self, theta, X, y):
        return self.per_example(self.net(theta, X), y)

    def mean(self, theta, X, y):
        return ad.mean(self.losses(theta, X, y))

    @property
    def eye(self):
        return np.eye(len(self.theta), dtype=self.theta.dtype)

    def hessian(self):
        return ad.hessian(lambda t: self.mean(t, self.X, self.y))(self.theta)

    def ggn(self):
        J = ad.jacobian(lambda t: self.net(t, self.X))(self.theta)
        z = self.net(self.theta, self.X)
        bend = [ad.hessian(lambda z, y=self.y[i]: ad.sum(self.per_example(z[None], y[None])))(z[i]) for i in range(N)]
        return np.einsum("nik,nij,njl->kl", J, np.array(bend), J) / N

    def fisher(self):
        _, G = ad.per_example_grads(self.losses, self.theta, self.X, self.y, method="loop")
        return G.T @ G / N


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
def test_operators_are_the_dense_matrices(loss, activation):
    p = Problem(loss, activation)
    scale = abs(p.hessian()).max()
    assert_allclose(hessian_operator(p.mean, p.theta, p.X, p.y) @ p.eye, p.hessian(), atol=1e-13 * scale)
    assert_allclose(ggn_operator(p.net, loss, p.theta, p.X, p.y) @ p.eye, p.ggn(), atol=1e-13 * scale)
    assert_allclose(fisher_operator(p.losses, p.theta, p.X, p.y) @ p.eye, p.fisher(), atol=1e-13 * scale)


def test_hessian_is_the_slope_of_the_gradient_by_finite_differences():
    p = Problem()
    gradient = ad.grad(lambda t: p.mean(t, p.X, p.y))
    v = np.random.default_rng(1).standard_normal(len(p.theta))
    h = 1e-5  # truncation h^2, rounding eps / h: both 1e-10 or so
    slope = (gradient(p.theta + h * v) - gradient(p.theta - h * v)) / (2 * h)
    assert_allclose(hessian_operator(p.mean, p.theta, p.X, p.y) @ v, slope, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_hessian_of_a_quadratic_is_its_symmetric_part(seed, n):
    rng = np.random.default_rng(seed)
    A, b, x, v = rng.standard_normal((n, n)), *rng.standard_normal((3, n))
    H = hessian_operator(lambda x: 0.5 * (x @ (A @ x)) + b @ x, x)
    assert_allclose(H @ v, (A + A.T) @ v / 2, atol=1e-12)


def test_hessian_is_that_of_forward_over_reverse_products():
    p = Problem()
    v = np.random.default_rng(1).standard_normal(len(p.theta))
    product = ad.hvp(lambda t: p.mean(t, p.X, p.y), p.theta, v)
    assert_allclose(hessian_operator(p.mean, p.theta, p.X, p.y) @ v, product, atol=1e-14)


def test_a_linear_or_constant_function_has_no_curvature():
    x = np.arange(3.0)
    assert_allclose(hessian_operator(lambda x: ad.sum(2 * x), x) @ np.ones(3), 0)
    assert_allclose(hessian_operator(lambda x: 1.0, x) @ np.ones(3), 0)


@pytest.mark.parametrize("hidden", [(), (6,)])
def test_gauss_newton_is_the_hessian_where_the_model_is_linear_only(hidden):
    p = Problem("squared", hidden=hidden)
    H, G = (
        op @ p.eye
        for op in (hessian_operator(p.mean, p.theta, p.X, p.y), ggn_operator(p.net, "squared", p.theta, p.X, p.y))
    )
    assert (abs(H - G).max() < 1e-13) == (hidden == ())


def test_gauss_newton_of_least_squares_is_the_normal_matrix():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 6)), rng.standard_normal(40)
    G = ggn_operator(lambda t, X: X @ t, "squared", np.zeros(6), X, y)
    assert_allclose(G @ np.eye(6), X.T @ X / 40, atol=1e-14)
    solution = solve_cg(G, X.T @ y / 40, tol=1e-13)
    assert_allclose(solution.x, np.linalg.lstsq(X, y)[0], atol=1e-10)


def test_gauss_newton_of_softmax_is_the_fisher_matrix_under_the_models_own_labels():
    p = Problem("softmax")
    P = softmax(p.net(p.theta, p.X), axis=1)
    F = np.zeros((len(p.theta),) * 2)
    for label in range(3):
        _, G = p.net.per_example_grads(p.theta, p.X, np.full(N, label))
        F += (G * P[:, label, None]).T @ G / N
    assert_allclose(ggn_operator(p.net, "softmax", p.theta, p.X, p.y) @ p.eye, F, atol=1e-14)


@pytest.mark.parametrize("make", ["hessian", "ggn", "fisher"])
@pytest.mark.parametrize("chunk", [1, 4, 13, 100])
def test_chunks_and_damping_change_what_they_say(make, chunk):
    p = Problem()
    build = {
        "hessian": lambda **o: hessian_operator(p.mean, p.theta, p.X, p.y, **o),
        "ggn": lambda **o: ggn_operator(p.net, p.loss, p.theta, p.X, p.y, **o),
        "fisher": lambda **o: fisher_operator(p.losses, p.theta, p.X, p.y, **o),
    }[make]
    operator = build(damp=0.25, chunk=chunk)
    assert operator.damp == 0.25
    assert_allclose(operator @ p.eye, build() @ p.eye + 0.25 * p.eye, atol=1e-14)


def test_fisher_is_that_of_the_class_which_solves_with_it():
    p = Problem()
    F = EmpiricalFisher(p.net.per_example_grads(p.theta, p.X, p.y)[1], damp=1e-2)
    assert_allclose(fisher_operator(p.losses, p.theta, p.X, p.y, damp=1e-2) @ p.eye, F @ p.eye, atol=1e-13)


def test_fisher_takes_mean_losses_and_layers_without_factors():
    p = Problem()
    assert_allclose(fisher_operator(p.mean, p.theta, p.X, p.y, chunk=5) @ p.eye, p.fisher(), atol=1e-14)
    rng = np.random.default_rng(0)
    net = ad.nn.Sequential(ad.nn.Conv2d(1, 2, 3), ad.nn.Activation("relu"), ad.nn.Flatten(), ad.nn.Linear(32, 3))
    theta, X, y = net.init(rng=0, dtype=np.float64), rng.standard_normal((7, 1, 6, 6)), rng.integers(3, size=7)
    _, G = net.per_example_grads(theta, X, y)
    F = fisher_operator(lambda t, X, y: by_name("softmax")(net(t, X), y), theta, X, y)
    v = rng.standard_normal(len(theta))
    assert_allclose(F @ v, G.T @ (G @ v) / 7, atol=1e-13)


def test_losses_of_gauss_newton_may_be_means_or_functions():
    p = Problem()
    expected = ggn_operator(p.net, "softmax", p.theta, p.X, p.y) @ p.eye
    for loss in (ad.losses.softmax_cross_entropy, p.per_example):
        for chunk in (None, 5):
            operator = ggn_operator(p.net, loss, p.theta, p.X, p.y, chunk=chunk)
            assert_allclose(operator @ p.eye, expected, atol=1e-14)


def test_trees_of_parameters_are_their_flat_vector():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((9, 4)), rng.integers(3, size=9)
    tree = {"b": rng.standard_normal(3), "W": rng.standard_normal((4, 3))}
    model = lambda t, X: ad.tanh(X @ t["W"]) + t["b"]  # noqa: E731
    losses = lambda t, X, y: by_name("softmax")(model(t, X), y)  # noqa: E731
    flat, unravel = ad.ravel(tree)
    for on_tree, on_flat in (
        (
            hessian_operator(lambda t: ad.mean(losses(t, X, y)), tree),
            hessian_operator(lambda t: ad.mean(losses(unravel(t), X, y)), flat),
        ),
        (
            ggn_operator(model, "softmax", tree, X, y),
            ggn_operator(lambda t, X: model(unravel(t), X), "softmax", flat, X, y),
        ),
        (
            fisher_operator(losses, tree, X, y),
            fisher_operator(lambda t, X, y: losses(unravel(t), X, y), flat, X, y),
        ),
    ):
        assert on_tree.shape == (15, 15)
        assert_allclose(on_tree @ np.eye(15), on_flat @ np.eye(15), atol=1e-14)


@pytest.mark.parametrize("make", ["hessian", "ggn", "fisher"])
def test_they_are_scipy_operators_symmetric_and_in_the_parameters_dtype(make):
    for dtype, tol in ((np.float64, 1e-13), (np.float32, 2e-6)):
        p = Problem(dtype=dtype)
        operator = {
            "hessian": lambda p=p: hessian_operator(p.mean, p.theta, p.X, p.y),
            "ggn": lambda p=p: ggn_operator(p.net, p.loss, p.theta, p.X, p.y),
            "fisher": lambda p=p: fisher_operator(p.losses, p.theta, p.X, p.y),
        }[make]()
        u, v = np.random.default_rng(0).standard_normal((2, len(p.theta))).astype(dtype)
        assert isinstance(operator, LinearOperator) and operator.dtype == dtype
        assert (operator @ v).dtype == dtype and (operator @ p.eye).dtype == dtype
        assert operator.T is operator and operator.H is operator
        assert u @ (operator @ v) == pytest.approx(v @ (operator @ u), rel=100 * tol)
        combined = 2 * operator + aslinearoperator(np.eye(len(v), dtype=dtype))
        assert_allclose(combined @ v, 2 * (operator @ v) + v, rtol=tol, atol=tol)
        dense = operator @ p.eye
        largest = eigsh(operator, k=2, return_eigenvectors=False, v0=v)
        assert_allclose(np.sort(largest), np.linalg.eigvalsh(dense.astype(float))[-2:], rtol=1e3 * tol, atol=1e3 * tol)


def test_columns_are_multiplied_one_by_one_whatever_their_layout():
    p = Problem()
    operator = hessian_operator(p.mean, p.theta, p.X, p.y)
    V = np.random.default_rng(0).standard_normal((len(p.theta), 4))
    for layout in (V, np.asfortranarray(V), np.repeat(V, 2, axis=1)[:, ::2]):
        before = layout.copy()
        assert_allclose(operator @ layout, np.stack([operator @ v for v in V.T], axis=1), atol=1e-15)
        assert np.array_equal(layout, before)
    assert (operator @ V[:, :0]).shape == (len(p.theta), 0)


@pytest.mark.parametrize("size", [1e-25, 1e25])
def test_products_are_linear_at_extreme_scales_of_float32(size):
    p = Problem(dtype=np.float32)
    v = np.random.default_rng(0).standard_normal(len(p.theta)).astype(np.float32)
    for operator in (
        hessian_operator(p.mean, p.theta, p.X, p.y),
        ggn_operator(p.net, p.loss, p.theta, p.X, p.y),
        fisher_operator(p.losses, p.theta, p.X, p.y),
    ):
        scaled = operator @ (np.float32(size) * v)
        expected = operator @ v
        assert_allclose(scaled / np.float32(size), expected, atol=1e-5 * abs(expected).max())


def test_the_estimates_are_those_of_the_core_with_the_signatures_of_the_specification():
    wanted = {
        "trace_estimate": {"n_probes": 30, "method": "hutch++", "dist": "rademacher", "rng": None},
        "diagonal_estimate": {"n_probes": 30, "dist": "rademacher", "rng": None},
        "lanczos": {"v0": None, "rng": None},
        "spectral_density": {"k": 64, "n_probes": 8, "grid": None, "sigma": None, "rng": None},
        "function_trace": {"k": 64, "n_probes": 8, "rng": None},
        "solve_cg": {
            "damp": 0.0,
            "tol": 1e-8,
            "max_iter": None,
            "preconditioner": None,
            "x0": None,
            "callback": None,
        },
        "hessian_operator": {"damp": 0.0},
        "ggn_operator": {"damp": 0.0, "chunk": None},
        "fisher_operator": {"damp": 0.0, "chunk": None},
    }
    for name, options in wanted.items():
        function = getattr(curvature, name)
        parameters = inspect.signature(function).parameters
        keyword_only = {n: p.default for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        assert options.items() <= keyword_only.items(), name
        assert getattr(numcore.linalg, name, function) is function


def spectrum(values, seed=0):
    """A quadratic with these eigenvalues, as an operator."""
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values),) * 2)).Q
    A = Q @ np.diag(values) @ Q.T
    return hessian_operator(lambda x: 0.5 * (x @ (A @ x)), np.zeros(len(values)))


def test_quadrature_finds_a_known_spectrum_through_the_operator():
    values = np.repeat([0.0, 1.0, 4.0], [60, 30, 10])
    H = spectrum(values)
    found = lanczos(H, 10, rng=0)
    assert found.n_iter == 3 and found.breakdown  # as many as distinct eigenvalues
    logs = function_trace(H, np.log1p, k=10, n_probes=20, rng=0)
    assert abs(logs.value - np.log1p(values).sum()) <= 3 * logs.stderr
    density = spectral_density(H, k=10, n_probes=20, rng=0)
    for value, share in ((0.0, 0.6), (1.0, 0.3), (4.0, 0.1)):
        weight = density.weights[abs(density.nodes - value) < 1e-6].sum()
        assert weight == pytest.approx(share, abs=0.05)  # 20 probes of 100: 0.01 a standard error
    trace = trace_estimate(H, n_probes=30, rng=0)
    assert abs(trace.value - values.sum()) <= 3 * trace.stderr + 1e-9 * values.sum()


def test_the_fisher_matrix_preconditions_cg_on_the_gauss_newton_matrix():
    rng = np.random.default_rng(0)
    n, d = 60, 40
    X, y = rng.standard_normal((n, d)) * np.logspace(0, 3, d), rng.standard_normal(n)
    residual = lambda t, X, y: by_name("squared")(X @ t, y)  # noqa: E731
    H = ggn_operator(lambda t, X: X @ t, "squared", np.zeros(d), X, y, damp=1e-3)
    G = ad.per_example_grads(residual, np.zeros(d), X, y)[1]
    b = G.mean(axis=0)
    plain = solve_cg(H, b, tol=1e-8, max_iter=5000)
    helped = solve_cg(H, b, tol=1e-8, max_iter=5000, preconditioner=EmpiricalFisher(G, damp=1e-3).inv)
    assert plain.converged and helped.converged
    assert helped.n_iter < plain.n_iter / 2
    exact = np.linalg.solve(H @ np.eye(d), b)
    # CG leaves a residual of 1e-8 |b|; the condition number of 1e6 and more is taken out by weighing with H
    assert np.linalg.norm(H @ (helped.x - exact)) <= 1e-7 * np.linalg.norm(b)


def test_negative_curvature_is_reported():
    H = hessian_operator(lambda x: x[0] ** 2 - x[1] ** 2, np.zeros(2))
    with pytest.warns(numcore.results.ConvergenceWarning, match="negative curvature"):
        assert solve_cg(H, np.array([0.0, 1.0])).negative_curvature


# bad input


def test_bad_input_is_refused_with_its_name():
    p = Problem()
    X, y = p.X, p.y
    with pytest.raises(ValueError, match="damp must satisfy 0 <= damp"):
        hessian_operator(p.mean, p.theta, X, y, damp=-1.0)
    with pytest.raises(ValueError, match="chunk must be at least 1; got 0"):
        ggn_operator(p.net, "softmax", p.theta, X, y, chunk=0)
    with pytest.raises(TypeError, match="chunk must be an integer"):
        fisher_operator(p.losses, p.theta, X, y, chunk=2.0)
    with pytest.raises(ValueError, match=r"X and y must hold the same number of examples.*\(12, 5\), \(13,\)"):
        ggn_operator(p.net, "softmax", p.theta, X[1:], y)
    with pytest.raises(ValueError, match=r"X and y must hold .* at least 1"):
        fisher_operator(p.losses, p.theta, X[:0], y[:0])
    with pytest.raises(ValueError, match="args must hold the same number of examples.*got shapes nothing"):
        hessian_operator(lambda t: ad.sum(t * t), p.theta, chunk=3)
    with pytest.raises(ValueError, match="theta must be finite; 1 of its"):
        hessian_operator(p.mean, np.where(np.arange(len(p.theta)) == 3, np.nan, p.theta), X, y)
    with pytest.raises(TypeError, match="theta must be real"):
        hessian_operator(lambda t: ad.sum(t), np.ones(3, complex))
    with pytest.raises(TypeError, match=r"expected scalar output, got shape \(3,\)"):
        hessian_operator(lambda t: 2 * t, np.ones(3))
    with pytest.raises(ValueError, match="loss must be one of"):
        ggn_operator(p.net, "cubic", p.theta, X, y)


def test_vectors_of_another_length_or_kind_are_refused():
    H = hessian_operator(lambda t: ad.sum(t**2), np.ones(3))
    with pytest.raises(ValueError, match="dimension mismatch"):
        H @ np.ones(4)
    with pytest.raises(TypeError, match="a product needs a real vector; got dtype complex128"):
        H @ np.ones(3, complex)


def test_integers_become_float64():
    H = hessian_operator(lambda t: ad.sum(t**3), np.array([1, 2]))
    assert H.dtype == np.float64
    assert_allclose(H @ np.array([1, 1]), [6.0, 12.0])
