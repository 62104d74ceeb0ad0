"""Error bars against series whose errors are known, and by simulation."""

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from numcore.diagnostics import autocorrelation_time, binder_cumulant, jackknife
from numcore.results import ConvergenceWarning


def ar1(a, shape, rng):
    """Stationary series x_t = a x_(t-1) + noise along the first axis; their tau is (1 + a) / (1 - a)."""
    noise = rng.standard_normal(shape)
    noise[0] /= np.sqrt(1 - a * a)
    return scipy.signal.lfilter([1.0], [1.0, -a], noise, axis=0)


# the relative error of tau is sqrt(2 (2 W + 1) / n) with W = 5 tau (Wolff 2004, eq. 42): three of them
@pytest.mark.parametrize("a", [-0.5, 0.0, 0.8, 0.95])
@pytest.mark.parametrize("shape", [(200_000,), (20_000, 10)])
def test_tau_of_an_autoregressive_series(a, shape):
    tau = (1 + a) / (1 - a)
    found = autocorrelation_time(ar1(a, shape, np.random.default_rng(1)))
    window = 5 * max(tau, 1)
    cut = 2 * abs(a) ** window / (1 - abs(a)) / tau  # what lies beyond the window
    np.testing.assert_allclose(found.tau, tau, rtol=3 * np.sqrt(2 * (2 * window + 1) / 200_000) + cut)
    np.testing.assert_allclose(found.ess, 200_000 / found.tau)


def test_standard_error_covers_the_true_mean_as_often_as_it_should():
    rng = np.random.default_rng(2)
    found = [autocorrelation_time(x) for x in ar1(0.7, (4000, 400), rng).T]
    within = np.mean([abs(f.mean) < 1.96 * f.standard_error for f in found])
    assert abs(within - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400)


def test_a_constant_series_has_no_error():
    for value in (0.0, 0.1, -1e300):
        found = autocorrelation_time(np.full(37, value))
        assert (found.tau, found.standard_error, found.ess) == (1.0, 0.0, 37.0)
        np.testing.assert_allclose(found.mean, value, rtol=1e-15)


@given(st.sampled_from([1e-200, 1e-3, 1e200]), st.floats(-5, 5))
def test_tau_is_free_of_scale_and_shift(scale, shift):
    x = ar1(0.5, 3000, np.random.default_rng(3))
    plain, moved = autocorrelation_time(x), autocorrelation_time((x + shift) * scale)
    np.testing.assert_allclose(moved.tau, plain.tau, rtol=1e-9)
    np.testing.assert_allclose(moved.standard_error, plain.standard_error * scale, rtol=1e-9)


def test_short_series_warn():
    with pytest.warns(ConvergenceWarning, match="fewer than 50 autocorrelation times"):
        autocorrelation_time(ar1(0.99, 1000, np.random.default_rng(4)))
    with pytest.warns(ConvergenceWarning):
        autocorrelation_time(np.arange(30.0))


def test_binder_cumulant_of_two_values_and_of_a_normal_law():
    rng = np.random.default_rng(5)
    np.testing.assert_allclose(binder_cumulant(0.3 * rng.choice([-1, 1], 50)), 2 / 3, rtol=1e-14)
    x = rng.standard_normal((2, 100_000))
    # the variance of U at a normal law is 8/3 / n to leading order: four standard errors
    np.testing.assert_allclose(binder_cumulant(x, axis=1), 0, atol=4 * np.sqrt(8 / 3 / 100_000))
    np.testing.assert_allclose(binder_cumulant(x * 1e-200), binder_cumulant(x), rtol=1e-12)


def test_binder_cumulant_of_zeros_is_nan_and_says_so():
    m = np.stack([np.zeros(4), np.ones(4)])
    with pytest.warns(RuntimeWarning, match="all samples are 0"):
        values = binder_cumulant(m, axis=1)
    assert np.isnan(values[0])
    np.testing.assert_allclose(values[1], 2 / 3)


def test_jackknife_of_a_mean_is_the_textbook_error():
    x = np.random.default_rng(6).standard_normal((60, 3))
    value, error = jackknife(x, lambda r: r.mean(axis=0), n_blocks=60)
    np.testing.assert_allclose(value, x.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(error, x.std(axis=0, ddof=1) / np.sqrt(60), rtol=1e-12)


def test_jackknife_removes_the_bias_of_the_variance():
    x = np.random.default_rng(7).standard_normal(25)
    np.testing.assert_allclose(jackknife(x, np.var, n_blocks=25)[0], x.var(ddof=1), rtol=1e-12)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="x must not be empty"):
        autocorrelation_time(np.zeros(0))
    with pytest.raises(ValueError, match="x must be finite; 1 of"):
        autocorrelation_time([1.0, np.nan])
    with pytest.raises(ValueError, match="c must"):
        autocorrelation_time(np.ones(3), c=0)
    with pytest.raises(ValueError, match="x must be 1-D or 2-D"):
        autocorrelation_time(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="n_blocks must be at most the number of records, 5"):
        jackknife(np.ones(5), np.mean)
    with pytest.raises(ValueError, match="n_blocks must be at least 2"):
        jackknife(np.ones(5), np.mean, n_blocks=1)
    with pytest.raises(TypeError, match="func must be callable; got 3"):
        jackknife(np.ones(50), 3)
    with pytest.raises(ValueError, match="m must not be empty"):
        binder_cumulant([])
