"""What goes out: results as plain data, and the loop that every iterative method runs in."""

import io
import pickle
import subprocess
import sys
import warnings
from dataclasses import FrozenInstanceError, dataclass, field
from functools import cached_property

import numpy as np
import pytest

from numcore import results
from numcore.results import ConvergenceWarning, Loop, Progress, Result, State


@dataclass(frozen=True, repr=False, eq=False)
class Fit(Result):
    plan: np.ndarray
    value: float
    converged: bool
    history: dict = field(default_factory=dict)
    hidden: object = field(default=None, repr=False)

    @cached_property
    def total(self):
        return self.plan.sum()


def fit(**fields):
    defaults = {"plan": np.ones((2, 3), np.float32), "value": 0.123456789, "converged": True}
    return Fit(**(defaults | fields))


def run(loop, errors, **stage):
    """Report `errors` one after another until the loop ends by itself; return how many iterations were made."""
    errors, before = iter(errors), loop.n_iter
    for _ in loop.stage(**stage):
        loop.report(next(errors))
    return loop.n_iter - before


def halving(start=1.0):
    while True:
        yield start
        start /= 2


class TestResult:
    def test_the_repr_shows_arrays_by_shape_and_dtype_and_floats_shortly(self):
        text = repr(fit(history={"error": np.ones(7)}))
        assert text == "Fit(plan=<2x3 float32>, value=0.123457, converged=True, history={error: <7 float64>})"

    def test_fields_kept_out_of_the_repr_are_not_shown(self):
        assert "hidden" not in repr(fit(hidden=1))

    def test_a_result_is_frozen(self):
        result = fit()
        with pytest.raises(FrozenInstanceError):
            result.value = 1.0

    def test_a_result_pickles_without_what_can_be_computed_again(self):
        result = fit()
        assert result.total == 6 and "total" in vars(result)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            back = pickle.loads(pickle.dumps(result, protocol))
            assert type(back) is Fit and "total" not in vars(back)
            assert np.array_equal(back.plan, result.plan) and back.plan.dtype == np.float32
            assert (back.value, back.converged, back.history) == (result.value, True, {})
            assert back.total == 6


class TestState:
    def test_a_state_cannot_be_changed(self):
        state = State(n_iter=1)
        with pytest.raises(AttributeError, match="read-only"):
            state.n_iter = 2
        with pytest.raises(AttributeError, match="read-only"):
            state.new = 2
        assert state.n_iter == 1

    def test_a_state_loses_no_attribute(self):
        state = State(n_iter=1)
        with pytest.raises(AttributeError, match="read-only"):
            del state.n_iter


class TestTolerance:
    def test_the_loop_ends_at_the_first_error_within_tolerance(self):
        loop = Loop("method", tol=0.25, max_iter=100)
        assert run(loop, halving()) == 3
        loop.finish()
        assert loop.converged and loop.n_iter == 3 and loop.error == 0.25

    def test_the_limit_ends_the_loop_with_a_warning_that_says_what_was_reached(self):
        loop = Loop("sinkhorn", tol=1e-9, max_iter=4)
        assert run(loop, halving()) == 4
        with pytest.warns(ConvergenceWarning) as caught:
            loop.finish("Raise max_iter.", stacklevel=2)
        assert not loop.converged
        message = "sinkhorn did not converge: it used all 4 iterations (error 0.125, tol 1e-09). Raise max_iter."
        assert str(caught[0].message) == message
        assert caught[0].filename == __file__

    def test_the_residual_goes_by_the_name_given(self):
        loop = Loop("newton", tol=0.0, max_iter=1, residual="gradient_norm")
        run(loop, [0.5])
        assert list(loop.history) == ["gradient_norm"]
        with pytest.warns(ConvergenceWarning, match=r"\(gradient_norm 0\.5, tol 0\)"):
            loop.finish()

    def test_convergence_in_the_last_iteration_allowed_counts(self):
        loop = Loop("method", tol=0.25, max_iter=3)
        run(loop, halving())
        loop.finish()
        assert loop.converged

    def test_an_iteration_without_a_report_is_a_programming_error(self):
        loop = Loop("method", tol=0.1, max_iter=3)
        with pytest.raises(RuntimeError, match="method: an iteration ended without a report"):
            for _ in loop.stage():
                pass

    @pytest.mark.parametrize(("max_iter", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError)])
    def test_a_bad_limit_is_refused_by_name(self, max_iter, error):
        with pytest.raises(error, match="max_iter must be"):
            Loop("method", tol=0.1, max_iter=max_iter)

    def test_a_callback_that_cannot_be_called_is_refused_by_name(self):
        with pytest.raises(TypeError, match="callback must be callable or None; got 3"):
            Loop("method", tol=0.1, max_iter=1, callback=3)


