r"""Domains, mirror maps and their Bregman divergences.

A domain knows its projection, centre, diameter and linear minimiser. A mirror map psi knows its gradient, the inverse
of that (the gradient of the conjugate), its Bregman divergence ``B(x, y) = psi(x) - psi(y) - <grad psi(y), x - y>``,
and the step

.. math:: x^+ = \arg\min_{z \in X}\ \eta \langle g, z \rangle + B(z, x)

on the domains for which there is an exact or nearly exact one. Points are vectors along the last axis, or matrices in
the last two (spectrahedron, cone, von Neumann entropy); leading axes are a batch.
"""

from numcore.mirror._domains import (
    Ball,
    Box,
    CustomDomain,
    Domain,
    PSDCone,
    Simplex,
    Spectrahedron,
    Unconstrained,
)
from numcore.mirror._entropies import Hypentropy, LogBarrier, NegativeEntropy
from numcore.mirror._intersection import Intersection
from numcore.mirror._maps import Euclidean, MirrorMap
from numcore.mirror._matrices import VonNeumannEntropy
from numcore.mirror._norms import Mahalanobis, PNorm

__all__ = [
    "Ball",
    "Box",
    "CustomDomain",
    "Domain",
    "Euclidean",
    "Hypentropy",
    "Intersection",
    "LogBarrier",
    "Mahalanobis",
    "MirrorMap",
    "NegativeEntropy",
    "PNorm",
    "PSDCone",
    "Simplex",
    "Spectrahedron",
    "Unconstrained",
    "VonNeumannEntropy",
]
