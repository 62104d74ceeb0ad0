"""Which implementation runs, who decides, and what is said when it cannot."""

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import array_api_strict
import numpy as np
import pytest

import numcore
from numcore import dispatch

NO_NUMBA = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "numba":
            raise ModuleNotFoundError("No module named 'numba'", name="numba")
sys.meta_path.insert(0, Block())
"""

PLANTED = """
from numcore.dispatch import dispatchable
def double(x):
    return 2 * x
double.__module__ = "numcore.planted"
double = dispatchable(double)
"""


@pytest.fixture(autouse=True)
def fresh_setting(monkeypatch):
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    token = dispatch._setting.set(None)
    yield
    dispatch._setting.reset(token)
    for key, loop in list(dispatch._registry.items()):
        if inspect.getsourcefile(loop.reference) == __file__:
            del dispatch._registry[key]


@pytest.fixture
def accelerators(monkeypatch):
    """Pretend which accelerators can be imported: a dict from the package to the reason why it cannot, or None."""
    failures = {"numba": None, "cupy": None}
    monkeypatch.setattr(dispatch, "_import_failure", failures.__getitem__)
    return failures


@pytest.fixture
def plant(monkeypatch, accelerators):
    """Plant a loop whose answer is the name of the implementation that ran."""

    def planted(*devices, module="numcore.planted"):
        def loop(*args, **kwargs):
            """Say which implementation ran."""
            return "reference"

        loop.__module__ = module
        family = module.split(".")[2] if "algorithms" in module else module.split(".")[1]
        for device in ("cpu", "gpu"):
            twins = ModuleType(f"numcore.accel.{device}.{family}")
            if device in devices:
                twins.loop = lambda *args, device=device, **kwargs: device
            monkeypatch.setitem(sys.modules, twins.__name__, twins)
        return dispatch.dispatchable(loop)

    return planted


class FakeCupyArray:
    __array_priority__ = 100

    def __array_namespace__(self, api_version=None):
        return np


FakeCupyArray.__module__ = "cupy"
X = np.ones(3)


def python(code, **environment):
    """Run `code` in a fresh interpreter with the given variables set."""
    clean = {key: value for key, value in os.environ.items() if key != dispatch.VARIABLE}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=clean | environment)


# The setting


def test_the_backend_is_auto_unless_something_says_otherwise():
    assert numcore.get_backend() == "auto"


@pytest.mark.parametrize("name", ["auto", "numpy", "numba"])
def test_the_environment_variable_sets_the_backend(monkeypatch, name):
    monkeypatch.setenv("NUMCORE_BACKEND", name)
    assert numcore.get_backend() == name


def test_an_empty_environment_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("NUMCORE_BACKEND", "")
    assert numcore.get_backend() == "auto"
    assert numcore.show_config("dict")["backend"]["source"] == "default"


def test_an_invalid_environment_variable_is_an_error_that_names_it_and_the_choices(monkeypatch):
    monkeypatch.setenv("NUMCORE_BACKEND", "fortran")
    with pytest.raises(ValueError, match=r"NUMCORE_BACKEND must be one of 'auto', 'numpy', 'numba'; got 'fortran'"):
        numcore.get_backend()


@pytest.mark.parametrize("name", ["fortran", "", "NumPy", None, 1])
def test_an_invalid_backend_is_refused_and_changes_nothing(name):
    numcore.set_backend("numpy")
    with pytest.raises(ValueError, match=r"backend must be one of 'auto', 'numpy', 'numba'; got "):
        numcore.set_backend(name)
    with pytest.raises(ValueError, match="backend must be one of"), numcore.backend(name):
        pass
    assert numcore.get_backend() == "numpy"


def test_set_backend_wins_over_the_environment_variable(monkeypatch):
    monkeypatch.setenv("NUMCORE_BACKEND", "numba")
    numcore.set_backend("numpy")
    assert numcore.get_backend() == "numpy"
    assert numcore.show_config("dict")["backend"]["source"] == "set_backend"


def test_the_context_manager_nests_and_restores():
    numcore.set_backend("auto")
    with numcore.backend("numpy"):
        with numcore.backend("auto"):
            assert numcore.get_backend() == "auto"
        assert numcore.get_backend() == "numpy"
    assert numcore.get_backend() == "auto"


def test_the_context_manager_restores_after_an_exception():
    with pytest.raises(KeyError), numcore.backend("numpy"):
        raise KeyError
    assert numcore.get_backend() == "auto"


def test_the_context_manager_restores_the_unset_state_so_that_the_variable_rules_again(monkeypatch):
    with numcore.backend("numpy"):
        pass
    monkeypatch.setenv("NUMCORE_BACKEND", "numpy")
    assert numcore.show_config("dict")["backend"]["source"] == "NUMCORE_BACKEND"


def test_the_context_manager_decorates_a_function():
    @numcore.backend("numpy")
    def inside():
        return numcore.get_backend()

    assert (inside(), inside(), numcore.get_backend()) == ("numpy", "numpy", "auto")


def test_threads_start_from_the_default_and_do_not_leak_into_each_other():
    numcore.set_backend("numpy")
    both_have_set = threading.Barrier(2)

    def work(name):
        before = numcore.get_backend()
        with numcore.backend(name):
            both_have_set.wait(timeout=10)
            inside = numcore.get_backend()
        return before, inside

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, ["numpy", "auto"])) == [("auto", "numpy"), ("auto", "auto")]
    assert numcore.get_backend() == "numpy"


def test_asyncio_tasks_inherit_their_creators_backend_and_are_isolated():
    async def task(name, turn, other):
        before = numcore.get_backend()
        numcore.set_backend(name)
        turn.set()
        await other.wait()
        return before, numcore.get_backend()

    async def main():
        numcore.set_backend("numpy")
        first, second = asyncio.Event(), asyncio.Event()
        done = await asyncio.gather(task("auto", first, second), task("numpy", second, first))
        return done, numcore.get_backend()

    assert asyncio.run(main()) == ([("numpy", "auto"), ("numpy", "numpy")], "numpy")


# The choice


def test_auto_takes_the_cpu_twin_where_numba_can_be_imported(plant):
    assert plant("cpu", "gpu")(X) == "cpu"


def test_auto_falls_back_to_the_reference_where_numba_cannot_be_imported(plant, accelerators):
    accelerators["numba"] = "ModuleNotFoundError: No module named 'numba'"
    assert plant("cpu")(X) == "reference"


def test_numpy_takes_the_reference(plant):
    with numcore.backend("numpy"):
        assert plant("cpu", "gpu")(X) == "reference"


def test_numba_takes_the_twin_and_without_one_the_reference(plant):
    with numcore.backend("numba"):
        assert plant("cpu")(X) == "cpu"
        assert plant()(X) == "reference"


def test_the_backend_is_looked_up_at_each_call(plant):
    loop, seen = plant("cpu"), []
    for name in ("numba", "numpy", "auto", "numpy"):
        with numcore.backend(name):
            seen.append(loop(X))
    assert seen == ["cpu", "reference", "cpu", "reference"]


def test_a_loop_without_arrays_follows_the_backend(plant):
    assert plant("cpu", "gpu")(3, "text", None, np.float64(2)) == "cpu"


def test_a_family_without_a_twin_module_runs_the_reference(accelerators):
    def loop(x):
        return "reference"

    loop.__module__ = "numcore.nobody_wrote_twins_for_this"
    dispatchable = dispatch.dispatchable(loop)
    assert dispatchable(X) == "reference"
    assert dispatchable.twin("cpu") is None and dispatchable.twin("gpu") is None


def test_a_twin_module_that_fails_to_import_is_not_silently_passed_over(accelerators, tmp_path, monkeypatch):
    import numcore.accel.cpu

    (tmp_path / "broken_twins.py").write_text("import a_package_that_does_not_exist\n")
    monkeypatch.setattr(numcore.accel.cpu, "__path__", [*numcore.accel.cpu.__path__, str(tmp_path)])

    def loop(x):
        return "reference"

    loop.__module__ = "numcore.broken_twins"
    dispatchable = dispatch.dispatchable(loop)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_does_not_exist"):
        dispatchable(X)


@pytest.mark.parametrize("name", ["auto", "numpy"])
def test_arrays_of_other_libraries_run_the_reference(plant, name):
    with numcore.backend(name):
        assert plant("cpu", "gpu")(array_api_strict.ones(3)) == "reference"
        assert plant("cpu", "gpu")(X, array_api_strict.ones(3)) == "reference"


@pytest.mark.parametrize("name", ["auto", "numpy", "numba"])
def test_cupy_arrays_run_the_gpu_twin_whatever_the_backend(plant, name):
    with numcore.backend(name):
        assert plant("cpu", "gpu")(FakeCupyArray()) == "gpu"
        assert plant("cpu", "gpu")(X, 1.0, FakeCupyArray()) == "gpu"


def test_cupy_arrays_without_a_gpu_twin_run_the_reference_not_the_cpu_twin(plant):
    assert plant("cpu")(FakeCupyArray()) == "reference"


@pytest.mark.parametrize("name", ["auto", "numpy", "numba"])
def test_subclasses_and_scalars_of_numpy_count_as_numpy(plant, name):
    expected = "reference" if name == "numpy" else "cpu"
    with numcore.backend(name):
        assert plant("cpu", "gpu")(np.ma.ones(3), np.float32(1)) == expected


def test_arguments_reach_the_implementation_and_its_result_comes_back(accelerators):
    def loop(x, *, scale=1.0):
        return x * scale

    loop.__module__ = "numcore.planted"
    dispatchable = dispatch.dispatchable(loop)
    assert np.array_equal(dispatchable(X, scale=3.0), 3 * X)


def test_a_dispatchable_has_the_name_the_docstring_and_the_signature_of_its_reference(plant):
    loop = plant()
    assert loop.__name__ == "loop" and loop.__doc__ == "Say which implementation ran."
    assert inspect.signature(loop) == inspect.signature(loop.reference)
    assert inspect.unwrap(loop) is loop.reference
    assert repr(loop) == "<dispatchable planted.loop>"


@pytest.mark.parametrize(
    ("module", "family"),
    [
        ("numcore.planted", "planted"),
        ("numcore.planted.rules", "planted"),
        ("numcore.algorithms.planted._loops", "planted"),
    ],
)
def test_the_family_is_read_from_the_module(plant, module, family):
    assert plant(module=module).family == family


# Discovery and configuration


def test_discover_finds_loops_under_the_name_of_their_family_and_only_those():
    found = dispatch.discover()
    assert list(found) == sorted(found)
    for key, loop in found.items():
        assert isinstance(loop, dispatch.Dispatchable)
        assert key == f"{loop.family}.{loop.name}"
        assert getattr(sys.modules[loop.__module__], loop.name) is loop


def test_discover_imports_no_twin():
    done = python("import sys, numcore.dispatch as d\nd.discover()\nprint(*sys.modules)")
    loaded = {name for name in done.stdout.split() if name.startswith("numcore.accel.")}
    assert loaded <= {"numcore.accel.cpu", "numcore.accel.gpu"}


def test_show_config_prints_what_the_dict_says(capsys):
    facts = numcore.show_config(mode="dict")
    assert numcore.show_config() is None
    printed = capsys.readouterr().out
    assert f"numcore {facts['version']}\n" in printed
    assert f"{facts['backend']['setting']} ({facts['backend']['source']})" in printed
    for key, at in facts["twins"].items():
        row = next(line for line in printed.splitlines() if line.startswith(f"{key} "))
        assert row.split()[1:] == [at["numpy_arrays"], at["cupy_arrays"]]
    for package, state in facts["accelerators"].items():
        row = next(line for line in printed.splitlines() if line.startswith(f"{package} "))
        assert (state["version"] or state["why_not"]) in row


def test_show_config_refuses_an_unknown_mode():
    with pytest.raises(ValueError, match="mode must be"):
        numcore.show_config(mode="yaml")


def test_show_config_says_that_auto_fell_back_and_why(monkeypatch, accelerators):
    accelerators["numba"] = accelerators["cupy"] = "ModuleNotFoundError: not here"
    monkeypatch.setattr(dispatch.Dispatchable, "twin", lambda self, device: None)
    facts = numcore.show_config("dict")
    assert facts["backend"] == {"setting": "auto", "source": "default", "active": "numpy"}
    assert facts["accelerators"]["numba"]["version"] is None
    assert "not here; install it with pip install" in facts["accelerators"]["numba"]["why_not"]
    assert all(at == {"numpy_arrays": "reference", "cupy_arrays": "reference"} for at in facts["twins"].values())


def test_show_config_shows_the_reference_for_every_loop_under_numpy():
    with numcore.backend("numpy"):
        facts = numcore.show_config("dict")
    assert facts["backend"]["active"] == "numpy"
    assert {at["numpy_arrays"] for at in facts["twins"].values()} <= {"reference"}


# Without Numba


def test_set_backend_to_numba_without_numba_is_an_error_that_says_what_to_install(accelerators):
    accelerators["numba"] = "ModuleNotFoundError: No module named 'numba'"
    for attempt in (lambda: numcore.set_backend("numba"), lambda: numcore.backend("numba").__enter__()):
        with pytest.raises(ImportError, match=r'numba cannot be imported.*pip install "numcore-algorithms\[numba\]"'):
            attempt()
    assert numcore.get_backend() == "auto"


def test_a_numba_that_breaks_on_import_is_reported_with_its_own_words(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise OSError('libllvm is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert dispatch._import_failure("broken_package") == "OSError: libllvm is missing"


def test_the_variable_set_to_numba_without_numba_fails_at_first_use_and_not_on_import():
    code = NO_NUMBA + PLANTED + "import numcore\nnumcore.show_config()\nprint('imported', flush=True)\ndouble(3)\n"
    done = python(code, NUMCORE_BACKEND="numba")
    assert done.stdout.endswith("imported\n"), done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("planted.double"))
    assert row.split()[1:] == ["none", "reference"]
    assert "numba (NUMCORE_BACKEND); active: none: every hot loop raises ImportError" in done.stdout
    assert "numba         not used: ModuleNotFoundError: No module named 'numba'" in done.stdout
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and 'pip install "numcore-algorithms[numba]"' in last


def test_auto_without_numba_works_and_says_so():
    code = NO_NUMBA + PLANTED + "import numcore\nprint(double(3))\nprint(numcore.show_config('dict')['backend'])\n"
    done = python(code)
    assert done.stdout == "6\n{'setting': 'auto', 'source': 'default', 'active': 'numpy'}\n", done.stderr
