"""Every derivative rule against central differences, and its two modes against each other.

A rule without an entry in ``CASES`` fails the first test; so does an entry without a rule.
"""

import numpy as np
import pytest

import numcore
from numcore import autodiff as ad
from numcore.autodiff import _conv, functions, rules
from numcore.autodiff._conv import Geometry
from numcore.autodiff.engine import RULES, astype, broadcast_to, unbroadcast

PAIRS = [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 3), ()), ((0, 3), (3,)), ((1,), (4, 1))]
SHAPES = [(), (1,), (5,), (2, 3), (0, 2), (2, 1, 3)]


def uniform(rng, shape, low=-2.0, high=2.0):
    return np.asarray(rng.uniform(low, high, shape))


def entrywise(op, low=-2.0, high=2.0):
    """One argument, of several shapes."""
    return lambda rng: [(op, uniform(rng, shape, low, high)) for shape in SHAPES]


def pairwise(op, x=(-2.0, 2.0), y=(-2.0, 2.0)):
    """Two arguments that broadcast, and each beside a Python number."""

    def cases(rng):
        number = float(uniform(rng, (), *y))
        with_arrays = [(op, uniform(rng, a, *x), uniform(rng, b, *y)) for a, b in PAIRS]
        return [*with_arrays, (lambda a: op(a, number), uniform(rng, (3,), *x))]

    return cases


def reducing(op, draw=uniform):
    """All ways to name axes; on arrays without ties."""

    def cases(rng):
        ways = [(None, False), (None, True), (0, False), (1, True), (-1, False), ((0, 2), False), ((0, -1), True)]
        return [(lambda x, a=a, k=k: op(x, a, k), draw(rng, (2, 3, 4))) for a, k in ways] + [
            (lambda x: op(x), draw(rng, (5,))),
            (lambda x: op(x, 1), draw(rng, (4, 1))),
        ]

    return cases


def fixed(*makers):
    """Cases ``(op, shape, shape, ...)``."""
    return lambda rng: [(op, *(uniform(rng, shape) for shape in shapes)) for op, *shapes in makers]


def with_zeros(rng, shape):
    x = uniform(rng, shape)
    x[..., 0] = 0.0
    return x


def positive_definite(rng, shape):
    A = uniform(rng, shape)
    return A @ np.swapaxes(A, -1, -2) + 2 * np.eye(shape[-1])


def symmetrised(op):
    return lambda A: op(0.5 * (A + functions.swapaxes(A, -1, -2)))


def of_definite(op, *more):
    return lambda rng: [
        (op, positive_definite(rng, (*batch, 3, 3)), *(uniform(rng, (*batch, *shape)) for shape in more))
        for batch in ((), (2,))
    ]


def image_cases(rng):
    """The three convolutions, over strides, paddings and dilations."""
    cases = []
    for stride, padding, dilation in [
        ((1, 1), ((0, 0), (0, 0)), (1, 1)),
        ((2, 1), ((1, 1), (0, 2)), (1, 2)),
        ((3, 2), ((2, 0), (1, 1)), (2, 1)),
    ]:
        g = Geometry(stride, padding, dilation)
        x, W = uniform(rng, (2, 3, 7, 6)), uniform(rng, (4, 3, 2, 3))
        cases.append((g, x, W, uniform(rng, (2, 4, *g.out_shape(x.shape, W.shape)))))
    return cases


