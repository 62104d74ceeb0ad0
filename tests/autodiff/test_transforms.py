"""Derivatives of functions: nesting, structure, dtypes, and what is refused."""

import copy
import pickle
import threading
from typing import NamedTuple

import numpy as np
import pytest

from numcore import autodiff as ad


class Pair(NamedTuple):
    a: object
    b: object


def rosenbrock(x):
    return ad.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_perturbations_of_nested_derivatives_are_not_confused():
    # d/dx [x * d/dy (x + y)] = 1 (it would be 2 if the inner derivative saw x move)
    assert ad.grad(lambda x: x * ad.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    forward = ad.jvp(lambda x: x * ad.jvp(lambda y: x + y, (1.0,), (1.0,))[1], (1.0,), (1.0,))[1]
    mixed = ad.jvp(lambda x: x * ad.grad(lambda y: x + y)(1.0), (1.0,), (1.0,))[1]
    assert forward == mixed == 1.0


def test_derivatives_nest_three_deep_in_any_order():
    third = ad.grad(ad.grad(ad.grad(np.sin)))
    x = 0.7
    assert third(x) == pytest.approx(-np.cos(x), rel=1e-14)
    d = lambda f: lambda x: ad.jvp(f, (x,), (1.0,))[1]  # noqa: E731
    for outer, middle, inner in [(d, d, d), (d, ad.grad, d), (ad.grad, d, ad.grad)]:
        assert outer(middle(inner(np.sin)))(x) == pytest.approx(-np.cos(x), rel=1e-14)


def test_forward_over_reverse_equals_reverse_over_forward_equals_hvp():
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((2, 6))
    forward_over_reverse = ad.jvp(ad.grad(rosenbrock), (x,), (v,))[1]
    reverse_over_forward = ad.grad(lambda x: ad.jvp(rosenbrock, (x,), (v,))[1])(x)
    np.testing.assert_allclose(forward_over_reverse, reverse_over_forward, rtol=1e-12)
    np.testing.assert_allclose(ad.hvp(rosenbrock, x, v), forward_over_reverse, rtol=1e-12)
    np.testing.assert_allclose(ad.hessian(rosenbrock)(x) @ v, forward_over_reverse, rtol=1e-12)


def test_hessian_of_least_squares_is_the_normal_matrix_and_gauss_newton_equals_it():
    rng = np.random.default_rng(1)
    X, y, theta, v = (
        rng.standard_normal((20, 4)),
        rng.standard_normal(20),
        rng.standard_normal(4),
        rng.standard_normal(4),
    )

    def f(t):
        return ad.losses.squared_error(X @ t, y)

    np.testing.assert_allclose(ad.grad(f)(theta), X.T @ (X @ theta - y) / 20, rtol=1e-12)
    np.testing.assert_allclose(ad.hessian(f)(theta), X.T @ X / 20, rtol=1e-12)
    product = ad.gnvp(lambda t, X: X @ t, "squared", theta, v, X, y)
    np.testing.assert_allclose(product, ad.hvp(f, theta, v), rtol=1e-12)


@pytest.mark.parametrize("loss", ["softmax", "bce", "squared"])
def test_gauss_newton_product_is_the_explicit_one(loss):
    rng = np.random.default_rng(2)
    net = ad.nn.MLP([3, 5, 2], "tanh")
    theta, X = net.init(rng=0, dtype=np.float64), rng.standard_normal((6, 3))
    y = rng.integers(0, 2, 6) if loss == "softmax" else rng.random((6, 2))
    v = rng.standard_normal(net.n_params)
    J = ad.jacobian(lambda t: net(t, X))(theta).reshape(12, -1)
    per_row = ad.losses.by_name(loss)
    H = ad.hessian(lambda z: ad.mean(per_row(z, y)))(net(theta, X)).reshape(12, 12)
    np.testing.assert_allclose(ad.gnvp(net, loss, theta, v, X, y), J.T @ (H @ (J @ v)), rtol=1e-10, atol=1e-14)


def test_jacobian_agrees_in_both_modes_and_has_the_shape_out_plus_in():
    x = np.random.default_rng(3).standard_normal((2, 3))
    f = lambda x: ad.exp(x[0]) * x[1, :1]  # noqa: E731
    forward, reverse = ad.jacobian(f, mode="forward")(x), ad.jacobian(f, mode="reverse")(x)
    assert forward.shape == (3, 2, 3)
    np.testing.assert_allclose(forward, reverse, rtol=1e-14)
    np.testing.assert_allclose(ad.jacobian(f)(x), reverse, rtol=1e-14)
    assert ad.jacobian(lambda a, x: a * x, 1)(2.0, np.ones(2)).tolist() == [[2, 0], [0, 2]]


def test_gradients_come_in_the_structure_of_their_argument():
    tree = {"b": [np.ones(2), None], "a": Pair(np.float64(2.0), (np.ones((1, 2)),))}
    value, g = ad.value_and_grad(lambda t: ad.sum(t["b"][0]) * t["a"].a + ad.sum(t["a"].b[0] ** 2))(tree)
    assert value == 6.0
    assert list(g) == ["b", "a"] and g["b"][1] is None and isinstance(g["a"], Pair)
    assert g["b"][0].tolist() == [2, 2] and g["a"].a == 2 and g["a"].b[0].tolist() == [[2, 2]]
    gx, gy = ad.grad(lambda x, y: x * y**2, (0, 1))(2.0, 3.0)
    assert (gx, gy) == (9.0, 12.0)


def test_auxiliary_output_comes_out_plain():
    (value, aux), g = ad.value_and_grad(lambda x: (x**2, {"twice": 2 * x}), has_aux=True)(3.0)
    assert value == 9 and g == 6 and isinstance(aux["twice"], float)
    slope, aux = ad.grad(lambda x: (x**2, "note"), has_aux=True)(3.0)
    assert slope == 6 and aux == "note"


def test_what_does_not_depend_on_the_argument_has_zero_gradient():
    assert ad.grad(lambda x: 1.0)(np.ones((2, 3))).tolist() == np.zeros((2, 3)).tolist()
    assert ad.grad(lambda x: ad.sum(ad.stop_gradient(x) ** 2))(np.ones(2)).tolist() == [0, 0]
    assert ad.jvp(lambda x: np.float64(2.0), (1.0,), (1.0,)) == (2.0, 0.0)


def test_gradients_are_arrays_of_their_own():
    x, y = np.ones(3), np.ones(3)
    gx, gy = ad.grad(lambda x, y: ad.sum(x + y), (0, 1))(x, y)
    gx += 1
    assert gy.tolist() == [1, 1, 1]
    seed = np.ones(3)
    (back,) = ad.vjp(lambda x: 1 * x, x)[1](seed)
    back += 1
    assert seed.tolist() == [1, 1, 1]


def test_a_pullback_can_be_called_again():
    _, pullback = ad.vjp(lambda x: {"square": x**2, "sum": ad.sum(x)}, np.array([1.0, 2.0]))
    for _ in range(2):
        assert pullback({"square": np.ones(2), "sum": np.float64(1.0)})[0].tolist() == [3, 5]


def test_a_value_used_many_times_sums_its_cotangents_once_each():
    assert ad.grad(lambda x: ad.sum(x + x + x * x + x))(np.array([3.0])).tolist() == [9.0]
    assert ad.grad(lambda x: x[0] + x[1] * x[0] + ad.sum(x))(np.array([2.0, 5.0])).tolist() == [7.0, 3.0]


def test_a_million_operations_do_not_recurse():
    def f(x):
        for _ in range(1_000_000):
            x = x * 1.000001
        return x

    assert ad.grad(f)(1.0) == pytest.approx(1.000001**1e6, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_of_the_argument_is_kept(dtype):
    x = np.ones(3, dtype)
    value, g = ad.value_and_grad(lambda x: ad.sum(2.5 * ad.exp(x) / 3 + x**2))(x)
    assert value.dtype == g.dtype == dtype
    assert ad.hvp(lambda x: ad.sum(x**3), x, x).dtype == dtype
    assert ad.grad(lambda x: ad.sum(x * np.ones(3)))(x).dtype == dtype  # mixed with float64


@pytest.mark.parametrize(
    ("f", "x", "message"),
    [
        (lambda x: x, np.ones(2), r"expected scalar output, got shape \(2,\)"),
        (lambda x: 1, 1.0, "expected scalar output, got int"),
        (lambda x: None, 1.0, "expected scalar output, got NoneType"),
        (lambda x: np.array(1), 1.0, "real scalar output, got dtype int64"),
        (lambda x: x, 1, "argument 0 must be float32 or float64.*int64"),
        (lambda x: x, 1j, "complex128"),
        (lambda x: x, np.float16(1), "float16"),
        (float, 1.0, "plain number.*ad.stop_gradient"),
        (lambda x: np.array([0.0, x]), 1.0, "plain array.*ad.stack"),
        (lambda x: np.add(np.zeros(2), x, out=np.zeros(2)), 1.0, "ad.index_update"),
        (lambda x: np.sort_complex(x), np.ones(2), "has no derivative rule|plain array"),
        (lambda x: np.cbrt(x), 1.0, "numpy.cbrt has no derivative rule"),
        (lambda x: np.median(x), np.ones(2), "numpy.median has no derivative rule"),
        (pickle.dumps, 1.0, "cannot be copied or pickled; ad.stop_gradient"),
        (copy.deepcopy, 1.0, "cannot be copied or pickled"),
    ],
)
def test_what_has_no_derivative_is_refused(f, x, message):
    with pytest.raises(TypeError, match=message):
        ad.grad(f)(x)


def test_assignment_is_refused_with_a_way_out():
    def into_a_traced_array(x):
        x[0] = 1.0
        return ad.sum(x)

    def into_a_plain_array(x):
        a = np.zeros(2)
        a[0] = x[0]
        return ad.sum(a)

    for f in (into_a_traced_array, into_a_plain_array):
        with pytest.raises(TypeError, match="index_update"):
            ad.grad(f)(np.ones(2))


def test_values_that_escaped_their_trace_are_refused():
    kept = []
    ad.grad(lambda x: (kept.append(x), x * x)[1])(1.0)
    with pytest.raises(ValueError, match="value escaped its trace"):
        kept[0] + 1
    with pytest.raises(ValueError, match="value escaped its trace"):
        ad.grad(lambda x: x * kept[0])(1.0)
    ad.jvp(lambda x: (kept.append(x), x)[1], (1.0,), (1.0,))
    with pytest.raises(ValueError, match="value escaped its trace"):
        kept[1] * 2.0


def test_threads_differentiate_apart():
    wrong = []

    def work(k):
        second = ad.grad(ad.grad(lambda x: x**k))
        wrong.extend(k for _ in range(50) if abs(second(2.0) - k * (k - 1) * 2.0 ** (k - 2)) > 1e-9)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_failure_within_leaves_the_levels_as_they_were():
    with pytest.raises(ZeroDivisionError):
        ad.grad(lambda x: ad.grad(lambda y: 1 / 0)(x))(1.0)
    assert ad.grad(ad.grad(np.sin))(0.5) == pytest.approx(-np.sin(0.5))


def test_mismatched_tangents_and_cotangents_are_refused():
    with pytest.raises(ValueError, match=r"tangents must have shape \(2,\); got \(3,\)"):
        ad.jvp(np.sin, (np.ones(2),), (np.ones(3),))
    with pytest.raises(ValueError, match=r"g must have shape \(2,\)"):
        ad.vjp(np.sin, np.ones(2))[1](np.ones(3))
    with pytest.raises(ValueError, match="mode must be one of"):
        ad.jacobian(np.sin, mode="sideways")


def test_derivatives_at_kinks_are_the_chosen_ones():
    assert ad.grad(ad.relu)(0.0) == 0 and ad.grad(abs)(0.0) == 0
    assert ad.grad(lambda x: ad.maximum(x, 0.0))(0.0) == 0.5
    assert ad.grad(ad.max)(np.array([1.0, 1.0, 0.0])).tolist() == [0.5, 0.5, 0]
    assert ad.grad(ad.norm)(np.zeros(3)).tolist() == [0, 0, 0]
    with np.errstate(divide="ignore"):
        assert ad.grad(ad.sqrt)(0.0) == np.inf
    assert ad.grad(lambda x: x**2)(0.0) == 0 and ad.grad(lambda x: x**0)(0.0) == 0
    assert ad.grad(lambda y: 0.0**y)(1.0) == 0
    safe = lambda x: ad.where(x > 0, ad.sqrt(ad.where(x > 0, x, 1.0)), 0.0)  # noqa: E731
    assert ad.grad(safe)(0.0) == 0


@pytest.mark.parametrize("name", sorted(ad.functional.ACTIVATIONS))
def test_activations_are_finite_far_out_in_float32_and_their_derivatives_too(name):
    f = ad.functional.ACTIVATIONS[name]
    x = np.array([-1e4, -100, -1, 0, 1, 100, 1e4], np.float32)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        value, g = ad.vjp(f, x)[0], ad.grad(lambda x: ad.sum(f(x)))(x)
        second = ad.hvp(lambda x: ad.sum(f(x)), x, np.ones_like(x))
    assert value.dtype == g.dtype == np.float32
    assert np.isfinite(value).all() and np.isfinite(g).all() and np.isfinite(second).all()
    far = x.astype(float)[1:-1]
    assert ad.check_grad(f, far[np.abs(far) > 0], rng=0).ok


def test_selu_keeps_mean_and_variance_of_normal_input():
    x = np.random.default_rng(0).standard_normal(10**6)
    y = ad.selu(x)
    assert abs(y.mean()) < 0.005 and abs(y.var() - 1) < 0.01


def test_debug_nans_names_the_function_and_the_line():
    with np.errstate(invalid="ignore"), ad.debug_nans():
        with pytest.raises(FloatingPointError, match=r"log gave 1 nan of 2 entries, at test_transforms.py:\d+"):
            ad.grad(lambda x: ad.sum(ad.log(x)))(np.array([1.0, -1.0]))
        with pytest.raises(FloatingPointError, match="sqrt gave 1 nan"):
            ad.jvp(ad.sqrt, (-1.0,), (1.0,))
    with np.errstate(invalid="ignore"):
        assert np.isnan(ad.grad(ad.sqrt)(-1.0))


def test_numpy_calls_differentiate_unchanged():
    A = np.array([[3.0, 1.0], [1.0, 2.0]])

    def f(x):
        y = np.concatenate([x, np.exp(x)]).reshape(2, 2)
        z = np.einsum("ij,jk->ik", A, y) + np.linalg.solve(A, y) * np.float64(2.0)
        z = np.where(z > 1, z, np.clip(z, -1, 1)) + np.stack([x, x]).T
        return np.linalg.norm(z) + np.sum(np.tensordot(z, A, 1)) + np.linalg.slogdet(z @ z.T + A)[1] + np.max(z)

    assert ad.check_grad(f, np.array([0.3, -0.2]), rng=0).ok
    assert ad.check_grad(f, np.array([0.3, -0.2]), order=2, rng=0).ok


def test_a_wrong_derivative_fails_the_check():
    @ad.custom_vjp
    def wrong(x):
        return x**2

    wrong.defvjp(lambda x: (x**2, x), lambda x, g: (2.1 * x * g,))
    result = ad.check_grad(lambda x: ad.sum(wrong(x)), np.ones(3), rng=0)
    assert not result.ok and result.max_rel_error > 0.01
    assert result.worst["mode"] in ("reverse", "forward")
    assert ad.check_grad(lambda x: ad.sin(x), np.ones((2, 2)), order=2, rng=0).ok


def test_ravel_and_back_is_differentiable():
    tree = {"W": np.ones((2, 2)), "b": [np.zeros(3), None]}
    theta, unravel = ad.ravel(tree)
    assert theta.shape == (7,) and unravel(theta)["b"][1] is None
    assert np.shares_memory(unravel(theta)["W"], theta)
    g = ad.grad(lambda t: ad.sum(unravel(t)["W"] ** 2) + ad.sum(unravel(t)["b"][0]))(theta)
    assert g.tolist() == [2, 2, 2, 2, 1, 1, 1]
    with pytest.raises(ValueError, match=r"theta must have shape \(7,\); got \(6,\)"):
        unravel(theta[:6])
    with pytest.raises(ValueError, match="same structure"):
        ad.tree_map(lambda x, y: x, {"a": 1}, {"b": 1})


def test_custom_rules_serve_both_modes_and_second_derivatives():
    @ad.custom_vjp
    def cube(x, label):
        return x**3

    cube.defvjp(lambda x, label: (x**3, x), lambda x, g: (3 * x**2 * g, None))
    x, v = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    f = lambda x: ad.sum(cube(x, "name"))  # noqa: E731
    assert ad.grad(f)(x).tolist() == [3, 12]
    np.testing.assert_allclose(ad.jvp(f, (x,), (v,))[1], 3 * x**2 @ v)
    np.testing.assert_allclose(ad.hvp(f, x, v), 6 * x * v)
    np.testing.assert_allclose(ad.jvp(ad.grad(f), (x,), (v,))[1], 6 * x * v)

    @ad.custom_jvp
    def times(x, y):
        return x * y

    times.defjvp(lambda args, t: (args[0] * args[1], t[0] * args[1] + args[0] * t[1]))
    assert ad.grad(times, (0, 1))(2.0, 3.0) == (3.0, 2.0)
    assert ad.jvp(times, (2.0, 3.0), (1.0, 10.0)) == (6.0, 23.0)
    assert ad.grad(ad.grad(lambda x: times(x, x)))(2.0) == 2.0


def test_custom_rules_are_held_to_their_contract():
    @ad.custom_vjp
    def f(x, y):
        return x * y

    with pytest.raises(TypeError, match="f has no rule yet"):
        ad.grad(f)(1.0, 2.0)
    for bwd, message in [
        (lambda r, g: (g,), "tuple of 2 cotangents.*got 1"),
        (lambda r, g: [g, g], "got a list"),
        (lambda r, g: (np.ones(3), None), r"argument 0 a cotangent of shape \(\); it gave \(3,\)"),
    ]:
        f.defvjp(lambda x, y: (x * y, None), bwd)
        with pytest.raises(TypeError, match=message):
            ad.grad(f)(1.0, 2.0)

    def closes_over(x):
        @ad.custom_vjp
        def g(y):
            return y

        g.defvjp(lambda y: (x * y, None), lambda r, c: (c,))
        return g(x)

    with pytest.raises(TypeError, match="not among its arguments"):
        ad.grad(closes_over)(1.0)


def test_checkpoint_gives_the_same_derivatives():
    W = np.random.default_rng(0).standard_normal((3, 3))
    f = lambda x: ad.tanh(W @ ad.tanh(W @ x))  # noqa: E731
    x, v = np.ones(3), np.arange(3.0)
    plain, again = (lambda x, h=h: ad.sum(h(x) ** 2) for h in (f, ad.checkpoint(f)))
    np.testing.assert_allclose(ad.grad(plain)(x), ad.grad(again)(x), rtol=1e-14)
    np.testing.assert_allclose(ad.hvp(plain, x, v), ad.hvp(again, x, v), rtol=1e-12)
    np.testing.assert_allclose(ad.jvp(plain, (x,), (v,))[1], ad.jvp(again, (x,), (v,))[1], rtol=1e-13)


def test_envelope_gradient_holds_the_minimiser_fixed_and_second_ones_are_refused():
    value = lambda x, t: (x - ad.sin(t)) ** 2 + x * t  # noqa: E731
    V = ad.envelope(value, lambda t: np.sin(t) - t / 2)
    exact = lambda t: t * ad.sin(t) - t**2 / 4  # noqa: E731
    assert ad.grad(V)(0.8) == pytest.approx(ad.grad(exact)(0.8), rel=1e-12)
    with pytest.raises(TypeError, match="first derivatives only"):
        ad.grad(ad.grad(V))(0.8)
    with pytest.raises(ValueError, match="hessian must be False"):
        ad.envelope(value, abs, hessian=True)


def test_custom_rules_hold_for_trees_on_both_sides():
    @ad.custom_vjp
    def f(p, scale):
        return {"sum": ad.sum(p["a"]) * scale, "twice": 2 * p["b"]}

    f.defvjp(  # wrong on purpose, so that it is seen to be used
        lambda p, scale: (f.f(p, scale), scale),
        lambda scale, g: ({"a": 7 * g["sum"] * np.ones(3), "b": 5 * g["twice"]}, None),
    )
    p = {"a": np.ones(3), "b": np.ones(2)}
    total = lambda p: f(p, 2.0)["sum"] + ad.sum(f(p, scale=2.0)["twice"])  # noqa: E731
    g = ad.grad(total)(p)
    assert g["a"].tolist() == [7, 7, 7] and g["b"].tolist() == [5, 5]
    v = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([1.0, 0.0])}
    assert ad.jvp(total, (p,), (v,))[1] == 7 * 6 + 5
    f.defvjp(lambda p, scale: (f.f(p, scale), scale), lambda scale, g: ({"a": np.ones(3)}, None))
    with pytest.raises(TypeError, match="argument 0 a cotangent of its structure, with 2 leaves; it gave 1"):
        ad.grad(total)(p)

    @ad.custom_jvp
    def product(p, y):
        return p["a"] * y

    product.defjvp(lambda args, t: (args[0]["a"] * args[1], 5 * (t[0]["a"] * args[1] + args[0]["a"] * t[1])))
    y = np.arange(3.0)
    h = lambda p: ad.sum(product(p, y))  # noqa: E731
    assert ad.grad(h)(p)["a"].tolist() == (5 * y).tolist()
    assert ad.jvp(h, (p,), (v,))[1] == 5 * v["a"] @ y


def test_a_pullback_through_a_custom_rule_sees_what_its_cotangent_holds_now():
    @ad.custom_vjp
    def f(x):
        return x * 2

    f.defvjp(lambda x: (x * 2, None), lambda r, g: (2 * g,))
    _, pullback = ad.vjp(f, np.ones(2))
    g = np.ones(2)
    assert pullback(g)[0].tolist() == [2, 2]
    g *= 10
    assert pullback(g)[0].tolist() == [20, 20]


def test_checkpoint_recomputes_for_trees_labels_and_options():
    calls = []

    def f(p, X, labels, power=1):
        calls.append(power)
        return ad.tanh(p["W"] @ X)[labels] ** power, X * 2

    rng = np.random.default_rng(0)
    p, X, labels = {"W": rng.standard_normal((3, 3))}, rng.standard_normal(3), np.array([0, 2])
    plain = ad.grad(lambda p: ad.sum(f(p, X, labels, power=2)[0]))(p)
    calls.clear()
    again = ad.grad(lambda p: ad.sum(ad.checkpoint(f)(p, X, labels, power=2)[0]))(p)
    assert calls == [2, 2]
    np.testing.assert_allclose(again["W"], plain["W"], rtol=1e-14)


@pytest.mark.parametrize("other", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_directions_take_the_dtype_of_the_value(dtype, other):
    x, v = np.ones(3, dtype), np.arange(3).astype(other)
    f = lambda x: x**3  # noqa: E731
    _, pullback = ad.vjp(f, x)
    assert pullback(v)[0].dtype == ad.jvp(f, (x,), (v,))[1].dtype == dtype
    assert ad.hvp(lambda x: ad.sum(f(x)), x, v).dtype == dtype
    assert pullback([0, 1, 2])[0].tolist() == [0, 3, 6]
    for refused in (lambda: pullback(1j * v), lambda: ad.jvp(f, (x,), (1j * v,))):
        with pytest.raises(TypeError, match="must be real; got dtype complex"):
            refused()


def test_calls_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="argnums must name positional arguments; got 1 beside 1"):
        ad.grad(ad.sum, 1)(np.ones(2))
    with pytest.raises(TypeError, match=r"with has_aux, f must return a pair"):
        ad.grad(ad.sum, has_aux=True)(np.ones(2))
    with pytest.raises(ValueError, match=r"v must have shape \(2,\); got \(3,\)"):
        ad.hvp(ad.sum, np.ones(2), np.ones(3))


@pytest.mark.parametrize("order", [None, 1, 2, 3, 1.5])
def test_every_norm_has_gradient_zero_at_zero(order):
    with np.errstate(all="raise"):
        assert ad.grad(lambda x: np.linalg.norm(x, order))(np.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.clip(x, a_min=-0.5, a_max=0.5),
        lambda x: np.clip(x, min=-0.5),
        lambda x: x.clip(max=0.5),
        lambda x: np.einsum("i,i->i", x, x, optimize=True),
        lambda x: np.reshape(x, (2, 2), order="C").mT @ x.reshape(2, 2),
        lambda x: np.concatenate([x.reshape(2, 2), np.ones((1, 3))], axis=None) ** 2,
        lambda x: np.vstack([x, x**2]) * np.hstack([x[:2], x[2:]]),
        lambda x: np.inner(x, x) + np.vdot(x.reshape(2, 2), np.ones((2, 2))),
        lambda x: np.log2(x**2) + np.log10(1 + x**2),
    ],
)
def test_further_spellings_of_numpy_calls_differentiate(f):
    x = np.array([0.3, -1.2, 0.7, 2.0])
    np.testing.assert_allclose(ad.vjp(f, x)[0], f(x), rtol=1e-14)
    for order in (1, 2):
        assert ad.check_grad(f, x, order=order, rng=0).ok


@pytest.mark.parametrize("arrange", [np.asfortranarray, lambda M: M[::-1, ::-1], lambda M: np.repeat(M, 2, 1)[:, ::2]])
def test_the_layout_of_memory_does_not_matter(arrange):
    M = arrange(np.random.default_rng(0).standard_normal((4, 6)))
    M.flags.writeable = False
    plain = np.array(M, order="C")

    def f(M):
        return ad.sum(ad.tanh(M @ M.T) * ad.exp(M[:, :4])) + ad.logsumexp(M) + ad.sum(ad.cumsum(M, 1)[1] ** 2)

    np.testing.assert_allclose(ad.grad(f)(M), ad.grad(f)(plain), rtol=1e-13)
    np.testing.assert_allclose(ad.hvp(f, M, M), ad.hvp(f, plain, plain), rtol=1e-12)
    assert ad.grad(f)(M).flags.writeable


def test_what_was_born_as_a_list_or_a_float_is_an_array_to_entrywise_functions():
    assert ad.sigmoid([0.0, 0.0]).tolist() == [0.5, 0.5]
    assert ad.silu(0.0) == 0.0
