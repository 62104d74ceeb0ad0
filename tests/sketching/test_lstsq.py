"""Least squares: backward errors beside Householder QR's, every kind of matrix, and certificates that hold."""

import functools
import importlib
import tracemalloc
import warnings

import array_api_strict
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from numpy.testing import assert_allclose

import numcore
from numcore.algorithms.sketching import lstsq, set_machine
from numcore.algorithms.sketching._direct import compressed
from numcore.algorithms.sketching._iterative import heavy_ball
from numcore.algorithms.sketching._rows import Rows
from numcore.algorithms.sketching._setup import prepare
from numcore.results import ConvergenceWarning

EPS = float(np.finfo(float).eps)
STABLE = ["direct", "fossils", "spir"]
PRECISE = [*STABLE, "gram", "iterative", "lsqr", "lapack"]


def problem(n, d, cond, rho, rng):
    """Singular values from 1 to 1 / cond, a solution on the sphere, a residual of length rho."""
    U = np.linalg.qr(rng.normal(size=(n, d + 1)))[0]
    V = np.linalg.qr(rng.normal(size=(d, d)))[0]
    A = (U[:, :d] * np.logspace(0, -np.log10(cond), d)) @ V.T
    x = rng.normal(size=d)
    x /= np.linalg.norm(x)
    return A, A @ x + rho * U[:, d], x


def backward_error(A, b, x, factors):
    """Karlson and Walden's estimate from an SVD of A, perturbations of A alone, relative to its norm."""
    U, s, _ = factors
    r = b - A @ x
    weights = np.sqrt(s**2 + (np.linalg.norm(r) / np.linalg.norm(x)) ** 2)
    return np.linalg.norm(s * (U.T @ r) / weights) / np.linalg.norm(x) / np.linalg.norm(A)


def by_qr(A, b):
    Q, R = scipy.linalg.qr(A, mode="economic")
    return scipy.linalg.solve_triangular(R, Q.T @ b)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def A(rng):
    return rng.normal(size=(3000, 20))


@pytest.fixture
def b(rng):
    return rng.normal(size=3000)


@functools.cache
def solved_by_qr(cond, rho, seed):
    """A problem of the size of the published table, its solution, that of QR, and the SVD by which both are judged."""
    A, b, x = problem(4000, 50, cond, rho, np.random.default_rng(seed))
    qr = by_qr(A, b)
    factors = np.linalg.svd(A, full_matrices=False)
    return A, b, x, qr, factors, backward_error(A, b, qr, factors)


@pytest.mark.parametrize("method", STABLE)
@pytest.mark.parametrize("rho", [1e-12, 1e-3, 1.0])
@pytest.mark.parametrize("cond", [1e1, 1e8, 1e12, 1e14, 1e15])
def test_solutions_are_as_backward_stable_as_those_of_qr(method, cond, rho):
    if method == "spir" and cond > 1e12:
        pytest.skip("conjugate gradients promise less there")
    ratios = []
    for seed in range(5):
        A, b, x, qr, factors, error_of_qr = solved_by_qr(cond, rho, seed)
        found = lstsq(A, b, method=method, rng=seed)
        limit = max(4 * error_of_qr, 2 * EPS) if cond <= 1e13 else 3e-15
        assert found.converged
        assert backward_error(A, b, found.x, factors) <= limit
        # the library's estimate scales the columns, so it agrees within a small factor only
        assert found.backward_error <= limit
        if cond <= 1e12:
            errors = np.linalg.norm(found.x - x), np.linalg.norm(qr - x)
            ratios.append(errors[0] / errors[1])
            # where QR is lucky: the error that one rounding of A makes
            assert errors[0] <= max(10 * errors[1], EPS * (cond + cond**2 * rho))
    assert cond > 1e12 or np.median(ratios) <= 10


