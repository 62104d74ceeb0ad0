"""Mirror maps by the identities that define them, and their steps by the optimality of what they minimise."""

import math

import array_api_strict
import numpy as np
import pytest
import scipy.optimize

import numcore
from numcore.mirror import (
    Ball,
    Box,
    CustomDomain,
    Euclidean,
    Hypentropy,
    Intersection,
    LogBarrier,
    Mahalanobis,
    NegativeEntropy,
    PNorm,
    PSDCone,
    Simplex,
    Spectrahedron,
    Unconstrained,
    VonNeumannEntropy,
)
from numcore.results import ConvergenceWarning

DTYPES = [np.float32, np.float64]
A = np.array([[2.0, 0.3, 0, 0], [0.3, 1, 0, 0.1], [0, 0, 5, 0], [0, 0.1, 0, 0.5]])

MAPS = {
    "euclidean": Euclidean(),
    "entropy": NegativeEntropy(),
    "pnorm": PNorm(1.3),
    "pnorm_auto": PNorm(),
    "hypentropy": Hypentropy(0.7),
    "log_barrier": LogBarrier(),
    "mahalanobis": Mahalanobis(A),
    "von_neumann": VonNeumannEntropy(),
}


def point(name, rng, count=()):
    """Points at which the map is differentiable."""
    if name == "von_neumann":
        B = rng.normal(size=(*count, 4, 4))
        return B @ np.swapaxes(B, -1, -2) + 0.1 * np.eye(4)
    x = rng.normal(size=(*count, 4))
    return np.abs(x) + 0.05 if name in ("entropy", "log_barrier") else x


