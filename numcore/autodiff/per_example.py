"""Gradients of each example's loss, from one forward and one backward pass of their sum.

The backward pass runs as ever, but stops short of the parameters: there the sum over examples has not been taken yet.
For a layer ``z = h W + b`` what arrives is the cotangent ``delta`` of z, and example i's gradient by W is the outer
product ``h_i delta_i^T``. It is written straight to its place in the caller's array, or kept as its two factors.

This needs examples to stay apart on the way, along axis 0. Where a step does not surely keep them apart, each example
is differentiated on its own.

References
----------
I. Goodfellow, "Efficient per-example gradient computations", 2015.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse.linalg

from numcore.arrays import as_choice
from numcore.autodiff import _conv, rules
from numcore.autodiff._forward import is_basic
from numcore.autodiff._loops import outer_rows
from numcore.autodiff.boxes import Tape, Var
from numcore.autodiff.engine import RULES, Scatter
from numcore.autodiff.losses import by_name
from numcore.autodiff.transforms import checked, value_and_grad
from numcore.autodiff.trees import ravel

__all__ = ["PerExampleJacobian", "per_example_grads", "per_example_jacobian"]


def per_example_grads(
    loss: Callable[..., Any], theta: Any, *batch: Any, out: Any = None, method: str = "auto"
) -> tuple[Any, Any]:
    """The loss of each example and its gradient.

    Parameters
    ----------
    loss : callable
        ``loss(theta, *batch)`` gives (m,) losses, where loss i depends on the i-th entry of each array only.
    theta : (d,) array or tree of arrays
        The parameters.
    *batch : array
        Examples along axis 0.
    out : (m, d) array, optional
        Where to put the gradients: C-contiguous, in the dtype of the parameters.
    method : {"auto", "tape", "loop"}
        "tape": one pass for all examples. "loop": a pass for each. "auto" takes the first where examples are surely
        kept apart, in linear and convolution layers, normalisation, entrywise functions and the like.

    Returns
    -------
    losses : (m,) array
    G : (m, d) array
        `out` where that is given. Columns in the order of :func:`ravel`.

    Raises
    ------
    ValueError
        If the loss is not of shape (m,), `out` does not fit, the batch is empty, or with ``method="tape"`` examples are
        not surely kept apart (batch statistics do mix them).

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> X = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> losses, G = ad.per_example_grads(lambda t, X: ad.square(X @ t), np.array([1.0, 0.0]), X)
    >>> G
    array([[ 2.,  4.],
           [18., 24.]])
    """
    as_choice(method, "method", ("auto", "tape", "loop"))
    flat, unravel = (theta, None) if type(theta) is np.ndarray and theta.ndim == 1 else ravel(theta)
    checked(flat, "theta")
    on_flat = loss if unravel is None else _on_flat(loss, unravel)
    batch = tuple(x if hasattr(x, "dtype") else np.asarray(x) for x in batch)
    if not batch or len(batch[0]) == 0:
        raise ValueError("batch must hold at least one example")
    m = len(batch[0])
    G = _checked_out(out, m, flat)
    if method != "loop":
        try:
            found = collect(on_flat, flat, batch)
        except Mixed as why:
            if method == "tape":
                raise ValueError(f'method "tape" does not apply: {why}') from None
        else:
            if all(use.write is not None for use in found.uses):
                fill(found, G)
                return found.losses, G
            if method == "tape":
                names = ", ".join(sorted({use.name for use in found.uses if use.write is None}))
                raise ValueError(f'method "tape" does not apply: {names} has no rule for single examples')
    losses = np.empty(m, flat.dtype)
    gradient = value_and_grad(lambda t, *one: rules.sum(on_flat(t, *one)))
    for i in range(m):
        losses[i], G[i] = gradient(flat, *(x[i : i + 1] for x in batch))
    return losses, G


def _on_flat(loss: Callable[..., Any], unravel: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda t, *batch: loss(unravel(t), *batch)


def _checked_out(out: Any, m: int, theta: Any) -> Any:
    shape = (m, len(theta))
    if out is None:
        return np.empty(shape, theta.dtype)
    if type(out) is not np.ndarray or out.shape != shape or out.dtype != theta.dtype:
        got = f"shape {out.shape} and dtype {out.dtype}" if hasattr(out, "dtype") else type(out).__name__
        raise ValueError(f"out must have shape {shape} and dtype {theta.dtype}; got {got}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out must be C-contiguous and writeable")
    return out


class Mixed(Exception):
    """A step on the tape that may mix examples."""


class Use(NamedTuple):
    """One place where parameters enter: what multiplies or shifts them, and the cotangent that arrives there."""

    name: str
    write: Any  # (use, target (m, ...) or None) -> the un-summed cotangent; None where there is no rule
    factor: Any  # h of an outer product; None for others
    g: Any
    arguments: tuple[Any, ...]
    view: Callable[[Any], Any]  # from (k, d) to the parameters' own place and shape, (k, ...)


class Found(NamedTuple):
    """All of them, with the losses."""

    losses: Any
    uses: list[Use]


def collect(loss: Callable[..., Any], theta: Any, batch: tuple[Any, ...]) -> Found:
    """Run forward and backward down to where the parameters enter."""
    m = len(batch[0])
    with Tape() as tape:
        out = loss(tape.leaf(theta), *batch)
    if tuple(getattr(out, "shape", ())) != (m,):
        raise ValueError(f"loss must return one value for each of {m} examples; got shape {getattr(out, 'shape', ())}")
    if type(out) is not Var or out.tape is not tape:
        return Found(out, [])
    views = _parameter_views(tape)
    if out.index in views:
        raise Mixed("the losses are entries of the parameters")
    uses: list[Use] = []
    cotangents: list[Any] = [None] * len(tape)
    cotangents[out.index] = np.ones(m, out.dtype)
    for k in range(out.index, 0, -1):
        g, cotangents[k] = cotangents[k], None
        if g is None:
            continue
        g = g.dense() if type(g) is Scatter else g
        for pull, parent, kept in tape[k]:
            if parent in views:
                uses.append(_use(pull, g, kept, views[parent], m))
                continue
            _check_apart(pull, g, kept, m)
            part, before = pull(g, *kept), cotangents[parent]
            if before is not None:
                part = part.dense() if type(part) is Scatter else part
                part = part + (before.dense() if type(before) is Scatter else before)
            cotangents[parent] = part
    return Found(out.value, uses)


# Which entries of the tape are parameters: the leaf, its slices, and those in other shapes.


def _parameter_views(tape: Tape) -> dict[int, Callable[[Any], Any]]:
    views: dict[int, Callable[[Any], Any]] = {0: lambda whole: whole}
    for k in range(1, len(tape)):
        if len(tape[k]) != 1 or tape[k][0][1] not in views:
            continue
        pull, parent, kept = tape[k][0]
        if pull is GETITEM and is_basic(kept[0]):
            views[k] = partial(_sliced, views[parent], *kept)
        elif pull is RESHAPE:
            views[k] = views[parent]  # the new shape shows where it is used
    return views


def _sliced(view: Any, key: Any, shape: tuple[int, ...], whole: Any) -> Any:
    return in_shape(view(whole), shape)[(slice(None), *(key if isinstance(key, tuple) else (key,)))]


def in_shape(part: Any, shape: tuple[int, ...]) -> Any:
    """A view of `part` (k, ...) with the trailing axes in another shape."""
    made = part.reshape(len(part), *shape)
    if made.size and not np.may_share_memory(made, part):
        raise Mixed("parameters are used in an order that is no view of the flat vector")
    return made


# Which steps keep examples apart, by the rule on the tape.


def _rule(name: str, argument: int = 0) -> Any:
    return RULES[name].vjps[argument]


GETITEM, RESHAPE = _rule("getitem"), _rule("reshape")
ENTRYWISE = {vjp for rule in RULES.values() if rule.elementwise for vjp in rule.vjps}
ALONG_AXES = {
    _rule(name)
    for name in ("sum", "mean", "prod", "max", "min", "logsumexp", "softmax", "norm2", "standardize", "cumsum")
}
ALWAYS = {_rule("affine"), _rule("conv2d"), _rule("cross_entropy"), _rule("astype")}


def _names(pull: Any) -> list[str]:
    return list(inspect.signature(pull).parameters)[1:]


def _opened(pull: Any, kept: tuple[Any, ...]) -> tuple[Any, tuple[int, ...] | None]:
    """The rule itself, and the shape that its result is then summed to (None: as it is)."""
    return (pull.args[0], pull.args[1]) if isinstance(pull, partial) else (pull, None)


def _check_apart(pull: Any, g: Any, kept: tuple[Any, ...], m: int) -> None:
    rule, shape = _opened(pull, kept)
    given = dict(zip(_names(rule), kept, strict=True)) if rule is not rules._piece else {"key": kept[0]}
    x_shape = tuple(given.get("x_shape", getattr(given.get("x", given.get("out")), "shape", ())))
    if g.shape[:1] != (m,):
        apart = rule in ALONG_AXES and _without_0(given, x_shape)
    elif rule in ENTRYWISE:
        apart = shape is None or (len(shape) == g.ndim and shape[0] == m)
    elif rule in ALONG_AXES:
        apart = _without_0(given, x_shape)
    elif rule is RESHAPE:
        apart = x_shape[:1] == (m,)
    elif rule is _rule("transpose"):
        apart = given["axes"] is not None and given["axes"][0] == 0
    elif rule is _rule("matmul"):
        apart = g.ndim == len(x_shape) and x_shape[0] == m
    elif rule is GETITEM or rule is rules._piece:
        apart = _keeps_rows(given["key"], m)
    else:
        apart = rule in ALWAYS
    if not apart:
        name = next((r.name for r in RULES.values() if rule in r.vjps), "a custom function")
        raise Mixed(f"{name} may mix examples")


def _without_0(given: dict[str, Any], x_shape: tuple[int, ...]) -> bool:
    axis = given.get("axis", given.get("axes"))
    if axis is None or not x_shape:
        return False
    return all(k % len(x_shape) != 0 for k in (axis if isinstance(axis, tuple) else (axis,)))


def _keeps_rows(key: Any, m: int) -> bool:
    first = key[0] if isinstance(key, tuple) and key else key
    if isinstance(first, slice):
        return first == slice(None)
    return isinstance(key, tuple) and isinstance(first, np.ndarray) and np.array_equal(first, np.arange(m))


# What a single example contributes, by the rule on the tape: the rule without its sum over examples.


def _use(pull: Any, g: Any, kept: tuple[Any, ...], view: Any, m: int) -> Use:
    rule, shape = _opened(pull, kept)
    name = next((r.name for r in RULES.values() if rule in r.vjps), "a custom function")
    if rule is _rule("affine", 1) or (rule is _rule("matmul", 1) and kept[1].ndim == 2):
        h = kept[0]
        inner = (h.shape[-1], g.shape[-1])
        write = _outer if g.ndim == 2 else _outer_summed
        return Use(name, write, h if g.ndim == 2 else None, g, (h,), _as(view, inner))
    if rule is _rule("affine", 2):
        return Use(name, _shift, None, g, (g.shape[-1:],), _as(view, g.shape[-1:]))
    if rule is _rule("conv2d", 1):
        x, W, geometry = kept
        return Use(name, _filters, None, g, (x, W.shape, geometry), _as(view, W.shape))
    if rule in ENTRYWISE and shape is not None and (len(shape) < g.ndim or shape[:1] == (1,)):
        return Use(name, _entrywise, None, g, (rule, kept, shape), _as(view, shape))
    return Use(name, None, None, g, (), view)


def _as(view: Any, shape: Any) -> Callable[[Any], Any]:
    return lambda whole: in_shape(view(whole), tuple(shape))


def _outer(use: Use, target: Any) -> Any:
    h = use.arguments[0]
    if target is None:
        target = np.empty((len(h), h.shape[1], use.g.shape[1]), use.g.dtype)
    outer_rows(np.ascontiguousarray(h, use.g.dtype), np.ascontiguousarray(use.g), target)
    return target


def _outer_summed(use: Use, target: Any) -> Any:
    h = use.arguments[0]
    rows, columns = h.reshape(len(h), -1, h.shape[-1]), use.g.reshape(len(h), -1, use.g.shape[-1])
    return np.matmul(rows.transpose(0, 2, 1), columns, out=target)


def _shift(use: Use, target: Any) -> Any:
    return np.sum(use.g.reshape(len(use.g), -1, use.g.shape[-1]), axis=1, out=target)


def _filters(use: Use, target: Any) -> Any:
    x, shape, geometry = use.arguments
    return _conv.conv2d_weight(x, use.g, shape, geometry, each=True, out=target)


def _entrywise(use: Use, target: Any) -> Any:
    rule, kept, shape = use.arguments
    whole = rule(use.g, *kept)
    inner = shape[len(shape) - (whole.ndim - 1) :] if len(shape) == whole.ndim else shape
    extra = whole.ndim - 1 - len(inner)
    axes = (*range(1, 1 + extra), *(k + 1 + extra for k, n in enumerate(inner) if n == 1))
    return np.sum(whole, axis=axes).reshape(len(whole), *shape).astype(use.g.dtype, copy=False)


def fill(found: Found, G: Any) -> None:
    """Write every example's gradient to its row of `G`."""
    covered = np.zeros((1, G.shape[1]), bool)
    for use in found.uses:
        target, done = use.view(G), use.view(covered)
        if done.any():
            target[:, ~done[0]] = 0
            target += use.write(use, None)
        else:
            part = use.write(use, target if target.dtype == use.g.dtype else None)
            if part is not target:
                target[...] = part
        done[...] = True
    if not covered.all():
        G[:, ~covered[0]] = 0