GATHER = np.array([2, 0, 2])
CASES = {
    "negative": entrywise(rules.negative),
    "add": pairwise(rules.add),
    "subtract": pairwise(rules.subtract),
    "multiply": pairwise(rules.multiply),
    "divide": pairwise(rules.divide, y=(0.5, 2.0)),
    "power": lambda rng: [
        *pairwise(rules.power, x=(0.5, 2.0))(rng),
        *((lambda x, p=p: x**p, uniform(rng, (4,), -2, -0.5)) for p in (0, 1, 2, 3, -1)),
        (lambda y: 2.0**y, uniform(rng, (3,))),
    ],
    "absolute": entrywise(rules.absolute),
    "square": entrywise(rules.square),
    "sqrt": entrywise(rules.sqrt, 0.5),
    "exp": entrywise(rules.exp),
    "expm1": entrywise(rules.expm1),
    "log": entrywise(rules.log, 0.5),
    "log1p": entrywise(rules.log1p, -0.5),
    "logaddexp": pairwise(rules.logaddexp),
    "sin": entrywise(rules.sin),
    "cos": entrywise(rules.cos),
    "tan": entrywise(rules.tan, -1, 1),
    "arcsin": entrywise(rules.arcsin, -0.9, 0.9),
    "arccos": entrywise(rules.arccos, -0.9, 0.9),
    "arctan": entrywise(rules.arctan),
    "arctan2": pairwise(rules.arctan2, x=(0.5, 2.0)),
    "sinh": entrywise(rules.sinh),
    "cosh": entrywise(rules.cosh),
    "tanh": entrywise(rules.tanh),
    "erf": entrywise(rules.erf),
    "ndtr": entrywise(rules.ndtr),
    "maximum": pairwise(rules.maximum),
    "minimum": pairwise(rules.minimum),
    "select": fixed(
        (lambda a, b: functions.where(np.array([True, False, True]), a, b), (2, 3), (3,)),
        (lambda a: functions.where(np.array([[True], [False]]), a, 0.5), (3,)),
    ),
    "sigmoid": entrywise(rules.sigmoid),
    "relu": entrywise(rules.relu),
    "silu": entrywise(rules.silu),
    "gelu": entrywise(rules.gelu_exact),
    "signed_log1p": entrywise(rules.signed_log1p),
    "softplus": entrywise(lambda x: rules.softplus(x, 1.7)),
    "leaky_relu": entrywise(lambda x: rules.leaky_relu(x, 0.1)),
    "elu": entrywise(lambda x: rules.elu(x, 1.3)),
    "sum": reducing(rules.sum),
    "mean": reducing(rules.mean),
    "prod": lambda rng: [*reducing(rules.prod)(rng), *reducing(rules.prod, with_zeros)(rng)],
    "max": reducing(rules.max),
    "min": reducing(rules.min),
    "logsumexp": reducing(rules.logsumexp),
    "softmax": fixed((lambda x: rules.softmax(x), (2, 4)), (lambda x: rules.softmax(x, 0), (3, 2))),
    "norm2": reducing(rules.norm2),
    "cumsum": fixed(
        (lambda x: rules.cumsum(x), (2, 3)), (lambda x: rules.cumsum(x, 1), (2, 3)), (lambda x: rules.cumsum(x), (0,))
    ),
    "reshape": fixed((lambda x: rules.reshape(x, (3, 2)), (2, 3)), (lambda x: rules.reshape(x, -1), (2, 3))),
    "transpose": fixed(
        (lambda x: rules.transpose(x), (2, 3, 4)), (lambda x: rules.transpose(x, (1, -1, 0)), (2, 3, 4))
    ),
    "getitem": fixed(
        (lambda x: x[1], (3, 2)),
        (lambda x: x[..., None, ::-2], (2, 5)),
        (lambda x: x[GATHER], (3, 2)),
        (lambda x: x[GATHER], (3,)),
        (lambda x: x[:, GATHER] * x[0, 1:2], (2, 3)),
        (lambda x: x[np.array([True, False, True])], (3, 2)),
    ),
    "scatter": fixed(
        (lambda x: rules.scatter(x, GATHER, (4,)), (3,)), (lambda x: rules.scatter(x, (0,), (2, 3)), (3,))
    ),
    "index_update": fixed(
        (lambda x, v: functions.index_update(x, (slice(None), 1), v), (2, 3), (2,)),
        (lambda x, v: functions.index_update(x, np.array([2, 0]), v), (3, 2), (2,)),
        (lambda x: functions.index_update(x, 0, 1.0), (3,)),
        (lambda v: functions.index_update(np.ones((2, 2)), 0, v), ()),
    ),
    "roll": fixed((lambda x: rules.roll(x, 2), (2, 3)), (lambda x: rules.roll(x, (1, -1), (0, 1)), (2, 3))),
    "flip": fixed((lambda x: rules.flip(x), (2, 3)), (lambda x: rules.flip(x, 1), (2, 3))),
    "pad": fixed(
        (lambda x: functions.pad(x, 1), (2, 3)), (lambda x: functions.pad(x, ((0, 2),), constant_values=3), (2,))
    ),
    "diag": fixed(
        (lambda x: rules.diag(x), (3,)), (lambda x: rules.diag(x, -1), (3,)), (lambda x: rules.diag(x, 1), (3, 4))
    ),
    "tril": fixed((lambda x: rules.tril(x), (3, 3)), (lambda x: rules.tril(x, 1), (2, 3, 4))),
    "triu": fixed((lambda x: rules.triu(x), (3, 3)), (lambda x: rules.triu(x, -1), (2, 3, 4))),
    "matmul": fixed(
        (rules.matmul2, (2, 3), (3, 4)), (rules.matmul2, (5, 2, 3), (3, 4)), (rules.matmul2, (5, 1, 2, 3), (2, 3, 1))
    ),
    "affine": fixed((rules.affine, (4, 3), (3, 2), (2,)), (rules.affine, (2, 4, 3), (3, 2), (2,))),
    "einsum2": fixed(
        (lambda x, y: functions.einsum("ij,jk", x, y), (2, 3), (3, 4)),
        (lambda x, y: functions.einsum("ij,kl->l", x, y), (2, 3), (3, 4)),
        (lambda x, y: functions.einsum("...i,ij->...j", x, y), (2, 2, 3), (3, 4)),
        (lambda x, y: functions.einsum("iij,j->i", x, y), (3, 3, 2), (2,)),
        (lambda x, y: functions.einsum("ij,ij->ij", x, y), (2, 3), (1, 3)),
        (lambda x, y: functions.einsum("i,jk,kl->l", x, y, 2 * y), (2,), (3, 3)),
    ),
    "einsum1": fixed(
        (lambda x: functions.einsum("ij->j", x), (2, 3)),
        (lambda x: functions.einsum("ii", x), (3, 3)),
        (lambda x: functions.einsum("ijk->kij", x), (2, 3, 4)),
    ),
    "solve": of_definite(rules.solve2, (3, 2)),
    "inv": of_definite(rules.inv),
    "logdet": of_definite(rules.logdet),
    "cholesky": of_definite(symmetrised(rules.cholesky)),
    "eigh_stack": of_definite(symmetrised(rules.eigh_stack)),
    "cross_entropy": fixed((rules.cross_entropy, (3, 4), (3, 4))),
    "standardize": fixed(
        (lambda x: rules.standardize(x, -1, 1e-5), (3, 4)), (lambda x: rules.standardize(x, (0, 2), 0.1), (3, 2, 2))
    ),
    "conv2d": lambda rng: [(lambda x, W, g=g: rules.conv2d(x, W, g), x, W) for g, x, W, _ in image_cases(rng)],
    "conv2d_input": lambda rng: [
        (lambda u, W, g=g, s=x.shape: rules.conv2d_input(u, W, s, g), u, W) for g, x, W, u in image_cases(rng)
    ],
    "conv2d_weight": lambda rng: [
        (lambda x, u, g=g, s=W.shape: rules.conv2d_weight(x, u, s, g), x, u) for g, x, W, u in image_cases(rng)
    ],
    "unbroadcast": fixed((lambda x: unbroadcast(x, (2, 1), np.dtype(float)), (3, 2, 4))),
    "broadcast_to": fixed((lambda x: broadcast_to(x, (3, 2, 4)), (2, 1))),
    "astype": fixed((lambda x: astype(x, np.dtype(float)), (3,))),
}
COMPOSED = {
    "concatenate": fixed(
        (lambda x, y: rules.concatenate([x, np.ones((1, 3)), y, x]), (2, 3), (4, 3)),
        (lambda x: rules.concatenate([x, x], -1), (2, 3)),
    ),
    "stack": fixed(
        (lambda x, y: functions.stack([x, y, x], 1), (2, 3), (2, 3)), (lambda x: functions.stack([x, 1.0]), ())
    ),
    "clip": entrywise(lambda x: functions.clip(x, -1.0, 1.5)),
    "clip to traced bounds": fixed((lambda x, a: functions.clip(x, a - 2, a + 2), (5,), ())),
    "var": reducing(lambda x, axis=None, keepdims=False: functions.var(x, axis, keepdims=keepdims)),
    "std": fixed((lambda x: functions.std(x, 0, ddof=1), (3, 2))),
    "sort": fixed((functions.sort, (5,))),
    "norm": fixed(
        (functions.norm, (2, 3)),
        (lambda x: functions.norm(x, 1), (3,)),
        (lambda x: functions.norm(x, np.inf, 1), (2, 3)),
        (lambda x: functions.norm(x, 3, 0), (2, 3)),
    ),
    "swapaxes": fixed((lambda x: functions.swapaxes(x, 0, -1), (2, 3, 4))),
    "moveaxis": fixed((lambda x: functions.moveaxis(x, 0, -1), (2, 3, 4))),
    "squeeze": fixed((functions.squeeze, (1, 3, 1)), (lambda x: functions.squeeze(x, -1), (1, 3, 1))),
    "expand_dims": fixed((lambda x: functions.expand_dims(x, -1), (2,))),
    "take": fixed((lambda x: functions.take(x, GATHER, 1), (2, 3)), (lambda x: functions.take(x, [0, 5]), (2, 3))),
    "trace": fixed((functions.trace, (3, 3))),
    "matmul": fixed(
        (functions.matmul, (3,), (3,)), (functions.matmul, (2, 3), (3,)), (functions.matmul, (3,), (5, 3, 2))
    ),
    "dot": fixed((functions.dot, (), (3,)), (functions.dot, (2, 3), (3,)), (functions.dot, (2, 3, 4), (5, 4, 2))),
    "outer": fixed((functions.outer, (2,), (3,))),
    "tensordot": fixed(
        (functions.tensordot, (2, 3, 4), (3, 4, 2)),
        (lambda x, y: functions.tensordot(x, y, ([0], [1])), (2, 3), (4, 2)),
    ),
    "kron": fixed((functions.kron, (2, 3), (3, 2)), (functions.kron, (2,), (3,))),
    "solve": of_definite(functions.solve, (3, 1)),
    "slogdet": of_definite(lambda A: functions.slogdet(A).logabsdet),
    "eigh": of_definite(symmetrised(lambda A: functions.eigh(A).eigenvalues)),
}
ALL = CASES | {f"functions.{name}": cases for name, cases in COMPOSED.items()}