class TestStages:
    def test_a_coarse_stage_ends_at_its_tolerance_without_converging(self):
        loop = Loop("method", tol=1e-3, max_iter=100)
        assert run(loop, halving(), tol=0.25) == 3
        assert loop.running and not loop.converged
        assert run(loop, halving(0.1)) == 8
        assert loop.converged and not loop.running and loop.n_iter == 11

    def test_a_stage_with_a_tolerance_of_its_own_is_not_the_last_however_tight(self):
        loop = Loop("method", tol=0.25, max_iter=100)
        run(loop, halving(), tol=0.01)
        assert loop.error == 0.25 and loop.running and not loop.converged

    def test_a_stage_ends_at_its_own_limit_and_the_loop_goes_on(self):
        loop = Loop("method", tol=1e-3, max_iter=100)
        assert run(loop, halving(), tol=0.1, max_iter=2) == 2
        assert loop.running

    def test_stages_share_the_limit_of_the_loop(self):
        loop = Loop("method", tol=1e-9, max_iter=5)
        assert run(loop, halving(), tol=1e-3, max_iter=3) == 3
        assert run(loop, halving()) == 2
        assert run(loop, halving()) == 0

    def test_no_stage_starts_after_convergence(self):
        loop = Loop("method", tol=0.5, max_iter=5)
        run(loop, halving())
        assert run(loop, halving()) == 0 and loop.n_iter == 2

    def test_stages_number_their_iterations_on(self):
        loop, seen = Loop("method", tol=1e-9, max_iter=5), []
        for limit in (2, 3):
            for k in loop.stage(max_iter=limit):
                seen.append(k)
                loop.report(1.0 / (k + 1))
        assert seen == [0, 1, 2, 3, 4]


class TestHistory:
    def test_the_history_keeps_all_that_was_reported_as_float64(self):
        loop = Loop("method", tol=0.1, max_iter=3)
        for k in loop.stage():
            loop.report(np.float32(0.5) ** k, dual_value=k)
        assert list(loop.history) == ["error", "dual_value"]
        assert np.array_equal(loop.history["error"], [1, 0.5, 0.25])
        assert np.array_equal(loop.history["dual_value"], [0, 1, 2])
        assert {column.dtype for column in loop.history.values()} == {np.dtype(np.float64)}


class TestCallback:
    def test_the_callback_gets_the_figures_and_the_state_once_an_iteration(self):
        seen = []
        loop = Loop("method", tol=0.3, max_iter=9, callback=seen.append)
        for k in loop.stage():
            loop.report(0.5**k, state=lambda k=k: {"plan": np.full(2, k)}, value=float(k))
        figures = [(s.n_iter, s.residual, s.error, s.value) for s in seen]
        assert figures == [(1, 1, 1, 0), (2, 0.5, 0.5, 1), (3, 0.25, 0.25, 2)]
        assert [s.plan[0] for s in seen] == [0, 1, 2]

    def test_the_state_is_not_built_without_a_callback(self):
        loop = Loop("method", tol=0.3, max_iter=1)
        for _ in loop.stage():
            loop.report(0.1, state=lambda: pytest.fail("built for nobody"))

    def test_arrays_in_the_state_cannot_be_written_to_and_the_methods_own_stay_writeable(self):
        plan = np.zeros(3)

        def callback(state):
            with pytest.raises(ValueError, match="read-only"):
                state.plan[0] = 1

        loop = Loop("method", tol=0.3, max_iter=1, callback=callback)
        for _ in loop.stage():
            loop.report(0.1, state=lambda: {"plan": plan})
        plan[0] = 1
        assert loop.converged

    def test_returning_true_stops_without_convergence_and_without_a_warning(self):
        loop = Loop("method", tol=1e-9, max_iter=9, callback=lambda state: state.n_iter == 3)
        assert run(loop, halving()) == 3
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop.finish()
        assert loop.stopped and not loop.converged and not loop.running
        assert run(loop, halving()) == 0

    def test_returning_numpys_true_stops_as_well(self):
        loop = Loop("method", tol=1e-9, max_iter=9, callback=lambda state: np.float64(state.error) < 0.3)
        assert run(loop, halving()) == 3

    @pytest.mark.parametrize("answer", [None, False, 0, 1, "yes", [1]])
    def test_returning_anything_else_goes_on(self, answer):
        loop = Loop("method", tol=0.25, max_iter=9, callback=lambda state: answer)
        assert run(loop, halving()) == 3 and loop.converged

    def test_an_iteration_that_converges_and_is_stopped_counts_as_stopped_on_purpose(self):
        loop = Loop("method", tol=0.25, max_iter=9, callback=lambda state: state.error <= 0.25)
        run(loop, halving())
        loop.finish()
        assert loop.stopped and not loop.converged

    def test_an_exception_in_the_callback_passes_through(self):
        def callback(state):
            raise KeyError("mine")

        loop = Loop("method", tol=0.25, max_iter=9, callback=callback)
        with pytest.raises(KeyError, match="mine"):
            run(loop, halving())
        assert loop.n_iter == 1 and not loop.converged


