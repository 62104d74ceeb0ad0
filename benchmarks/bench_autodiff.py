"""Training steps, Hessian products and per-example gradients: time and memory, with the reference and with Numba."""

import numpy as np

import numcore
from numcore import autodiff as ad

NETS = {"8-16-16-3": 16, "64-128-128-10": 128, "784-512-512-10": 128}


class Nets:
    params = (["numpy", "numba"], list(NETS))
    param_names = ("backend", "net")

    def setup(self, backend, net):
        numcore.set_backend(backend)
        sizes = tuple(map(int, net.split("-")))
        self.X = np.random.default_rng(1).standard_normal((NETS[net], sizes[0]), dtype=np.float32)
        self.y = np.arange(len(self.X)) % sizes[-1]
        self.net = ad.nn.MLP(sizes)
        self.theta, self.v = self.net.init(rng=0), self.net.init(rng=1)
        self.g = np.empty_like(self.theta)
        self.sgd, self.adam = ad.optim.SGD(), ad.optim.Adam()
        self.G = np.empty((len(self.X), self.net.n_params), np.float32)
        self.time_adam_step(backend, net)  # compiles
        self.time_per_example_grads(backend, net)

    def teardown(self, backend, net):
        numcore.set_backend("auto")

    def loss(self, theta):
        return ad.losses.softmax_cross_entropy(self.net(theta, self.X), self.y)

    def time_sgd_step(self, backend, net):
        self.net.loss_and_grad(self.theta, self.X, self.y, out=self.g)
        self.sgd.step(self.theta, self.g)

    def time_adam_step(self, backend, net):
        self.net.loss_and_grad(self.theta, self.X, self.y, out=self.g)
        self.adam.step(self.theta, self.g)

    def time_per_example_grads(self, backend, net):
        self.net.per_example_grads(self.theta, self.X, self.y, out=self.G)

    def peakmem_per_example_grads(self, backend, net):
        self.net.per_example_grads(self.theta, self.X, self.y, out=self.G)


class Tape(Nets):
    """What runs on the tape has no twins."""

    params = (["numpy"], list(NETS))

    def time_grad(self, backend, net):
        ad.grad(self.loss)(self.theta)

    def time_hvp(self, backend, net):
        ad.hvp(self.loss, self.theta, self.v)

    def time_implicit_gram(self, backend, net):
        ad.per_example_jacobian(self.net, self.theta, self.X, self.y, loss="softmax").gram()


class Chain:
    """A thousand operations on scalars: the overhead of the tape."""

    def setup(self):
        self.grad = ad.grad(self.chain)

    @staticmethod
    def chain(x):
        for _ in range(1000):
            x = x * 1.0001
        return x

    def time_grad(self):
        self.grad(1.0)


class Convolution:
    def setup(self):
        rng = np.random.default_rng(0)
        self.x = rng.standard_normal((64, 8, 16, 16), dtype=np.float32)
        self.W = rng.standard_normal((16, 8, 3, 3), dtype=np.float32)
        self.grad = ad.grad(lambda x, W: ad.sum(ad.square(ad.conv2d(x, W, padding=1))), (0, 1))

    def time_grad(self):
        self.grad(self.x, self.W)

    def peakmem_grad(self):
        self.grad(self.x, self.W)
