"""The Numba twin of coordinate descent on long columns: a product and an update of the residual a coordinate."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def sweep_columns(A, t, positive, sweeps, r, b):
    for _ in range(sweeps):
        for j in range(b.size):
            column = A[j]
            z = b[j]
            for i in range(r.size):
                z += column[i] * r[i]
            size, new = abs(z) - t[j], 0.0
            if size > 0 and (z > 0 or not positive):
                new = size if z > 0 else -size
            change = new - b[j]
            if change != 0:
                for i in range(r.size):
                    r[i] -= change * column[i]
                b[j] = new
