"""Nested parameters: dicts, lists, tuples, dataclasses and None with arrays at the leaves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from numcore.autodiff.boxes import Box
from numcore.autodiff.rules import concatenate, getitem, reshape

__all__ = ["flatten", "ravel", "tree_map"]


def tree_map(f: Callable[..., Any], *trees: Any) -> Any:
    """Apply `f` to corresponding leaves of trees of one structure.

    Parameters
    ----------
    f : callable
        Takes a leaf of each tree.
    *trees : nested dict, list, tuple, namedtuple or dataclass
        Anything else is a leaf; None is an empty tree. Keys of dicts are taken in sorted order.

    Returns
    -------
    tree
        Of the same structure.

    Raises
    ------
    ValueError
        If the structures differ.

    Examples
    --------
    >>> from numcore import autodiff as ad
    >>> ad.tree_map(lambda x, y: x + y, {"a": 1, "b": [2, None]}, {"a": 10, "b": [20, None]})
    {'a': 11, 'b': [22, None]}
    """
    columns = [flatten(tree)[0] for tree in trees]
    if any(_structure(tree) != _structure(trees[0]) for tree in trees[1:]):
        raise ValueError("trees must have the same structure")
    return flatten(trees[0])[1]([f(*leaves) for leaves in zip(*columns, strict=True)])


def flatten(tree: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """The leaves of `tree`, and what puts others in their place."""
    leaves: list[Any] = []
    _collect(tree, leaves)
    return leaves, lambda others: _rebuild(tree, iter(others))


def is_leaf(tree: Any) -> bool:
    """Whether `tree` is no node: an array, or anything else that trees are not made of."""
    return _children(tree) is None


def _children(tree: Any) -> list[Any] | None:
    """The parts of a node; None for a leaf."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [tree[key] for key in sorted(tree)]
    if isinstance(tree, (list, tuple)):
        return list(tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return [getattr(tree, field.name) for field in dataclasses.fields(tree)]
    return None


def _collect(tree: Any, leaves: list[Any]) -> None:
    children = _children(tree)
    if children is None:
        leaves.append(tree)
        return
    for child in children:
        _collect(child, leaves)


def _rebuild(tree: Any, leaves: Iterator[Any]) -> Any:
    children = _children(tree)
    if children is None:
        return next(leaves)
    built = [_rebuild(child, leaves) for child in children]
    if tree is None:
        return None
    if isinstance(tree, dict):
        made = dict(zip(sorted(tree), built, strict=True))
        return type(tree)((key, made[key]) for key in tree)
    if isinstance(tree, (list, tuple)):
        return type(tree)(*built) if hasattr(tree, "_fields") else type(tree)(built)
    return dataclasses.replace(
        tree, **{field.name: part for field, part in zip(dataclasses.fields(tree), built, strict=True)}
    )


def _structure(tree: Any) -> Any:
    children = _children(tree)
    if children is None:
        return "leaf"
    keys = tuple(sorted(tree)) if isinstance(tree, dict) else ()
    return type(tree).__name__, keys, tuple(map(_structure, children))


def ravel(tree: Any) -> tuple[Any, Callable[[Any], Any]]:
    """One flat vector from a tree of arrays, and the way back.

    Parameters
    ----------
    tree : nested dict, list, tuple, namedtuple or dataclass of arrays
        Keys of dicts are taken in sorted order.

    Returns
    -------
    theta : (d,) array
        All entries, leaf by leaf in C order.
    unravel : callable
        ``unravel(theta)`` gives the tree back, with views of `theta`; it can be differentiated.

    Examples
    --------
    >>> import numpy as np
    >>> from numcore import autodiff as ad
    >>> theta, unravel = ad.ravel({"W": np.ones((2, 2)), "b": np.zeros(1)})
    >>> theta
    array([1., 1., 1., 1., 0.])
    >>> unravel(2 * theta)["W"]
    array([[2., 2.],
           [2., 2.]])
    """
    leaves, rebuild = flatten(tree)
    leaves = [x if isinstance(x, Box) or hasattr(x, "dtype") else np.asarray(x, np.float64) for x in leaves]
    shapes = [tuple(x.shape) for x in leaves]
    size = sum(map(math.prod, shapes))

    def unravel(theta: Any) -> Any:
        if tuple(theta.shape) != (size,):
            raise ValueError(f"theta must have shape ({size},); got {tuple(theta.shape)}")
        parts, start = [], 0
        for shape in shapes:
            stop = start + math.prod(shape)
            parts.append(reshape(getitem(theta, slice(start, stop)), shape))
            start = stop
        return rebuild(parts)

    flat = [reshape(x, (-1,)) for x in leaves]
    return concatenate(flat) if flat else np.empty(0), unravel
