"""Orthogonal matching pursuit: greedy by brute force, orthogonal, and safe where atoms run out."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp

import numcore
from numcore.algorithms.sparse_coding import omp
from numcore.results import ConvergenceWarning

RULES = ("omp", "oomp")


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def problem(rng):
    """Fifteen signals, and thirty atoms whose norms differ by a factor of a hundred."""
    D = rng.normal(size=(30, 12)) * np.geomspace(0.1, 10, 30)[:, None]
    return rng.normal(size=(15, 12)), D


def squared_residual(x, D, chosen):
    if not chosen:
        return x @ x
    a = np.linalg.lstsq(D[chosen].T, x, rcond=None)[0]
    r = x - a @ D[chosen]
    return r @ r


def greedy(x, D, count, rule):
    """The definition, with least squares for every candidate."""
    chosen = []
    for _ in range(count):
        rest = [j for j in range(len(D)) if j not in chosen]
        if rule == "oomp":
            score = [-squared_residual(x, D, [*chosen, j]) for j in rest]
        else:
            a = np.linalg.lstsq(D[chosen].T, x, rcond=None)[0] if chosen else np.zeros(0)
            score = [abs(D[j] @ (x - a @ D[chosen])) / np.linalg.norm(D[j]) for j in rest]
        chosen.append(rest[int(np.argmax(score))])
    return chosen


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("rule", RULES)
def test_the_support_is_the_one_that_brute_force_chooses(problem, rule, backend):
    X, D = problem
    with numcore.backend(backend):
        result = omp(X, D, n_nonzero=4, selection=rule)
    for x, a, objective in zip(X, result.code, result.objective, strict=True):
        chosen = greedy(x, D, 4, rule)
        assert set(np.flatnonzero(a)) == set(chosen)
        assert objective == pytest.approx(squared_residual(x, D, chosen) / 2, rel=1e-10)


def test_the_second_of_two_atoms_explains_at_least_as_much_under_oomp_as_under_omp(problem):
    X, D = problem  # the first one is the same
    first, second = (omp(X, D, n_nonzero=2, selection=rule).objective for rule in RULES)
    assert (second <= first * (1 + 1e-12)).all() and (second < first).any()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_nonzero", [1, 5, 12])
def test_the_residual_is_orthogonal_to_the_chosen_atoms(problem, rule, n_nonzero):
    X, D = problem
    result = omp(X, D, n_nonzero=n_nonzero, selection=rule)
    R = X - result.code @ D
    correlations = np.abs(R @ (D / np.linalg.norm(D, axis=1, keepdims=True)).T)
    assert np.max(correlations[result.code != 0]) < 1e-10
    assert (result.n_nonzero == n_nonzero).all() and result.converged.all() and np.isnan(result.gap).all()


def test_codes_are_those_of_scikit_learn_where_atoms_have_unit_norm(rng):
    D = rng.normal(size=(40, 20))
    D /= np.linalg.norm(D, axis=1, keepdims=True)
    X = rng.normal(size=(25, 20))
    theirs = orthogonal_mp(D.T, X.T, n_nonzero_coefs=6).T
    np.testing.assert_allclose(omp(X, D, n_nonzero=6).code, theirs, atol=1e-12)


def test_the_order_of_magnitude_of_an_atom_does_not_matter(problem):
    X, D = problem
    scales = 2.0 ** np.arange(-15, 15)
    plain, scaled = (omp(X, atoms, n_nonzero=5) for atoms in (D, D * scales[:, None]))
    np.testing.assert_array_equal(scaled.code * scales, plain.code)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25), st.integers(1, 8), st.sampled_from(RULES))
def test_the_objective_falls_with_every_further_atom(seed, k, p, rule):
    rng = np.random.default_rng(seed)
    X, D = rng.normal(size=(3, p)), rng.normal(size=(k, p))
    before = np.sum(X**2, axis=1) / 2
    for count in range(1, min(k, p) + 1):
        now = omp(X, D, n_nonzero=count, selection=rule).objective
        assert (now <= before * (1 + 1e-12)).all()
        before = now


@pytest.mark.parametrize("rule", RULES)
def test_a_tolerance_stops_each_signal_as_soon_as_its_squared_residual_allows(problem, rule):
    X, D = problem
    tol = 2.0
    result = omp(X, D, n_nonzero=None, tol=tol, selection=rule)
    assert result.converged.all()
    for x, a, count in zip(X, result.code, result.n_iter, strict=True):
        assert np.sum((x - a @ D) ** 2) <= tol
        if count:
            fewer = omp(x[None], D, n_nonzero=int(count) - 1 or 1, selection=rule)
            assert count == 1 or 2 * fewer.objective[0] > tol


def test_a_tolerance_near_rounding_is_judged_by_the_residual_itself(rng):
    D = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    x = D[:3].sum(axis=0) + 1e-9 * D[5]
    result = omp(x[None], D, n_nonzero=8, tol=1e-17)
    assert result.n_nonzero[0] == 3 and result.converged[0]
    # the fourth atom explains the rest
    assert omp(x[None], D, n_nonzero=8, tol=1e-19).n_nonzero[0] == 4


def test_a_tolerance_that_is_not_reached_is_reported_once_with_the_count(problem):
    X, D = problem
    with pytest.warns(ConvergenceWarning, match="omp did not converge for 15 of 15") as found:
        result = omp(X, D, n_nonzero=1, tol=1e-3)
    assert len(found) == 1 and not result.converged.any()


@pytest.mark.parametrize("rule", RULES)
def test_more_atoms_than_the_rank_are_cut_to_it_and_flagged(rng, rule):
    D = rng.normal(size=(20, 4)) @ rng.normal(size=(4, 9))
    X = np.vstack([rng.normal(size=(6, 9)), rng.normal(size=(2, 20)) @ D])
    result = omp(X, D, n_nonzero=15, selection=rule)
    assert (result.n_nonzero <= 4).all() and result.degenerate.all() and result.converged.all()
    best = X - X @ np.linalg.pinv(D) @ D
    np.testing.assert_allclose(X - result.code @ D, best, atol=1e-9)
    assert not omp(X, D, n_nonzero=3, selection=rule).degenerate.any()


def test_more_atoms_than_features_or_than_there_are_is_no_error(rng):
    X, D = rng.normal(size=(4, 5)), rng.normal(size=(7, 5))
    result = omp(X, D, n_nonzero=6)
    assert (result.n_nonzero == 5).all() and result.degenerate.all()
    result = omp(X, D[:3], n_nonzero=10)
    assert (result.n_nonzero == 3).all() and result.degenerate.all()


def test_a_signal_that_few_atoms_explain_exactly_takes_no_more(rng):
    D = rng.normal(size=(30, 20))
    X = 3 * D[[4]] - D[[17]]
    for rule in RULES:
        result = omp(X, D, n_nonzero=10, selection=rule)
        assert set(np.flatnonzero(result.code)) >= {4, 17} and result.objective[0] < 1e-25
    only = omp(D[[4]], D, n_nonzero=10)
    assert np.flatnonzero(only.code).tolist() == [4] and not only.degenerate[0]


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("rule", RULES)
def test_of_atoms_that_tie_the_first_is_chosen(rng, rule, backend):
    D = rng.normal(size=(12, 8))
    D[9], D[11] = D[2], -3 * D[2]
    X = np.vstack([D[2], D[2] + 0.01 * rng.normal(size=(5, 8))])
    with numcore.backend(backend):
        code = omp(X, D, n_nonzero=3, selection=rule).code
    assert (code[:, 2] != 0).all() and not code[:, [9, 11]].any()


def test_duplicate_atoms_are_never_both_chosen(rng):
    D = np.repeat(rng.normal(size=(5, 10)), 3, axis=0)
    result = omp(rng.normal(size=(6, 10)), D, n_nonzero=8)
    assert (result.n_nonzero == 5).all() and result.degenerate.all()
    assert np.all((result.code.reshape(6, 5, 3) != 0).sum(axis=2) == 1)


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_extreme_scales_survive(problem, scale):
    X, D = problem
    plain = omp(X, D, n_nonzero=4)
    scaled = omp(X * scale, D, n_nonzero=4)
    np.testing.assert_allclose(scaled.code / scale, plain.code, rtol=1e-10)
    np.testing.assert_allclose(scaled.objective / scale / scale, plain.objective, rtol=1e-10)
    np.testing.assert_allclose(omp(X, D * scale, n_nonzero=4).code * scale, plain.code, rtol=1e-10)


def test_float32_stays_and_agrees_and_integers_become_float64(problem):
    X, D = problem
    single = omp(X.astype(np.float32), D.astype(np.float32), n_nonzero=5)
    assert single.code.dtype == np.float32 and single.objective.dtype == np.float64
    # correlations in float32, amplified by the condition of five atoms
    np.testing.assert_allclose(single.code, omp(X, D, n_nonzero=5).code, rtol=1e-3, atol=1e-5)
    assert omp([[1, 2]], [[1, 0], [0, 1]], n_nonzero=1).code.dtype == np.float64


def test_the_codes_do_not_depend_on_threads_blocks_or_memory_layout(rng):
    X, D = rng.normal(size=(5000, 16)), rng.normal(size=(40, 16))
    plain = omp(X, D, n_nonzero=4).code
    np.testing.assert_array_equal(omp(X, D, n_nonzero=4, n_jobs=2).code, plain)
    awkward = np.asfortranarray(X)[::-1]
    awkward.flags.writeable = False
    np.testing.assert_allclose(omp(awkward, np.asfortranarray(D), n_nonzero=4).code[::-1], plain, atol=1e-12)


def test_a_dask_array_is_coded_chunk_by_chunk_with_the_same_result(rng):
    dask = pytest.importorskip("dask.array")
    X, D = rng.normal(size=(70, 16)), rng.normal(size=(40, 16))
    result = omp(dask.from_array(X, chunks=(30, 16)), D, n_nonzero=4)
    np.testing.assert_allclose(result.code, omp(X, D, n_nonzero=4).code, atol=1e-12)


def test_no_signals_zero_signals_and_single_atoms_are_survived():
    assert omp(np.empty((0, 3)), np.eye(3)).code.shape == (0, 3)
    result = omp(np.zeros((2, 3)), np.eye(3), n_nonzero=2)
    assert not result.code.any() and result.converged.all() and not result.degenerate.any()
    assert omp([[2.0]], [[4.0]], n_nonzero=1).code == 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"D": np.array([[1.0, 0.0], [0.0, 0.0]])}, ValueError, "dictionary must have no zero atom; 1 of its 2"),
        ({"n_nonzero": 0}, ValueError, "n_nonzero must be at least 1; got 0"),
        ({"n_nonzero": 2.5}, TypeError, "n_nonzero must be an integer"),
        ({"tol": -1.0}, ValueError, "tol"),
        ({"tol": np.nan}, ValueError, "tol"),
        ({"selection": "mp"}, ValueError, "selection must be one of 'omp', 'oomp'; got 'mp'"),
        ({"n_jobs": 0}, ValueError, "n_jobs must not be 0"),
        ({"X": np.ones(2)}, ValueError, "reshape"),
        ({"X": np.ones((2, 3))}, ValueError, "as many features as dictionary, 2"),
        ({"X": np.array([[np.nan, 1.0]])}, ValueError, "X must be finite; 1 of its 2"),
        ({"X": np.ones((1, 2), complex)}, TypeError, "X must be real"),
        ({"D": np.empty((0, 2))}, ValueError, "dictionary must have atoms"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    given = {"X": np.ones((1, 2)), "D": np.eye(2)} | arguments
    with pytest.raises(error, match=message), warnings.catch_warnings():
        omp(given.pop("X"), given.pop("D"), **given)


def test_results_come_back_from_a_file(tmp_path, problem):
    result = omp(*problem, n_nonzero=2)
    numcore.save(result, tmp_path / "code.numcore")
    np.testing.assert_array_equal(numcore.load(tmp_path / "code.numcore").code, result.code)