def inner(x, y, name):
    return np.sum(x * y, axis=(-2, -1) if name == "von_neumann" else -1)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_are_inverse_to_each_other(name):
    psi, x = MAPS[name], point(name, np.random.default_rng(0), (5,))
    np.testing.assert_allclose(psi.grad_conjugate(psi.grad(x)), x, rtol=1e-12, atol=1e-12)
    y = psi.grad(x)
    np.testing.assert_allclose(psi.grad(psi.grad_conjugate(y)), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_are_those_of_the_value(name):
    rng = np.random.default_rng(1)
    psi, x = MAPS[name], point(name, rng)
    d = rng.normal(size=x.shape)
    d = d + d.T if name == "von_neumann" else d
    h = 1e-6
    slope = (psi.value(x + h * d) - psi.value(x - h * d)) / (2 * h)
    assert slope == pytest.approx(float(inner(psi.grad(x), d, name)), rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("name", MAPS)
def test_the_divergence_is_what_defines_it_and_is_never_negative(name):
    rng = np.random.default_rng(2)
    psi, x, y = MAPS[name], point(name, rng, (50,)), point(name, rng, (50,))
    gap = psi.value(x) - psi.value(y) - inner(psi.grad(y), x - y, name)
    np.testing.assert_allclose(psi.divergence(x, y), gap, rtol=1e-9, atol=1e-11)
    assert (psi.divergence(x, y) > 0).all()
    close = y * (1 + 1e-9)
    assert (psi.divergence(close, y) >= 0).all() and (psi.divergence(close, y) < 1e-12).all()
    np.testing.assert_allclose(psi.divergence(y, y), 0, atol=1e-13)


@pytest.mark.parametrize("name", MAPS)
def test_the_three_point_identity_holds(name):
    rng = np.random.default_rng(3)
    psi, (x, y, z) = MAPS[name], (point(name, rng, (50,)) for _ in range(3))
    left = psi.divergence(x, y) + psi.divergence(y, z) - psi.divergence(x, z)
    right = inner(psi.grad(z) - psi.grad(y), x - y, name)
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", set(MAPS) - {"log_barrier"})
def test_the_modulus_of_strong_convexity_is_a_lower_bound(name):
    rng = np.random.default_rng(4)
    psi = MAPS[name]
    for _ in range(200):
        x, y = point(name, rng), point(name, rng)
        if name == "von_neumann":
            x, y = x / np.trace(x), y / np.trace(y)
        elif psi.norm == "l1":
            x, y = x / abs(x).sum(), y / abs(y).sum()
        d = x - y
        p = psi.exponent(4) if name.startswith("pnorm") else None
        size = {
            "l2": lambda d=d: np.linalg.norm(d),
            "l1": lambda d=d: abs(d).sum(),
            "lp": lambda d=d, p=p: np.linalg.norm(d, p),
            "A": lambda d=d: np.sqrt(d @ A @ d),
            "nuclear": lambda d=d: np.linalg.norm(d, "nuc"),
        }[psi.norm]()
        assert psi.divergence(x, y) >= psi.strong_convexity(4) * size**2 / 2 * (1 - 1e-12) - 1e-14


STEPS = [
    ("euclidean", Unconstrained()),
    ("euclidean", Simplex(2.0)),
    ("euclidean", Ball(0.7, center=[1.0, 0, 0, 0], norm="linf")),
    ("entropy", Simplex(2.0)),
    ("entropy", Unconstrained()),
    ("entropy", Box(0.1, [0.5, 1, 2, 3])),
    ("pnorm", Unconstrained()),
    ("pnorm_auto", Unconstrained()),
    ("hypentropy", Unconstrained()),
    ("hypentropy", Ball(1.5, norm="l1")),
    ("hypentropy", Simplex(1.5)),
    ("hypentropy", Box(-0.5, 0.4)),
    ("log_barrier", Simplex(2.0)),
    ("log_barrier", Box(0.1, 4.0)),
    ("mahalanobis", Unconstrained()),
    ("mahalanobis", Ball(0.7, center=[1.0, 0, 0, 0])),
    ("mahalanobis", Simplex(1.5)),
    ("mahalanobis", Box(-0.5, 0.4)),
    ("von_neumann", Spectrahedron(2.0)),
    ("von_neumann", PSDCone()),
]


def feasible(name, domain, rng):
    x = domain.project(point(name, rng))
    if name in ("entropy", "log_barrier", "hypentropy") and isinstance(domain, Simplex):
        return domain.scale * (0.9 * x / x.sum() + 0.1 / x.size)
    if name == "von_neumann":
        x = x + 0.1 * np.eye(4)
        return domain.trace * x / np.trace(x) if isinstance(domain, Spectrahedron) else x
    return x


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "domain"), STEPS, ids=lambda x: x if isinstance(x, str) else type(x).__name__)
def test_a_step_meets_the_variational_inequality(name, domain, seed):
    """At the minimum, <eta g + grad psi(z) - grad psi(x), u - z> >= 0 for all u in the domain."""
    rng = np.random.default_rng(seed)
    psi, x = MAPS[name], feasible(name, domain, rng)
    g = rng.normal(size=x.shape)
    g = g + g.T if name == "von_neumann" else g
    z = psi.step(x, g, 0.8, domain)
    assert domain.contains(z, 1e-11)
    slope = 0.8 * g + psi.grad(z) - psi.grad(x)
    for _ in range(100):
        u = domain.project(3 * point(name, rng))
        assert inner(slope, u - z, name) >= -1e-8
    np.testing.assert_allclose(psi.step(x, 0 * g, 0.8, domain), x, atol=1e-9)


def test_maps_that_contain_each_other_take_the_same_step():
    rng = np.random.default_rng(0)
    x, g = rng.normal(size=(2, 3, 4))
    plain = Euclidean().step(x, g, 0.3, Ball(1.0))
    np.testing.assert_allclose(Mahalanobis(np.eye(4)).step(x, g, 0.3, Ball(1.0)), plain, atol=1e-13)
    np.testing.assert_allclose(PNorm(2).step(x, g, 0.3), x - 0.3 * g, atol=1e-14)
    wide = Hypentropy(1e6).step(x, g, 0.3e-6)
    np.testing.assert_allclose(wide, x - 0.3 * g, rtol=1e-5)
    p = rng.dirichlet(np.ones(4))
    narrow = Hypentropy(1e-9).step(p, g[0], 0.3, Simplex())
    np.testing.assert_allclose(narrow, NegativeEntropy().step(p, g[0], 0.3, Simplex()), rtol=1e-7)
    matrix = VonNeumannEntropy().step(np.diag(p), np.diag(g[0]), 0.3, Spectrahedron())
    np.testing.assert_allclose(matrix, np.diag(NegativeEntropy().step(p, g[0], 0.3, Simplex())), atol=1e-14)


def test_a_matrix_in_float32_serves_points_in_float64():
    psi, y = Mahalanobis(A.astype(np.float32)), np.array([1.0, -2, 0.5, 3])
    np.testing.assert_allclose(psi.grad(psi.grad_conjugate(y)), y, rtol=1e-13)


