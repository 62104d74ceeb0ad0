"""Gradient-normalised Newton: published counts, every kind of Hessian, and the same steps as the formula's."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.optimize import rosen, rosen_der, rosen_hess
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from scipy.special import expit

import numcore
from numcore import autodiff as ad
from numcore.algorithms.curvature import EmpiricalFisher, GNSResult, minimize_gns
from numcore.results import ConvergenceWarning

OPTIMUM = 0.05983977454242


class Logistic:
    """Logistic regression as in the specification, with its Hessian and the gradients of single examples."""

    reg = 1e-3

    def __init__(self, X, y):
        self.X, self.y, self.n_hess = X, y, 0
        self.x0 = np.zeros(X.shape[1])

    def fun(self, w):
        return np.logaddexp(0, -self.y * (self.X @ w)).mean() + self.reg / 2 * w @ w

    def grad(self, w):
        return self.rows(w).mean(0)

    def rows(self, w):
        return self.X * (-self.y * expit(-self.y * (self.X @ w)))[:, None] + self.reg * w

    def hess(self, w):
        self.n_hess += 1
        p = expit(self.X @ w)
        return (self.X * (p * (1 - p))[:, None]).T @ self.X / len(self.y) + self.reg * np.eye(len(w))

    def fisher(self, w, **options):
        return EmpiricalFisher(self.rows(w), **({"damp": 1e-8} | options))


def breast_cancer(n=None):
    from sklearn.datasets import load_breast_cancer

    X, y = load_breast_cancer(return_X_y=True)
    X = (X - X.mean(0)) / X.std(0)
    return Logistic(X[:n], 2.0 * y[:n] - 1)


@pytest.fixture(scope="module")
def cancer():
    return breast_cancer()


def within_a_fifth(count, published):
    return abs(count - published) <= 0.2 * published


def test_the_parameters_are_those_of_the_specification():
    parameters = inspect.signature(minimize_gns).parameters
    assert list(parameters)[:3] == ["fun", "x0", "grad"]
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert defaults == {
        "hess": None,
        "metric": None,
        "gamma0": 1.0,
        "gamma_min": 1e-9,
        "max_trials": 40,
        "fisher_of_mean": False,
        "tol": 1e-8,
        "max_iter": 1000,
        "callback": None,
        "verbose": 0,
    }
    fields = "x fun grad grad_norm gamma converged n_iter n_fev n_jev n_hev n_factor history"
    assert " ".join(GNSResult.__dataclass_fields__) == fields


class TestPublishedCounts:
    def solve(self, problem, hess, **options):
        result = minimize_gns(problem.fun, problem.x0, grad=problem.grad, hess=hess, **options)
        assert result.converged and result.grad_norm <= 1e-8
        # |g| = 1e-8 on a 1e-3-strongly convex objective leaves 1e-16 / 2e-3, beside the 14 digits of the figure
        assert abs(result.fun - OPTIMUM) <= 1e-13
        assert np.diff(result.history["fun"]).max() <= 1e-15  # monotone, to an ulp or so
        return result

    def test_the_exact_hessian_takes_ten_iterations_and_eleven_evaluations(self, cancer):
        result = self.solve(cancer, cancer.hess)
        assert within_a_fifth(result.n_iter, 10) and within_a_fifth(result.n_fev, 11)

    def test_the_empirical_fisher_takes_two_hundred(self, cancer):
        assert within_a_fifth(self.solve(cancer, cancer.fisher).n_iter, 200)

    def test_no_hessian_takes_five_hundred_and_sixty(self, cancer):
        assert within_a_fifth(self.solve(cancer, None).n_iter, 560)

    def test_rosenbrock_takes_forty_five_with_exact_and_gauss_newton_hessians(self):
        def gauss_newton(x):
            J = np.array([[-20 * x[0], 10.0], [-1.0, 0.0]])
            return 2 * J.T @ J

        for hess in (rosen_hess, gauss_newton):
            result = minimize_gns(rosen, [-1.2, 1.0], grad=rosen_der, hess=hess, tol=1e-10)
            assert within_a_fifth(result.n_iter, 45) and result.grad_norm <= 1e-10
            assert_allclose(result.x, 1, atol=1e-9)


class TestHessians:
    """All representations of one matrix lead along one path."""

    def path(self, problem, hess, **options):
        points = []
        result = minimize_gns(
            problem.fun,
            problem.x0,
            grad=problem.grad,
            hess=hess,
            callback=lambda state: points.append(state.x.copy()),
            **{"tol": 1e-6} | options,
        )
        return result, np.array(points)

    @pytest.mark.parametrize("n", [12, 200])  # fewer gradients than parameters, and more
    @pytest.mark.parametrize("of_mean", [False, True])
    def test_a_fisher_matrix_steps_as_its_dense_form_does(self, n, of_mean):
        problem = breast_cancer(n)
        dense, points = self.path(problem, lambda w: problem.fisher(w, damp=1e-4).todense())
        fisher, others = self.path(problem, lambda w: problem.fisher(w, damp=1e-4), fisher_of_mean=of_mean)
        assert fisher.n_iter == dense.n_iter
        assert_allclose(others, points, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("of_mean", [False, True])
    def test_structured_gradients_step_as_their_array_does(self, of_mean):
        rng = np.random.default_rng(1)
        net = ad.nn.MLP([4, 6, 3])
        X, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
        forms = (
            lambda theta: EmpiricalFisher(ad.per_example_jacobian(net, theta, X, y), damp=1e-3),
            lambda theta: EmpiricalFisher(net.per_example_grads(theta, X, y)[1], damp=1e-3),
        )
        ends = []
        for hess in forms:
            with pytest.warns(ConvergenceWarning):
                ends.append(
                    minimize_gns(
                        lambda theta: net.loss_and_grad(theta, X, y)[0],
                        net.init(rng=0, dtype=np.float64),
                        grad=lambda theta: net.loss_and_grad(theta, X, y)[1],
                        hess=hess,
                        fisher_of_mean=of_mean,
                        max_iter=8,
                    ).x
                )
        assert_allclose(ends[0], ends[1], rtol=1e-7, atol=1e-9)

    def test_one_factorisation_serves_all_trials_of_an_iteration(self, cancer):
        small = breast_cancer(12)
        for problem in (cancer, small):
            result, _ = self.path(problem, problem.fisher)
            trials = int(result.history["trials"].sum())
            assert result.n_factor == result.n_hev == result.n_iter < trials
            assert result.n_fev == trials + 1

    def test_a_dense_matrix_is_factored_in_each_trial_and_evaluated_once(self, cancer):
        cancer.n_hess = 0
        result, _ = self.path(cancer, cancer.hess)
        assert result.n_hev == cancer.n_hess == result.n_iter
        assert result.n_factor == result.history["trials"].sum()

    def test_blocks_of_a_fisher_matrix_step_as_the_masked_matrix_does(self):
        problem = breast_cancer(200)
        same = np.arange(30)[:, None] // 7 == np.arange(30) // 7
        dense, points = self.path(problem, lambda w: np.where(same, problem.fisher(w, damp=1e-4).todense(), 0))
        blocks, others = self.path(problem, lambda w: problem.fisher(w, damp=1e-4, blocks=7))
        assert blocks.n_iter == dense.n_iter
        assert_allclose(others, points, rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("form", [aslinearoperator, sparse.csr_array])
    def test_products_alone_lead_to_the_same_optimum_in_about_as_many_steps(self, cancer, form):
        result = minimize_gns(cancer.fun, cancer.x0, grad=cancer.grad, hess=lambda w: form(cancer.hess(w)))
        assert result.converged and abs(result.fun - OPTIMUM) <= 1e-13
        assert within_a_fifth(result.n_iter, 10) and result.n_factor == 0

    def test_the_first_steps_are_the_formulas(self, cancer):
        g, H = cancer.grad(cancer.x0), cancer.hess(cancer.x0)
        B = np.geomspace(0.1, 10, 30)
        for metric, weights in ((None, np.ones(30)), (B, B)):
            norm = np.sqrt(g @ (g / weights))
            for hess, matrix in ((cancer.hess, H), (None, np.zeros_like(H))):
                # gamma0 is so small that the first trial is accepted: lam = |g| / gamma
                result = self.first(cancer, hess, metric)
                assert_allclose(result.x, -np.linalg.solve(matrix + norm / 1e-2 * np.diag(weights), g), rtol=1e-9)
                assert_allclose(result.grad_norm, np.sqrt(result.grad @ (result.grad / weights)))
                assert result.gamma == 2e-2 and result.history["trials"] == [1]

    def first(self, problem, hess, metric):
        with pytest.warns(ConvergenceWarning):
            return minimize_gns(
                problem.fun, problem.x0, grad=problem.grad, hess=hess, metric=metric, gamma0=1e-2, max_iter=1
            )

    @pytest.mark.parametrize("kind", ["hess", "operator", "fisher", "none"])
    def test_with_a_metric_all_kinds_converge(self, cancer, kind):
        B = np.diag(cancer.hess(cancer.x0))
        forms = {
            "hess": cancer.hess,
            "operator": lambda w: aslinearoperator(cancer.hess(w)),
            "fisher": cancer.fisher,
            "none": None,
        }
        result = minimize_gns(cancer.fun, cancer.x0, grad=cancer.grad, hess=forms[kind], metric=B)
        assert result.converged and abs(result.fun - OPTIMUM) <= 1e-12

    def test_a_metric_undoes_a_change_of_units(self, cancer):
        # in units s, x -> x / s: with B = 1 / s^2 the norms, and so all steps, are the old ones
        s = np.geomspace(1e-3, 1e3, 30)
        plain, points = self.path(cancer, cancer.hess)
        scaled = Logistic(cancer.X, cancer.y)
        other = minimize_gns(
            lambda z: scaled.fun(s * z),
            cancer.x0,
            grad=lambda z: s * scaled.grad(s * z),
            hess=lambda z: s[:, None] * scaled.hess(s * z) * s,
            metric=s**2,
            tol=1e-6,
        )
        assert other.n_iter == plain.n_iter
        assert_allclose(s * other.x, points[-1], rtol=1e-6, atol=1e-9)

    def test_indefinite_hessians_are_damped_until_they_are_definite(self):
        # a saddle: the exact Hessian has eigenvalues 2 and -2 at the start
        def fun(x):
            return x[0] ** 2 - x[1] ** 2 + x[1] ** 4 / 4

        def grad(x):
            return np.array([2 * x[0], -2 * x[1] + x[1] ** 3])

        def hess(x):
            return np.diag([2.0, -2 + 3 * x[1] ** 2])

        for form in (hess, lambda x: aslinearoperator(hess(x))):
            result = minimize_gns(fun, [1.0, 0.1], grad=grad, hess=form)
            assert result.converged
            assert_allclose(np.abs(result.x), [0, np.sqrt(2)], atol=1e-6)

    def test_the_mean_that_is_declared_is_checked(self, cancer):
        with pytest.raises(ValueError, match="fisher_of_mean declares.*differ by"):
            minimize_gns(
                cancer.fun,
                np.ones(30),
                grad=cancer.grad,
                hess=lambda w: EmpiricalFisher(cancer.rows(w)[:100]),
                fisher_of_mean=True,
            )

    def test_fisher_of_mean_keeps_digits_that_the_subtraction_loses(self):
        # float32 gradients that dwarf the dampening, and a first trial with lam far below it
        rng = np.random.default_rng(0)
        G = (30 * rng.standard_normal((8, 400))).astype(np.float32)
        mean = G.mean(0)
        wide = G.astype(float)
        lam = np.linalg.norm(mean.astype(float)) / 1e8
        exact = -np.linalg.solve(wide.T @ wide / 8 + (1e-6 + lam) * np.eye(400), wide.mean(0))
        steps = {}
        for of_mean in (False, True):
            seen = []
            with pytest.raises(KeyboardInterrupt):
                minimize_gns(
                    lambda x, seen=seen: self.recorded(seen, x),
                    np.zeros(400, np.float32),
                    grad=lambda x: mean,
                    hess=lambda x: EmpiricalFisher(G, damp=1e-6),
                    gamma0=1e8,
                    fisher_of_mean=of_mean,
                )
            steps[of_mean] = np.linalg.norm(seen[1] - exact) / np.linalg.norm(exact)
        assert steps[True] < 1e-5
        assert steps[True] < 1e-2 * steps[False]

    @staticmethod
    def recorded(seen, x):
        seen.append(x)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return 0.0


class TestRobustness:
    def test_a_start_at_the_optimum_is_the_end(self):
        result = minimize_gns(lambda x: float(x @ x), np.zeros(3), grad=lambda x: 2 * x)
        assert result.converged and result.n_iter == 0 and result.n_fev == result.n_jev == 1
        assert {key: len(column) for key, column in result.history.items()} == dict.fromkeys(
            ("fun", "grad_norm", "gamma", "trials"), 0
        )

    def test_a_trial_that_is_not_finite_is_refused(self):
        # log has no value left of 0, where the first long steps lead
        def fun(x):
            with np.errstate(invalid="ignore", divide="ignore"):
                return float(np.sum(x - np.log(x)))

        result = minimize_gns(fun, [1e-3, 50.0], grad=lambda x: 1 - 1 / x, hess=lambda x: np.diag(1 / x**2), gamma0=1e6)
        assert result.converged and result.history["trials"].max() > 1
        assert_allclose(result.x, 1, atol=1e-6)

    def test_a_gradient_that_is_not_finite_refuses_its_step_too(self):
        def grad(x):
            return np.where(x < -0.5, np.nan, 2 * x)

        result = minimize_gns(lambda x: float(x @ x), [3.0], grad=grad, gamma0=100.0)
        assert result.converged and result.n_fev > result.n_iter + 1

    @pytest.mark.parametrize("form", [float, lambda x: np.array([x]), lambda x: np.array([[x]])])
    @pytest.mark.parametrize("x0", [0.0, [0.0]])
    def test_one_parameter_is_a_problem_too(self, form, x0):
        result = minimize_gns(
            lambda x: form(np.cosh(x[0] - 2)),
            x0,
            grad=lambda x: np.ravel(form(np.sinh(x[0] - 2))),
            hess=lambda x: form(np.cosh(x[0] - 2)),
        )
        assert result.converged and result.x.shape == (1,)
        assert_allclose(result.x, 2, atol=1e-8)

    def test_a_tolerance_below_rounding_ends_with_a_warning_and_the_last_point(self, cancer):
        with pytest.warns(ConvergenceWarning, match="None of 40 steps from here was accepted") as caught:
            result = minimize_gns(cancer.fun, cancer.x0, grad=cancer.grad, hess=cancer.hess, tol=0.0)
        assert caught[0].filename == __file__
        assert not result.converged and result.grad_norm < 1e-12 and np.isfinite(result.x).all()
        assert_allclose(result.grad, cancer.grad(result.x))

    def test_it_goes_on_where_differences_of_the_objective_drown_in_rounding(self, cancer):
        # with a constant of 1e6 added, f no longer changes once |g| is below 1e-7 or so
        result = minimize_gns(lambda w: 1e6 + cancer.fun(w), cancer.x0, grad=cancer.grad, hess=cancer.hess, tol=1e-11)
        assert result.converged

    def test_a_wrong_gradient_ends_with_a_warning(self):
        with pytest.warns(ConvergenceWarning, match=r"40 steps.*grad is not its gradient"):
            result = minimize_gns(lambda x: float(x @ x), np.ones(3), grad=lambda x: -2 * x)
        assert result.n_iter == 0 and not result.converged and result.fun == 3.0
        assert_array_equal(result.x, np.ones(3))

    def test_max_iter_is_kept_and_reported(self, cancer):
        with pytest.warns(ConvergenceWarning, match="all 3 iterations"):
            result = minimize_gns(cancer.fun, cancer.x0, grad=cancer.grad, max_iter=3)
        assert result.n_iter == 3 and len(result.history["fun"]) == 3
        assert result.fun == result.history["fun"][-1] and result.gamma == result.history["gamma"][-1]

    def test_the_callback_sees_each_point_and_can_stop(self, cancer):
        seen = []

        def stop(state):
            seen.append(state)
            return state.n_iter == 2

        result = minimize_gns(cancer.fun, cancer.x0, grad=cancer.grad, hess=cancer.hess, callback=stop)
        assert len(seen) == 2 and result.n_iter == 2 and not result.converged
        assert_array_equal(seen[-1].x, result.x)
        assert_array_equal(seen[-1].grad, result.grad)
        assert (seen[-1].fun, seen[-1].grad_norm, seen[-1].gamma) == (result.fun, result.grad_norm, result.gamma)
        with pytest.raises(ValueError, match="read-only"):
            seen[0].x[0] = 1

    def test_functions_cannot_spoil_the_point(self, cancer):
        def spoiled(f):
            def call(w):
                value = f(w)
                w[:] = np.nan
                return value

            return call

        x0 = cancer.x0.copy()
        result = minimize_gns(spoiled(cancer.fun), x0, grad=spoiled(cancer.grad), hess=spoiled(cancer.hess))
        assert result.converged and not x0.any()

    def test_a_gradient_that_reuses_its_buffer_does_no_harm(self, cancer):
        buffer = np.empty(30)

        def grad(w):
            buffer[:] = cancer.grad(w)
            return buffer

        result = minimize_gns(cancer.fun, cancer.x0, grad=grad, hess=cancer.hess)
        assert result.converged and result.n_iter <= 12

    @pytest.mark.parametrize("hess", [True, False])
    def test_float32_stays_and_reaches_its_own_precision(self, cancer, hess):
        problem = Logistic(cancer.X.astype(np.float32), cancer.y.astype(np.float32))
        result = minimize_gns(
            problem.fun,
            problem.x0.astype(np.float32),
            grad=problem.grad,
            hess=problem.hess if hess else None,
            tol=1e-4,
        )
        assert result.converged and result.x.dtype == result.grad.dtype == np.float32
        assert abs(result.fun - OPTIMUM) < 1e-4

    @pytest.mark.parametrize("scale", [1e-150, 1e150])
    def test_the_scale_of_the_objective_does_not_matter_but_for_tol(self, scale):
        # |g| is about 1, so gamma is in units of x and lam in units of f; squares of the norms would leave the range
        A = np.diag([1.0, 3.0, 10.0])
        result = minimize_gns(
            lambda x: float(scale * (x @ A @ x) / 2),
            np.ones(3),
            grad=lambda x: scale * (A @ x),
            hess=lambda x: scale * A,
            tol=1e-9 * scale,
        )
        # below eps^2 or so all differences count as rounding, and the second test of acceptance decides
        assert result.converged and np.abs(result.x).max() <= 1e-9

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"fun": lambda x: np.nan}, ValueError, r"fun\(x0\) must be finite; got nan"),
            ({"fun": lambda x: np.inf}, ValueError, r"fun\(x0\) must be finite; got inf"),
            ({"fun": lambda x: x}, TypeError, r"fun must return a real number; got shape \(3,\)"),
            ({"fun": None}, TypeError, "fun must be callable"),
            ({"grad": lambda x: x[:2]}, ValueError, r"grad must return real numbers of shape \(3,\); got shape \(2,\)"),
            ({"grad": lambda x: x * np.nan}, ValueError, r"grad\(x0\) must be finite; 3 of its 3"),
            ({"grad": np.ones(3)}, TypeError, "grad must be callable"),
            ({"hess": np.eye(3)}, TypeError, "hess must be callable"),
            ({"hess": lambda x: np.eye(2)}, ValueError, r"hess\(x\) must have shape \(3, 3\); got \(2, 2\)"),
            ({"hess": lambda x: np.full((3, 3), np.nan)}, ValueError, r"hess\(x\) must be finite; 9"),
            ({"hess": lambda x: np.eye(3) + np.triu(np.ones((3, 3)), 1) * 1e-7}, ValueError, "must be symmetric"),
            (
                {"hess": lambda x: LinearOperator((3, 2), lambda v: v, dtype=float)},
                ValueError,
                r"shape \(3, 3\); got \(3, 2\)",
            ),
            ({"hess": lambda x: EmpiricalFisher(np.ones((2, 4)))}, ValueError, r"shape \(3, 3\); got \(4, 4\)"),
            ({"fisher_of_mean": True}, ValueError, "fisher_of_mean needs a hess"),
            ({"fisher_of_mean": True, "hess": lambda x: np.eye(3)}, ValueError, "EmpiricalFisher.*got ndarray"),
            ({"fisher_of_mean": 2}, ValueError, "fisher_of_mean must be one of"),
            ({"metric": np.array([1.0, 0.0, -1.0])}, ValueError, "metric must be positive; 2 of its 3"),
            ({"metric": np.ones(2)}, ValueError, "metric must have shape"),
            ({"x0": np.array([1.0, np.nan, 0.0])}, ValueError, "x0 must be finite"),
            ({"x0": np.ones((3, 1))}, ValueError, "x0"),
            ({"x0": np.empty(0)}, ValueError, "x0 must have at least one entry"),
            ({"gamma0": 0.0}, ValueError, "gamma0"),
            ({"gamma_min": -1.0}, ValueError, "gamma_min"),
            ({"max_trials": 0}, ValueError, "max_trials"),
            ({"max_iter": 0}, ValueError, "max_iter"),
            ({"tol": -1.0}, ValueError, "tol"),
            ({"tol": np.nan}, ValueError, "tol"),
        ],
    )
    def test_bad_input_is_refused_by_name(self, change, error, message):
        arguments = {"fun": lambda x: float(x @ x), "x0": np.ones(3), "grad": lambda x: 2 * x} | change
        with pytest.raises(error, match=message):
            minimize_gns(arguments.pop("fun"), arguments.pop("x0"), **arguments)

    def test_rounding_does_not_make_a_hessian_asymmetric(self):
        H = np.eye(3) + 1e-9 * np.triu(np.ones((3, 3)), 1)
        assert minimize_gns(lambda x: float(x @ x) / 2, np.ones(3), grad=lambda x: x, hess=lambda x: H).converged


def test_results_come_back_from_files(cancer, tmp_path):
    result = minimize_gns(cancer.fun, cancer.x0, grad=cancer.grad, hess=cancer.hess)
    numcore.save(result, tmp_path / "gns")
    again = numcore.load(tmp_path / "gns")
    assert_array_equal(again.x, result.x)
    assert again.n_fev == result.n_fev and again.converged and again.gamma == result.gamma


def test_a_minimum_at_infinity_is_followed_until_numbers_end():
    """The quotient of a vanishing gradient and a growing gamma underflows; lambda stays positive."""
    with pytest.warns(ConvergenceWarning):
        result = minimize_gns(
            lambda x: float(np.exp(x).sum()),
            [1.0, 2.0],
            grad=np.exp,
            hess=lambda x: np.diag(np.exp(x)),
            tol=0,
            max_iter=1000,
        )
    assert result.fun < 1e-300
    assert np.all(np.diff(result.history["fun"]) <= 0)
