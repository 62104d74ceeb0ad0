"""Products with curvature matrices beside curvlinops and torch, and fits of the same net beside scikit-learn's.

All multiply the same matrix, at the same parameters, with the same vector; the error is of the product, relative, to
one in float64. Rows named "again" are of further products with an operator that is there already, "first" of making it
and of one product. curvlinops keeps nothing between products; torch is timed with its graph kept and without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.peers import Row, Run

BATCH, BATCHES, EPOCHS = 128, 10, 5
MIDDLE, LARGE = (64, 128, 128, 10), (784, 512, 512, 10)

Makers = Mapping[str, Callable[[], Run]]
Sizes = tuple[int, ...]


@cache
def problem(sizes: Sizes) -> tuple[Any, Any, Any, Any, Any]:
    """The net, its parameters, examples, labels, and the vector."""
    from numcore import autodiff as ad

    X = np.random.default_rng(1).standard_normal((BATCH, sizes[0]), dtype=np.float32)
    net = ad.nn.MLP(sizes)
    return net, net.init(rng=0), X, np.arange(BATCH) % sizes[-1], net.init(rng=1)


def operator(kind: str, net: Any, theta: Any, X: Any, y: Any) -> Any:
    from numcore import autodiff as ad
    from numcore.algorithms.curvature import fisher_operator, ggn_operator, hessian_operator

    def losses(theta: Any, X: Any, y: Any) -> Any:
        return ad.losses.softmax_cross_entropy(net(theta, X), y, reduction="none")

    if kind == "Hessian":
        return hessian_operator(lambda theta: ad.mean(losses(theta, X, y)), theta)
    if kind == "GGN":
        return ggn_operator(net, "softmax", theta, X, y)
    return fisher_operator(losses, theta, X, y)


@cache
def exact(kind: str, sizes: Sizes) -> Any:
    net, theta, X, y, v = problem(sizes)
    return operator(kind, net, theta.astype(float), X.astype(float), y) @ v.astype(float)


def error(kind: str, sizes: Sizes) -> Callable[[Any], float]:
    def measured(product: Any) -> float:
        truth = exact(kind, sizes)
        return float(np.linalg.norm(product - truth) / np.linalg.norm(truth))

    return measured


# we


def ours(kind: str, sizes: Sizes, first: bool) -> Run:
    net, theta, X, y, v = problem(sizes)
    A = operator(kind, net, theta, X, y)
    call = (lambda _: operator(kind, net, theta, X, y) @ v) if first else (lambda _: A @ v)
    return Run(call, error=error(kind, sizes))


# torch


def torch_parts(sizes: Sizes) -> tuple[Any, Any, Any, Any, Any]:
    """A module with our parameters, the batch, the vector in its shapes, and the way back to ours."""
    import torch

    torch.set_num_threads(1)
    net, theta, X, y, v = problem(sizes)
    layers: list[Any] = []
    for a, b in pairwise(sizes):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers[:-1])

    def shaped(flat: Any) -> list[Any]:
        return [torch.from_numpy(np.ascontiguousarray(part.T)) for part in net.views(flat).values()]

    with torch.no_grad():
        for parameter, value in zip(module.parameters(), shaped(theta), strict=True):
            parameter.copy_(value)

    def ravelled(parts: Any) -> Any:
        return np.concatenate([part.detach().numpy().T.ravel() for part in parts])

    return module, torch.from_numpy(X), torch.from_numpy(y), shaped(v), ravelled


def torch_run(call: Callable[[], Any], ravelled: Callable[[Any], Any], kind: str, sizes: Sizes) -> Run:
    measured = error(kind, sizes)
    return Run(lambda _: call(), error=lambda parts: measured(ravelled(parts)))


def torch_hessian(sizes: Sizes, keep: bool) -> Run:
    """Double backward."""
    import torch

    module, X, y, v, ravelled = torch_parts(sizes)
    parameters = list(module.parameters())

    def gradient() -> Any:
        loss = torch.nn.functional.cross_entropy(module(X), y)
        return torch.autograd.grad(loss, parameters, create_graph=True)

    kept = gradient() if keep else None

    def product() -> Any:
        return torch.autograd.grad(kept or gradient(), parameters, grad_outputs=v, retain_graph=keep)

    return torch_run(product, ravelled, "Hessian", sizes)


def torch_ggn(sizes: Sizes) -> Run:
    """``J v`` forward, the softmax's own curvature, then backward."""
    import torch

    module, X, _, v, ravelled = torch_parts(sizes)
    names = [name for name, _ in module.named_parameters()]
    parameters = tuple(p.detach() for p in module.parameters())

    def outputs(*parameters: Any) -> Any:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (X,))

    def product() -> Any:
        z, push = torch.func.jvp(outputs, parameters, tuple(v))
        p = torch.softmax(z, 1)
        bent = (p * push - p * (p * push).sum(1, keepdim=True)) / len(X)
        return torch.func.vjp(outputs, *parameters)[1](bent)

    return torch_run(product, ravelled, "GGN", sizes)


