"""Convolutional codes are lasso codes over all shifts of the filters; the filter update only lowers the error."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.signal import convolve2d

import numcore
from numcore.algorithms.sparse_coding import ConvCodeResult, conv_encode, conv_update, sparse_encode
from numcore.results import ConvergenceWarning


def unit_filters(rng, m, h, w):
    d = rng.standard_normal((m, h, w))
    return d / np.linalg.norm(d, axis=(1, 2), keepdims=True)


def shifts(filters, shape):
    """All circular shifts of the filters as rows, filter by filter and pixel by pixel."""
    rows = []
    for f in filters:
        padded = np.zeros(shape)
        padded[: f.shape[0], : f.shape[1]] = f
        rows += [np.roll(padded, (i, j), (0, 1)).ravel() for i in range(shape[0]) for j in range(shape[1])]
    return np.array(rows)


def rebuilt(filters, code):
    """The sum of circular convolutions, by the definition."""
    h, w = code.shape[1:]
    total = np.zeros((h, w))
    for f, a in zip(filters, code, strict=True):
        full = convolve2d(a, f)
        for i in range(full.shape[0]):
            for j in range(full.shape[1]):
                total[i % h, j % w] += full[i, j]
    return total


def test_the_parameters_and_fields_are_those_of_the_specification():
    parameters = inspect.signature(conv_encode).parameters
    defaults = {"reg": 0.05, "rho": None, "tol": 1e-3, "max_iter": 200}
    assert {n: p.default for n, p in parameters.items() if n not in ("images", "filters")} == defaults
    fields = ["code", "objective", "primal_residual", "dual_residual", "converged", "n_iter", "history"]
    assert list(ConvCodeResult.__dataclass_fields__) == fields


@pytest.mark.parametrize("shape", [(9, 7), (8, 10), (3, 2)])
@pytest.mark.parametrize("rho", [None, 0.3])
def test_the_code_is_the_lasso_over_all_shifts(shape, rho):
    rng = np.random.default_rng(0)
    x, d = rng.standard_normal(shape), unit_filters(rng, 3, 3, 2)
    result = conv_encode(x, d, reg=0.3, rho=rho, tol=1e-9, max_iter=5000)
    expected = sparse_encode(x.reshape(1, -1), shifts(d, shape), reg=0.3, tol=1e-12)
    assert result.converged and result.objective == pytest.approx(expected.objective[0], rel=1e-9)
    if shape != (3, 2):  # there the shifts are dependent, and other codes are as good
        assert_allclose(result.code.ravel(), expected.code[0], atol=1e-6)


def test_the_objective_is_that_of_the_code_and_zeros_are_exact():
    rng = np.random.default_rng(1)
    x, d = rng.standard_normal((12, 11)), unit_filters(rng, 2, 4, 3)
    result = conv_encode(x, d, reg=0.4, tol=1e-4, max_iter=1000)
    fit = np.sum((rebuilt(d, result.code) - x) ** 2) / 2
    assert result.objective == pytest.approx(fit + 0.4 * abs(result.code).sum(), rel=1e-12)
    assert 0.3 < np.mean(result.code == 0) < 1
    assert max(result.primal_residual, result.dual_residual) == result.history["error"][-1] <= 1e-4


def test_images_of_a_stack_are_coded_each_by_itself():
    rng = np.random.default_rng(2)
    x, d = rng.standard_normal((3, 10, 8)) * np.array([1, 5, 0])[:, None, None], unit_filters(rng, 2, 3, 3)
    stack = conv_encode(x, d, reg=0.3, tol=1e-7, max_iter=3000)
    assert stack.code.shape == (3, 2, 10, 8) and stack.objective.shape == (3,)
    for k in range(3):
        single = conv_encode(x[k], d, reg=0.3, tol=1e-7, max_iter=3000)
        assert single.objective == pytest.approx(stack.objective[k], rel=1e-6)
        assert_allclose(stack.code[k], single.code, atol=1e-5)
    assert not stack.code[2].any() and stack.objective[2] == 0


def test_a_reg_above_all_correlations_gives_zeros():
    rng = np.random.default_rng(3)
    x, d = rng.standard_normal((8, 8)), unit_filters(rng, 2, 3, 3)
    largest = abs(shifts(d, (8, 8)) @ x.ravel()).max()
    above = conv_encode(x, d, reg=1.1 * largest)
    assert not above.code.any() and above.converged
    assert conv_encode(x, d, reg=0.9 * largest, tol=1e-2).code.any()


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_scaling_image_and_reg_scales_the_code(scale):
    rng = np.random.default_rng(4)
    x, d = rng.standard_normal((8, 9)), unit_filters(rng, 2, 3, 3)
    plain, scaled = (conv_encode(s * x, d, reg=0.3 * s, tol=1e-6, max_iter=2000) for s in (1, scale))
    assert_allclose(scaled.code / scale, plain.code, atol=1e-5)
    assert scaled.objective / scale / scale == pytest.approx(plain.objective, rel=1e-6)


@pytest.mark.parametrize("scale", [1e150, 1e10, 1e-10, 1e-150])
def test_scaling_filters_and_reg_scales_the_code_back(scale):
    rng = np.random.default_rng(4)
    x, d = rng.standard_normal((8, 9)), unit_filters(rng, 2, 3, 3)
    plain, scaled = (conv_encode(x, s * d, reg=0.3 * s, tol=1e-6, max_iter=2000) for s in (1, scale))
    assert plain.converged and scaled.converged
    assert_allclose(scaled.code * scale, plain.code, atol=1e-5)
    assert scaled.objective == pytest.approx(plain.objective, rel=1e-6)


def test_filters_without_entries_give_zeros():
    result = conv_encode(np.eye(6), np.zeros((2, 3, 3)))
    assert result.converged and not result.code.any() and result.objective == 3


def test_float32_stays_float32_and_near_float64():
    rng = np.random.default_rng(5)
    x, d = rng.standard_normal((16, 16)), unit_filters(rng, 3, 4, 4)
    wide = conv_encode(x, d, reg=0.2, tol=1e-4, max_iter=1000)
    narrow = conv_encode(x.astype(np.float32), d.astype(np.float32), reg=0.2, tol=1e-4, max_iter=1000)
    assert narrow.code.dtype == np.float32
    assert narrow.objective == pytest.approx(wide.objective, rel=1e-5)
    assert conv_encode(np.eye(4, dtype=int), d, reg=0.2).code.dtype == np.float64


def test_an_image_that_is_not_coded_to_tolerance_is_counted_in_a_warning():
    rng = np.random.default_rng(6)
    x = np.stack([np.zeros((8, 8)), rng.standard_normal((8, 8))])
    with pytest.warns(ConvergenceWarning, match="conv_encode did not converge for 1 of 2 images: 3 iterations"):
        result = conv_encode(x, unit_filters(rng, 2, 3, 3), max_iter=3)
    assert not result.converged and result.n_iter == 3 and len(result.history["objective"]) == 3


def test_a_result_survives_a_file(tmp_path):
    result = conv_encode(np.eye(6), np.ones((1, 2, 2)) / 2, reg=0.1)
    numcore.save(result, tmp_path / "code.npz")
    assert np.array_equal(numcore.load(tmp_path / "code.npz").code, result.code)


# the filters


def error(x, code, d):
    return np.sum((rebuilt(d, code) - x) ** 2) / 2


def test_the_filter_update_finds_the_filters_that_made_the_image():
    rng = np.random.default_rng(7)
    truth = 0.9 * unit_filters(rng, 2, 3, 3)
    code = rng.standard_normal((2, 16, 16)) * (rng.random((2, 16, 16)) < 0.2)
    start = unit_filters(rng, 2, 3, 3)
    assert_allclose(conv_update(rebuilt(truth, code), code, start, max_iter=300), truth, atol=1e-6)


def test_the_filter_update_is_the_constrained_least_squares_fit():
    rng = np.random.default_rng(8)
    code, x = rng.standard_normal((1, 9, 9)), 5 * rng.standard_normal((9, 9))
    d = conv_update(x, code, unit_filters(rng, 1, 2, 3), max_iter=500)
    assert np.linalg.norm(d) <= 1 + 1e-12
    trials = d + rng.standard_normal((300, 1, 2, 3)) * 10 ** rng.uniform(-4, 0, (300, 1, 1, 1))
    trials /= np.maximum(np.linalg.norm(trials, axis=(2, 3), keepdims=True), 1)
    assert error(x, code, d) <= min(error(x, code, trial) for trial in trials) + 1e-9


def test_learning_filters_in_turn_lowers_the_objective_each_round():
    rng = np.random.default_rng(9)
    code = rng.standard_normal((3, 24, 24)) * (rng.random((3, 24, 24)) < 0.05)
    x = rebuilt(unit_filters(rng, 3, 4, 4), code) + 0.01 * rng.standard_normal((24, 24))
    d, objectives = unit_filters(rng, 3, 4, 4), []
    for _ in range(6):
        result = conv_encode(x, d, reg=0.05, tol=1e-5, max_iter=2000)
        objectives.append(result.objective)
        d = conv_update(x, result.code, d)
        assert np.linalg.norm(d, axis=(1, 2)).max() <= 1 + 1e-12
    assert np.all(np.diff(objectives) < 0)


def test_maps_without_entries_leave_the_filters():
    d = unit_filters(np.random.default_rng(0), 2, 3, 3)
    assert_allclose(conv_update(np.ones((6, 6)), np.zeros((2, 6, 6)), d), d)
    assert conv_update(np.ones((6, 6), np.float32), np.zeros((2, 6, 6)), d).dtype == np.float32


@pytest.mark.parametrize(
    ("options", "error_type", "message"),
    [
        ({"images": np.ones(4)}, ValueError, "images must be 2-D or 3-D"),
        ({"images": np.ones((0, 4))}, ValueError, "images must have pixels"),
        ({"images": np.full((4, 4), np.nan)}, ValueError, "images must be finite"),
        ({"images": 1j * np.ones((4, 4))}, TypeError, "images must be real"),
        ({"filters": np.ones((2, 2))}, ValueError, "filters must be 3-D"),
        ({"filters": np.ones((0, 2, 2))}, ValueError, "filters must have entries"),
        ({"filters": np.ones((1, 5, 2))}, ValueError, "filters must not be larger"),
        ({"reg": -0.1}, ValueError, "reg must satisfy"),
        ({"rho": 0}, ValueError, "rho must satisfy"),
        ({"tol": -1}, ValueError, "tol must satisfy"),
        ({"max_iter": 0}, ValueError, "max_iter must be at least 1"),
    ],
)
def test_bad_arguments_are_refused_by_name(options, error_type, message):
    with pytest.raises(error_type, match=message):
        conv_encode(**{"images": np.ones((4, 4)), "filters": np.ones((1, 2, 2)), **options})
    if "reg" not in options and "rho" not in options and "tol" not in options:
        arguments = {"images": np.ones((4, 4)), "filters": np.ones((1, 2, 2)), "code": np.ones((1, 4, 4)), **options}
        with pytest.raises(error_type, match=message):
            conv_update(**arguments)


def test_codes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"code must have shape \(1, 4, 4\); got \(2, 4, 4\)"):
        conv_update(np.ones((4, 4)), np.ones((2, 4, 4)), np.ones((1, 2, 2)))
