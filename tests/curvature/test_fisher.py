"""The empirical Fisher matrix against dense inverses, the paper's recurrence and extended precision."""

import pickle
import sys
import tracemalloc
import warnings

import array_api_strict
import numpy as np
import pytest
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import numcore
from numcore import autodiff as ad
from numcore.algorithms.curvature import EmpiricalFisher

LAM = 0.3


def dense(G, lam, c=None, blocks=None):
    """F from its definition."""
    m, d = G.shape
    F = lam * np.eye(d) + G.T @ G / (max(m, 1) if c is None else c)
    if blocks is not None:
        blocks = [slice(j, j + blocks) for j in range(0, d, blocks)] if isinstance(blocks, int) else blocks
        inside = np.zeros((d, d), bool)
        for block in blocks:
            i = np.arange(d)[block]
            inside[np.ix_(i, i)] = True
        F[~inside] = 0
    return F


def exact_steps(G, lam, c):
    """``F^-1 g_i`` for all rows as c G^T K^-1, by a Cholesky factor in extended precision."""
    G = G.astype(np.longdouble)
    K = G @ G.T + c * np.longdouble(lam) * np.eye(len(G), dtype=np.longdouble)
    n = len(K)
    L = np.zeros_like(K)
    for i in range(n):
        for j in range(i + 1):
            rest = K[i, j] - L[i, :j] @ L[j, :j]
            L[i, j] = np.sqrt(rest) if i == j else rest / L[j, j]
    S = np.eye(n, dtype=np.longdouble)
    for i in range(n):
        S[i] = (S[i] - L[i, :i] @ S[:i]) / L[i, i]
    for i in reversed(range(n)):
        S[i] = (S[i] - L[i + 1 :, i] @ S[i + 1 :]) / L[i, i]
    return c * (S.T @ G)


def rows_with(rng, kind, m=7, d=40):
    G = rng.standard_normal((m, d))
    if kind == "duplicates":
        G[3:] = G[0]
    elif kind == "zero rows":
        G[[1, 4]] = 0
    elif kind == "all zero":
        G[:] = 0
    return G


CASES = {
    "wide": ("random", 7, 40, None, None),
    "tall": ("random", 60, 20, None, None),
    "square": ("random", 12, 12, None, None),
    "one row": ("random", 1, 9, None, None),
    "one column": ("random", 5, 1, None, None),
    "no rows": ("random", 0, 6, None, None),
    "other normaliser": ("random", 7, 40, 2.5, None),
    "duplicates": ("duplicates", 7, 40, None, None),
    "zero rows": ("zero rows", 7, 40, None, None),
    "all zero": ("all zero", 7, 40, None, None),
    "primal blocks": ("random", 7, 40, None, 6),
    "dual blocks, the last shorter": ("random", 7, 40, None, 11),
    "scattered blocks": ("random", 7, 40, 3.0, [slice(0, 30, 2), np.arange(30, 40), [1, 3, 5], np.arange(7, 30, 2)]),
}


