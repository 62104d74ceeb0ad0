"""What comes in: array namespaces, dtype rules, checks whose errors name the argument, and random words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import array_api_compat
import array_api_compat.numpy
import numpy as np

__all__ = [
    "Array",
    "array_namespace",
    "as_choice",
    "as_count",
    "as_floating",
    "as_number",
    "as_out",
    "as_rng",
    "eps_of",
    "is_numpy",
    "mix",
    "to_numpy",
    "uniforms",
    "word_at",
]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

Array: TypeAlias = Any
"""An array of any array-API library: NumPy, CuPy, array-api-strict, ..."""


def array_namespace(*arrays: Array) -> Any:
    """The array-API namespace common to `arrays` (Python scalars and None are passed over).

    Raises
    ------
    TypeError
        If the arrays come from different libraries.
    """
    if all(type(x) is np.ndarray for x in arrays):  # asked in every iteration of every loop
        return array_api_compat.numpy
    return array_api_compat.array_namespace(*(x for x in arrays if x is not None))


def is_numpy(x: Array) -> bool:
    """Whether `x` is a NumPy array (or scalar)."""
    return isinstance(x, (np.ndarray, np.generic))


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """`x` as a NumPy array on the host, whatever library it comes from."""
    return np.asarray(x.get() if array_api_compat.is_cupy_array(x) else x)


def eps_of(x: Array) -> float:
    """The spacing of floats at 1 in the dtype of `x`."""
    return float(array_namespace(x).finfo(x.dtype).eps)


def as_floating(
    x: Any,
    name: str,
    *,
    ndim: int | Iterable[int] | None = None,
    shape: tuple[int | None, ...] | None = None,
    dtype: Any = None,
    like: Array | None = None,
    infinite: Literal["refuse", "positive", "allow", "unchecked"] = "refuse",
) -> Array:
    """`x` as a checked real array, uncopied where it can be: float32 and float64 stay, integers become float64.

    Parameters
    ----------
    x : array_like
        Anything NumPy can read, or an array of any array-API library, which stays one.
    name : str
        The argument's name, for the errors.
    ndim : int or iterable of int, optional
        The number(s) of dimensions allowed.
    shape : tuple, optional
        The shape expected; None stands for any length.
    dtype : dtype, optional
        Convert to this floating dtype after the check.
    like : array, optional
        Convert to the namespace and device of this array.
    infinite : {"refuse", "positive", "allow", "unchecked"}
        Whether infinite entries are legal. NaN never is, but a caller that will see it anyway can save the pass.

    Raises
    ------
    TypeError
        If `x` is complex, an object array, sparse or text.
    ValueError
        If it has another floating dtype (float16, longdouble), the wrong shape, or non-finite entries.
    """
    if hasattr(x, "tocsr"):
        raise TypeError(f"{name} must be a dense array; got a sparse {type(x).__name__}")
    if array_api_compat.is_array_api_obj(x) and not is_numpy(x):
        xp = array_namespace(x)
    elif like is not None and not is_numpy(like):
        xp = array_namespace(like)
        x = xp.asarray(_readable(x, name), device=array_api_compat.device(like))
    else:
        x = _readable(x, name)
        xp = array_namespace(x)
    x = _as_real(xp, x, name)
    _check_shape(x, name, ndim, shape)
    if infinite != "unchecked":
        _check_finite(xp, x, name, infinite)
    return x if dtype is None else xp.astype(x, dtype, copy=False)


def _readable(x: Any, name: str) -> np.ndarray[Any, Any]:
    try:
        x = np.asarray(x)
    except ValueError as failure:
        raise ValueError(f"{name} is not an array: {failure}") from None
    if x.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be real numbers; got dtype {x.dtype}")
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def _as_real(xp: Any, x: Array, name: str) -> Array:
    if x.dtype in (xp.float64, xp.float32):
        return x
    if xp.isdtype(x.dtype, "complex floating"):
        raise TypeError(f"{name} must be real; got dtype {x.dtype}")
    if not xp.isdtype(x.dtype, ("bool", "integral")):
        raise ValueError(f"{name} must be float32, float64 or integers; got dtype {x.dtype}")
    return xp.astype(x, xp.float64)


def _check_shape(x: Array, name: str, ndim: int | Iterable[int] | None, shape: tuple[int | None, ...] | None) -> None:
    if ndim is not None:
        allowed = (ndim,) if isinstance(ndim, int) else tuple(ndim)
        if x.ndim not in allowed:
            wanted = " or ".join(f"{k}-D" for k in allowed)
            raise ValueError(f"{name} must be {wanted}; got shape {tuple(x.shape)}")
    if shape is not None and (
        len(shape) != x.ndim or any(k not in (None, n) for k, n in zip(shape, x.shape, strict=True))
    ):
        wanted = ", ".join("any" if k is None else str(k) for k in shape)
        raise ValueError(f"{name} must have shape ({wanted}); got {tuple(x.shape)}")


def _check_finite(xp: Any, x: Array, name: str, infinite: str) -> None:
    # one cheap pass decides: the sum of finite numbers is finite unless it overflows
    with np.errstate(over="ignore", invalid="ignore"):
        total = xp.sum(x)
    if bool(xp.isfinite(total)):
        return
    bad = ~xp.isfinite(x) if infinite == "refuse" else xp.isnan(x)
    if infinite == "positive":
        bad = bad | (x == -xp.inf)
    count = int(xp.count_nonzero(bad))
    if count:
        what = {"refuse": "finite", "positive": "free of nan and -inf", "allow": "free of nan"}[infinite]
        raise ValueError(f"{name} must be {what}; {count} of its {x.size} entries are not")


def as_number(
    x: Any, name: str, *, above: float = -np.inf, below: float = np.inf, closed: bool = False, infinite: bool = False
) -> float:
    """`x` as a float with ``above < x < below`` (``<=`` if `closed`); inf itself passes if `infinite`.

    Raises
    ------
    TypeError
        If `x` is not a real number.
    ValueError
        If it lies outside.
    """
    try:
        if isinstance(x, (str, bytes)) or getattr(x, "ndim", 0) > 0:
            raise TypeError
        value = float(x)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number; got {x!r}") from None
    inside = above <= value <= below if closed else above < value < below
    if infinite and value == np.inf:
        return value
    if not inside or np.isinf(value):
        sign = "<=" if closed else "<"
        low = f"{above:g} {sign} " if above > -np.inf else ""
        high = f" {sign} {below:g}" if below < np.inf else ""
        raise ValueError(f"{name} must satisfy {low}{name}{high}{'' if infinite else ', finite'}; got {x!r}")
    return value


def as_count(x: Any, name: str, *, minimum: int = 1) -> int:
    """`x` as an int of at least `minimum`.

    Raises
    ------
    TypeError
        If `x` is not an integer (a bool is not).
    ValueError
        If it is too small.
    """
    if isinstance(x, (bool, np.bool_)) or not isinstance(x, (int, np.integer)):
        raise TypeError(f"{name} must be an integer; got {x!r}")
    if x < minimum:
        raise ValueError(f"{name} must be at least {minimum}; got {x}")
    return int(x)


def as_choice(x: Any, name: str, options: Iterable[Any]) -> Any:
    """`x`, checked to be one of `options`.

    Raises
    ------
    ValueError
        If it is not; the message lists the options.
    """
    options = tuple(options)
    if not any(x is option or (type(x) is type(option) and x == option) for option in options):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}; got {x!r}")
    return x


def as_out(out: Any, like: Array) -> Array:
    """`out`, checked to be an array that can receive a result of the shape and dtype of `like`.

    Raises
    ------
    TypeError
        If it is no array, or of another library.
    ValueError
        If its shape or dtype differ, or it is read-only.
    """
    if not array_api_compat.is_array_api_obj(out):
        raise TypeError(f"out must be an array; got {type(out).__name__}")
    array_namespace(like, out)  # refuses to mix libraries
    if out.shape != like.shape or out.dtype != like.dtype:
        raise ValueError(
            f"out must have shape {tuple(like.shape)} and dtype {like.dtype}; got {tuple(out.shape)} and {out.dtype}"
        )
    if is_numpy(out) and not out.flags.writeable:
        raise ValueError("out must be writeable; got a read-only array")
    return out


def as_rng(rng: Any) -> np.random.Generator:
    """A generator from anything :func:`numpy.random.default_rng` takes, or from a legacy ``RandomState``."""
    if isinstance(rng, np.random.RandomState):
        return np.random.Generator(rng._bit_generator)
    return np.random.default_rng(rng)


def word_at(seed: Any, places: Any) -> Any:
    """Random words as functions of a seed and a place, so that any part of a table or a chain can be drawn anywhere.

    They are those of SplitMix64, ``mix(seed + 0x9e3779b97f4a7c15 * place)`` modulo 2^64, of a seed, or of seeds, at an
    array of places, all uint64.

    References
    ----------
    G. L. Steele, D. Lea and C. H. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    """
    return mix(seed + GOLDEN * places)


def mix(z: Any) -> Any:
    """Scramble 64-bit words: the finaliser of SplitMix64, a bijection."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * FIRST
        z = (z ^ (z >> np.uint64(27))) * SECOND
        return z ^ (z >> np.uint64(31))


def uniforms(words: Any) -> Any:
    """A number in [0, 1) from each word: its upper 53 bits."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