def test_every_rule_has_a_check_and_every_check_a_rule():
    assert sorted(RULES) == sorted(CASES)


@pytest.mark.parametrize("name", ALL)
def test_both_modes_agree_with_central_differences_and_with_each_other(name):
    rng = np.random.default_rng(3)
    for op, *args in ALL[name](rng):
        out, pull = ad.vjp(op, *args)
        u, v = rng.standard_normal(out.shape), [rng.standard_normal(x.shape) for x in args]
        tangent = ad.jvp(op, args, v)[1]
        back = pull(u)
        assert [np.shape(c) for c in back] == [np.shape(x) for x in args]
        assert np.shape(tangent) == np.shape(out)
        np.testing.assert_allclose(tangent, central(op, args, v), rtol=1e-6, atol=1e-7)
        forward, reverse = np.sum(u * tangent), sum(np.sum(c * t) for c, t in zip(back, v, strict=True))
        assert abs(forward - reverse) <= 1e-10 * max(1.0, abs(forward))
        np.testing.assert_allclose(out, op(*args), rtol=1e-15, atol=0)


@pytest.mark.parametrize("name", ALL)
def test_second_derivatives_agree_with_differences_of_first_ones(name):
    rng = np.random.default_rng(4)
    for op, *args in ALL[name](rng):
        u, v = rng.standard_normal(np.shape(op(*args))), tuple(rng.standard_normal(x.shape) for x in args)

        def f(xs, op=op, u=u):
            return rules.sum(u * op(*xs))

        product = ad.hvp(f, tuple(args), v)
        for k, part in enumerate(product):
            expected = central(lambda *xs, k=k, f=f: ad.grad(f)(xs)[k], args, v)
            np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)
        reverse = ad.grad(lambda xs, f=f, v=v: sum(rules.sum(g * t) for g, t in zip(ad.grad(f)(xs), v, strict=True)))
        for part, other in zip(product, reverse(tuple(args)), strict=True):
            np.testing.assert_allclose(part, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_float32_stays_float32_in_value_and_cotangents(name):
    rng = np.random.default_rng(5)
    if name in ("astype", "unbroadcast"):
        return  # their dtype is an argument
    for op, *args in ALL[name](rng):
        single = [x.astype(np.float32) for x in args]
        out, pull = ad.vjp(op, *single)
        if out.dtype == np.float64:
            continue  # the case holds a float64 constant
        assert [c.dtype for c in pull(np.ones_like(out))] == [np.float32] * len(args)
        assert ad.jvp(op, single, single)[1].dtype == np.float32


def central(op, args, v, h=6e-6):
    """The derivative along `v`; the error is about ``h**2`` times the third derivative plus ``1e-16 / h``."""
    plus, minus = (np.asarray(op(*(x + s * h * t for x, t in zip(args, v, strict=True)))) for s in (1, -1))
    return (plus - minus) / (2 * h)


def by_taps(x, W, stride, padding, dilation):
    """Convolution as a sum over the filter's taps, put together from padding, slicing and products."""
    kh, kw = W.shape[2:]
    x = functions.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    height, width = ((n - dilation * (k - 1) - 1) // stride + 1 for n, k in ((x.shape[2], kh), (x.shape[3], kw)))
    total = 0.0
    for i, j in np.ndindex(kh, kw):
        top, left = i * dilation, j * dilation
        rows = slice(top, top + (height - 1) * stride + 1, stride)
        columns = slice(left, left + (width - 1) * stride + 1, stride)
        total = total + functions.einsum("nchw,oc->nohw", x[:, :, rows, columns], W[:, :, i, j])
    return total


def plain_normal(x, axes, eps):
    centred = x - rules.mean(x, axes, True)
    return centred / (rules.mean(centred * centred, axes, True) + eps) ** 0.5


def plain_cross_entropy(z, hit):
    return -rules.sum(hit * rules.log(rules.exp(z) / rules.sum(rules.exp(z), -1, True)), -1)


HIT = np.eye(4)[[0, 3, 1]]
FUSED = {
    "linear": (
        lambda x, W, b: ad.linear(x, W, b, "tanh"),
        lambda x, W, b: ad.tanh(functions.einsum("ni,io->no", x, W) + b),
        [(5, 3), (3, 4), (4,)],
    ),
    "linear with gelu": (
        lambda x, W, b: ad.linear(x, W, b, "gelu"),
        lambda x, W, b: (lambda z: 0.5 * z * (1 + ad.erf(z / 2**0.5)))(functions.einsum("ni,io->no", x, W) + b),
        [(5, 3), (3, 4), (4,)],
    ),
    "softmax_cross_entropy": (
        lambda z: ad.losses.softmax_cross_entropy(z, [0, 3, 1], reduction="none"),
        lambda z: plain_cross_entropy(z, HIT),
        [(3, 4)],
    ),
    "layer_norm": (
        ad.layer_norm,
        lambda x, gamma, beta: plain_normal(x, -1, 1e-5) * gamma + beta,
        [(3, 4), (4,), (4,)],
    ),
    "batch_norm": (
        ad.batch_norm,
        lambda x, gamma, beta: (
            plain_normal(x, (0, 2), 1e-5) * rules.reshape(gamma, (4, 1)) + rules.reshape(beta, (4, 1))
        ),
        [(3, 4, 2), (4,), (4,)],
    ),
    "conv2d": (
        lambda x, W, b: ad.conv2d(x, W, b, stride=2, padding=1, dilation=2),
        lambda x, W, b: by_taps(x, W, 2, 1, 2) + rules.reshape(b, (-1, 1, 1)),
        [(2, 3, 7, 6), (4, 3, 2, 3), (4,)],
    ),
    "conv1d": (
        lambda x, W: ad.conv1d(x, W, padding="valid"),
        lambda x, W: functions.squeeze(by_taps(x[:, :, None], W[:, :, None], 1, 0, 1), 2),
        [(2, 3, 7), (4, 3, 2)],
    ),
}


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("name", FUSED)
def test_a_fused_primitive_equals_its_composition_up_to_second_derivatives(name, backend):
    fused, composed, shapes = FUSED[name]
    rng = np.random.default_rng(6)
    args, v = (tuple(rng.standard_normal(shape) for shape in shapes) for _ in range(2))
    with numcore.backend(backend):
        out, pull = ad.vjp(fused, *args)
        expected, pull_composed = ad.vjp(composed, *args)
        u = rng.standard_normal(out.shape)
        close = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-11)  # noqa: E731
        close(out, expected)
        close(ad.jvp(fused, args, v)[1], ad.jvp(composed, args, v)[1])
        products = (ad.hvp(lambda xs, f=f: rules.sum(u * rules.square(f(*xs))), args, v) for f in (fused, composed))
        for ours, theirs in [(pull(u), pull_composed(u)), tuple(products)]:
            for x, y in zip(ours, theirs, strict=True):
                close(x, y)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_convolution_does_not_depend_on_how_many_images_are_done_at_a_time(monkeypatch, dtype, backend):
    rng = np.random.default_rng(7)
    x, W = rng.standard_normal((7, 3, 6, 5)).astype(dtype), rng.standard_normal((4, 3, 3, 3)).astype(dtype)

    def everything():
        out, pull = ad.vjp(lambda x, W: ad.conv2d(x, W, padding=1), x, W)
        rows = _conv.conv2d_weight(x, out, W.shape, Geometry((1, 1), ((1, 1), (1, 1)), (1, 1)), each=True)
        return (out, *pull(out), rows)

    rtol = 1e-4 if dtype == np.float32 else 1e-12
    with numcore.backend(backend):
        at_once = everything()
        for images in (0.5, 1, 3):  # of 27 x 30 entries each; half of one is one still
            monkeypatch.setattr(_conv, "CHUNK", int(images * 27 * 30))
            for ours, expected in zip(everything(), at_once, strict=True):
                assert ours.dtype == dtype
                np.testing.assert_allclose(ours, expected, rtol=rtol, atol=rtol * np.abs(expected).max())
