"""Data on disk and on a cluster: memory stays bounded, and the answer is that of the array."""

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from numpy.testing import assert_allclose

from numcore.algorithms.sketching import StreamingSketch, lstsq, make_sketch

N, D, CHUNKS = 20_000, 20, 100


def problem(n=N, d=D):
    rng = np.random.default_rng(7)
    A = rng.standard_normal((n, d)) * np.logspace(0, -3, d)
    return A, A @ rng.standard_normal(d) + 0.1 * rng.standard_normal(n)


class TestFiles:
    @pytest.fixture
    def on_disk(self, tmp_path):
        A, b = problem()
        np.save(tmp_path / "A.npy", A)
        return A, b, np.load(tmp_path / "A.npy", mmap_mode="r")

    @pytest.mark.parametrize("method", ["gram", "direct", "fossils", "sketch_solve"])
    def test_a_read_only_file_gives_the_answer_of_the_array(self, on_disk, method):
        A, b, stored = on_disk
        ours, theirs = (lstsq(X, b, method=method, sketch_size=400, rng=0) for X in (stored, A))
        # blocks may be added in another order: rounding times the condition number, 1e3
        assert_allclose(ours.x, theirs.x, rtol=1e-11)

    def test_a_file_in_another_dtype_or_order_is_read_too(self, on_disk, tmp_path):
        A, b, _ = on_disk
        expected = lstsq(A.astype(np.float32).astype(np.float64), b, rng=0).x
        for name, X in {"swapped": A.astype(">f4"), "columns": np.asfortranarray(A, np.float32)}.items():
            np.save(tmp_path / f"{name}.npy", X)
            found = lstsq(np.load(tmp_path / f"{name}.npy", mmap_mode="r"), b, rng=0)
            assert_allclose(found.x, expected, rtol=1e-11)

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts what it should on Linux only")
    @pytest.mark.parametrize("method", ["gram", "direct"])
    def test_a_file_larger_than_the_memory_that_is_allowed_is_solved(self, tmp_path, method):
        # 160 MB of float64, and 100 MB for all that is made beside it
        n, d, allowed = 1_000_000, 20, 100
        stored = np.lib.format.open_memmap(tmp_path / "A.npy", mode="w+", dtype=np.float64, shape=(n, d))
        rng, x = np.random.default_rng(0), np.arange(1.0, d + 1)
        for start in range(0, n, 100_000):
            stored[start : start + 100_000] = rng.standard_normal((100_000, d))
        np.save(tmp_path / "b.npy", stored @ x)
        stored.flush()
        del stored
        script = f"""
            import resource
            import numpy as np
            from numcore.algorithms.sketching import lstsq

            A, b = (np.load(f"{tmp_path}/{{name}}.npy", mmap_mode="r") for name in "Ab")
            lstsq(A[:20000], b[:20000], method={method!r}, rng=0)  # compiles, and starts threads
            with open("/proc/self/status") as status:
                now = next(int(line.split()[1]) for line in status if line.startswith("VmData"))
            resource.setrlimit(resource.RLIMIT_DATA, (1024 * now + {allowed} * 2**20,) * 2)
            try:
                np.ones(A.shape)
            except MemoryError:
                print("no room for a copy")
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(abs(lstsq(A, b, method={method!r}, rng=0).x - np.arange(1, {d + 1})).max() < 1e-12)
            # nor does the process hold on to the pages of the file
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < {allowed})
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
        )
        assert done.stdout.split("\n")[:3] == ["no room for a copy", "True", "True"], done.stderr

    def test_what_was_written_to_a_private_map_is_kept(self, on_disk, tmp_path):
        A, b, _ = on_disk
        private = np.load(tmp_path / "A.npy", mmap_mode="c")
        private *= 2
        assert_allclose(lstsq(private, b, rng=0).x, lstsq(A, b, rng=0).x / 2, rtol=1e-11)
        assert np.array_equal(private, 2 * A)


@pytest.fixture(scope="module")
def client():
    """Two workers, each a process of its own."""
    pytest.importorskip("dask.array")
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


class TestCluster:
    @pytest.fixture
    def arrays(self, client):
        import dask.array as da

        A, b = problem()
        return A, b, da.from_array(A, chunks=(N // CHUNKS, D)), da.from_array(b, chunks=N // CHUNKS)

    @pytest.mark.parametrize(
        ("method", "chunks"), [("auto", CHUNKS), ("direct", CHUNKS), ("sketch_solve", CHUNKS), ("spir", 5)]
    )
    def test_chunks_on_workers_give_the_answer_of_the_array(self, arrays, method, chunks):
        A, b, lazy_A, lazy_b = arrays
        lazy_A = lazy_A.rechunk((N // chunks, D))  # the many reads of spir would take long
        here, there = (lstsq(X, y, method=method, sketch_size=2000, rng=3) for X, y in ((A, b), (lazy_A, lazy_b)))
        assert_allclose(there.x, here.x, rtol=1e-9)
        assert there.residual_norm == pytest.approx(here.residual_norm, rel=1e-9)
        assert (there.rank, there.method, there.sketch_kind) == (here.rank, here.method, here.sketch_kind)
        assert there.cond == pytest.approx(here.cond, rel=1e-9)

    def test_weights_and_ridge_go_along(self, arrays):
        A, b, lazy_A, _ = arrays
        w = np.random.default_rng(0).integers(0, 3, N).astype(float)
        here = lstsq(A, b, method="direct", sample_weight=w, alpha=2.0, rng=0)
        there = lstsq(lazy_A, b, method="direct", sample_weight=w, alpha=2.0, rng=0)
        assert_allclose(there.x, here.x, rtol=1e-9)

    def test_sketches_of_chunks_add_up_to_the_sketch(self, arrays):
        A, _, lazy_A, _ = arrays
        op = make_sketch("block_srht", 200, N, rng=0)
        expected = op @ A
        assert_allclose(op @ lazy_A, expected, rtol=1e-9, atol=1e-9 * abs(expected).max())
        assert_allclose(
            StreamingSketch(op, D).update(lazy_A).value, expected, rtol=1e-9, atol=1e-9 * abs(expected).max()
        )

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="a process is killed in another way here")
    @pytest.mark.parametrize("fatal_read", [1, 3])
    def test_a_worker_killed_in_the_middle_does_not_change_the_answer(self, arrays, client, tmp_path, fatal_read):
        import dask.array as da

        A, b, lazy_A, _ = arrays
        expected = lstsq(A, b, method="direct", rng=0)

        def dies_once(X, block_info=None):
            """In a chosen pass the worker that reads the middle chunk is killed; what it held is lost."""
            if block_info and block_info[0]["chunk-location"] == (CHUNKS // 2, 0):
                reads = len(list(tmp_path.iterdir())) + 1
                (tmp_path / str(reads)).touch()
                if reads == fatal_read:
                    os.kill(os.getpid(), signal.SIGKILL)
            return X

        processes = set(client.run(os.getpid).values())
        mortal = da.map_blocks(dies_once, lazy_A, dtype=A.dtype, meta=np.empty((0, 0)))
        found = lstsq(mortal, b, method="direct", rng=0)
        client.wait_for_workers(2)
        assert (tmp_path / str(fatal_read + 1)).exists()  # it was read again
        assert processes - set(client.run(os.getpid).values())  # by another process
        assert_allclose(found.x, expected.x, rtol=1e-9)
        assert found.n_passes == expected.n_passes