@pytest.mark.parametrize("factor", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_every_figure_is_that_of_the_dense_matrix(rng, name, factor):
    kind, m, d, c, blocks = CASES[name]
    G = rows_with(rng, kind, m, d)
    fisher = EmpiricalFisher(G, damp=LAM, scale=c, blocks=blocks, factor=factor)
    F = dense(G, LAM, c, blocks)
    inverse = np.linalg.inv(F)
    x, X = rng.standard_normal(d), rng.standard_normal((d, 3))
    i, j = rng.integers(-d, d, (2, 30))
    for ours, theirs in [
        (fisher.todense(), F),
        (fisher @ x, F @ x),
        (fisher @ X, F @ X),
        (fisher.rmatvec(x), F @ x),
        (fisher.diagonal(), np.diag(F)),
        (fisher.trace(), np.trace(F)),
        (fisher.logdet(), np.linalg.slogdet(F)[1]),
        (fisher.solve(x), inverse @ x),
        (fisher.solve(X, refine=1), inverse @ X),
        (fisher.inv @ x, inverse @ x),
        (fisher.inv @ X, inverse @ X),
        (fisher.inv.T @ x, inverse @ x),
        (fisher.inverse_diagonal(), np.diag(inverse)),
        (fisher.inverse_element(i, j), inverse[i, j]),
        (fisher.inverse_element(d - 1, 0), inverse[-1, 0]),
        (fisher.inverse_block(i), inverse[np.ix_(i, i)]),
        (fisher.inverse_block(slice(0, d, 3)), inverse[::3, ::3]),
        (fisher.inverse_todense(), inverse),
        (fisher.inverse_trace(), np.trace(inverse)),
        (fisher.coefficients(x), G @ x),
        (fisher.gram, G @ G.T),
    ]:
        assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11)
    if m:
        assert_allclose(fisher.solve_row(-1), inverse @ G[-1], rtol=1e-9, atol=1e-11)
    if blocks is None:
        a, A = rng.standard_normal(m), rng.standard_normal((m, 2))
        assert_allclose(fisher.solve_coefficients(a), inverse @ (G.T @ a), rtol=1e-9, atol=1e-11)
        assert_allclose(fisher.solve_coefficients(A), inverse @ (G.T @ A), rtol=1e-9, atol=1e-11)
        assert_allclose(fisher.combination(A), G.T @ A, rtol=1e-9, atol=1e-11)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_recurrence_of_the_paper_gives_the_same(rng):
    m, d, lam = 9, 30, 1e-2
    G = rng.standard_normal((m, d))
    fisher = EmpiricalFisher(G, damp=lam)
    H, V, q = np.eye(d) / lam, [], []
    for g in G:  # H_i^-1 = H_(i-1)^-1 - v_i v_i^T / q_i
        v = H @ g
        V.append(v)
        q.append(m + g @ v)
        H = H - np.outer(v, v) / q[-1]
    # lam^-1 = 100 against entries of 1: two digits are lost to the differences
    assert_allclose(fisher.inverse_todense(), H, rtol=1e-10, atol=1e-11)
    K = G @ G.T + m * lam * np.eye(m)
    L = np.linalg.cholesky(K)
    assert_allclose(np.diag(L) ** 2, lam * np.array(q), rtol=1e-10)
    assert_allclose((np.diag(L) / lam)[:, None] * np.linalg.solve(L, G), V, rtol=1e-10, atol=1e-10)


