"""Scalar functions to be inlined in Numba loops: exponentials, where ``np.exp`` would keep the loop from vectorising,
and random words.

The exponentials share one shape: split off an integral exponent ``n``, evaluate a polynomial on the remainder, and put
``n`` where the floating format keeps it. That is straight-line code without a branch or a table, which the compiler
turns into AVX-512, AVX2 or NEON as it finds them. Each function works in the type of its argument (float32 or float64),
gives NaN for NaN, and keeps its bounds under ``fastmath={"contract", "reassoc", "nsz"}``: fused multiply-adds are
explicit, and no compensated difference is left to be reassociated. (``nnan`` and ``ninf`` are never allowed: infinities
are legal here.)

They are called from jitted functions only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

__all__ = ["EXTEXP_LIMIT", "exp", "exp2", "extexp", "fma", "pow2", "word_at"]

EXTEXP_LIMIT = {np.dtype(np.float32): 2.0**18, np.dtype(np.float64): 2.0**46}
"""Where :func:`extexp` clips its argument: up to there ``x log2(e)`` is known to a fiftieth, and so ``n`` is right."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)


@register_jitable
def word_at(seed: Any, place: Any) -> Any:
    """That of ``numcore.arrays``, bit for bit, of uint64."""
    z = seed + GOLDEN * place
    z = (z ^ (z >> SHIFTS[0])) * FIRST
    z = (z ^ (z >> SHIFTS[1])) * SECOND
    return z ^ (z >> SHIFTS[2])


@register_jitable
def exp2(t: Any) -> Any:
    """``2**t`` to a relative error of 1.1e-7 (float32), 2.1e-16 (float64); exact at integers.

    Exactly 0 for ``t <= -125.5`` (float64: ``-1021.5``), ``-inf`` included, so no subnormal is ever returned; ``inf``
    from 128 (1024) on; NaN for NaN.

    ``t = n + r`` with ``|r| <= 1/2`` and ``2**t = 2 p(r) * 2**(n - 1)``. The factor 2 moves between the two so that
    ``2**(n - 1)`` is representable up to the largest result.
    """
    t = _between(t, _lowest_power(t), _highest_power(t))
    n = np.rint(t)
    return _twice_exp2_polynomial(t - n) * _power(n - _one(t))


@register_jitable
def exp(x: Any) -> Any:
    """``e**x`` to a relative error of 1.1e-7 (float32), 2.1e-16 (float64).

    Exactly 0 for ``x <= -87.0`` (float64: ``-708.1``) and ``-inf``; ``inf`` where the result overflows; NaN for NaN.

    ``x = n ln 2 + r`` with ``|r| <= ln(2)/2``, where ``r`` is found in two steps (Cody and Waite): ``n`` times the
    leading part of ``ln 2``, then ``n`` times the rest.
    """
    x = _between(x, _lowest_exponent(x), _highest_exponent(x))
    n = np.rint(x * _log2_e(x))
    return _twice_exp_polynomial(_remainder(x, n)) * _power(n - _one(x))


@register_jitable
def extexp(x: Any) -> Any:
    """The pair ``(m, n)`` with ``e**x = m * 2**n``, `n` integral and `m` in ``[0.69, 1.44]``: it cannot overflow.

    Relative error of `m`: 1.1e-7 (float32), 2.1e-16 (float64), plus ``2e-15 |x|`` (``2e-33 |x|``) from the reduction.
    `x` is clipped to ``+-EXTEXP_LIMIT``; a caller that sees an exponent from there must look at its data again. NaN
    gives a NaN mantissa.

    References
    ----------
    M. Dukhan and A. Ablavatski, "The Two-Pass Softmax Algorithm", IPDPSW 2020, section IV (ExtExp).
    """
    x = _between(x, -_extexp_limit(x), _extexp_limit(x))
    n = np.rint(x * _log2_e(x))
    return _exp_polynomial(_remainder(x, n)), n


@register_jitable
def pow2(n: Any) -> Any:
    """``2**n`` for integral `n`, exactly: 0 below the smallest normal exponent, ``inf`` above the largest."""
    return _power(_between(n, _zero_power(n), _infinite_power(n)))


@register_jitable
def _remainder(x: Any, n: Any) -> Any:
    """``x - n ln 2``; the first product is exact in the fused operation, and cancels."""
    return fma(-n, _ln_2_rest(x), fma(-n, _ln_2(x), x))


class _Format(NamedTuple):
    """A binary floating format: its width, the bits of its fraction, and the bias of its exponent field."""

    width: int
    fraction: int
    bias: int


