"""What is installed, what it declares, and what importing it costs."""

import ast
import importlib.metadata
import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import numcore
import numcore.algorithms

ROOT = Path(__file__).parents[2]
FOLDERS = {"numcore": "numcore", "algorithms": "numcore.algorithms", "accel": "numcore.accel"}
HEAVY = {"numba", "cupy", "matplotlib", "sklearn", "dask", "pandas"}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages_below(root):
    """The import names of all folders with Python files under the three mapped folders of `root`."""
    for folder, name in FOLDERS.items():
        for path in {file.parent for file in (root / folder).rglob("*.py")}:
            yield ".".join([name, *path.relative_to(root / folder).parts])


def loaded_after(statement):
    """The top-level packages that a fresh interpreter has loaded after `statement`."""
    code = f"import sys, json\n{statement}\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "docs")
    return set(json.loads(done.stdout))


def test_every_folder_with_python_files_is_a_listed_package(project):
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_below(ROOT))


def test_an_unlisted_folder_would_be_noticed(tmp_path):
    folder = tmp_path / "algorithms" / "planted"
    folder.mkdir(parents=True)
    (folder / "method.py").touch()
    assert list(packages_below(tmp_path)) == ["numcore.algorithms.planted"]


def test_every_listed_package_has_an_init_file():
    for folder in FOLDERS:
        for path in {file.parent for file in (ROOT / folder).rglob("*.py")}:
            assert (path / "__init__.py").exists(), f"{path} would be installed as a namespace package"


def test_the_version_is_written_alike_everywhere(project):
    version = project["project"]["version"]
    assert numcore.__version__ == version == importlib.metadata.version("numcore-algorithms")
    assert re.search(rf"^version: {re.escape(version)}$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)


def test_the_type_marker_is_installed():
    assert (Path(numcore.__file__).parent / "py.typed").exists()


def test_run_time_dependencies_are_the_four_agreed(project):
    names = [re.match(r"[\w-]+", line).group() for line in project["project"]["dependencies"]]
    assert names == ["numpy", "scipy", "scikit-learn", "array-api-compat"]


def test_importing_numcore_loads_none_of_the_heavy_packages():
    loaded = loaded_after("import numcore")
    assert not loaded & (HEAVY | {"scipy", "tqdm"})


def test_importing_any_module_of_the_reference_library_loads_no_plotting_and_no_accelerator():
    pytest.importorskip("matplotlib", reason="without matplotlib nothing could load it")
    walk = "from numcore.dispatch import discover\ndiscover()"
    loaded = loaded_after(walk)
    assert not loaded & {"numba", "cupy", "matplotlib", "tqdm", "dask", "pandas"}


def test_asking_for_the_configuration_of_the_setting_loads_no_accelerator():
    assert not loaded_after("import numcore\nnumcore.set_backend('numpy')\nnumcore.get_backend()") & HEAVY


def imported_on_load(tree):
    """The top-level packages that a module imports when it is loaded: outside functions and `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        ):
            yield from imported_on_load(node)


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("numcore", {"numpy", "scipy", "array_api_compat"}),
        ("algorithms", {"numpy", "scipy", "array_api_compat", "sklearn", "joblib"}),
        ("accel", {"numpy", "scipy", "array_api_compat", "numba", "llvmlite", "cupy", "cupyx"}),
    ],
)
def test_modules_import_at_load_only_what_their_floor_may(folder, allowed):
    allowed = allowed | {"numcore"} | sys.stdlib_module_names
    for file in (ROOT / folder).rglob("*.py"):
        found = set(imported_on_load(ast.parse(file.read_text(encoding="utf-8"))))
        assert found <= allowed, f"{file.relative_to(ROOT)} imports {sorted(found - allowed)}"


def test_imports_inside_functions_are_not_taken_for_imports_at_load():
    source = "import a\nfrom b.c import d\nclass E:\n    import f\n    def g(self):\n        import h\n"
    source += "if TYPE_CHECKING:\n    import i\ntry:\n    import j\nexcept ImportError:\n    pass\n"
    assert set(imported_on_load(ast.parse(source))) == {"a", "b", "f", "j"}


def test_the_families_are_found_by_walking_the_installed_package():
    found = {module.name for module in pkgutil.iter_modules(numcore.algorithms.__path__) if module.ispkg}
    expected = {path.parent.name for path in (ROOT / "algorithms").glob("*/__init__.py")}
    assert found == expected
