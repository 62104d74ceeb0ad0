"""Gradients of single examples: against the loop, in the caller's array, and by factors."""

import contextlib

import numpy as np
import pytest

import numcore
from numcore import autodiff as ad
from numcore.autodiff import functional as F

nn = ad.nn


def conv_net():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, activation="relu", padding=1),
        nn.BatchNorm(3),
        nn.Flatten(),
        nn.Linear(3 * 16, 5, "tanh"),
        nn.LayerNorm(5),
        nn.Residual(nn.Linear(5, 5, "relu")),
        nn.Linear(5, 3),
    )


def problem(kind, dtype=np.float64):
    rng = np.random.default_rng(0)
    net = conv_net() if kind == "conv" else nn.MLP([4, 6, 5, 3])
    theta = net.init(rng=1, dtype=dtype) + 0.1 * rng.standard_normal(net.n_params).astype(dtype)
    X = rng.standard_normal((7, 1, 4, 4) if kind == "conv" else (7, 4)).astype(dtype)
    if kind == "conv":
        net.state["1.mean"][:], net.state["1.var"][:] = 0.3, 2.0
    return net, theta, X, rng.integers(0, 3, 7)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_one_pass_gives_the_rows_of_the_loop(kind, dtype, backend):
    net, theta, X, y = problem(kind, dtype)
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    for loss in ("softmax", "z", lambda z, y: ad.sum(z**2, 1)):
        per_row = ad.losses.by_name(loss)
        f = lambda t, X, y, per_row=per_row: per_row(net(t, X), y)  # noqa: E731
        with numcore.backend(backend):
            losses, G = net.per_example_grads(theta, X, y, loss=loss)
            _, same = ad.per_example_grads(f, theta, X, y, method="tape")
        slow_losses, slow = ad.per_example_grads(f, theta, X, y, method="loop")
        assert G.dtype == dtype and G.shape == (7, net.n_params)
        np.testing.assert_allclose(G, slow, rtol=rtol, atol=rtol * np.abs(slow).max())
        np.testing.assert_array_equal(G, same)
        np.testing.assert_allclose(losses, slow_losses, rtol=rtol, atol=rtol)
        mean = ad.grad(lambda t, f=f: ad.mean(f(t, X, y)))(theta)
        np.testing.assert_allclose(G.mean(0), mean, rtol=rtol, atol=rtol * np.abs(G).max())


def test_the_gradients_go_into_the_callers_array():
    net, theta, X, y = problem("dense")
    out = np.full((7, net.n_params), np.nan)
    _, G = net.per_example_grads(theta, X, y, out=out)
    assert G is out and np.isfinite(out).all()
    for bad in (out[:, :-1], out.astype(np.float32), np.asfortranarray(out), [0.0]):
        with pytest.raises(ValueError, match="out must"):
            net.per_example_grads(theta, X, y, out=bad)


def test_parameters_in_trees_used_twice_or_not_at_all():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5, 3))
    tree = {"W": rng.standard_normal((3, 3)), "b": rng.standard_normal(3), "scale": np.ones(()), "idle": np.ones(2)}

    def loss(p, X):
        h = ad.tanh(X @ p["W"] + p["b"])
        return ad.sum((h @ p["W"] + p["b"] * h) * p["scale"], 1)

    _, G = ad.per_example_grads(loss, tree, X, method="tape")
    _, slow = ad.per_example_grads(loss, tree, X, method="loop")
    np.testing.assert_allclose(G, slow, rtol=1e-12, atol=1e-14)
    assert not G[:, 9 + 3 : 9 + 3 + 2].any()