def torch_fisher(sizes: Sizes) -> Run:
    """``G v`` forward, then ``G^T`` backward."""
    import torch

    module, X, y, v, ravelled = torch_parts(sizes)
    names = [name for name, _ in module.named_parameters()]
    parameters = tuple(p.detach() for p in module.parameters())

    def losses(*parameters: Any) -> Any:
        z = torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (X,))
        return torch.nn.functional.cross_entropy(z, y, reduction="none")

    def product() -> Any:
        _, along = torch.func.jvp(losses, parameters, tuple(v))
        return torch.func.vjp(losses, *parameters)[1](along / len(X))

    return torch_run(product, ravelled, "Fisher", sizes)


def curvlinops(kind: str, sizes: Sizes) -> Run:
    import curvlinops as library
    import torch

    module, X, y, v, ravelled = torch_parts(sizes)
    names = {"Hessian": "HessianLinearOperator", "GGN": "GGNLinearOperator", "Fisher": "EFLinearOperator"}
    A = getattr(library, names[kind])(
        module, torch.nn.CrossEntropyLoss(), list(module.parameters()), [(X, y)], check_deterministic=False
    )
    return torch_run(lambda: A @ v, ravelled, kind, sizes)


# fits


def examples(sizes: Sizes) -> tuple[Any, Any]:
    X = np.random.default_rng(2).standard_normal((BATCHES * BATCH, sizes[0]), dtype=np.float32)
    return X, np.arange(len(X)) % sizes[-1]


def our_fit(sizes: Sizes, solver: str) -> Run:
    from numcore.algorithms.curvature import MFACClassifier

    X, y = examples(sizes)
    options = {"alpha": 0.0, "batch_size": BATCH, "max_iter": EPOCHS, "random_state": 0}
    net = MFACClassifier(sizes[1:-1], solver=solver, lr=1e-3, **options)
    return Run(lambda _: net.fit(X, y))


def sklearn_fit(sizes: Sizes) -> Run:
    from sklearn.neural_network import MLPClassifier

    X, y = examples(sizes)
    options = {"alpha": 0.0, "batch_size": BATCH, "max_iter": EPOCHS, "random_state": 0}
    net = MLPClassifier(sizes[1:-1], solver="adam", learning_rate_init=1e-3, **options)
    return Run(lambda _: net.fit(X, y))


# rows: what is compared


def products(kind: str, sizes: Sizes, first: bool) -> Makers:
    makers: dict[str, Callable[[], Run]] = {
        "ours": partial(ours, kind, sizes, first),
        "curvlinops": partial(curvlinops, kind, sizes),
    }
    if kind == "Hessian":
        makers["torch, double backward"] = partial(torch_hessian, sizes, keep=False)
        if not first:
            makers["torch, graph kept"] = partial(torch_hessian, sizes, keep=True)
    else:
        makers["torch.func"] = partial(torch_ggn if kind == "GGN" else torch_fisher, sizes)
    return makers


def fits(sizes: Sizes, solver: str) -> Makers:
    return {"ours": partial(our_fit, sizes, solver), "scikit-learn, Adam": partial(sklearn_fit, sizes)}


def product_row(kind: str, size: str, sizes: Sizes, first: bool, wanted: Mapping[str, float]) -> Row:
    name = f"{kind.lower()}-{size}-{'first' if first else 'again'}"
    title = f"{'-'.join(map(str, sizes))}, {kind} product, {'the first' if first else 'one more'}"
    contestants = partial(products, kind, sizes, first)
    return Row(name, title, contestants, wanted, error=1e-4, quick=size == "middle" and not first)


def fit_row(size: str, sizes: Sizes, solver: str, wanted: Mapping[str, float]) -> Row:
    title = f"{'-'.join(map(str, sizes))}, {EPOCHS * BATCHES} steps, {solver}"
    return Row(f"fit-{solver}-{size}", title, partial(fits, sizes, solver), wanted)


SMALL_AIM, LARGE_AIM = {"curvlinops": 4.0, "torch": 1.0}, {"curvlinops": 1 / 0.6, "torch": 1 / 1.1}
ROWS = (
    *(
        product_row(kind, size, sizes, first, aim if not first and (kind == "Hessian" or size == "middle") else {})
        for size, sizes, aim in (("middle", MIDDLE, SMALL_AIM), ("large", LARGE, LARGE_AIM))
        for kind in ("Hessian", "GGN", "Fisher")
        for first in (False, True)
    ),
    fit_row("middle", MIDDLE, "adam", {"scikit": 4}),
    fit_row("middle", MIDDLE, "mfac", {}),
    fit_row("large", LARGE, "adam", {"scikit": 4}),
    fit_row("large", LARGE, "mfac", {}),
)