@pytest.mark.parametrize("method", ["fossils", "spir"])
@pytest.mark.parametrize("cond", [1e1, 1e8])
def test_rounds_of_corrections_come_as_near_as_qr_where_the_residual_is_small(method, cond):
    # QR's backward error is well below eps there, and stopping at eps leaves some ten times its error
    errors = []
    for seed in range(5):
        A, b, x, qr, _, _ = solved_by_qr(cond, 1e-12, seed)
        found = lstsq(A, b, method=method, rng=seed)
        assert found.backward_error <= EPS / 2
        errors.append((np.linalg.norm(found.x - x), np.linalg.norm(qr - x)))
    ours, of_qr = np.median(errors, axis=0)
    assert ours <= 3 * of_qr
    # a tolerance that was given is all that is asked for
    assert lstsq(A, b, method=method, tol=1e-10, rng=0).n_passes < found.n_passes


def test_iterative_sketching_is_forward_stable():
    for cond, rho in ((1e1, 1.0), (1e8, 1e-12), (1e8, 1.0), (1e12, 1e-3)):
        A, b, x = problem(2000, 30, cond, rho, np.random.default_rng(0))
        qr, exact = by_qr(A, b), b - A @ x
        for momentum in (True, False):
            found = lstsq(A, b, method="iterative", momentum=momentum, rng=0)
            assert found.converged
            off = np.linalg.norm(b - A @ found.x - exact)
            assert off <= 20 * max(np.linalg.norm(b - A @ qr - exact), EPS * np.linalg.norm(b))


def test_the_heavy_ball_converges_at_the_promised_rate():
    A, b, _ = problem(4000, 100, 1e6, 1.0, np.random.default_rng(3))
    setup = prepare(Rows(A, b), m=1200, kind="gaussian", rng=0)
    W = A @ setup.factors.P
    N, c = W.T @ W, W.T @ b
    exact = np.linalg.solve(N, c)[:, None]
    inner = heavy_ball(1 / 12)(lambda y: N @ y, c[:, None])
    # critically damped: the error is of the form k rate^k
    errors = [np.linalg.norm(next(inner)[0] - exact) / (k + 1) for k in range(24)]
    assert (errors[20] / errors[8]) ** (1 / 12) <= 1.15 * (1 / 12) ** 0.5


@pytest.mark.parametrize("method", [*PRECISE, "auto"])
def test_every_method_gives_the_solution(method, A, b, rng):
    B = rng.normal(size=(3000, 3))
    B[:, 1] = 0
    found = lstsq(A, B, method=method, rng=0)
    expected, _, rank, s = np.linalg.lstsq(A, B, rcond=None)
    assert_allclose(found.x, expected, atol=1e-13)
    assert_allclose(found.residual_norm, np.linalg.norm(B - A @ expected, axis=0), rtol=1e-12)
    assert found.rank == rank == 20 and found.converged and found.n_passes >= 2
    assert method in (found.method, "auto")
    # a sketch of 4 d rows changes singular values by half at most
    exact = found.method in ("direct", "gram", "lapack")
    assert_allclose(found.singular_values, s, rtol=1e-10 if exact else 0.6)
    assert_allclose(found.cond, found.singular_values[0] / found.singular_values[-1])
    one = lstsq(A, B[:, 0], method=method, rng=0)
    assert one.x.shape == (20,) and isinstance(one.residual_norm, float)
    assert_allclose(one.x, expected[:, 0], atol=1e-13)


@pytest.mark.parametrize("kind", ["gaussian", "srht", "block_srht", "srtt", "sparse_sign", "uniform"])
def test_any_kind_of_sketch_prepares_the_solution(kind, A, b):
    found = lstsq(A, b, method="direct", sketch=kind, rng=0)
    assert found.sketch_kind == kind and found.sketch_size == 80
    assert_allclose(found.x, np.linalg.lstsq(A, b, rcond=None)[0], atol=1e-13)