@pytest.mark.parametrize(
    "loss",
    [
        lambda t, X: ad.sum(X * t[:3], 1) / ad.sum(ad.sum(X * t[:3], 1) ** 2) ** 0.5,
        lambda t, X: ad.sum(F.batch_norm(X * t[:3], t[:3], t[3:]) ** 2, 1),
        lambda t, X: ad.matmul(ad.transpose(X * t[:3]), X)[:, 0] if len(X) == 3 else ad.sum(X * t[:3], 1),
        lambda t, X: ad.flip(ad.sum(X * t[:3], 1)),
        lambda t, X: ad.exp(ad.sum(X * t[:3], 1)) * ad.sum(ad.outer(t[:3], t[3:])),
        lambda t, X: ad.sum(ad.sin(ad.outer(X[:, 0], t)), 1),
    ],
)
def test_what_may_mix_examples_is_not_done_in_one_pass(loss):
    rng = np.random.default_rng(1)
    theta, X = rng.standard_normal(6), rng.standard_normal((3, 3))
    with contextlib.suppress(ValueError):  # "does not apply"; otherwise it must be right
        _, fast = ad.per_example_grads(loss, theta, X, method="tape")
        _, slow = ad.per_example_grads(loss, theta, X, method="loop")
        np.testing.assert_allclose(fast, slow, rtol=1e-12, atol=1e-14)


def test_batch_statistics_are_refused_in_one_pass():
    with pytest.raises(ValueError, match="standardize may mix examples"):
        ad.per_example_grads(
            lambda t, X: ad.sum(F.batch_norm(X * t, np.ones(3), np.zeros(3)), 1), np.ones(3), np.eye(3), method="tape"
        )


def test_any_loss_works_one_by_one():
    f = lambda t, X: ad.sqrt(ad.sum((X @ ad.inv(ad.reshape(t, (2, 2)))) ** 2, 1))  # noqa: E731
    theta, X = np.array([2.0, 0.5, 0.1, 3.0]), np.random.default_rng(0).standard_normal((4, 2))
    losses, G = ad.per_example_grads(f, theta, X)
    np.testing.assert_allclose(G, ad.jacobian(lambda t: f(t, X))(theta), rtol=1e-12)
    np.testing.assert_allclose(losses, f(theta, X))
    with pytest.raises(ValueError, match="at least one example"):
        ad.per_example_grads(f, theta, X[:0])
    for refused in (np.ones(2, int), np.ones(2, np.float16)):
        with pytest.raises(TypeError, match="theta must be float32 or float64"):
            ad.per_example_grads(lambda t, X: X @ t, refused, X)
    with pytest.raises(ValueError, match="one value for each of 4"):
        ad.per_example_grads(lambda t, X: ad.sum(X @ t[:2]), theta, X)


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_the_implicit_jacobian_is_the_matrix(kind):
    net, theta, X, y = problem(kind)
    losses, G = net.per_example_grads(theta, X, y)
    J = ad.per_example_jacobian(net, theta, X, y, loss="softmax")
    rng = np.random.default_rng(2)
    v, u = rng.standard_normal(G.shape[1]), rng.standard_normal(7)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)  # noqa: E731
    assert J.shape == G.shape and J.dtype == G.dtype
    close(J.losses, losses)
    close(J.to_array(), G)
    out = np.full_like(G, np.nan)
    assert J.to_array(out=out) is out
    close(out, G)
    close(J.matvec(v), G @ v)
    close(J.rmatvec(u), G.T @ u)
    close(J @ v, G @ v)
    close(J.T @ u, G.T @ u)
    close(J.gram(), G @ G.T)
    close(J.sq_sum(), (G**2).sum(0))
    close(J.row_norms(), np.linalg.norm(G, axis=1))
    close(J.columns(slice(3, 60, 2)), G[:, 3:60:2])
    close(J.columns(np.array([5, 1, 5])), G[:, [5, 1, 5]])
    with pytest.raises(ValueError, match="out must be an array"):
        J.to_array(out=G[:, 1:])


def test_factors_of_parameters_used_twice_are_added_up():
    class Twice(nn.Linear):
        def _forward(self, take, x, train, place):
            W, b = next(take), next(take)
            return F.linear(F.linear(x, W, b, "tanh"), W, b)

    net, X, y = Twice(3, 3), np.random.default_rng(0).standard_normal((4, 3)), np.arange(4) % 3
    theta = net.init(rng=0, dtype=np.float64)
    _, G = ad.per_example_grads(
        lambda t, X, y: ad.losses.softmax_cross_entropy(net(t, X), y, reduction="none"), theta, X, y, method="loop"
    )
    np.testing.assert_allclose(ad.per_example_jacobian(net, theta, X, y, loss="softmax").to_array(), G, atol=1e-13)
