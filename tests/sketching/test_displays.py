"""Pictures show the numbers that they are given."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_array

from numcore.algorithms.sketching import (
    EmbeddingDisplay,
    ResidualHistoryDisplay,
    RidgePathDisplay,
    block_coordinate_descent,
    lstsq,
    make_sketch,
    ridge_path,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(5)


class TestEmbedding:
    def test_the_line_is_the_range_of_ratios_of_lengths(self, rng):
        A, S = rng.standard_normal((2000, 8)), make_sketch("block_srht", 100, 2000, rng=0)
        display = EmbeddingDisplay.from_operator(S, A)
        index, values = display.line_.get_data()
        assert_array_equal(index, np.arange(1, 9))
        Y = A @ rng.standard_normal((8, 500))
        ratios = np.linalg.norm(S @ Y, axis=0) / np.linalg.norm(Y, axis=0)
        assert values[-1] <= ratios.min()
        assert ratios.max() <= values[0]
        # the ends are reached: by the directions that the small problem gives
        s = np.linalg.svd((S @ A) @ np.linalg.inv(np.linalg.qr(A)[1]), compute_uv=False)
        assert_allclose(values, s, rtol=1e-12)
        assert display.distortion == max(values[0] - 1, 1 - values[-1])

    def test_the_basis_does_not_depend_on_the_columns_that_span_it(self, rng):
        A, S = rng.standard_normal((500, 4)), make_sketch("gaussian", 60, 500, rng=0)
        plain = EmbeddingDisplay.from_operator(S, A)
        mixed = np.hstack([A @ rng.standard_normal((4, 4)) * [1e-100, 1, 1e30, 1e120], A[:, :1], np.zeros((500, 1))])
        assert_allclose(EmbeddingDisplay.from_operator(S, mixed).singular_values, plain.singular_values, rtol=1e-10)
        assert_allclose(EmbeddingDisplay.from_operator(S, csr_array(A)).singular_values, plain.singular_values)

    def test_a_lost_direction_is_a_zero(self):
        # the rows of the identity are scattered into buckets; two in one bucket are told apart no more
        S = make_sketch("countsketch", 20, 20, rng=0)
        hit = np.count_nonzero(np.any(S.toarray(), axis=1))
        values = EmbeddingDisplay.from_operator(S, np.eye(20)).singular_values
        assert np.count_nonzero(values > 1e-8) == hit < 20
        flat = EmbeddingDisplay.from_operator(make_sketch("gaussian", 3, 20, rng=0), np.eye(20))
        assert_array_equal(flat.singular_values[3:], np.zeros(17))

    def test_the_edges_are_those_of_a_gaussian_sketch_and_hold_its_values(self, rng):
        d, m = 64, 512
        display = EmbeddingDisplay.from_operator(make_sketch("gaussian", m, rng=0), rng.standard_normal((4096, d)))
        low, high = (line.get_ydata()[0] for line in display.edges_)
        assert (low, high) == pytest.approx((1 - (d / m) ** 0.5, 1 + (d / m) ** 0.5))
        # beyond the edges fluctuations are of the order d^(-2/3): 0.02 is five of them
        assert low - 0.02 < display.singular_values[-1]
        assert display.singular_values[0] < high + 0.02

    def test_factors_of_a_kronecker_product_stand_for_it(self, rng):
        A, B = rng.standard_normal((30, 3)), rng.standard_normal((20, 2))
        S = make_sketch("tensor_srht", 80, shapes=(30, 20), rng=0)
        by_factors = EmbeddingDisplay.from_operator(S, (A, B))
        assert_allclose(
            by_factors.singular_values, EmbeddingDisplay.from_operator(S, np.kron(A, B)).singular_values, rtol=1e-10
        )

    def test_operators_may_share_axes_with_a_legend(self, rng):
        A, ax = rng.standard_normal((300, 5)), plt.subplots()[1]
        for kind in ("gaussian", "countsketch"):
            assert EmbeddingDisplay.from_operator(make_sketch(kind, 50, 300, rng=0), A, ax=ax).ax_ is ax
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["gaussian", "countsketch"]
        low, high = ax.get_ylim()
        assert all(low <= min(line.get_ydata()) and max(line.get_ydata()) <= high for line in ax.get_lines()[::3])

    def test_what_does_not_fit_is_refused_by_name(self, rng):
        S = make_sketch("gaussian", 10, 30, rng=0)
        with pytest.raises(TypeError, match=r"op must be a SketchOperator.* got a ndarray"):
            EmbeddingDisplay.from_operator(np.eye(30), np.ones((30, 2)))
        with pytest.raises(ValueError, match="A must have 30 rows"):
            EmbeddingDisplay.from_operator(S, np.ones((29, 2)))
        with pytest.raises(ValueError, match="A must be finite; 1 of its entries"):
            EmbeddingDisplay.from_operator(S, np.array([[np.nan], *[[1.0]] * 29]))
        with pytest.raises(ValueError, match="A must not be zero"):
            EmbeddingDisplay.from_operator(S, np.zeros((30, 2)))
        assert not plt.get_fignums()


class TestResidualHistory:
    @pytest.fixture
    def results(self, rng):
        A = rng.standard_normal((5000, 50))
        b = rng.standard_normal(5000)
        return {name: lstsq(A, b, method=name, rng=0) for name in ("direct", "spir", "fossils")}

    def test_each_line_is_the_history_of_its_result(self, results):
        display = ResidualHistoryDisplay.from_result(results)
        assert display.ax_.get_yscale() == "log"
        for name, result in results.items():
            steps, values = display.lines_[name].get_data()
            assert_array_equal(steps, [record["n_iter"] for record in result.history])
            assert_array_equal(values, [record["backward_error"] for record in result.history])
        assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == list(results)

    def test_the_quantity_can_be_chosen(self, results):
        display = ResidualHistoryDisplay.from_result(results["spir"], quantity="residual_norm")
        assert_array_equal(
            display.lines_[""].get_ydata(), [record["residual_norm"] for record in results["spir"].history]
        )
        assert display.ax_.get_ylabel() == "residual norm"
        with pytest.raises(ValueError, match="quantity must be one of"):
            ResidualHistoryDisplay.from_result(results, quantity="kkt")

    def test_histories_by_columns_are_drawn_too(self, rng):
        result = block_coordinate_descent(rng.standard_normal((60, 20)), rng.standard_normal(60), rng=0)
        display = ResidualHistoryDisplay.from_result(result)
        assert_array_equal(display.lines_[""].get_ydata(), result.history["kkt"])

    def test_a_solution_in_one_go_is_a_point(self, rng):
        at_once = lstsq(rng.standard_normal((30, 3)), rng.standard_normal((30, 2)))
        assert at_once.method == "lapack" and at_once.history == ()
        display = ResidualHistoryDisplay.from_result(at_once)
        assert_array_equal(display.lines_[""].get_data(), [[0], [at_once.backward_error]])
        display = ResidualHistoryDisplay.from_result(at_once, quantity="residual_norm")
        assert_array_equal(display.lines_[""].get_ydata(), [at_once.residual_norm.max()])

    def test_a_result_without_iterations_is_refused(self, rng):
        sketched = lstsq(rng.standard_normal((300, 3)), rng.standard_normal(300), method="sketch_solve")
        with pytest.raises(ValueError, match="result has no iterations to draw"):
            ResidualHistoryDisplay.from_result(sketched)
        with pytest.raises(TypeError, match="result 'x' must have a history; got a int"):
            ResidualHistoryDisplay.from_result({"x": 3})
        with pytest.raises(ValueError, match="at least one result"):
            ResidualHistoryDisplay.from_result({})


class TestRidgePath:
    ALPHAS = np.array([1000.0, 0.1, 10.0, 1.0])  # in any order

    @pytest.fixture
    def path(self, rng):
        A = rng.standard_normal((60, 3))
        return ridge_path(A, A @ [1.0, -2.0, 0.5] + rng.standard_normal(60), self.ALPHAS, cv="loo")

    def test_lines_are_coefficients_in_order_of_alpha(self, path):
        display = RidgePathDisplay.from_result(path)
        assert display.ax_.get_xscale() == "log"
        for line, values in zip(display.lines_, path.coef.T, strict=True):
            assert_array_equal(line.get_data(), [[0.1, 1.0, 10.0, 1000.0], values[[1, 3, 2, 0]]])

    def test_criteria_and_the_best_alpha_are_shown(self, path):
        display = RidgePathDisplay.from_result(path)
        for name, values in {"GCV": path.gcv, "leave-one-out": path.loo}.items():
            assert_array_equal(display.criteria_[name].get_data(), [[0.1, 1.0, 10.0, 1000.0], values[[1, 3, 2, 0]]])
        assert display.best_.get_xdata()[0] == path.best_alpha == self.ALPHAS[np.argmin(path.loo)]

    def test_without_a_choice_there_is_no_best_alpha(self, rng):
        path = ridge_path(rng.standard_normal((60, 3)), rng.standard_normal((60, 2)), [1.0, 2.0], cv=None)
        display = RidgePathDisplay.from_result(path)
        assert display.best_ is None and list(display.criteria_) == ["GCV"]
        assert len(display.lines_) == 6  # of both right-hand sides

    def test_alpha_zero_has_a_place(self, rng):
        path = ridge_path(rng.standard_normal((60, 3)), rng.standard_normal(60), [10.0, 0.0, 1.0])
        display = RidgePathDisplay.from_result(path)
        assert display.ax_.get_xscale() == "symlog"
        low, high = display.ax_.get_xlim()
        assert low <= 0 < 10 <= high
