"""Training steps, Hessian products and per-example gradients beside torch, JAX, autograd and scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

PACKAGES = ("torch", "jax", "autograd", "scikit-learn")
RATE = {"sgd": 0.01, "adam": 1e-3}

Makers = Mapping[str, Callable[[], Run]]
Sizes = tuple[int, ...]


def problem(sizes: Sizes, m: int) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(1).standard_normal((m, sizes[0]), dtype=np.float32)
    return X, np.arange(m) % sizes[-1]


def repeated(step: Callable[[], Any]) -> Run:
    step()
    return Run(lambda _: step())


# we


def ours(sizes: Sizes, m: int, optimizer: str) -> Run:
    from numcore import autodiff as ad

    X, y = problem(sizes, m)
    net = ad.nn.MLP(sizes)
    theta = net.init(rng=0)
    g = np.empty_like(theta)
    opt = ad.optim.SGD(RATE["sgd"]) if optimizer == "sgd" else ad.optim.Adam(RATE["adam"])

    def step() -> None:
        net.loss_and_grad(theta, X, y, out=g)
        opt.step(theta, g)

    return repeated(step)


def our_product(sizes: Sizes, m: int) -> Run:
    from numcore import autodiff as ad

    X, y = problem(sizes, m)
    net = ad.nn.MLP(sizes)
    theta, v = net.init(rng=0), net.init(rng=1)
    return repeated(lambda: ad.hvp(lambda t: ad.losses.softmax_cross_entropy(net(t, X), y), theta, v))


def our_examples(sizes: Sizes, m: int) -> Run:
    from numcore import autodiff as ad

    X, y = problem(sizes, m)
    net = ad.nn.MLP(sizes)
    theta = net.init(rng=0)
    out = np.empty((m, net.n_params), np.float32)
    return repeated(lambda: net.per_example_grads(theta, X, y, out=out))


def our_gram(sizes: Sizes, m: int) -> Run:
    from numcore import autodiff as ad

    X, y = problem(sizes, m)
    net = ad.nn.MLP(sizes)
    theta = net.init(rng=0)
    return repeated(lambda: ad.per_example_jacobian(net, theta, X, y, loss="softmax").gram())


def our_convolution() -> Run:
    from numcore import autodiff as ad

    x, W = images()
    both = ad.value_and_grad(lambda x, W: ad.sum(ad.square(ad.conv2d(x, W, padding=1))), (0, 1))
    return repeated(lambda: both(x, W))


def our_chain() -> Run:
    from numcore import autodiff as ad

    slope = ad.grad(chain)
    return repeated(lambda: slope(1.0))


# torch


def torch_net(sizes: Sizes) -> Any:
    import torch

    torch.set_num_threads(1)
    layers: list[Any] = []
    for a, b in pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def torch_step(sizes: Sizes, m: int, optimizer: str) -> Run:
    import torch

    net = torch_net(sizes)
    X, y = (torch.from_numpy(a) for a in problem(sizes, m))
    cls = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
    opt = cls(net.parameters(), lr=RATE[optimizer])

    def step() -> None:
        opt.zero_grad()
        torch.nn.functional.cross_entropy(net(X), y).backward()
        opt.step()

    return repeated(step)


def torch_product(sizes: Sizes, m: int) -> Run:
    import torch

    net = torch_net(sizes)
    X, y = (torch.from_numpy(a) for a in problem(sizes, m))
    p = list(net.parameters())
    v = [torch.randn_like(x) for x in p]

    def product() -> Any:
        slopes = torch.autograd.grad(torch.nn.functional.cross_entropy(net(X), y), p, create_graph=True)
        return torch.autograd.grad(slopes, p, grad_outputs=v)

    return repeated(product)


def torch_examples(sizes: Sizes, m: int) -> Run:
    import torch
    from torch.func import functional_call, grad, vmap

    net = torch_net(sizes)
    X, y = (torch.from_numpy(a) for a in problem(sizes, m))
    p = {key: x.detach() for key, x in net.named_parameters()}

    def loss(p: Any, x: Any, label: Any) -> Any:
        return torch.nn.functional.cross_entropy(functional_call(net, p, (x[None],)), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    return repeated(lambda: each(p, X, y))


def torch_convolution() -> Run:
    import torch

    torch.set_num_threads(1)
    x, W = (torch.from_numpy(a).requires_grad_() for a in images())

    def both() -> Any:
        return torch.autograd.grad((torch.nn.functional.conv2d(x, W, padding=1) ** 2).sum(), (x, W))

    return repeated(both)


def torch_chain() -> Run:
    import torch

    def slope() -> Any:
        x = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        return torch.autograd.grad(chain(x), x)

    return repeated(slope)


# JAX


def jax_parts(sizes: Sizes, m: int) -> tuple[Any, Any, Any, Any]:
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    p = [
        (jnp.asarray(rng.standard_normal((a, b), dtype=np.float32) * (2 / a) ** 0.5), jnp.zeros(b, np.float32))
        for a, b in pairwise(sizes)
    ]
    X, y = (jnp.asarray(a) for a in problem(sizes, m))

    def losses(p: Any, X: Any, y: Any) -> Any:
        for k, (W, b) in enumerate(p):
            X = X @ W + b if k == len(p) - 1 else jax.nn.relu(X @ W + b)
        return jax.nn.logsumexp(X, axis=-1) - jnp.take_along_axis(X, y[..., None], -1)[..., 0]

    return losses, p, X, y


def jax_step(sizes: Sizes, m: int) -> Run:
    import jax

    losses, p, X, y = jax_parts(sizes, m)
    slope = jax.grad(lambda p: losses(p, X, y).mean())
    step = jax.jit(lambda p: jax.tree.map(lambda x, g: x - RATE["sgd"] * g, p, slope(p)), donate_argnums=0)
    state = [p]

    def run() -> None:
        state[0] = jax.block_until_ready(step(state[0]))

    return repeated(run)


def jax_product(sizes: Sizes, m: int) -> Run:
    import jax

    losses, p, X, y = jax_parts(sizes, m)
    slope = jax.grad(lambda p: losses(p, X, y).mean())
    product = jax.jit(lambda p, v: jax.jvp(slope, (p,), (v,))[1])
    return repeated(lambda: jax.block_until_ready(product(p, p)))


def jax_examples(sizes: Sizes, m: int) -> Run:
    import jax

    losses, p, X, y = jax_parts(sizes, m)
    each = jax.jit(jax.vmap(jax.grad(losses), in_axes=(None, 0, 0)))
    return repeated(lambda: jax.block_until_ready(each(p, X, y)))


# autograd, scikit-learn


def autograd_step(sizes: Sizes, m: int) -> Run:
    import autograd.numpy as anp
    from autograd import grad

    X, y = problem(sizes, m)
    rng, rows = np.random.default_rng(0), np.arange(m)
    p = [
        (rng.standard_normal((a, b), dtype=np.float32) * np.float32((2 / a) ** 0.5), np.zeros(b, np.float32))
        for a, b in pairwise(sizes)
    ]

    def loss(p: Any) -> Any:
        h = X
        for k, (W, b) in enumerate(p):
            h = anp.dot(h, W) + b if k == len(p) - 1 else anp.maximum(anp.dot(h, W) + b, 0)
        top = anp.max(h, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(h - top), axis=1)) + top[:, 0] - h[rows, y])

    slope = grad(loss)

    def step() -> None:
        for (W, b), (dW, db) in zip(p, slope(p), strict=True):
            W -= RATE["sgd"] * dW
            b -= RATE["sgd"] * db

    return repeated(step)


def autograd_chain() -> Run:
    from autograd import grad

    slope = grad(chain)
    return repeated(lambda: slope(1.0))


def sklearn_step(sizes: Sizes, m: int, optimizer: str) -> Run:
    from sklearn.neural_network import MLPClassifier

    X, y = problem(sizes, m)
    options = {"momentum": 0.0} if optimizer == "sgd" else {}
    net = MLPClassifier(sizes[1:-1], solver=optimizer, alpha=0.0, batch_size=m, learning_rate_init=0.001, **options)
    net.partial_fit(X, y, classes=np.arange(sizes[-1]))
    return repeated(lambda: net.partial_fit(X, y))


# rows: what is compared


def chain(x: Any) -> Any:
    for _ in range(1000):
        x = x * 1.0001
    return x


def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((64, 8, 16, 16), dtype=np.float32), rng.standard_normal((16, 8, 3, 3), dtype=np.float32)


def steps(sizes: Sizes, m: int, optimizer: str) -> Makers:
    makers: dict[str, Callable[[], Run]] = {
        "ours": partial(ours, sizes, m, optimizer),
        "torch": partial(torch_step, sizes, m, optimizer),
        "scikit-learn": partial(sklearn_step, sizes, m, optimizer),
    }
    if optimizer == "sgd":
        makers |= {"JAX jit": partial(jax_step, sizes, m), "autograd": partial(autograd_step, sizes, m)}
    return makers


def products(sizes: Sizes, m: int) -> Makers:
    return {
        "ours": partial(our_product, sizes, m),
        "torch": partial(torch_product, sizes, m),
        "JAX jit": partial(jax_product, sizes, m),
    }


def examples(sizes: Sizes, m: int) -> Makers:
    return {
        "ours": partial(our_examples, sizes, m),
        "torch vmap": partial(torch_examples, sizes, m),
        "JAX vmap": partial(jax_examples, sizes, m),
    }


def grams(sizes: Sizes, m: int) -> Makers:
    return {"ours": partial(our_gram, sizes, m), "ours, gradients only": partial(our_examples, sizes, m)}


SMALL, MIDDLE, LARGE = (8, 16, 16, 3), (64, 128, 128, 10), (784, 512, 512, 10)


def step_row(name: str, sizes: Sizes, m: int, optimizer: str, wanted: Mapping[str, float], quick: bool = False) -> Row:
    title = f"{'-'.join(map(str, sizes))}, batch {m}, {optimizer} step"
    return Row(name, title, partial(steps, sizes, m, optimizer), wanted, quick=quick)


ROWS = (
    step_row("sgd-small", SMALL, 16, "sgd", {"torch": 1 / 0.35}),
    step_row("adam-small", SMALL, 16, "adam", {"torch": 4}),
    step_row("sgd-middle", MIDDLE, 128, "sgd", {"torch": 1 / 0.75, "autograd": 4, "scikit": 5}, quick=True),
    step_row("adam-middle", MIDDLE, 128, "adam", {"torch": 1 / 0.65, "scikit": 5}, quick=True),
    step_row("sgd-large", LARGE, 128, "sgd", {"torch": 1 / 1.2, "autograd": 1 / 0.3, "scikit": 4}),
    step_row("adam-large", LARGE, 128, "adam", {"torch": 1 / 1.05, "scikit": 4}),
    Row("hvp-middle", "64-128-128-10, Hessian product", partial(products, MIDDLE, 128), {"torch": 1}, quick=True),
    Row("hvp-large", "784-512-512-10, Hessian product", partial(products, LARGE, 128), {"torch": 1 / 1.1}),
    Row("rows-middle", "64-128-128-10, per-example", partial(examples, MIDDLE, 128), {"torch": 1.5}, quick=True),
    Row("rows-large", "784-512-512-10, per-example", partial(examples, LARGE, 128), {"torch": 4}, memory=True),
    Row("gram-large", "784-512-512-10, Gram of per-example", partial(grams, LARGE, 128), memory=True),
    Row(
        "conv",
        "conv 64x8x16x16, 16 filters 3x3, with gradients",
        lambda: {"ours": our_convolution, "torch": torch_convolution},
        {"torch": 1 / 1.3},
    ),
    Row(
        "chain",
        "1000 scalar products, with gradient",
        lambda: {"ours": our_chain, "torch": torch_chain, "autograd": autograd_chain},
        {"autograd": 8},
        quick=True,
    ),
)