@pytest.mark.parametrize("method", ["direct", "spir", "fossils", "lapack", "lsqr"])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_every_kind_of_matrix_is_read(method, alpha, A, b):
    w = np.linspace(0, 2, 3000)
    expected = np.linalg.solve((A.T * w) @ A + alpha * np.eye(20), (A.T * w) @ b)

    def stream():
        for s in np.array_split(np.arange(3000), 7):
            yield A[s], b[s], w[s]

    matrices = {
        "array": A,
        "fortran": np.asfortranarray(A),
        "csr": scipy.sparse.csr_array(A),
        "csc": scipy.sparse.csc_array(A),
        "dask": pytest.importorskip("dask.array").from_array(A, chunks=(1100, 20)),
        "operator": scipy.sparse.linalg.aslinearoperator(A),
        "stream": stream,
    }
    refused = {"lsqr": {"dask", "stream"}, "lapack": {"operator", "stream"}, "direct": {"operator"}}.get(method, set())
    for name, X in matrices.items():
        args = (X, None) if name == "stream" else (X, b)
        options = {} if name == "stream" else {"sample_weight": w}
        if name in refused:
            with pytest.raises(TypeError, match=f"method '{method}' needs"):
                lstsq(*args, method=method, **options)
        else:
            found = lstsq(*args, method=method, alpha=alpha, rng=0, **options)
            assert_allclose(found.x, expected, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("method", ["direct", "fossils", "lapack", "lsqr"])
def test_zero_weights_remove_rows_and_whole_ones_repeat_them(method, A, b, rng):
    w = rng.integers(0, 3, 3000)
    repeated = np.repeat(np.arange(3000), w)
    expected = lstsq(A[repeated], b[repeated], method=method, rng=0).x
    assert_allclose(lstsq(A, b, method=method, sample_weight=w, rng=1).x, expected, rtol=1e-9)


@pytest.mark.parametrize("method", PRECISE)
def test_the_solution_of_least_norm_is_found_where_there_are_many(method, A, b, rng):
    X = np.c_[A, A[:, :3] @ rng.normal(size=(3, 4)), np.zeros(3000), A[:, 0]]
    found = lstsq(X, b, method=method, rng=0)
    expected = np.linalg.lstsq(X, b, rcond=1e-12)[0]
    assert found.rank == 20
    assert_allclose(found.x, expected, atol=1e-12)
    assert found.x[24] == 0
    assert np.count_nonzero(found.singular_values) == 20 and len(found.singular_values) == 26


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 5), (7, 30), (60, 25)])
@pytest.mark.parametrize("method", ["auto", "direct", "lapack", "fossils"])
def test_few_rows_give_the_solution_of_least_norm(method, shape, rng):
    A, b = rng.normal(size=shape), rng.normal(size=shape[0])
    found = lstsq(A, b, method=method, rng=0)
    assert_allclose(found.x, np.linalg.pinv(A) @ b, atol=1e-10)
    assert found.rank == min(shape) == len(found.singular_values)
    assert found.sketch_kind is None and found.sketch_size == shape[0]