def test_pnorm_takes_the_exponent_from_the_dimension():
    assert PNorm().exponent(2) == 2
    q = 2 * math.log(1000)
    assert PNorm().exponent(1000) == pytest.approx(q / (q - 1))
    assert PNorm().strong_convexity(1000) == pytest.approx(1 / (q - 1))


def test_zeros_stay_zeros_under_entropy_and_are_refused_by_the_barrier():
    x = np.array([0.0, 1.0, 1.0])
    assert NegativeEntropy().step(x, [-9.0, 0, 0], 1.0, Simplex(2.0))[0] == 0
    assert NegativeEntropy().divergence(x, [1.0, 1, 1]) == 1
    assert NegativeEntropy().divergence([1.0, 1, 1], x) == math.inf
    with pytest.raises(ValueError, match="^x must be positive; 1 of its 3"):
        LogBarrier().step(x, x, 1.0, Simplex(2.0))
    with pytest.raises(ValueError, match="^x must not be negative; 1"):
        NegativeEntropy().grad([-1.0, 2])
    with pytest.raises(ValueError, match="^x must be positive semidefinite"):
        VonNeumannEntropy().grad(np.diag([1.0, -1]))


def test_extreme_steps_stay_finite():
    g = np.array([1e300, -1e300, 0.0])
    for psi in (NegativeEntropy(), Hypentropy(), Euclidean()):
        x = psi.step(np.full(3, 1 / 3), g, 1.0, Simplex())
        np.testing.assert_allclose(x, [0, 1, 0], atol=1e-12)
    x = LogBarrier().step(np.full(3, 1 / 3), g, 1.0, Simplex())
    np.testing.assert_allclose(x, [0, 1, 0], atol=1e-12)
    assert np.isfinite(PNorm(1.1).step([1e-200, 1e-150], [1e-200, 0])).all()
    assert np.isfinite(PNorm(1.1).grad([1e300, 1e300])).all()


@pytest.mark.parametrize("mass", [1e-35, 1e-20, 1e30])
@pytest.mark.parametrize("psi", [NegativeEntropy(), LogBarrier(), Hypentropy(0.7), Euclidean()])
def test_steps_on_simplices_of_any_mass_keep_it_in_float32(psi, mass):
    x = (mass * np.array([0.5, 0.3, 0.2])).astype(np.float32)
    z = psi.step(x, np.float32([1, -1, 0]), 1.0, Simplex(mass))
    assert z.dtype == np.float32 and z.min() >= 0
    assert z.sum(dtype=np.float64) == pytest.approx(mass, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "domain"), STEPS, ids=lambda x: x if isinstance(x, str) else type(x).__name__)
def test_dtypes_and_libraries_stay_what_they_are(name, domain, dtype):
    rng = np.random.default_rng(0)
    x = feasible(name, domain, rng).astype(dtype)
    g = np.ones_like(x)
    psi = MAPS[name]
    z = psi.step(x, g, 0.3, domain)
    assert z.dtype == dtype and psi.grad(x).dtype == dtype and psi.divergence(x, x).dtype == dtype
    strict = psi.step(array_api_strict.asarray(x), array_api_strict.asarray(g), 0.3, domain)
    assert type(strict).__module__.startswith("array_api_strict")
    np.testing.assert_allclose(np.asarray(strict), z, rtol=1e-4, atol=1e-5)


# domains

D = 4
DOMAINS = {
    "ball": Ball(1.5),
    "shifted": Ball(1.5, center=np.arange(4.0)),
    "l1": Ball(1.5, norm="l1"),
    "linf": Ball(1.5, center=np.arange(4.0), norm="linf"),
    "box": Box([-1.0, 0, 0, -2], 2.0),
    "simplex": Simplex(1.5),
    "spectrahedron": Spectrahedron(1.5),
    "meet": Intersection([Box(0.0, 0.6), Ball(1.0)]),
}


def shape_of(domain):
    return (D, D) if domain.matrix else (D,)


@pytest.mark.parametrize("name", DOMAINS)
def test_domains_contain_their_centre_and_projections(name):
    domain, rng = DOMAINS[name], np.random.default_rng(0)
    assert domain.contains(domain.center(D))
    v = 5 * rng.normal(size=shape_of(domain))
    v = v + v.T if domain.matrix else v
    x = domain.project(v)
    assert domain.contains(x) and not domain.contains(v)
    for _ in range(100):
        z = domain.project(3 * rng.normal(size=v.shape))
        assert np.sum((v - x) * (z - x)) <= 1e-7