class TestFailure:
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_a_non_finite_error_ends_the_loop_at_once_and_is_named(self, bad):
        loop = Loop("method", tol=0.1, max_iter=100)
        assert run(loop, [1.0, bad, 1.0]) == 2
        with pytest.warns(ConvergenceWarning, match=rf"the error became {bad} "):
            loop.finish()
        assert not loop.converged and not loop.running

    def test_stagnation_above_a_reachable_tolerance_is_left_alone(self):
        loop = Loop("method", tol=1e-6, max_iter=300, floor=1e-7)
        assert run(loop, iter(lambda: 0.5, None)) == 300

    def test_stagnation_under_an_unreachable_tolerance_ends_the_loop_and_says_why(self):
        loop = Loop("method", tol=1e-9, max_iter=10_000, floor=1e-7)
        made = run(loop, iter(lambda: 2e-7, None))
        assert made == 1 + Loop.patience
        with pytest.warns(ConvergenceWarning, match=r"stalls at 2e-07; .* below about 1e-07"):
            loop.finish()

    def test_slow_but_steady_progress_is_not_stagnation(self):
        loop = Loop("method", tol=1e-9, max_iter=2000, floor=1e-7)
        assert run(loop, (0.997**k for k in range(2000))) == 2000

    def test_an_unreachable_tolerance_that_is_reached_all_the_same_converges(self):
        loop = Loop("method", tol=1e-9, max_iter=1000, floor=1e-7)
        run(loop, [1e-7] * 40 + [1e-10])
        assert loop.converged


@pytest.fixture
def without_tqdm(monkeypatch):
    monkeypatch.setattr(results.importlib.util, "find_spec", lambda name: None)


class TestProgress:
    def watched(self, capsys, **options):
        loop = Loop("sinkhorn", tol=0.25, max_iter=50, verbose=1, **options)
        run(loop, halving())
        loop.finish()
        return capsys.readouterr()

    def test_the_bar_of_tqdm_goes_to_standard_error_with_the_latest_figures(self, capsys):
        pytest.importorskip("tqdm")
        out, err = self.watched(capsys)
        assert out == "" and "sinkhorn" in err and "3/50" in err and "error=0.25" in err

    def test_without_tqdm_a_line_goes_to_standard_error_with_the_latest_figures(self, capsys, without_tqdm):
        out, err = self.watched(capsys)
        assert out == "" and err.count("\n") == 1
        last = err.rstrip("\n").split("\r")[-1]
        assert last.startswith("sinkhorn: 3/50") and "error=0.25" in last

    def test_without_tqdm_the_line_is_not_rewritten_at_every_step(self, capsys, without_tqdm):
        bar = Progress(1000, "method")
        for _ in range(1000):
            bar.step({"error": 1.0})
        bar.close()
        assert capsys.readouterr().err.count("\r") < 20

    @pytest.mark.parametrize("with_tqdm", [True, False])
    def test_closing_twice_writes_nothing_more(self, capsys, monkeypatch, with_tqdm):
        if with_tqdm:
            pytest.importorskip("tqdm")
        else:
            monkeypatch.setattr(results.importlib.util, "find_spec", lambda name: None)
        bar = Progress(2, "method")
        bar.step()
        bar.close()
        capsys.readouterr()
        bar.close()
        assert capsys.readouterr() == ("", "")

    def test_the_bar_is_closed_when_the_callback_raises(self, capsys, without_tqdm):
        def callback(state):
            raise KeyError

        loop = Loop("method", tol=0.1, max_iter=5, callback=callback, verbose=1)
        with pytest.raises(KeyError):
            run(loop, halving())
        assert capsys.readouterr().err.count("\n") == 1

    def test_nothing_is_shown_unless_asked_for(self, capsys):
        loop = Loop("method", tol=0.25, max_iter=50)
        run(loop, halving())
        loop.finish()
        assert capsys.readouterr() == ("", "")

    def test_tqdm_is_imported_only_for_a_bar(self):
        code = (
            "import sys; from numcore.results import Loop; Loop('m', tol=0.1, max_iter=2); print('tqdm' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"

    def test_a_bar_survives_a_standard_error_replaced_after_it_opened(self, monkeypatch, without_tqdm):
        bar = Progress(2, "method")
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        bar.step()
        bar.close()
        assert "method: 1/2" in sys.stderr.getvalue()