@pytest.mark.parametrize("method", [*STABLE, "lapack", "lsqr"])
def test_a_ridge_on_few_rows_forms_nothing_of_columns_by_columns(method, rng):
    A, b, alpha = rng.normal(size=(40, 2000)), rng.normal(size=(40, 2)), 7.0
    A[:, 5] = 0
    A[30:] = A[:10]  # rank 30
    dual = A.T @ np.linalg.solve(A @ A.T + alpha * np.eye(40), b)
    lstsq(A[:, :50], b, method=method, alpha=alpha)  # imports are no part of it
    tracemalloc.start()
    try:
        found = lstsq(A, b, method=method, alpha=alpha, rng=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2000**2 / 2
    assert_allclose(found.x, dual, atol=1e-13)
    assert found.converged and found.rank == 30 and not found.x[5].any()
    s = scipy.linalg.svdvals(A)
    assert_allclose(found.singular_values[:30], np.sqrt(s[:30] ** 2 + alpha), rtol=1e-10)
    assert len(found.singular_values) == 40 and not found.singular_values[30:].any()


@pytest.mark.parametrize("method", [*STABLE, "lapack", "lsqr"])
def test_extreme_scales_survive(method, A, b):
    expected = lstsq(A, b, method="lapack").x
    columns = np.ones(20)
    columns[:6] = [1e150, 1e-150, 1e200, 1e-200, 1e-160, 1e120]
    assert_allclose(lstsq(A * columns, b, method=method, rng=0).x * columns, expected, rtol=1e-9)
    for scale in (1e-200, 1e200):
        assert_allclose(lstsq(scale * A, b, method=method, rng=0).x * scale, expected, rtol=1e-9)
        found = lstsq(A, scale * b, method=method, rng=0)
        assert_allclose(found.x / scale, expected, rtol=1e-9)
        assert_allclose(found.residual_norm / scale, np.linalg.norm(b - A @ expected), rtol=1e-9)
    with warnings.catch_warnings():  # the least singular value is lost beside the greatest
        warnings.simplefilter("error")
        wild = lstsq(A * np.logspace(-150, 150, 20), b, method=method, rng=0)
    assert wild.rank == 20 and wild.cond > 1e200
    low = lstsq(1e-200 * np.c_[A, A[:, 0]], b, method=method, rng=0)
    assert low.rank == 20
    assert_allclose(low.x[0], low.x[20], rtol=1e-9)


@pytest.mark.parametrize("method", ["direct", "gram", "fossils", "lapack"])
def test_single_precision_stays_and_is_solved_to_its_last_digit(method, A, b):
    A32, b32 = A.astype(np.float32), b.astype(np.float32)
    found = lstsq(A32, b32, method=method, rng=0)
    assert found.x.dtype == np.float32
    expected = np.linalg.lstsq(A32.astype(float), b32.astype(float), rcond=None)[0]
    assert_allclose(found.x, expected, rtol=1e-5, atol=1e-7)
    assert lstsq(A32, b, method=method, rng=0).x.dtype == np.float64
    assert lstsq(np.round(A).astype(np.int16), b, method=method, rng=0).x.dtype == np.float64


def test_true_directions_of_single_precision_are_kept_however_many_rows():
    # n eps would be 1 / 40 here
    rng = np.random.default_rng(0)
    A = rng.normal(size=(200_000, 4)).astype(np.float32)
    A[:, 3] = A[:, 2] + 1e-3 * A[:, 3]
    b = A.sum(axis=1)
    found = lstsq(A, b, method="direct", rng=0)
    assert found.rank == 4
    assert_allclose(found.x, 1, rtol=1e-3)


def test_no_right_hand_side_gives_zero(A):
    for method in PRECISE:
        found = lstsq(A, np.zeros(3000), method=method, rng=0)
        assert not found.x.any() and found.backward_error == 0 and found.converged
    empty = lstsq(np.zeros((500, 3)), np.ones(500), method="direct", rng=0)
    assert not empty.x.any() and empty.rank == 0
    assert_allclose(empty.residual_norm, 500**0.5)


def test_one_huge_row_is_no_harm(A, b):
    A[17] *= 1e9
    for method in STABLE:
        found = lstsq(A, b, method=method, rng=0)
        assert_allclose(found.x, by_qr(A, b), rtol=1e-5)


def test_auto_takes_what_suits_the_matrix(rng):
    def chosen(X, **options):
        return lstsq(X, X @ np.ones(X.shape[1]), rng=0, **options).method

    tall = rng.normal(size=(20_000, 12))
    assert chosen(tall) == "gram"
    assert chosen(tall * np.logspace(0, -12, 12)) == "gram"  # columns are scaled first
    assert chosen(problem(20_000, 12, 1e9, 0, rng)[0]) == "direct"
    assert chosen(tall[:500]) == "lapack"
    assert chosen(rng.normal(size=(600, 400))) == "lapack"
    assert chosen(scipy.sparse.csr_array(tall)) == "spir"
    wide = problem(2500, 520, 1e7, 0, rng)[0]
    try:
        set_machine(flops=1e15, bandwidth=1e9)
        assert chosen(wide) == "direct"
        set_machine(flops=1e9, bandwidth=1e12)
        assert chosen(wide) == "fossils"
    finally:
        set_machine()
    assert chosen(wide, deterministic=True) == "fossils"


def test_auto_takes_passes_for_products_where_they_save_time(rng, tmp_path):
    few, many = problem(4000, 100, 1e7, 0, rng)[0], problem(20_000, 40, 1e7, 0, rng)[0]
    try:
        for flops, bandwidth, names in ((1e15, 1e9, ["direct", "direct"]), (1e9, 1e12, ["spir", "fossils"])):
            set_machine(flops=flops, bandwidth=bandwidth)
            for X, name in zip((few, many), names, strict=True):
                found = lstsq(X, X @ np.ones(X.shape[1]), rng=0)
                assert found.method == name
                assert_allclose(X @ found.x, X @ np.ones(X.shape[1]), atol=1e-12)
        # the speed of memory says nothing of files and workers: there fewer passes are taken
        np.save(tmp_path / "A.npy", many)
        stored = np.load(tmp_path / "A.npy", mmap_mode="r")
        lazy = pytest.importorskip("dask.array").from_array(many, chunks=(7000, 40))
        for X in (stored, stored[:19_000], lazy):
            assert lstsq(X, many[: len(X), 0], rng=0).method == "direct"
    finally:
        set_machine()
    assert lstsq(few, few[:, 0], deterministic=True, rng=0).method == "direct"


def test_auto_takes_products_where_passes_get_stuck(rng, monkeypatch):
    X, b, _ = problem(20_000, 40, 1e7, 1e-3, rng)

    def stuck(beta):
        return lambda N, c: iter(lambda: (0 * c, N(0 * c)), None)

    monkeypatch.setattr(importlib.import_module("numcore.algorithms.sketching.lstsq"), "heavy_ball", stuck)
    try:
        set_machine(flops=1e9, bandwidth=1e12)
        found = lstsq(X, b, rng=0)
    finally:
        set_machine()
    assert found.method == "direct" and found.converged and found.backward_error <= EPS


def test_the_pass_of_direct_compresses_without_loss(rng):
    A, b, _ = problem(3000, 25, 1e9, 0.5, rng)
    rows = Rows(A, b)
    held = compressed(rows, prepare(rows, m=100, kind="block_srht", rng=0))
    T, c = held.triangle(), held.target()[:, 0]
    rho = lstsq(A, b, method="direct", rng=0).residual_norm
    for x in rng.normal(size=(5, 25)):
        assert_allclose(np.linalg.norm(A @ x - b) ** 2, np.linalg.norm(T @ x - c) ** 2 + rho**2, rtol=1e-12)
    assert_allclose(scipy.linalg.svdvals(T), scipy.linalg.svdvals(A), rtol=1e-5, atol=1e-15)


def test_progress_is_told_and_can_be_stopped(A, b):
    seen = []
    found = lstsq(
        A, b, method="fossils", rng=0, callback=lambda state: seen.append((state.n_iter, state.x, state.backward_error))
    )
    assert [n for n, *_ in seen] == list(range(1, found.n_iter + 1))
    assert_allclose(seen[-1][1], found.x)
    assert [entry["backward_error"] for entry in found.history] == [error for *_, error in seen]
    assert found.history[-1]["n_iter"] == found.n_iter
    stopped = lstsq(A, b, method="fossils", rng=0, callback=lambda state: state.n_iter == 3)
    assert stopped.n_iter == 3 and not stopped.converged


def test_too_few_iterations_are_warned_of(A, b):
    with pytest.warns(ConvergenceWarning, match="spir did not converge"):
        found = lstsq(A, b, method="spir", max_iter=2, rng=0)
    assert not found.converged and found.n_iter == 2


def test_results_are_plain_data(A, tmp_path):
    b = A @ np.ones(20) + np.cos(np.arange(3000))
    found = lstsq(A, b, method="sketch_solve", sketch_size=400, certificate="t", rng=0)
    numcore.save(found, tmp_path / "found.numcore")
    again = numcore.load(tmp_path / "found.numcore")
    assert np.array_equal(again.x, found.x) and again.certificate.linf == found.certificate.linf


# certificates


@pytest.mark.parametrize(("kind", "slack"), [("gaussian", 0.02), ("block_srht", 0.04), ("sparse_sign", 0.04)])
def test_intervals_cover_what_they_say(kind, slack, rng):
    A = rng.standard_t(3, size=(600, 4))
    b = rng.normal(size=600)
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    covered, boxed, ellipsoid = [], [], []
    options = {"method": "sketch_solve", "sketch": kind, "sketch_size": 64, "certificate": "t"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the solution is mostly noise
        for seed in range(2000):
            found = lstsq(A, b, rng=seed, **options)
            low, high = found.certificate.intervals.T
            covered.append((low <= x) & (x <= high))
            boxed.append(abs(found.x - x).max() <= found.certificate.linf)
            ellipsoid.append(np.linalg.norm(A @ (found.x - x)) <= found.certificate.energy)
    # 8000 intervals, half of them independent or so: a standard deviation of 0.0035
    assert abs(np.mean(covered) - 0.95) <= slack
    assert np.mean(boxed) >= 0.95 - slack and np.mean(ellipsoid) >= 0.95 - slack


@pytest.mark.parametrize("method", ["sketch_solve", "direct", "iterative"])
def test_a_posteriori_bounds_are_never_below_the_truth(method, rng):
    A, b, _ = problem(2000, 20, 1e3, 1.0, rng)
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    ratios = []
    for seed in range(500 if method == "sketch_solve" else 100):
        options = {"sketch_size": 400} if method == "sketch_solve" else {"max_iter": 1}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = lstsq(A, b, method=method, certificate="aposteriori", rng=seed, **options)
        c, error = found.certificate, found.x - x
        if method != "direct":  # there it is all rounding
            assert abs(error).max() <= c.linf and np.linalg.norm(error) <= c.l2
            assert np.linalg.norm(A @ error) <= c.energy
            ratios.append(c.energy / np.linalg.norm(A @ error))
        else:
            assert c.energy <= 1e-13
    assert max(ratios, default=0) < 4


def test_the_bootstrap_sees_the_size_of_the_error(rng):
    A, b, _ = problem(2000, 10, 10, 0.1, rng)
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    inside = []
    for seed in range(60):
        found = lstsq(A, b, method="sketch_solve", sketch_size=300, certificate="bootstrap", rng=seed)
        error = found.x - x
        inside.append(
            [abs(error).max() <= found.certificate.linf, np.linalg.norm(A @ error) <= found.certificate.energy]
        )
    # 0.95 of 60, with a standard deviation of 0.03, and the bootstrap's own error
    assert np.all(np.mean(inside, axis=0) >= 0.82)


def test_a_worthless_solution_is_said_to_be_one(A, b):
    with pytest.warns(UserWarning, match="it carries no information"):
        lstsq(A, b, method="sketch_solve", sketch_size=40, certificate="t", rng=0)
    with pytest.warns(UserWarning, match="a countsketch of 80 rows may lose a direction of 20 columns"):
        lstsq(A, b, method="direct", sketch="countsketch", rng=0)


# bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "fast"}, ValueError, "method must be one of 'auto', 'gram'"),
        ({"sketch": "fast"}, ValueError, "sketch must be one of 'auto', 'gaussian'"),
        ({"sketch_size": 19}, ValueError, "sketch_size must be at least 20, the number of columns of A; got 19"),
        ({"alpha": -1.0}, ValueError, "alpha must"),
        ({"tol": -1.0}, ValueError, "tol must"),
        ({"rcond": 2.0}, ValueError, "rcond must"),
        ({"max_iter": 0}, ValueError, "max_iter must be at least 1"),
        ({"certificate": "proof"}, ValueError, "certificate must be one of"),
        ({"certificate": "t"}, ValueError, "certificate 't' is for method 'sketch_solve'; got method 'auto'"),
        (
            {"certificate": "t", "method": "sketch_solve", "sketch": "uniform"},
            ValueError,
            "certificate 't' does not hold for sketch 'uniform'",
        ),
        ({"confidence": 1.0}, ValueError, "confidence must"),
        ({"callback": 3}, TypeError, "callback must be callable"),
        ({"chunk_rows": 0}, ValueError, "chunk_rows must be at least 1"),
        ({"sample_weight": np.zeros(3000)}, ValueError, "sample_weight must not be zero everywhere"),
        ({"b": None}, ValueError, "b must be given"),
        ({"b": np.ones(2999)}, ValueError, "b must have 3000 rows"),
        ({"b": np.full(3000, np.nan)}, ValueError, "b must be finite; 3000 of its entries are not, the first in row 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options, error, message, A, b):
    with pytest.raises(error, match=message):
        lstsq(A, **({"b": b} | options))


@pytest.mark.parametrize("method", ["auto", *PRECISE, "sketch_solve"])
def test_entries_that_are_not_finite_are_counted_and_placed(method, A, b):
    A[1234, 3], A[2000, 3] = np.inf, -np.inf
    for X in (A, np.asfortranarray(A), scipy.sparse.csr_array(A)):
        with pytest.raises(ValueError, match="A must be finite; 2 of its entries are not, the first in row 1234"):
            lstsq(X, b, method=method, rng=0)


def test_an_operator_that_gives_no_numbers_is_refused(b):
    spoilt = scipy.sparse.linalg.aslinearoperator(np.full((3000, 2), np.nan))
    with pytest.raises(ValueError, match="A must be finite"):
        lstsq(spoilt, b, rng=0)


@pytest.mark.parametrize("method", ["gram", "direct", "fossils", "spir"])
@pytest.mark.parametrize("kind", ["gaussian", "block_srht"])
@pytest.mark.parametrize("weighted", [False, True])
def test_arrays_of_another_library_stay_where_they_are(method, kind, weighted, A, b, rng, monkeypatch):
    def small(x):
        assert np.asarray(x).size <= 80 * 20, "rows are copied to the host"
        return np.asarray(x)

    B = np.c_[b, rng.normal(size=3000)]
    options = {"method": method, "sketch": kind, "rng": 0}
    if weighted:
        options |= {"sample_weight": rng.random(3000), "alpha": 2.0}
    options["sketch_size"] = 80
    wanted = [lstsq(A, y, **options) for y in (b, B)]
    for module in ("_setup", "_direct", "lstsq"):
        monkeypatch.setattr(importlib.import_module(f"numcore.algorithms.sketching.{module}"), "to_numpy", small)
    for y, expected in zip((b, B), wanted, strict=True):
        found = lstsq(array_api_strict.asarray(A), array_api_strict.asarray(y), **options)
        assert found.x.__array_namespace__() is array_api_strict
        assert found.method == method
        assert_allclose(np.asarray(found.x), expected.x, atol=1e-13)
        assert_allclose(found.singular_values, expected.singular_values, rtol=1e-12)


def test_other_methods_and_scales_take_arrays_of_another_library(A, b):
    columns = np.ones(20)
    columns[:2] = [1e150, 1e-160]
    expected = np.linalg.lstsq(A, b, rcond=None)[0]
    for method in ("direct", "iterative", "lsqr", "lapack", "auto"):
        found = lstsq(array_api_strict.asarray(A * columns), array_api_strict.asarray(b), method=method, rng=0)
        assert_allclose(np.asarray(found.x) * columns, expected, atol=1e-12)
    single = lstsq(*(array_api_strict.asarray(v.astype(np.float32)) for v in (A, b)), method="direct", rng=0)
    assert single.x.dtype == array_api_strict.float32
    A[77, 3] = np.nan
    with pytest.raises(ValueError, match="A must be finite; 1 of its entries are not, the first in row 77"):
        lstsq(array_api_strict.asarray(A), array_api_strict.asarray(b), method="direct", rng=0)
