"""The CUDA sources go through nvcc without a warning, for every dtype; no GPU and no CuPy is needed."""

import shutil
import subprocess

import pytest

from numcore.accel.gpu._sources import REALS, SOURCES

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on the path")


@needs_nvcc
@pytest.mark.parametrize("real", REALS.values())
@pytest.mark.parametrize("family", SOURCES)
def test_the_source_compiles_without_warnings_or_spills(family, real, tmp_path):
    source = tmp_path / f"{family}.cu"
    source.write_text(SOURCES[family])
    flags = ["-std=c++17", "-arch=sm_80", "-cubin", "-Werror", "all-warnings", "-Xptxas", "-v", f"-DREAL={real}"]
    command = ["nvcc", *flags, "-o", str(tmp_path / "out.cubin"), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    reports = [line for line in (run.stdout + run.stderr).splitlines() if "spill stores" in line]
    kernels = SOURCES[family].count("__global__")
    # a kernel whose tile does not fit the registers, or is indexed by a variable, keeps it in slow memory
    assert reports == ["    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"] * kernels
