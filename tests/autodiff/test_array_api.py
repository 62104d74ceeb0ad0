"""Functions outside linear algebra and convolution run on any array-API library."""

import numpy as np
import pytest

from numcore import autodiff as ad

xp = pytest.importorskip("array_api_strict")

ENTRYWISE = (
    "exp log sqrt square tanh sin cos tan arctan sinh cosh log1p expm1 absolute sigmoid softplus relu silu gelu elu "
    "selu leaky_relu softsign erf"
)


def compare(f, *arrays):
    """Gradient and directional derivative on strict arrays as on NumPy's.

    (No second derivatives: a strict array on the left of an operator refuses a traced value on the right.)
    """
    strict = [xp.asarray(x) for x in arrays]
    ours = ad.grad(f, tuple(range(len(arrays))))(*strict)
    theirs = ad.grad(f, tuple(range(len(arrays))))(*arrays)
    for x, y in zip(ours, theirs, strict=True):
        assert type(x) is type(strict[0])
        np.testing.assert_allclose(np.asarray(x), y, rtol=1e-12, atol=1e-14)
    slope, expected = ad.jvp(f, strict, strict)[1], ad.jvp(f, arrays, arrays)[1]
    np.testing.assert_allclose(np.asarray(slope), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ENTRYWISE.split())
def test_entrywise_functions(name):
    compare(lambda x: ad.sum(getattr(ad, name)(x)), np.array([[0.3, 0.8], [1.5, 0.1]]))


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: ad.sum((x + y) * x / (y - 3.0) - 2.0 * x),
        lambda x, y: ad.sum(ad.maximum(x, y) * ad.minimum(x, 0.2)),
        lambda x, y: ad.sum(ad.where(x > y, x, y) ** 2),
        lambda x, y: ad.sum(ad.mean(x, 0) * y) + ad.max(x) * ad.min(y),
        lambda x, y: ad.sum(ad.logsumexp(x, 1)) + ad.sum(ad.softmax(x) * y),
        lambda x, y: ad.norm(x) + ad.sum(ad.var(x, 0) * y),
        lambda x, y: ad.sum(ad.concatenate([x, ad.reshape(y, (1, 3))], 0)[1:, 0] ** 2),
        lambda x, y: ad.sum(ad.matmul(x, ad.transpose(x)) ** 2) + ad.sum(ad.cumsum(y) ** 2),
        lambda x, y: ad.sum(ad.roll(x, 1, 0) * ad.flip(x, 1)) + ad.sum(ad.stack([y, y]) ** 2),
        lambda x, y: ad.sum(ad.layer_norm(x, y, y) ** 2),
        lambda x, y: ad.sum(ad.linear(ad.index_update(x, (0, ...), y), ad.transpose(x)) ** 2),
        lambda x, y: ad.prod(x) + ad.sum(x**3) + ad.sum(ad.logaddexp(x, y)) + ad.sum(ad.arctan2(x, y)),
    ],
)
def test_functions_of_two(f):
    rng = np.random.default_rng(0)
    compare(f, rng.uniform(0.2, 1.0, (2, 3)), rng.uniform(0.2, 1.0, 3))


@pytest.mark.parametrize("name", ["softmax", "stablemax", "z"])
def test_losses(name):
    y = np.array([0, 2, 1])
    per_row, rng = ad.losses.by_name(name), np.random.default_rng(1)
    z = rng.standard_normal((3, 3))
    ours = ad.grad(lambda z: ad.mean(per_row(z, xp.asarray(y))))(xp.asarray(z))
    np.testing.assert_allclose(np.asarray(ours), ad.grad(lambda z: ad.mean(per_row(z, y)))(z), rtol=1e-12)