# The Jacobian that is never formed


class Block(NamedTuple):
    """The columns from `start` on: ``h_i delta_i^T`` where there is a factor `h`, `delta` itself otherwise."""

    start: int
    h: Any
    delta: Any

    @property
    def size(self) -> int:
        return int(self.delta.shape[1] * (1 if self.h is None else self.h.shape[1]))

    def dense(self) -> Any:
        """All columns."""
        if self.h is None:
            return self.delta
        return (self.h[:, :, None] * self.delta[:, None, :]).reshape(len(self.h), -1)


class PerExampleJacobian(scipy.sparse.linalg.LinearOperator):
    """The (m, d) matrix G of every example's gradient, kept as the factors of its layers' outer products.

    Made by :func:`per_example_jacobian`. It is a ``LinearOperator``: ``matvec(v)`` is G v, ``rmatvec(u)`` is
    G^T u. Layers other than linear ones are kept as they are.

    Attributes
    ----------
    losses : (m,) array
        Each example's loss.
    """

    def __init__(self, losses: Any, blocks: list[Block], d: int) -> None:
        super().__init__(losses.dtype, (len(losses), d))  # type: ignore[call-arg]
        self.losses, self.blocks = losses, blocks

    def _matvec(self, v: Any) -> Any:
        v = np.asarray(v, self.dtype).reshape(-1)
        total = np.zeros(self.shape[0], self.dtype)
        for b in self.blocks:
            part = v[b.start : b.start + b.size]
            if b.h is None:
                total += b.delta @ part
            else:
                total += np.einsum("ij,ij->i", b.h @ part.reshape(b.h.shape[1], -1), b.delta)
        return total

    def _rmatvec(self, u: Any) -> Any:
        u = np.asarray(u, self.dtype).reshape(-1)
        total = np.zeros(self.shape[1], self.dtype)
        for b in self.blocks:
            part = total[b.start : b.start + b.size]
            if b.h is None:
                part += u @ b.delta
            else:
                part += (b.h.T @ (u[:, None] * b.delta)).reshape(-1)
        return total

    def astype(self, dtype: Any) -> PerExampleJacobian:
        """The same matrix with factors, and so products, in another floating dtype."""
        blocks = [
            Block(b.start, None if b.h is None else b.h.astype(dtype), b.delta.astype(dtype)) for b in self.blocks
        ]
        return PerExampleJacobian(self.losses.astype(dtype), blocks, self.shape[1])

    def gram(self) -> Any:
        """The (m, m) matrix G G^T: for a linear layer ``(H H^T) o (Delta Delta^T)``."""
        total = np.zeros((self.shape[0],) * 2, self.dtype)
        for b in self.blocks:
            part = b.delta @ b.delta.T
            total += part if b.h is None else part * (b.h @ b.h.T)
        return total

    def sq_sum(self) -> Any:
        """The (d,) sums of the squares of each column."""
        total = np.zeros(self.shape[1], self.dtype)
        for b in self.blocks:
            square = b.delta * b.delta
            total[b.start : b.start + b.size] = (
                square.sum(axis=0) if b.h is None else ((b.h * b.h).T @ square).reshape(-1)
            )
        return total

    def row_norms(self) -> Any:
        """The (m,) Euclidean norms of the rows."""
        total = np.zeros(self.shape[0], self.dtype)
        for b in self.blocks:
            square = np.einsum("ij,ij->i", b.delta, b.delta)
            total += square if b.h is None else square * np.einsum("ij,ij->i", b.h, b.h)
        return np.sqrt(total)

    def columns(self, which: Any) -> Any:
        """Some columns, as an array.

        Parameters
        ----------
        which : slice or array of int

        Returns
        -------
        (m, k) array
        """
        if isinstance(which, slice) and which.step in (None, 1):
            return self._run(*which.indices(self.shape[1])[:2])
        places = np.arange(self.shape[1])[which]
        out = np.zeros((self.shape[0], len(places)), self.dtype)
        for b in self.blocks:
            hit = np.flatnonzero((places >= b.start) & (places < b.start + b.size))
            row, column = np.divmod(places[hit] - b.start, b.delta.shape[1])
            out[:, hit] = b.delta[:, column] if b.h is None else b.h[:, row] * b.delta[:, column]
        return out

    def _run(self, start: int, stop: int) -> Any:
        """Columns `start` to `stop`, one beside the other: whole outer products, of which the ends are cut off."""
        out = np.zeros((self.shape[0], max(stop - start, 0)), self.dtype)
        for b in self.blocks:
            first, last = max(start, b.start) - b.start, min(stop, b.start + b.size) - b.start
            if first >= last:
                continue
            top, part = 0, b.delta
            if b.h is not None:
                n = b.delta.shape[1]
                top = first // n * n
                part = (b.h[:, first // n : -(-last // n), None] * part[:, None, :]).reshape(len(out), -1)
            begin = b.start + first - start
            out[:, begin : begin + last - first] = part[:, first - top : last - top]
        return out

    def to_array(self, out: Any = None) -> Any:
        """The whole matrix, written to `out` where that is given."""
        if out is None:
            out = np.zeros(self.shape, self.dtype)
        elif type(out) is not np.ndarray or out.shape != self.shape or out.dtype != self.dtype:
            raise ValueError(f"out must be an array of shape {self.shape} and dtype {self.dtype}")
        else:
            out[...] = 0
        for b in self.blocks:
            target = out[:, b.start : b.start + b.size]
            if b.h is None:
                target[...] = b.delta
            else:
                outer_rows(b.h, b.delta, in_shape(target, (b.h.shape[1], b.delta.shape[1])))
        return out


def per_example_jacobian(net: Any, theta: Any, X: Any, y: Any, *, loss: Any = "softmax") -> PerExampleJacobian:
    """The matrix of every example's gradient, without forming it.

    Parameters
    ----------
    net : Module
        In evaluation mode: running statistics.
    theta : (d,) array
        Its parameters.
    X : (m, ...) array
    y : array
        As `loss` takes it.
    loss : str or callable, default="softmax"
        As for ``net.loss_and_grad``.

    Returns
    -------
    PerExampleJacobian
        Costs one forward and one backward pass; for linear layers it keeps m (n_in + n_out) numbers each.

    Raises
    ------
    ValueError
        If the net has a layer without a rule for single examples.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> net = ad.nn.MLP([4, 8, 3])
    >>> J = ad.per_example_jacobian(net, net.init(rng=0), np.ones((5, 4), np.float32), np.zeros(5, int), loss="softmax")
    >>> J.shape, J.gram().shape
    ((5, 67), (5, 5))
    """
    theta, per_row = net._checked(theta), by_name(loss)
    X = X if hasattr(X, "dtype") else np.asarray(X)
    return factored_jacobian(lambda t, X, y: per_row(net(t, X), y), theta, (X, y))


def factored_jacobian(loss: Callable[..., Any], theta: Any, batch: tuple[Any, ...]) -> PerExampleJacobian:
    """:func:`per_example_jacobian` of any ``loss(theta, *batch)`` that gives (m,)."""
    try:
        found = collect(loss, theta, batch)
    except Mixed as why:
        raise ValueError(f"the Jacobian cannot be kept by factors: {why}") from None
    missing = sorted({use.name for use in found.uses if use.write is None})
    if missing:
        raise ValueError(
            f"the Jacobian cannot be kept by factors: {', '.join(missing)} has no rule for single examples"
        )
    return PerExampleJacobian(found.losses, _blocks(found, len(theta)), len(theta))


def _blocks(found: Found, d: int) -> list[Block]:
    ruler, blocks = np.zeros((1, d), np.int8), []
    origin = ruler.__array_interface__["data"][0]
    for use in found.uses:
        place = use.view(ruler)
        if not place.flags.c_contiguous:
            raise ValueError("the Jacobian cannot be kept by factors: parameters are used with gaps")
        start = place.__array_interface__["data"][0] - origin
        if use.factor is not None:
            blocks.append(Block(start, np.ascontiguousarray(use.factor, use.g.dtype), use.g))
        else:
            blocks.append(Block(start, None, use.write(use, None).reshape(len(use.g), -1)))
    return _apart(sorted(blocks, key=lambda b: b.start))


def _apart(blocks: list[Block]) -> list[Block]:
    """Blocks that overlap, as parameters used twice do, added up to one."""
    done: list[Block] = []
    for b in blocks:
        if not done or done[-1].start + done[-1].size <= b.start:
            done.append(b)
            continue
        a = done.pop()
        stop = max(a.start + a.size, b.start + b.size)
        whole = np.zeros((len(a.delta), stop - a.start), a.delta.dtype)
        whole[:, : a.size] += a.dense()
        whole[:, b.start - a.start : b.start - a.start + b.size] += b.dense()
        done.append(Block(a.start, None, whole))
    return done