@given(st.integers(0, 12), st.integers(1, 25), st.integers(0, 2**32 - 1), st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_solve_undoes_the_product_whatever_the_blocks(m, d, seed, exponent):
    rng = np.random.default_rng(seed)
    lam = 10.0**exponent
    names = rng.integers(0, 4, d)
    blocks = [np.flatnonzero(names == k) for k in rng.permutation(4) if np.any(names == k)]
    fisher = EmpiricalFisher(rng.standard_normal((m, d)), damp=lam, blocks=blocks)
    x = rng.standard_normal(d)
    # the condition is at most (1 + d (25 + m) / lam): 1e6
    assert_allclose(fisher.solve(fisher @ x), x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("norm", [1e-3, 1e-1, 1.0, 10.0, 70.0, 1e3])
@pytest.mark.parametrize("kind", ["independent", "correlated", "duplicated"])
def test_steps_along_a_gradient_are_exact_in_float32(rng, kind, norm):
    m, d, lam = 16, 2000, 1e-5
    G = rng.standard_normal((m, d))
    if kind == "correlated":
        G = G[0] + 0.01 * G
    elif kind == "duplicated":
        G[1:] = G[0]
    G = (norm * G / np.linalg.norm(G, axis=1, keepdims=True)).astype(np.float32)
    fisher = EmpiricalFisher(G, damp=lam)
    exact = exact_steps(G, lam, m)
    bound = 1e-6 if kind == "independent" else 1e-5
    for i in (0, m - 1):
        step = fisher.solve_row(i)
        assert step.dtype == np.float32
        assert np.linalg.norm(step - exact[i]) <= bound * np.linalg.norm(exact[i])
    mean = fisher.solve_coefficients(np.full(m, 1 / m))
    assert np.linalg.norm(mean - exact.mean(0)) <= bound * np.linalg.norm(exact.mean(0))


def test_small_gradients_beside_large_and_equal_ones_keep_their_steps(rng):
    G = rng.standard_normal((12, 2000))
    G[:6] = G[0]
    # some are 1e-16 of others in the square, yet no rounding of theirs
    G = (np.repeat([1e3, 1e-5], 6)[:, None] * G / np.linalg.norm(G, axis=1, keepdims=True)).astype(np.float32)
    fisher, exact = EmpiricalFisher(G, damp=1e-5), exact_steps(G, 1e-5, 12)
    for i in range(12):
        assert np.linalg.norm(fisher.solve_row(i) - exact[i]) <= 1e-5 * np.linalg.norm(exact[i])


def test_the_difference_formula_in_float32_loses_what_the_identity_keeps(rng):
    m, d, lam = 64, 20_000, 1e-5
    G = rng.standard_normal((m, d), dtype=np.float32)
    G *= np.float32(70) / np.linalg.norm(G, axis=1, keepdims=True)
    exact = EmpiricalFisher(G.astype(np.float64), damp=lam).solve_row(-1)
    K = G @ G.T + np.float32(m * lam) * np.eye(m, dtype=np.float32)
    difference = (G[-1] - G.T @ np.linalg.solve(K, G @ G[-1])) / np.float32(lam)
    assert np.linalg.norm(difference - exact) > 0.05 * np.linalg.norm(exact)
    assert np.linalg.norm(EmpiricalFisher(G, damp=lam).solve_row(-1) - exact) < 1e-6 * np.linalg.norm(exact)


def test_refinement_takes_out_the_error_that_a_float32_gram_leaves(rng):
    G = (1 + 0.1 * rng.standard_normal((20, 500))).astype(np.float32)
    x = rng.standard_normal(500).astype(np.float32)
    exact = EmpiricalFisher(G.astype(np.float64), damp=1e-2).solve(x.astype(np.float64))
    rough = EmpiricalFisher(G, damp=1e-2, gram_dtype="float32")
    before, after = (np.abs(rough.solve(x, refine=k) - exact).max() for k in (0, 2))
    assert after < 1e-6 * np.abs(exact).max() < before


def test_the_diagonal_in_float32_agrees_with_float64(rng):
    G = rng.standard_normal((40, 30_000), dtype=np.float32)
    ours = EmpiricalFisher(G, damp=1e-5).inverse_diagonal()
    exact = EmpiricalFisher(G.astype(np.float64), damp=1e-5).inverse_diagonal()
    assert ours.dtype == np.float32
    assert_allclose(ours, exact, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_inverse_diagonal_stays_between_its_bounds_where_the_difference_cancels(rng, dtype):
    G = np.zeros((4, 50), dtype)
    G[np.arange(4), np.arange(4)] = 1e6  # F_jj / lam = 1e17
    diagonal = EmpiricalFisher(G, damp=1e-5, factor=dtype == np.float64).inverse_diagonal()
    F = 1e-5 + np.sum(G.astype(float) ** 2, axis=0) / 4
    assert np.all(diagonal >= (1 - 1e-6) / F)
    assert np.all(diagonal <= (1 + 1e-6) / 1e-5)


@pytest.mark.parametrize("blocks", [None, 64])
def test_with_damp_is_the_matrix_at_that_damp_and_leaves_the_first_alone(rng, blocks):
    G, x = rng.standard_normal((30, 100)), rng.standard_normal(100)
    first = EmpiricalFisher(G, damp=0.1, blocks=blocks, factor=True)
    before = first.solve(x)
    second, fresh = first.with_damp(2.0), EmpiricalFisher(G, damp=2.0, blocks=blocks)
    assert second.damp == 2.0 and second.scale == first.scale
    for name in ("solve", "matvec"):
        assert_allclose(getattr(second, name)(x), getattr(fresh, name)(x), rtol=1e-12)
    assert_allclose(second.inverse_diagonal(), fresh.inverse_diagonal(), rtol=1e-12)
    assert_array_equal(first.solve(x), before)


def test_float32_gram_is_half_as_exact_and_near(rng):
    G = rng.standard_normal((20, 9000), dtype=np.float32)
    rough, fine = (EmpiricalFisher(G, gram_dtype=name).gram for name in ("float32", "float64"))
    assert_allclose(fine, G.astype(np.float64) @ G.T.astype(np.float64), rtol=1e-12, atol=1e-9)
    assert 1e-9 < np.abs(rough - fine).max() / np.abs(fine).max() < 1e-5


@pytest.mark.parametrize("gram_dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_gradients_of_extreme_scale_in_float32(rng, scale, gram_dtype):
    G = (scale * rng.standard_normal((8, 3000))).astype(np.float32)
    fisher = EmpiricalFisher(G, damp=1e-5, gram_dtype=gram_dtype)
    exact = exact_steps(G, 1e-5, 8)
    with np.errstate(under="ignore"):
        assert_allclose(fisher.gram, G.astype(float) @ G.T.astype(float), rtol=1e-4, atol=1e-5 * scale**2 * 3000)
    # the float32 Gram matrix of 3000 columns is good to 1e-6; 1e25 squared is in no float32
    bound = 1e-6 if gram_dtype == "float64" else 1e-5
    for i in (0, 7):
        assert np.linalg.norm(fisher.solve_row(i) - exact[i]) <= bound * np.linalg.norm(exact[i])
    diagonal = fisher.inverse_diagonal()
    assert np.all(diagonal > 0) and np.all(diagonal <= np.float32(1.00001e5))


def test_a_matrix_that_is_not_definite_in_float64_warns_and_stays_finite(rng):
    g = rng.standard_normal(200)
    G = np.tile(1e8 * g / np.linalg.norm(g), (6, 1))  # eps |g|^2 = 2, c lam = 6e-5
    with pytest.warns(RuntimeWarning, match="times c damp") as record:
        fisher = EmpiricalFisher(G, damp=1e-5)
    assert len(record) == 1
    # all is as for one gradient: F = lam I + g g^T
    step = fisher.solve_coefficients(np.full(6, 1 / 6))
    assert_allclose(step, G[0] / (1e-5 + 1e16), rtol=1e-6)
    assert np.all(np.isfinite(fisher.solve(rng.standard_normal(200))))
    assert np.all(fisher.inverse_diagonal() > 0)
    assert np.isfinite(fisher.logdet()) and np.isfinite(fisher.inverse_trace())
    orthogonal = np.zeros(200)
    orthogonal[:2] = G[0, 1], -G[0, 0]
    assert_allclose(fisher.solve(orthogonal), orthogonal / 1e-5, rtol=1e-6)


def test_structured_gradients_give_what_the_explicit_array_gives(rng):
    net = ad.nn.MLP([6, 10, 3])
    theta = net.init(rng=0)
    X, y = rng.standard_normal((9, 6)).astype(np.float32), np.arange(9) % 3
    J = ad.per_example_jacobian(net, theta, X, y, loss="softmax")
    ours, theirs = EmpiricalFisher(J, damp=1e-3), EmpiricalFisher(J.to_array(), damp=1e-3)
    x, X2 = rng.standard_normal((net.n_params, 2)).astype(np.float32), np.arange(5)
    for name, args in [
        ("solve", (x,)),
        ("solve", (x[:, 0],)),
        ("matmat", (x,)),
        ("solve_row", (2,)),
        ("diagonal", ()),
        ("inverse_diagonal", ()),
        ("inverse_element", (3, 7)),
        ("inverse_block", (X2,)),
        ("logdet", ()),
        ("inverse_trace", ()),
    ]:
        ours_is, theirs_is = getattr(ours, name)(*args), getattr(theirs, name)(*args)
        # entries of G are rounded to float32 in one of the two
        assert_allclose(ours_is, theirs_is, rtol=2e-5, atol=2e-6 * np.max(np.abs(theirs_is)))
    blocked = EmpiricalFisher(J, damp=1e-3, blocks=16)
    assert_allclose(
        blocked.solve(x), EmpiricalFisher(J.to_array(), damp=1e-3, blocks=16).solve(x), rtol=1e-4, atol=1e-2
    )


def test_nothing_of_the_size_of_the_gradients_is_allocated(rng):
    G = rng.standard_normal((128, 400_000), dtype=np.float32)
    x = G[0].copy()
    EmpiricalFisher(G[:, :1000]).inverse_diagonal()  # compiles
    tracemalloc.start()
    fisher = EmpiricalFisher(G)
    y = fisher.solve(x), fisher @ x, fisher.solve_row(3), fisher.inverse_diagonal(), fisher.diagonal()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = sum(a.nbytes for a in y)
    assert peak - kept < 0.1 * G.nbytes


def test_it_is_an_operator_to_scipy(rng):
    G = rng.standard_normal((10, 50))
    fisher, b = EmpiricalFisher(G, damp=1e-3), rng.standard_normal(50)
    assert isinstance(fisher, scipy.sparse.linalg.LinearOperator) and fisher.shape == (50, 50)
    steps = []
    x, info = scipy.sparse.linalg.cg(fisher, b, M=fisher.inv, rtol=1e-12, callback=steps.append)
    assert info == 0 and len(steps) <= 3  # its inverse is the perfect preconditioner
    assert_allclose(x, fisher.solve(b), rtol=1e-8)
    F = dense(G, 1e-3)
    assert_allclose((2 * fisher + fisher.inv) @ b, 2 * F @ b + np.linalg.solve(F, b), rtol=1e-9)
    assert fisher.T is fisher and fisher.inv.H @ b == pytest.approx(fisher.solve(b))
    largest = scipy.sparse.linalg.eigsh(fisher, k=1, return_eigenvectors=False)
    assert_allclose(largest, np.linalg.eigvalsh(F)[-1:], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_bear_the_dtype_of_the_gradients(rng, dtype):
    fisher = EmpiricalFisher(rng.standard_normal((4, 30)).astype(dtype), damp=0.1)
    assert fisher.dtype == dtype and fisher.dim == 30 and fisher.n_grads == 4 and fisher.scale == 4
    x = rng.standard_normal(30)
    for y in (fisher @ x, fisher.solve(x), fisher.solve_row(0), fisher.inverse_diagonal(), fisher.inverse_todense()):
        assert y.dtype == dtype
    assert EmpiricalFisher(np.arange(6).reshape(2, 3)).dtype == np.float64


def test_layouts_and_read_only_arrays_are_taken_as_they_are(rng):
    G = rng.standard_normal((20, 3000), dtype=np.float32)
    x = rng.standard_normal(3000).astype(np.float32)
    expected = EmpiricalFisher(G, damp=0.1)
    wide = np.repeat(G, 2, axis=1)[:, ::2]
    frozen = G.copy()
    frozen.flags.writeable = False
    for other in (np.asfortranarray(G), wide, frozen):
        before = other.copy()
        fisher = EmpiricalFisher(other, damp=0.1)
        assert fisher.grads is other
        for name, args in [("solve", (x,)), ("solve_row", (1,)), ("inverse_diagonal", ()), ("diagonal", ())]:
            # the same float64 sums in another order, rounded once
            assert_allclose(getattr(fisher, name)(*args), getattr(expected, name)(*args), rtol=3e-7, atol=1e-6)
        assert_array_equal(other, before)


@pytest.fixture
def strict(monkeypatch):
    """Makes arrays that, as CuPy's do, refuse to turn into NumPy's unasked."""
    kind = type(array_api_strict.zeros(1))
    convert = kind.__array__

    def only_if_asked(self, *args, **kwargs):
        if sys._getframe(1).f_code.co_name not in ("to_numpy", "compare"):
            raise TypeError("Implicit conversion to a NumPy array is not allowed.")
        return convert(self, *args, **kwargs)

    monkeypatch.setattr(kind, "__array__", only_if_asked)
    return array_api_strict.asarray


@pytest.mark.parametrize("factor", [False, True])
@pytest.mark.parametrize("shape", [(6, 17), (17, 6)])
@pytest.mark.parametrize("blocks", [None, 5, [np.arange(0, 6, 2), [1, 3, 5], slice(6, None)]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_of_another_library_go_in_and_come_out(rng, strict, dtype, blocks, shape, factor):
    if isinstance(blocks, list) and shape[1] == 6:
        blocks = blocks[:2]
    G, X = (rng.standard_normal(s).astype(dtype) for s in (shape, (shape[1], 2)))
    theirs = EmpiricalFisher(G, damp=0.1, blocks=blocks, factor=factor)
    ours = EmpiricalFisher(strict(G), damp=0.1, blocks=blocks, factor=factor)
    tol = 1e-5 if dtype == np.float32 else 1e-10

    def compare(name, *args, **options):
        given = [strict(x) if isinstance(x, np.ndarray) and x.dtype == dtype else x for x in args]
        result, expected = getattr(ours, name)(*given, **options), getattr(theirs, name)(*args, **options)
        if np.ndim(expected):
            assert isinstance(result, type(strict(0.0))), name
            assert str(result.dtype).endswith(expected.dtype.name), name
        assert_allclose(np.asarray(result), expected, rtol=tol, atol=tol * np.max(np.abs(expected)), err_msg=name)

    for name, args in [
        ("matvec", (X[:, 0],)),
        ("matmat", (X,)),
        ("solve", (X[:, 0],)),
        ("solve", (X,)),
        ("solve_row", (-1,)),
        ("diagonal", ()),
        ("inverse_diagonal", ()),
        ("inverse_element", (0, 3)),
        ("inverse_element", ([0, 1], [3, 1])),
        ("inverse_block", (np.arange(4),)),
        ("inverse_todense", ()),
        ("todense", ()),
        ("logdet", ()),
        ("trace", ()),
        ("inverse_trace", ()),
    ]:
        compare(name, *args)
    compare("solve", X, refine=1)
    if blocks is None:
        compare("solve_coefficients", np.ones((shape[0], 2), dtype))
    assert ours.inv.matvec(strict(X[:, 0])).shape == (shape[1],)
    assert ours.with_damp(0.2).logdet() == pytest.approx(theirs.with_damp(0.2).logdet())


def test_it_survives_pickle_and_a_file(rng, tmp_path):
    fisher, x = EmpiricalFisher(rng.standard_normal((5, 20)), damp=0.1, blocks=4, factor=True), rng.standard_normal(20)
    numcore.save(fisher, tmp_path / "fisher")
    for again in (pickle.loads(pickle.dumps(fisher)), numcore.load(tmp_path / "fisher")):
        assert_array_equal(again.solve(x), fisher.solve(x))
        assert_array_equal(again.inverse_diagonal(), fisher.inverse_diagonal())


def test_todense_is_refused_beyond_the_limit_unless_forced():
    fisher = EmpiricalFisher(np.zeros((1, 20_001)))
    for name in ("todense", "inverse_todense"):
        with pytest.raises(ValueError, match=f"{name} would form 3.2 GB at d = 20001.*force=True"):
            getattr(fisher, name)()
    assert EmpiricalFisher(np.zeros((1, 2)), damp=0.5).todense(force=True)[0, 0] == 0.5


class HalfAnOperator:
    shape, dtype = (2, 3), np.dtype(float)

    def gram(self):
        return np.eye(2)


G = np.ones((3, 4))
BAD = [
    (lambda: EmpiricalFisher(np.ones(3)), ValueError, r"grads must be 2-D; got shape \(3,\)"),
    (lambda: EmpiricalFisher(np.ones((3, 0))), ValueError, r"grads must have at least one column; got shape \(3, 0\)"),
    (lambda: EmpiricalFisher(1j * G), TypeError, "grads must be real; got dtype complex128"),
    (lambda: EmpiricalFisher(G.astype(np.float16)), ValueError, "grads must be float32, float64"),
    (lambda: EmpiricalFisher(HalfAnOperator()), TypeError, "it lacks matvec, rmatvec, sq_sum, columns"),
    (lambda: EmpiricalFisher(np.where(G > 0, [1, np.nan, np.inf, 1], 0)), ValueError, "6 of 12 entries are not"),
    (lambda: EmpiricalFisher(np.where(G > 0, [1, np.nan, 1, 1], 0), blocks=2), ValueError, "grads must be finite"),
    (lambda: EmpiricalFisher(1e200 * G), ValueError, "squares that float64 can hold"),
    (lambda: EmpiricalFisher(G, damp=0), ValueError, "damp must satisfy 0 < damp"),
    (lambda: EmpiricalFisher(G, damp=np.nan), ValueError, "damp"),
    (lambda: EmpiricalFisher(G, damp="1"), TypeError, "damp must be a real number"),
    (lambda: EmpiricalFisher(G, scale=-1.0), ValueError, "scale must satisfy 0 < scale"),
    (lambda: EmpiricalFisher(G, factor="yes"), ValueError, "factor must be one of True, False"),
    (lambda: EmpiricalFisher(G, gram_dtype="half"), ValueError, "gram_dtype must be one of 'float64', 'float32'"),
    (lambda: EmpiricalFisher(G, blocks=0), ValueError, "blocks must be at least 1"),
    (lambda: EmpiricalFisher(G, blocks="all"), TypeError, "blocks must be an integer or a list"),
    (lambda: EmpiricalFisher(G, blocks=[[0, 1], [1]]), ValueError, "2 are missing and 1 are held more than once"),
    (lambda: EmpiricalFisher(G, blocks=[[0, 1, 2, 4]]), IndexError, r"blocks\[0\] must lie in \[-4, 4\); got 4"),
    (lambda: EmpiricalFisher(G).solve(np.ones(5)), ValueError, r"x must have shape \(4\); got \(5,\)"),
    (lambda: EmpiricalFisher(G).solve(np.full(4, np.nan)), ValueError, "x must be finite; 4 of its 4 entries are not"),
    (lambda: EmpiricalFisher(G).solve(np.ones(4), refine=-1), ValueError, "refine must be at least 0"),
    (lambda: EmpiricalFisher(G) @ np.ones(5), ValueError, r"x must have shape \(4\); got \(5,\)"),
    (lambda: EmpiricalFisher(G).solve_coefficients(np.ones(4)), ValueError, r"a must have shape \(3\)"),
    (lambda: EmpiricalFisher(G, blocks=2).solve_coefficients(np.ones(3)), ValueError, "needs blocks=None"),
    (lambda: EmpiricalFisher(G).solve_row(3), IndexError, r"i must lie in \[-3, 3\); got 3"),
    (lambda: EmpiricalFisher(G).solve_row(0.5), TypeError, "i must be integers; got dtype float64"),
    (lambda: EmpiricalFisher(G).inverse_element([0, 1], [0]), ValueError, "of equal length"),
    (lambda: EmpiricalFisher(G).inverse_element(0, 4), IndexError, r"j must lie in \[-4, 4\); got 4"),
    (lambda: EmpiricalFisher(G).inverse_block([[0]]), ValueError, "idx must be a slice or 1-D"),
    (lambda: EmpiricalFisher(G).with_damp(-1), ValueError, "damp must satisfy"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input_is_named(call, error, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nan in sums
        with pytest.raises(error, match=message):
            call()