_FORMATS = {types.float32: _Format(32, 23, 127), types.float64: _Format(64, 52, 1023)}


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c``, rounded once."""
    if a not in _FORMATS or not a == b == c:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, b, c), codegen


@intrinsic
def _between(typingctx: Any, x: Any, low: Any, high: Any) -> Any:
    """`x` clipped to ``[low, high]``; NaN stays, at no cost, since a comparison with it selects `x`."""
    if x not in _FORMATS or not x == low == high:
        return None

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, low, high = args
        x = builder.select(builder.fcmp_ordered(">", low, x), low, x)
        return builder.select(builder.fcmp_ordered("<", high, x), high, x)

    return x(x, low, high), codegen


@intrinsic
def _power(typingctx: Any, n: Any) -> Any:
    """``2**n`` for an integral `n` that the exponent field can hold (0 and ``inf`` are its first and last value).

    Adding 1.5 * 2**fraction leaves ``n + bias`` in the lowest bits, from where a shift takes it to the exponent field.
    This needs no conversion to integers, which AVX2 lacks for float64 and which NaN would make undefined.
    """
    if n not in _FORMATS:
        return None
    width, fraction, bias = _FORMATS[n]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        floating, integer = args[0].type, ir.IntType(width)
        low_bits = builder.fadd(args[0], ir.Constant(floating, 1.5 * 2.0**fraction + bias))
        field = builder.shl(builder.bitcast(low_bits, integer), ir.Constant(integer, fraction))
        return builder.bitcast(field, floating)

    return n(n), codegen


def _constant(value: Callable[[_Format], float]) -> Any:
    """A function ``constant(x)`` that stands for a number in the type of `x`."""

    @intrinsic
    def constant(typingctx: Any, x: Any) -> Any:
        if x not in _FORMATS:
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return ir.Constant(args[0].type, _rounded(value(_FORMATS[x]), x))

        return x(x), codegen

    return constant


def _polynomial(coefficients: dict[Any, tuple[float, ...]], factor: float = 1.0) -> Any:
    """A function that evaluates a polynomial by Horner's rule; coefficients by type, the highest power first."""

    @intrinsic
    def polynomial(typingctx: Any, x: Any) -> Any:
        if x not in _FORMATS:
            return None

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            first, *rest = (ir.Constant(args[0].type, factor * _rounded(c, x)) for c in coefficients[x])
            value = first
            for c in rest:
                value = builder.fma(value, args[0], c)
            return value

        return x(x), codegen

    return polynomial


def _rounded(value: float, kind: Any) -> float:
    return float(np.float32(value)) if kind == types.float32 else value


_LN_2 = math.log(2.0)
_LN_2_REST = {32: _LN_2 - float(np.float32(_LN_2)), 64: 2.3190468138462996e-17}

_one = _constant(lambda f: 1.0)
_log2_e = _constant(lambda f: 1.4426950408889634)
_ln_2 = _constant(lambda f: _LN_2)
_ln_2_rest = _constant(lambda f: _LN_2_REST[f.width])
_extexp_limit = _constant(lambda f: EXTEXP_LIMIT[np.dtype(f"f{f.width // 8}")])
# where the exponent field of 2**n holds 0 and its largest value
_zero_power = _constant(lambda f: -float(f.bias))
_infinite_power = _constant(lambda f: f.bias + 1.0)
# the same for 2**(n - 1), and in base e
_lowest_power = _constant(lambda f: 1.0 - f.bias)
_highest_power = _constant(lambda f: f.bias + 2.0)
_lowest_exponent = _constant(lambda f: (1.0 - f.bias) * _LN_2)
_highest_exponent = _constant(lambda f: (f.bias + 2.0) * _LN_2)

# Minimax in relative error with p(0) = 1, by Remez exchange in 60 digits; its error is 2.6e-9 and 1.8e-17.
_EXP2 = {
    types.float32: (
        1.5594717318e-4,
        1.3406659164e-3,
        9.6176927928e-3,
        5.5503105091e-2,
        2.4022652784e-1,
        6.9314721499e-1,
        1.0,
    ),
    types.float64: (
        4.0780723857453980759e-10,
        7.0725739274672115576e-9,
        1.0180648175877590114e-7,
        1.3215442657808182797e-6,
        1.5252727382611504292e-5,
        1.5403530441600755437e-4,
        1.333355815344418722e-3,
        9.6181291076069854462e-3,
        5.5504108664790369551e-2,
        2.4022650695910098033e-1,
        6.9314718055994569714e-1,
        1.0,
    ),
}
_EXP = {
    types.float32: (
        1.406127625e-3,
        8.3790206991e-3,
        4.1664776508e-2,
        1.6666365315e-1,
        5.0000004346e-1,
        1.0000000497,
        1.0,
    ),
    types.float64: (
        2.2981314109433343397e-8,
        2.762631028286666185e-7,
        2.7564256328258864499e-6,
        2.4801504478154109145e-5,
        1.9841261488033572752e-4,
        1.3888888932366607101e-3,
        8.3333333377180992748e-3,
        4.1666666666573562473e-2,
        1.6666666666657294867e-1,
        5.000000000000005578e-1,
        1.0000000000000005594,
        1.0,
    ),
}
_twice_exp2_polynomial = _polynomial(_EXP2, 2.0)
_twice_exp_polynomial = _polynomial(_EXP, 2.0)
_exp_polynomial = _polynomial(_EXP)
