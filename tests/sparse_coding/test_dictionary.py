"""Dictionaries: each update is the minimum that it claims, planted atoms are found, and bad atoms do not stay."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import numcore
from numcore.algorithms.sparse_coding import DictionaryResult, learn_dictionary, omp, sparse_encode
from numcore.algorithms.sparse_coding._atoms import ALIKE, idle, successors
from numcore.algorithms.sparse_coding._learning import Plan, rank_one, swept
from numcore.results import ConvergenceWarning

# a test that learns for a fixed number of epochs says so
few_epochs = pytest.mark.filterwarnings("ignore:learn_dictionary did not converge")


def unit_rows(D):
    return D / np.linalg.norm(D, axis=1, keepdims=True)


def planted(seed, k=30, p=20, n=3000, n_nonzero=3):
    """Signals that are sums of three atoms with Gaussian weights, and the atoms."""
    rng = np.random.default_rng(seed)
    D = unit_rows(rng.standard_normal((k, p)))
    code = np.zeros((n, k))
    for row in code:
        row[rng.choice(k, n_nonzero, replace=False)] = rng.standard_normal(n_nonzero)
    return code @ D, D


def laplace(seed, n=300, p=8):
    return np.random.default_rng(seed).laplace(size=(n, p))


def recovered(D, truth):
    """The part of the planted atoms that are there, up to sign."""
    return np.mean(np.max(abs(unit_rows(D) @ truth.T), axis=0) > 0.99)


def statistics(seed, k=6, p=5, n=200):
    rng = np.random.default_rng(seed)
    code = rng.standard_normal((n, k)) * (rng.random((n, k)) < 0.4)
    X = code @ unit_rows(rng.standard_normal((k, p))) + 0.3 * rng.standard_normal((n, p))
    return rng, code.T @ code / n, code.T @ X / n, unit_rows(rng.standard_normal((k, p)))


def surrogate(D, A, B):
    """What the online update minimises: ``sum |x - a D|^2 / 2`` up to a constant."""
    return np.trace(D.T @ A @ D) / 2 - np.trace(D.T @ B)


def test_the_parameters_and_defaults_are_those_of_the_specification():
    parameters = inspect.signature(learn_dictionary).parameters
    defaults = {"method": "online", "penalty": "l1", "reg": 0.1, "n_nonzero": None, "batch_size": 512, "max_iter": 10}
    defaults |= {"init": None, "norm_constraint": "ball", "forget": 1.0, "dead_tol": 1e-4, "positive_code": False}
    defaults |= {"positive_dict": False, "sign": None, "tol": 1e-3, "rng": None, "callback": None, "verbose": 0}
    assert {n: p.default for n, p in parameters.items() if n not in ("X", "n_atoms")} == defaults
    fields = ["dictionary", "code", "objective", "history", "n_iter", "n_replaced", "usage", "converged"]
    assert list(DictionaryResult.__dataclass_fields__) == fields


# the updates


@pytest.mark.parametrize("sphere", [False, True])
@pytest.mark.parametrize("positive", [False, True])
def test_no_feasible_atom_beats_the_update_of_a_single_atom(sphere, positive):
    rng, A, B, D = statistics(0, k=1)
    new = swept(D, A, B, sphere, positive)
    trials = rng.standard_normal((20_000, 1, 5)) * 10 ** rng.uniform(-4, 0.5, (20_000, 1, 1)) + new
    trials = np.maximum(trials, 0) if positive else trials
    norms = np.linalg.norm(trials, axis=2, keepdims=True)
    trials /= np.where(sphere & (norms > 0), norms, np.maximum(norms, 1))
    best = min(surrogate(trial, A, B) for trial in trials)
    assert surrogate(new, A, B) <= best + 1e-14
    assert np.linalg.norm(new) <= 1 + 1e-15 and not (positive and new.min() < 0)


@given(st.integers(0, 10_000), st.integers(1, 70), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_sweep_never_raises_the_surrogate_and_keeps_the_ball(seed, k, positive):
    _, A, B, D = statistics(seed, k=k)
    D = unit_rows(abs(D)) if positive else D
    new = swept(D, A, B, False, positive)
    scale = abs(surrogate(D, A, B)) + np.trace(A)
    assert surrogate(new, A, B) <= surrogate(D, A, B) + 1e-13 * scale
    assert np.linalg.norm(new, axis=1).max() <= 1 + 1e-14
    assert not (positive and new.min() < 0)


def test_a_sweep_by_panels_is_the_cyclic_update_of_the_paper():
    _, A, B, D = statistics(3, k=70)  # panels of 32, 32 and 6
    expected = D.copy()
    for j in range(70):
        if A[j, j] > 0:
            u = expected[j] + (B[j] - A[j] @ expected) / A[j, j]
            expected[j] = u / max(np.linalg.norm(u), 1)
    assert_allclose(swept(D, A, B, False, False), expected, rtol=0, atol=1e-12)


def test_an_atom_that_no_code_uses_stays_as_it_is():
    _, A, B, D = statistics(1)
    A[2], A[:, 2], B[2] = 0, 0, 0
    new = swept(D, A, B, False, False)
    assert np.array_equal(new[2], D[2]) and not np.array_equal(new[3], D[3])


@pytest.mark.parametrize("positive", [False, True])
def test_the_rank_one_fit_of_ksvd_is_no_worse_than_before_and_near_the_best(positive):
    rng = np.random.default_rng(0)
    E = np.outer(rng.random(40) + 0.5, unit_rows(rng.random((1, 7)))) + 0.05 * rng.standard_normal((40, 7))
    start = unit_rows(rng.random((1, 7)))[0]
    d, a = rank_one(E, start, E @ start, positive, positive)
    error = np.linalg.norm(E - np.outer(a, d))
    s = np.linalg.svd(E, compute_uv=False)
    assert error < np.linalg.norm(E - np.outer(E @ start, start))
    # the power steps end at a cosine of 1 - 1e-6 between two of them
    assert error <= np.sqrt(np.sum(s[1:] ** 2)) * (1 + 1e-4)
    assert np.linalg.norm(d) == pytest.approx(1)


@few_epochs
def test_mod_takes_the_least_squares_dictionary_of_the_codes():
    X, D = planted(0, n=400)
    start = unit_rows(D + 0.05 * np.random.default_rng(1).standard_normal(D.shape))
    code = omp(X, start, n_nonzero=3).code
    expected = unit_rows(np.linalg.lstsq(code, X, rcond=None)[0])
    result = learn_dictionary(X, 30, method="mod", n_nonzero=3, init=start, max_iter=1)
    # the ridge is 1e-8 of the mean eigenvalue, and the smallest is about a tenth of that
    assert_allclose(result.dictionary, expected, atol=1e-6)


# learning


@few_epochs
@pytest.mark.parametrize(("method", "seeds"), [("ksvd", range(3)), ("mod", range(1))])
def test_planted_atoms_are_found(method, seeds):
    found = []
    for seed in seeds:
        X, D = planted(seed)
        result = learn_dictionary(X, 30, method=method, n_nonzero=3, max_iter=60, rng=seed)
        found.append(recovered(result.dictionary, D))
    assert np.mean(found) >= 0.85  # the specification's aim for K-SVD


@few_epochs
def test_the_online_method_finds_atoms_from_a_start_nearby():
    X, D = planted(0, n=1500)
    start = D + 0.1 * np.random.default_rng(1).standard_normal(D.shape)
    result = learn_dictionary(X, 30, init=start, reg=0.05, batch_size=256, max_iter=10, rng=0)
    # thirty random atoms in 20 dimensions are coherent: with l1 codes a few end slightly off
    assert recovered(start, D) < 0.5 and recovered(result.dictionary, D) >= 0.9


@few_epochs
@pytest.mark.parametrize("options", [{}, {"norm_constraint": "sphere"}, {"forget": 0.9}, {"penalty": "cel0"}])
def test_the_running_mean_of_the_objective_falls(options):
    X = laplace(0, n=900)
    result = learn_dictionary(X, 16, reg=0.5, batch_size=300, max_iter=5, rng=0, **options)
    means = result.history["surrogate"].reshape(5, 3).mean(axis=1)
    assert np.all(np.diff(means[:4]) < 0) and means[-1] < 0.95 * means[0]
    norms = np.linalg.norm(result.dictionary, axis=1)
    assert norms.max() <= 1 + 1e-12
    if "norm_constraint" in options:
        assert_allclose(norms, 1, rtol=1e-12)


@few_epochs
@pytest.mark.parametrize("method", ["mod", "ksvd"])
def test_codes_and_objective_are_of_the_final_dictionary(method):
    X = laplace(1)
    result = learn_dictionary(X, 12, method=method, reg=0.7, max_iter=3, rng=0)
    coded = sparse_encode(X, result.dictionary, reg=0.7)
    assert_allclose(result.code, coded.code, atol=1e-12)
    assert result.objective == pytest.approx(coded.objective.mean(), rel=1e-12)
    assert_allclose(np.linalg.norm(result.dictionary, axis=1), 1, rtol=1e-12)


def test_learning_stops_where_the_objective_stands_still():
    X = laplace(0)
    result = learn_dictionary(X, 10, reg=0.5, max_iter=500, tol=4e-3, rng=0)
    assert result.converged and 10 < result.n_iter < 500
    latest = result.history["surrogate"][-11:]
    assert np.ptp(latest) <= 4e-3 * latest.max()
    assert result.history["change"][-1] <= 4e-3 < result.history["change"][:-1].min()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_signals_that_are_coded_exactly_end_the_learning(dtype):
    X = np.repeat(np.eye(3), [40, 30, 20], axis=0) * np.linspace(1, 2, 90)[:, None]
    result = learn_dictionary(X.astype(dtype), 3, n_nonzero=1, method="ksvd", max_iter=60, rng=0)
    assert result.converged and result.objective < np.finfo(dtype).eps
    assert_allclose(abs(result.dictionary).max(axis=1), 1, rtol=10 * np.finfo(dtype).eps)


def test_learning_that_ends_early_says_so():
    with pytest.warns(ConvergenceWarning, match="learn_dictionary did not converge.*max_iter"):
        result = learn_dictionary(laplace(0), 10, max_iter=2, batch_size=100, rng=0)
    assert not result.converged and result.n_iter == 2 and len(result.history["objective"]) == 6


@few_epochs
def test_the_same_seed_gives_the_same_dictionary_and_another_another():
    X = laplace(0)
    first, again, other = (learn_dictionary(X, 9, batch_size=64, max_iter=3, rng=seed) for seed in (4, 4, 5))
    assert np.array_equal(first.dictionary, again.dictionary)
    assert not np.allclose(first.dictionary, other.dictionary)


@few_epochs
@pytest.mark.parametrize("method", ["online", "mod", "ksvd"])
def test_signs_are_fixed_on_request(method):
    X = laplace(2)
    free, fixed = (
        learn_dictionary(X, 9, method=method, reg=0.5, max_iter=2, rng=1, sign=sign) for sign in (None, "positive_max")
    )
    D = fixed.dictionary
    assert np.all(D[np.arange(9), abs(D).argmax(axis=1)] > 0)
    assert np.any(free.dictionary[np.arange(9), abs(D).argmax(axis=1)] < 0)
    assert_allclose(abs(D), abs(free.dictionary))
    # the objective of a signal is flat in sign: atom and coefficient change it together
    assert fixed.objective == pytest.approx(free.objective, rel=1e-6)


@few_epochs
@pytest.mark.parametrize("method", ["online", "mod", "ksvd"])
def test_positive_codes_and_atoms_have_no_negative_entry(method):
    X = abs(laplace(3))
    result = learn_dictionary(X, 9, method=method, positive_code=True, positive_dict=True, max_iter=4, rng=0)
    assert result.dictionary.min() >= 0 and result.code.min() >= 0
    history = result.history["objective"]
    assert history[-1] < history[0]


@few_epochs
@pytest.mark.parametrize("method", ["online", "mod", "ksvd"])
@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_scaling_signals_and_reg_leaves_the_dictionary(method, scale):
    X = laplace(0)
    plain, scaled = (
        learn_dictionary(s * X, 9, method=method, reg=0.5 * s, batch_size=100, max_iter=2, rng=0) for s in (1, scale)
    )
    # the scale is no power of two, so that its rounding reaches the codes
    assert_allclose(scaled.dictionary, plain.dictionary, atol=1e-7)
    assert scaled.objective / scale / scale == pytest.approx(plain.objective, rel=1e-7)


@few_epochs
@pytest.mark.parametrize("method", ["online", "mod", "ksvd"])
def test_float32_stays_and_integers_become_float64(method):
    X = laplace(0)
    options = {"method": method, "reg": 0.5, "max_iter": 2, "rng": 0}
    wide, narrow = learn_dictionary(X, 9, **options), learn_dictionary(X.astype(np.float32), 9, **options)
    assert narrow.dictionary.dtype == narrow.code.dtype == np.float32
    assert_allclose(narrow.dictionary, wide.dictionary, atol=1e-3)  # two epochs away from a rounding of 6e-8
    whole = learn_dictionary(np.rint(4 * X).astype(int), 9, **options)
    assert whole.dictionary.dtype == whole.code.dtype == np.float64


@few_epochs
@pytest.mark.parametrize("method", ["online", "mod", "ksvd"])
def test_layout_and_flags_of_the_signals_do_not_matter_and_they_are_not_modified(method):
    X = laplace(0, n=90)
    expected = learn_dictionary(X, 5, method=method, max_iter=2, rng=0).dictionary
    fixed = X.copy()
    fixed.flags.writeable = False
    for given_X in (np.asfortranarray(X), X[::-1][::-1], np.repeat(X, 2, axis=1)[:, ::2], fixed):
        assert_allclose(learn_dictionary(given_X, 5, method=method, max_iter=2, rng=0).dictionary, expected, atol=1e-12)
    assert np.array_equal(fixed, X)


# atoms that are of no use


@few_epochs
def test_an_atom_far_from_all_signals_is_replaced_and_then_used():
    X = laplace(0, p=6)
    X = np.concatenate([X, np.zeros_like(X)], axis=1)
    init = np.eye(12)[:7]  # the last atom sees nothing
    result = learn_dictionary(X, 7, init=init, reg=0.3, max_iter=10, rng=0)
    assert result.n_replaced >= 1 and np.all(np.count_nonzero(result.code, axis=0) > 0)
    kept = learn_dictionary(X, 7, init=init, reg=0.3, max_iter=10, rng=0, dead_tol=0)
    assert kept.n_replaced == 0 and np.array_equal(kept.dictionary[6], init[6])
    assert result.objective < kept.objective


@few_epochs
@pytest.mark.parametrize("method", ["online", "mod", "ksvd"])
def test_of_two_equal_atoms_one_is_replaced(method):
    X = laplace(0)
    init = unit_rows(laplace(5, n=6))
    init[4] = -init[1]
    result = learn_dictionary(X, 6, method=method, init=init, reg=0.3, max_iter=5, rng=0)
    cosines = abs(unit_rows(result.dictionary) @ unit_rows(result.dictionary).T)
    assert result.n_replaced >= 1 and np.max(cosines - np.eye(6)) < ALIKE


def test_of_atoms_that_are_alike_the_most_used_stays():
    D = unit_rows(np.array([[1, 0.001, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0.002]]))
    age = np.full(4, 1e6)
    assert list(idle(D, np.array([0.1, 0.3, 0.2, 0.2]), age, 1e-4, ALIKE)) == [0, 3]
    assert list(idle(D, np.full(4, 0.2), age, 1e-4, ALIKE)) == [1, 3]


def test_an_atom_is_not_judged_before_an_average_one_was_used_ten_times():
    D, usage = np.eye(3), np.array([0.0, 0.1, 0.2])
    assert list(idle(D, usage, np.full(3, 99.0), 1e-4, ALIKE)) == []
    assert list(idle(D, usage, np.full(3, 101.0), 1e-4, ALIKE)) == [0]


def test_successors_are_the_worst_residuals_lowest_row_first_and_no_two_alike():
    R = np.array([[1.0, 0], [0, 2], [0, 2.0001], [3, 0], [3, 0], [1, 1]])
    assert_allclose(successors(R, R, 3, False), [[1, 0], [0, 1], [0.5**0.5, 0.5**0.5]])
    assert len(successors(R, 1e-13 * R, 3, False)) == 0  # rounding of signals that are coded exactly
    assert_allclose(successors(R, -R, 3, True), np.empty((0, 2)))


# odd inputs


@few_epochs
def test_rows_of_zeros_are_never_atoms():
    X = laplace(0, n=60)
    X[::2] = 0
    result = learn_dictionary(X, 20, max_iter=2, rng=0)
    assert np.isfinite(result.dictionary).all() and np.all(np.linalg.norm(result.dictionary, axis=1) > 0.1)


@few_epochs
@pytest.mark.parametrize("method", ["online", "mod", "ksvd"])
@pytest.mark.parametrize(
    ("X", "k"), [(np.zeros((7, 3)), 2), (np.ones((1, 3)), 5), (laplace(0, n=4), 9), (laplace(0, p=1), 1)]
)
def test_zeros_single_signals_single_atoms_and_more_atoms_than_signals_are_no_trouble(method, X, k):
    result = learn_dictionary(X, k, method=method, max_iter=3, rng=0)
    assert result.dictionary.shape == (k, X.shape[1]) and np.isfinite(result.dictionary).all()
    assert np.isfinite(result.code).all() and np.linalg.norm(result.dictionary, axis=1).max() <= 1 + 1e-12


@few_epochs
@pytest.mark.parametrize("init", [np.diag([1e-300, 5, 0]), 1e200 * np.eye(3)])
def test_first_atoms_of_any_size_are_brought_to_the_ball_and_zero_ones_drawn(init):
    X = laplace(0, p=3)
    plan = Plan.check(3, dict(OPTIONS, n_jobs=None, penalty_params=None))
    D = plan.start(X, init, np.random.default_rng(0)).dictionary
    assert np.isfinite(D).all() and np.linalg.norm(D, axis=1).max() <= 1 + 1e-12
    assert np.all(D.any(axis=1)) and D[1, 1] == 1


OPTIONS = {
    name: parameter.default
    for name, parameter in inspect.signature(learn_dictionary).parameters.items()
    if name not in ("X", "n_atoms")
}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"X": np.ones(3)}, ValueError, "X must have shape .*reshape"),
        ({"X": np.ones((3, 2)) * 1j}, TypeError, "X must be real"),
        ({"X": [["a"]]}, TypeError, "X must be real"),
        ({"X": np.full((3, 2), np.nan)}, ValueError, "X must be finite; 6 of its 6"),
        ({"X": np.ones((0, 2))}, ValueError, "X must have at least one row"),
        ({"n_atoms": 0}, ValueError, "n_atoms must be at least 1"),
        ({"n_atoms": 2.0}, TypeError, "n_atoms must be an integer"),
        ({"method": "svd"}, ValueError, "method must be one of"),
        ({"penalty": "l2"}, ValueError, "penalty must be one of"),
        ({"penalty": "lq"}, ValueError, "penalty_params must hold 'q'"),
        ({"reg": -1}, ValueError, "reg must satisfy"),
        ({"reg": np.nan}, ValueError, "reg must satisfy"),
        ({"n_nonzero": 0}, ValueError, "n_nonzero must be at least 1"),
        ({"n_nonzero": 1, "positive_code": True}, ValueError, "positive_code must be False"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"max_iter": 0}, ValueError, "max_iter must be at least 1"),
        ({"init": np.ones((2, 3))}, ValueError, r"init must have shape \(2, 2\); got \(2, 3\)"),
        ({"init": [[np.inf, 0], [0, 1]]}, ValueError, "init must be finite"),
        ({"norm_constraint": "cube"}, ValueError, "norm_constraint must be one of"),
        ({"forget": 0}, ValueError, "forget must be above 0"),
        ({"forget": 1.1}, ValueError, "forget must satisfy"),
        ({"dead_tol": -0.1}, ValueError, "dead_tol must satisfy"),
        ({"positive_dict": "yes"}, ValueError, "positive_dict must be one of"),
        ({"sign": "negative"}, ValueError, "sign must be one of"),
        ({"sign": "positive_max", "positive_code": True}, ValueError, "sign must be None"),
        ({"tol": -1}, ValueError, "tol must satisfy"),
        ({"callback": 1}, TypeError, "callback must be callable"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, error, message):
    with pytest.raises(error, match=message):
        learn_dictionary(**{"X": np.ones((4, 2)), "n_atoms": 2, **options})


# following and stopping


def test_the_callback_sees_each_batch_and_can_stop():
    seen = []

    def follow(state):
        seen.append((state.n_iter, state.n_batches, state.objective, state.dictionary.copy(), state.n_replaced))
        with pytest.raises(ValueError):
            state.dictionary[0] = 0
        return state.n_batches == 5

    result = learn_dictionary(laplace(0), 6, batch_size=100, max_iter=4, rng=0, callback=follow)
    assert [entry[:2] for entry in seen] == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]
    assert_allclose([entry[2] for entry in seen], result.history["objective"])
    assert np.array_equal(seen[-1][3], result.dictionary) and not result.converged and result.n_iter == 2


def test_an_error_in_the_callback_passes_through():
    def fail(state):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        learn_dictionary(laplace(0), 6, callback=fail)


@few_epochs
def test_progress_shows_the_objective(capsys):
    learn_dictionary(laplace(0), 6, max_iter=2, verbose=1)
    shown = capsys.readouterr().err
    assert "learn_dictionary" in shown and "objective=" in shown


@few_epochs
def test_a_result_survives_a_file(tmp_path):
    result = learn_dictionary(laplace(0), 6, max_iter=2, rng=0)
    numcore.save(result, tmp_path / "result.npz")
    loaded = numcore.load(tmp_path / "result.npz")
    assert np.array_equal(loaded.dictionary, result.dictionary) and np.array_equal(loaded.code, result.code)
    assert loaded.objective == result.objective and loaded.n_iter == result.n_iter


@few_epochs
@pytest.mark.parametrize("method", ["online", "mod", "ksvd"])
def test_both_backends_learn_the_same(method):
    X = laplace(0)
    with numcore.backend("numpy"):
        expected = learn_dictionary(X, 9, method=method, n_nonzero=2, max_iter=2, rng=0)
    result = learn_dictionary(X, 9, method=method, n_nonzero=2, max_iter=2, rng=0)
    assert_allclose(result.dictionary, expected.dictionary, atol=1e-9)
