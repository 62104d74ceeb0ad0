"""Fixed points: a cheap map, where the iteration's own work shows, and rows that end at different times."""

import numpy as np

from numcore.fixed_point import fixed_point, forward_backward, implicit_vjp, peaceman_rachford


def contraction(n):
    A = np.random.default_rng(0).standard_normal((n, n))
    return 0.95 * A / np.linalg.norm(A, 2)


class Iteration:
    """``tanh(A x) + b`` to 1e-8: one point, and rows of which the slowest takes some times as long as the quickest."""

    params = (["picard", "anderson", "broyden"], [(1, 10), (1, 1000), (128, 500)])
    param_names = ("method", "shape")

    def setup(self, method, shape):
        n_rows, n = shape
        self.A = contraction(n).T
        self.rate = np.linspace(0.3, 1, n_rows)[:, None] if n_rows > 1 else 1.0
        self.b = np.random.default_rng(1).standard_normal(shape)

    def func(self, X):
        return np.tanh(self.rate * (X @ self.A)) + self.b

    def time_fixed_point(self, method, shape):
        fixed_point(self.func, np.zeros(shape), method=method, tol=1e-8, max_iter=2000, batched=True)

    def peakmem_fixed_point(self, method, shape):
        fixed_point(self.func, np.zeros(shape), method=method, tol=1e-8, max_iter=2000, batched=True)


class MonotoneNetwork:
    """``x = relu(x - (M x - b))``, 500 units, 128 rows, to 1e-6, and its adjoint."""

    def setup(self):
        rng = np.random.default_rng(0)
        A, B = rng.uniform(-1, 1, (2, 500, 500)) / 500**0.5
        self.M = np.eye(500) + A.T @ A + B - B.T
        self.b = rng.standard_normal((128, 500))
        self.V = np.linalg.inv(np.eye(500) + 0.5 * self.M)
        self.active = self.b > 0

    def relu(self, X):
        return np.maximum(X, 0)

    def time_forward_backward(self):
        forward_backward(lambda X: X @ self.M.T - self.b, self.relu, np.zeros((128, 500)), step=0.2, batched=True)

    def time_peaceman_rachford(self):
        peaceman_rachford(lambda X: (X + 0.5 * self.b) @ self.V.T, self.relu, np.zeros((128, 500)), batched=True)

    def time_implicit_vjp(self):
        implicit_vjp(lambda Y: 0.3 * (self.active * (Y - 0.2 * Y @ self.M)), self.b, tol=1e-6)