@pytest.mark.parametrize("name", set(DOMAINS) - {"meet"})
def test_the_linear_minimiser_is_in_the_set_and_no_point_is_lower(name):
    domain, rng = DOMAINS[name], np.random.default_rng(0)
    for _ in range(20):
        g = rng.normal(size=shape_of(domain))
        g = g + g.T if domain.matrix else g
        best = domain.linear_minimizer(g)
        assert domain.contains(best)
        for _ in range(30):
            z = domain.project(5 * rng.normal(size=g.shape))
            assert np.sum(g * best) <= np.sum(g * z) + 1e-9
    assert domain.contains(domain.linear_minimizer(0 * g))


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
@pytest.mark.parametrize("name", set(DOMAINS) - {"meet"})
def test_the_diameter_bounds_all_distances_and_some_reach_it(name, norm):
    domain, rng = DOMAINS[name], np.random.default_rng(0)
    diameter = domain.diameter(norm, dim=D)
    order = {"l2": 2, "l1": 1, "linf": np.inf}[norm]
    largest = 0.0
    for _ in range(400):
        g = rng.choice([-1.0, 0.0, 1.0], shape_of(domain), p=[0.4, 0.2, 0.4]) + 1e-9 * rng.normal(size=shape_of(domain))
        g = g + g.T if domain.matrix else g
        d = domain.linear_minimizer(g) - domain.linear_minimizer(-g)
        size = np.linalg.norm(np.linalg.eigvalsh(d) if domain.matrix else d, order)
        largest = max(largest, size)
    assert largest <= diameter * (1 + 1e-9)
    assert largest >= diameter * 0.95


