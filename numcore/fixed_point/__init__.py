"""Fixed points and sums of operators: iterations, their safeguards, and derivatives through the solution.

Everything here works on one point or, with ``batched=True``, on the rows of axis 0, each with its own history,
safeguard and end.
"""

from numcore.fixed_point._implicit import LinearResult, implicit_vjp
from numcore.fixed_point._iterate import FixedPointResult
from numcore.fixed_point._solve import fixed_point
from numcore.fixed_point._splitting import douglas_rachford, forward_backward, peaceman_rachford

__all__ = [
    "FixedPointResult",
    "LinearResult",
    "douglas_rachford",
    "fixed_point",
    "forward_backward",
    "implicit_vjp",
    "peaceman_rachford",
]