def test_projection_on_an_intersection_agrees_with_a_solver():
    domain = Intersection([Simplex(), Box(0.0, 0.4)])
    v = np.array([2.0, 0.3, -1.0, 0.2])
    found = scipy.optimize.minimize(
        lambda x: ((x - v) ** 2).sum(),
        np.full(4, 0.25),
        bounds=[(0, 0.4)] * 4,
        constraints=[{"type": "eq", "fun": lambda x: x.sum() - 1}],
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(domain.project(v), found.x, atol=1e-6)
    with pytest.warns(ConvergenceWarning, match="Dykstra"):
        Intersection([Simplex(), Box(0.0, 0.4)], max_iter=1).project(v)


@pytest.mark.parametrize("size", [1e-150, 1e-12, 1e12, 1e150])
def test_projection_on_an_intersection_is_as_exact_at_any_scale(size):
    v = np.array([2.0, 0.3, -1.0, 0.2])
    x = Intersection([Simplex(size), Box(0.0, 0.4 * size)]).project(size * v)
    np.testing.assert_allclose(x / size, [0.4, 0.35, 0, 0.25], atol=1e-9)


def test_an_intersection_may_be_left_for_the_origin():
    np.testing.assert_array_equal(Intersection([Box(-1.0, 1.0), Box(0.0, 1.0)]).project([-1.0, -0.5]), [0, 0])


def test_a_custom_domain_uses_what_it_is_given():
    domain = CustomDomain(lambda v: np.maximum(v, 1), diameter=math.inf, center=[1.0, 1.0])
    assert domain.contains(domain.center(2)) and domain.diameter() == math.inf
    np.testing.assert_array_equal(Euclidean().step([1.0, 2.0], [5.0, -1.0], 1.0, domain), [1, 3])
    with pytest.raises(NotImplementedError, match="was given no linear_minimizer"):
        domain.linear_minimizer([1.0, 1.0])


REFUSED = [
    (lambda: Ball(0), ValueError, "radius must satisfy"),
    (lambda: Ball(norm="l3"), ValueError, "norm must be one of"),
    (lambda: Ball(center=[[1.0]]), ValueError, "center must be 1-D"),
    (lambda: Ball(center=[1.0, np.nan]), ValueError, "center must be finite"),
    (lambda: Ball(center=[1.0]).project([1.0, 2.0]), ValueError, "center must have shape"),
    (lambda: Ball().diameter("l1"), ValueError, "dim must be given"),
    (lambda: Box(1.0, 0.0), ValueError, "low must not be above high"),
    (lambda: Box([0.0, 0.0], np.ones(3)), ValueError, "low and high must be of one length; got 2 and 3"),
    (lambda: Box(np.inf, np.inf), ValueError, "low must be below inf"),
    (lambda: Simplex().linear_minimizer([]), ValueError, "g must hold vectors"),
    (lambda: Simplex().center(0), ValueError, "shape must be at least 1"),
    (lambda: Spectrahedron().linear_minimizer(np.ones((2, 3))), ValueError, "g must be square"),
    (lambda: Box(0.0, np.inf).linear_minimizer([-1.0]), ValueError, "g must be 0 where the box is unbounded"),
    (lambda: Simplex(0), ValueError, "scale must satisfy"),
    (lambda: Spectrahedron(-1), ValueError, "trace must satisfy"),
    (lambda: Intersection([]), TypeError, "domains must be a sequence"),
    (lambda: Intersection([1]), TypeError, "domains must be a sequence"),
    (lambda: Intersection([Ball()]).linear_minimizer([1.0]), NotImplementedError, "an Intersection has no linear"),
    (lambda: CustomDomain(3, diameter=1, center=[0.0]), TypeError, "project must be callable"),
    (lambda: Unconstrained().linear_minimizer([1.0]), ValueError, "g must be 0"),
    (lambda: PSDCone().linear_minimizer(-np.eye(2)), ValueError, "g must be positive semidefinite"),
    (lambda: PNorm(1), ValueError, "p must satisfy 1 < p"),
    (lambda: PNorm(2.1), ValueError, "p must satisfy 1 < p <= 2"),
    (lambda: Hypentropy(0), ValueError, "beta must satisfy"),
    (lambda: Mahalanobis([[1.0, 2.0], [2.0, 1.0]]), ValueError, "A must be positive definite"),
    (lambda: Mahalanobis([[1.0, 2.0], [0.0, 1.0]]), ValueError, "A must be symmetric"),
    (lambda: Mahalanobis(np.ones((2, 3))), ValueError, "A must be square"),
    (lambda: NegativeEntropy().step([1.0], [1.0], 1.0, Ball()), ValueError, "NegativeEntropy steps on a Simplex"),
    (lambda: PNorm(1.5).step([1.0], [1.0], 1.0, Ball()), ValueError, "PNorm steps on the whole space"),
    (lambda: Hypentropy().step([1.0], [1.0], 1.0, Ball()), ValueError, "Hypentropy steps on"),
    (lambda: LogBarrier().step([1.0], [-2.0], 1.0), ValueError, "gradient must be above"),
    (lambda: LogBarrier().step([0.5], [1.0], 1.0, Box(-1.0, 0.0)), ValueError, "domain must hold vectors of the orth"),
    (lambda: NegativeEntropy().step([0.5], [1.0], 1.0, Box(-2.0, -1.0)), ValueError, "domain must hold vectors of"),
    (lambda: NegativeEntropy().step([0.0], [1.0], 1.0, Simplex()), ValueError, "x must have a positive entry"),
    (lambda: Mahalanobis(np.ones((0, 0))), ValueError, "A must be square, not empty"),
    (lambda: LogBarrier().grad_conjugate([1.0]), ValueError, "y must be negative"),
    (lambda: VonNeumannEntropy().step(np.eye(2), np.eye(2), 1.0, Simplex()), ValueError, "VonNeumannEntropy steps on"),
    (lambda: VonNeumannEntropy().grad([1.0]), ValueError, "x must be square"),
    (lambda: Euclidean().step([1.0], [1.0, 2.0]), ValueError, "gradient must have the shape of x"),
    (lambda: Euclidean().step([1.0], [np.nan]), ValueError, "gradient must be finite"),
    (lambda: Euclidean().step([1.0], [1.0], -1.0), ValueError, "step_size must satisfy"),
    (lambda: Euclidean().value([1j]), TypeError, "x must be real"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match="^" + message):
        call()


@pytest.mark.parametrize("obj", [*DOMAINS.values(), *MAPS.values()], ids=lambda x: type(x).__name__)
def test_domains_and_maps_can_be_saved(obj, tmp_path):
    numcore.save(obj, tmp_path / "file")
    again = numcore.load(tmp_path / "file")
    assert type(again) is type(obj)
    if obj in DOMAINS.values():
        np.testing.assert_array_equal(again.center(D), obj.center(D))


def test_a_custom_domain_cannot_be_saved(tmp_path):
    domain = CustomDomain(np.abs, diameter=1.0, center=[1.0])
    with pytest.raises(TypeError, match=r"^obj\.project is"):
        numcore.save(domain, tmp_path / "file")
