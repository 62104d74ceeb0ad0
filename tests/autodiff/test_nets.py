"""Layers, the planned step, optimizers and losses: against the tape, against torch where it is installed."""

import copy
import pickle
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import numcore
from numcore import autodiff as ad

DTYPES = [np.float32, np.float64]
TOL = {np.float32: 2e-5, np.float64: 1e-12}


def problem(rng, sizes=(6, 9, 7, 4), m=8, dtype=np.float64, activation="relu", output=None):
    net = ad.nn.MLP(sizes, activation, output)
    theta = net.init(rng=1, dtype=dtype)
    return net, theta, rng.standard_normal((m, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], m)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", sorted(ad.functional.ACTIVATIONS))
def test_the_plan_gives_the_numbers_of_the_tape(activation, dtype, backend):
    rng = np.random.default_rng(0)
    net, theta, X, y = problem(rng, dtype=dtype, activation=activation)
    weight = rng.random(len(X))
    responses = rng.random((len(X), 4))
    for loss, target, w in [
        ("softmax", y, None),
        ("softmax", y, weight),
        ("softmax", responses / responses.sum(1, keepdims=True), None),
        ("stablemax", y, None),
        ("z", y, weight),
        ("bce", responses, None),
        ("squared", responses, weight),
        ("huber", responses, None),
        (lambda z, y: ad.sum(z**4, 1), y, None),
    ]:
        per_row = ad.losses.by_name(loss)

        def f(t, per_row=per_row, target=target, w=w):
            return ad.losses.reduced(per_row(net(t, X), target), "mean", w)

        value, g = ad.value_and_grad(f)(theta)
        for _ in range(2):  # the second time the buffers are used again
            with numcore.backend(backend):
                ours, grad = net.loss_and_grad(theta, X, target, loss=loss, sample_weight=w)
            assert isinstance(ours, float) and grad.dtype == dtype
            np.testing.assert_allclose(ours, value, rtol=TOL[dtype])
            np.testing.assert_allclose(grad, g, rtol=TOL[dtype], atol=TOL[dtype])


def test_sequences_of_every_shape_are_planned_alike():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((5, 3)), rng.integers(0, 2, 5)
    nn = ad.nn
    for net in [
        nn.Linear(3, 2),
        nn.Linear(3, 2, "tanh", bias=False),
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Activation("relu"), nn.Sequential(nn.Linear(4, 2))),
        nn.Sequential(nn.Linear(3, 4, "relu"), nn.Activation("tanh"), nn.Linear(4, 2)),  # two activations: by the tape
    ]:
        theta = net.init(rng=0, dtype=np.float64)
        g = ad.grad(lambda t, net=net: ad.losses.softmax_cross_entropy(net(t, X), y))(theta)
        np.testing.assert_allclose(net.loss_and_grad(theta, X, y)[1], g, rtol=1e-11, atol=1e-14)


def test_a_thousand_steps_allocate_nothing():
    net, theta, X, y = problem(np.random.default_rng(0), (64, 128, 128, 10), 128, np.float32)
    out, opt = np.empty_like(theta), ad.optim.Adam()
    for _ in range(5):
        net.loss_and_grad(theta, X, y, out=out)
        opt.step(theta, out)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1000):
        _, grad = net.loss_and_grad(theta, X, y, out=out)
        opt.step(theta, grad)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grad is out
    assert grown <= 1024


def test_plans_follow_the_batch_and_are_few():
    net, theta, X, y = problem(np.random.default_rng(0), m=12)
    for m in (12, 5, 12, 1, 2, 3, 4):
        g = ad.grad(lambda t, m=m: ad.losses.softmax_cross_entropy(net(t, X[:m]), y[:m]))(theta)
        np.testing.assert_allclose(net.loss_and_grad(theta, X[:m], y[:m])[1], g, rtol=1e-11, atol=1e-14)
    assert len(net._plans) <= 4
    theta *= 2  # in place: the plan must see it
    g = ad.grad(lambda t: ad.losses.softmax_cross_entropy(net(t, X), y))(theta)
    np.testing.assert_allclose(net.loss_and_grad(theta, X, y)[1], g, rtol=1e-11, atol=1e-14)


def every_layer():
    nn = ad.nn
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding="same", activation="relu"),
        nn.BatchNorm(4),
        nn.Conv2d(4, 3, (2, 3), stride=(1, 2), padding=(0, 1), bias=False),
        nn.Flatten(),
        nn.Linear(3 * 5 * 3, 6, "silu"),
        nn.LayerNorm(6),
        nn.Residual(nn.Linear(6, 6, "tanh"), nn.Linear(6, 6)),
        nn.Activation("gelu"),
        nn.Linear(6, 3, bias=False),
    )


def test_every_layer_passes_the_gradient_check():
    rng = np.random.default_rng(0)
    net, X, y = every_layer(), rng.standard_normal((4, 2, 6, 5)), np.array([0, 1, 2, 1])
    theta = net.init(rng=0, dtype=np.float64)
    for train in (False, True):
        f = lambda t, train=train: ad.losses.softmax_cross_entropy(net(t, X, train=train), y)  # noqa: E731
        assert ad.check_grad(f, theta, rng=1).ok
        assert ad.check_grad(f, theta, order=2, rng=1).ok
    conv = ad.nn.Sequential(ad.nn.Conv1d(2, 3, 4, stride=2, dilation=2, padding=3), ad.nn.Flatten())
    assert ad.check_grad(lambda t: conv(t, rng.standard_normal((2, 2, 9)).round(1) * 0 + 0.5), conv.init(rng=0)).ok


def test_the_layout_is_layer_by_layer_weight_before_bias():
    net = every_layer()
    theta = net.init(rng=0)
    assert theta.dtype == np.float32 and theta.shape == (net.n_params,)
    assert [part.name for part in net.layout][:5] == ["0.weight", "0.bias", "1.gamma", "1.beta", "2.weight"]
    assert [part.name for part in net.layout][-1] == "8.weight"
    assert net.layout[0].slice == slice(0, 72) and net.layout[1].slice == slice(72, 76)
    views = net.views(theta)
    assert views["0.weight"].shape == (4, 2, 3, 3) and np.shares_memory(views["0.weight"], theta)
    assert not views["0.bias"].any() and views["1.gamma"].all()


def test_initial_weights_have_the_variance_of_their_activation_and_follow_the_seed():
    for activation, expected in [("relu", 2 / 500), ("selu", 1 / 500), ("tanh", 2 / 900), (None, 2 / 900)]:
        W = ad.nn.Linear(500, 400, activation).init(rng=0, dtype=np.float64)[:-400]
        assert W.var() == pytest.approx(expected, rel=0.02)
    net = ad.nn.MLP([4, 5, 2])
    assert np.array_equal(net.init(rng=3), net.init(rng=np.random.default_rng(3)))
    assert np.array_equal(net.init(rng=3), net.init(rng=3, dtype=np.float64).astype(np.float32))


def test_batch_norm_learns_running_statistics_and_uses_them():
    rng = np.random.default_rng(0)
    layer = ad.nn.BatchNorm(3, momentum=0.2)
    theta, X = layer.init(dtype=np.float64), 5 + 2 * rng.standard_normal((500, 3))
    out = layer(theta, X, train=True)
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(layer.state["mean"], 0.2 * X.mean(0))
    np.testing.assert_allclose(layer.state["var"], 0.8 + 0.2 * X.var(0, ddof=1))
    for _ in range(60):
        layer(theta, X, train=True)
    np.testing.assert_allclose(
        layer(theta, X), (X - X.mean(0)) / np.sqrt(X.var(0, ddof=1) + 1e-5), rtol=1e-3, atol=1e-4
    )
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again(theta, X), layer(theta, X))
    with pytest.raises(ValueError, match=r"layer 0 \(BatchNorm 3\): a batch of one"):
        layer(theta, X[:1], train=True)
    assert np.isfinite(layer(theta, X[:1])).all()


def test_nets_and_optimizers_pickle_and_copy():
    net, theta, X, y = problem(np.random.default_rng(0))
    opt = ad.optim.Adam()
    _, g = net.loss_and_grad(theta, X, y)
    opt.step(theta, g)
    for make in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        other, their_opt, their_theta = make(net), make(opt), theta.copy()
        np.testing.assert_array_equal(other.loss_and_grad(theta, X, y)[1], net.loss_and_grad(theta, X, y)[1])
        expected = make(opt).step(theta.copy(), g)
        np.testing.assert_array_equal(their_opt.step(their_theta, g), expected)


def test_float32_nets_compute_in_float32_whatever_the_batch():
    net, theta, X, y = problem(np.random.default_rng(0), dtype=np.float32)
    for batch in (X, X.astype(float), np.asfortranarray(X), X[:, ::-1][:, ::-1]):
        _, g = net.loss_and_grad(theta, batch, y)
        assert net(theta, batch).dtype == g.dtype == np.float32
    net.loss_and_grad(np.repeat(theta, 2)[::2], X, y)  # not contiguous: copied


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda n, t, X, y: n(t[:-1], X), ValueError, r"theta must have length 165; got shape \(164,\)"),
        (lambda n, t, X, y: n(t.astype(np.float16), X), TypeError, "float16"),
        (lambda n, t, X, y: n(t, X[:0]), ValueError, "at least one example"),
        (lambda n, t, X, y: n.loss_and_grad(t, X[:0], y[:0]), ValueError, "at least one example"),
        (lambda n, t, X, y: n(t, X[:, :5]), ValueError, r"layer 0 \(Linear 6->9\): got 5 features"),
        (lambda n, t, X, y: n.loss_and_grad(t, X[:, :5], y), ValueError, r"layer 0 \(Linear 6->9\): got 5 features"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y + 4), ValueError, "y must hold labels from 0 to 3; 8 of its 8"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y - 9), ValueError, "labels from 0 to 3"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y * 1.0), ValueError, "integer labels.*got dtype float64"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y[:3]), ValueError, "y must have length 8"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, np.ones((8, 4))), ValueError, "sum to 1.*8 of 8"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, np.ones((8, 3)) / 3), ValueError, r"shape \(8, 4\)"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y, loss="mse"), ValueError, "loss must be one of"),
        (
            lambda n, t, X, y: n.loss_and_grad(t, X, y, sample_weight=-np.ones(8)),
            ValueError,
            "non-negative and finite; 8 of its 8",
        ),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y, sample_weight=np.zeros(8)), ValueError, "not be 0 throughout"),
        (
            lambda n, t, X, y: n.loss_and_grad(t, X, y, sample_weight=np.ones(7)),
            ValueError,
            "sample_weight must have shape",
        ),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y, out=t[:-1]), ValueError, "out must be like theta"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y, out=t.astype("f")), ValueError, "out must be like theta"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, y, out=np.repeat(t, 2)[::2]), ValueError, "contiguous"),
        (lambda n, t, X, y: ad.nn.MLP([3]), ValueError, "sizes"),
        (lambda n, t, X, y: ad.nn.Linear(3, 2, "rulu"), ValueError, "activation must be one of"),
        (lambda n, t, X, y: ad.nn.Sequential(1), TypeError, "layer 0 must be a Module"),
        (lambda n, t, X, y: n.init(dtype=np.float16), TypeError, "float16"),
        (
            lambda n, t, X, y: ad.conv2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3))),
            ValueError,
            "kernel reaches over 3",
        ),
        (lambda n, t, X, y: ad.conv2d(np.ones((1, 2, 4, 4)), np.ones((1, 1, 3, 3))), ValueError, "x must be"),
        (lambda n, t, X, y: ad.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), stride=0), ValueError, "stride"),
        (lambda n, t, X, y: ad.linear(np.ones((2, 3)), np.ones((2, 2))), ValueError, "does not match W"),
        (lambda n, t, X, y: n(t, 1j * X), TypeError, "X must be real numbers; got dtype complex128"),
        (lambda n, t, X, y: n.loss_and_grad(t, 1j * X, y), TypeError, "X must be real numbers"),
        (lambda n, t, X, y: n(t, np.full((8, 6), None)), TypeError, "X must be real numbers; got dtype object"),
        (lambda n, t, X, y: n.loss_and_grad(t, X, np.ones((8, 4)) * 1j), TypeError, "y must be real numbers"),
        (lambda n, t, X, y: ad.nn.Conv2d(1, 1, 3, stride=0), ValueError, "stride must be"),
        (lambda n, t, X, y: ad.nn.Conv1d(1, 1, 3, padding="full"), ValueError, "padding must be one of"),
        (
            lambda n, t, X, y: ad.batch_norm(X, np.ones(6), np.zeros(6), mean=np.zeros(6)),
            ValueError,
            "var is missing",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    net, theta, X, y = problem(np.random.default_rng(0))
    before = theta.copy()
    with pytest.raises(error, match=message):
        call(net, theta, X, y)
    np.testing.assert_array_equal(theta, before)


def test_messages_name_the_layer_within():
    net = ad.nn.Sequential(ad.nn.Linear(4, 128), ad.nn.Linear(64, 10))
    with pytest.raises(ValueError, match=r"layer 1 \(Linear 64->10\): got 128 features"):
        net(net.init(rng=0), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"layer 1 \(Linear 64->10\): got 128 features"):
        net.loss_and_grad(net.init(rng=0), np.ones((2, 4)), np.zeros(2, int))


def test_nets_and_optimizers_can_be_saved(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((4, 2, 6, 5)), np.array([0, 1, 2, 1])
    net = every_layer()
    theta, opt = net.init(rng=0, dtype=np.float64), ad.optim.Adam()
    opt.step(theta, net.loss_and_grad(theta, X, y)[1])
    mlp = ad.nn.MLP([3, 5, 2], "tanh")
    mlp.loss_and_grad(mlp.init(rng=0), np.ones((2, 3)), [0, 1])  # leaves a plan behind
    numcore.save([net, opt, mlp, ad.nn.Conv1d(1, 2, 3, stride=2)], tmp_path / "net")
    again, their_opt, their_mlp, conv = numcore.load(tmp_path / "net")
    assert again.layout == net.layout and their_mlp.layout == mlp.layout and conv.stride == 2
    np.testing.assert_array_equal(again(theta, X), net(theta, X))  # with the running statistics
    g = rng.standard_normal(theta.shape)
    np.testing.assert_array_equal(their_opt.step(theta.copy(), g), opt.step(theta.copy(), g))


def test_a_failed_step_leaves_the_running_statistics_alone():
    net, X = ad.nn.Sequential(ad.nn.BatchNorm(3), ad.nn.Linear(3, 2)), np.random.default_rng(0).random((4, 3))
    theta = net.init(rng=0)
    with pytest.raises(ValueError, match="labels"):
        net.loss_and_grad(theta, X, np.full(4, 7))
    wrong = ad.nn.Sequential(ad.nn.BatchNorm(3), ad.nn.Linear(5, 2))
    with pytest.raises(ValueError, match="layer 1"):
        wrong(wrong.init(rng=0), X, train=True)
    for state in (net.state, wrong.state):
        assert not state["0.mean"].any() and (state["0.var"] == 1).all()


def test_a_net_serves_many_threads_and_calls_of_itself():
    net, theta, X, y = problem(np.random.default_rng(0))
    f = lambda t, m: ad.losses.softmax_cross_entropy(net(t, X[:m]), y[:m])  # noqa: E731
    expected = {m: ad.grad(f)(theta, m) for m in range(1, 8)}
    wrong = []

    def work(k):
        for i in range(40):
            m = 1 + (i + k) % 7
            wrong.extend([m] * (not np.allclose(net.loss_and_grad(theta, X[:m], y[:m])[1], expected[m], atol=1e-12)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong and len(net._plans) <= 4

    def calls_the_net(z, y):
        net.loss_and_grad(2 * theta, X + 1, y)
        return ad.losses.softmax_cross_entropy(z, y, reduction="none")

    g = ad.grad(f)(theta, 8)
    np.testing.assert_allclose(net.loss_and_grad(theta, X, y, loss=calls_the_net)[1], g, rtol=1e-11, atol=1e-14)
    own = theta.copy()
    np.testing.assert_allclose(net.loss_and_grad(own, X, y, out=own)[1], g, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
def test_labels_of_any_integer_dtype_count(dtype):
    net, theta, X, y = problem(np.random.default_rng(0))
    value = net.loss_and_grad(theta, X, y.astype(dtype))[0]
    assert value == net.loss_and_grad(theta, X, y.tolist())[0]
    with pytest.raises(ValueError, match="labels from 0 to 3"):
        net.loss_and_grad(theta, X, np.full(8, np.iinfo(dtype).max, dtype))


# losses


def labelled(rng, m=5, C=4):
    return rng.standard_normal((m, C)), rng.integers(0, C, m)


@pytest.mark.parametrize("name", ["softmax", "stablemax", "z", "bce", "squared", "huber"])
def test_losses_pass_the_gradient_check_and_reduce_as_asked(name):
    rng = np.random.default_rng(0)
    z, y = labelled(rng)
    if name in ("bce", "squared", "huber"):
        y = rng.random(z.shape)
    loss = ad.losses.BY_NAME[name]
    w = rng.random(len(z))
    each = loss(z, y, reduction="none")
    assert each.shape == (5,)
    np.testing.assert_allclose(loss(z, y), each.mean())
    np.testing.assert_allclose(loss(z, y, reduction="sum"), each.sum())
    np.testing.assert_allclose(loss(z, y, sample_weight=w), (w * each).sum() / w.sum())
    for order in (1, 2):
        assert ad.check_grad(lambda z: loss(z, y, sample_weight=w), z, order=order, rng=1).ok
    with pytest.raises(ValueError, match="reduction"):
        loss(z, y, reduction="max")
    assert loss(z.tolist(), y.tolist()) == loss(z, y)
    assert loss((3 * z).astype(int), y) == loss((3 * z).astype(int) * 1.0, y)
    with pytest.raises(TypeError, match="outputs must be real numbers; got dtype complex128"):
        loss(z * 1j, y)
    for bad, error in [(w * np.inf, ValueError), (w * 1j, TypeError), (np.full(5, np.nan), ValueError)]:
        with pytest.raises(error, match="sample_weight"):
            loss(z, y, sample_weight=bad)


def test_published_forms_of_the_losses():
    rng = np.random.default_rng(1)
    z, y = labelled(rng)
    rows = np.arange(5)
    s = np.where(z >= 0, z + 1, 1 / (1 - z))
    np.testing.assert_allclose(
        ad.losses.stablemax_cross_entropy(z, y, reduction="none"), -np.log(s[rows, y] / s.sum(1)), rtol=1e-12
    )
    a, b = 0.7, 1.3
    score = (z - z.mean(1, keepdims=True)) / z.std(1, keepdims=True)
    expected = np.log1p(np.exp(a * (b - score[rows, y]))) / a
    np.testing.assert_allclose(ad.losses.z_loss(z, y, reduction="none", a=a, b=b), expected, rtol=1e-12)
    g = ad.grad(lambda z: ad.losses.z_loss(z, y, reduction="sum", a=a, b=b))(z)
    hit = np.eye(4)[y]
    slope = -1 / (1 + np.exp(-a * (b - score[rows, y])))
    formula = (slope / z.std(1))[:, None] * (hit - 1 / 4 - score[rows, y][:, None] * score / 4)
    np.testing.assert_allclose(g, formula, rtol=1e-9, atol=1e-12)
    smooth = ad.losses.softmax_cross_entropy(z, y, label_smoothing=0.2)
    by_hand = ad.losses.softmax_cross_entropy(z, 0.8 * hit + 0.05)
    np.testing.assert_allclose(smooth, by_hand, rtol=1e-12)


def test_extreme_logits_give_finite_losses_and_gradients():
    y = np.array([0, 1, 0])
    for scale in (1e3, 1e4):
        z = scale * np.array([[1, -1], [1, -1], [0, 0]], np.float32)
        for name in ("softmax", "stablemax", "z"):
            value, g = ad.value_and_grad(lambda z, name=name: ad.losses.BY_NAME[name](z, y))(z)
            assert np.isfinite(value) and np.isfinite(g).all(), name
            assert g.dtype == np.float32
        value, g = ad.value_and_grad(lambda z: ad.losses.bce_with_logits(z, np.ones_like(z)))(z)
        assert np.isfinite(value) and np.isfinite(g).all()
    masked = np.array([[0.0, -np.inf, 1.0]])
    value, g = ad.value_and_grad(lambda z: ad.losses.softmax_cross_entropy(z, [0]))(masked)
    assert np.isfinite(value) and g[0, 1] == 0
    value, g = ad.value_and_grad(lambda z: ad.losses.softmax_cross_entropy(z, [0, 0]))(np.ones((2, 1)))
    assert value == 0 and not g.any()
    value, g = ad.value_and_grad(lambda o: ad.losses.z_loss(o, [0]))(np.full((1, 3), 7.0))
    assert value == pytest.approx(np.log1p(np.exp(np.sqrt(2)))) and not g.any()
    z = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    for scale in (1e30, 1e-8):  # which the squares of float32 do not reach
        ours = ad.losses.z_loss(np.float32(scale) * z, y)
        np.testing.assert_allclose(ours, ad.losses.z_loss(z, y), rtol=1e-5)
    x = np.full((2, 4), 3.0)
    g = ad.grad(lambda x: ad.sum(ad.layer_norm(x, np.ones(4), np.zeros(4)) ** 2))(x)
    assert np.isfinite(g).all()
    with pytest.raises(ValueError, match="at least 2 classes"):
        ad.losses.z_loss(np.ones((2, 1)), [0, 0])
    with pytest.raises(ValueError, match=r"y must lie in \[0, 1\]"):
        ad.losses.bce_with_logits(np.ones(2), [0, 2])


# optimizers


def descend(opt, steps=100, dtype=np.float64):
    rng = np.random.default_rng(0)
    theta = rng.standard_normal(20).astype(dtype)
    for _ in range(steps):
        opt.step(theta, (np.sin(theta) * np.arange(20)).astype(dtype))
    return theta


def by_hand_adam(theta, lr, b1, b2, eps, decay, decoupled, steps):
    m = v = 0.0
    for t in range(1, steps + 1):
        g = np.sin(theta) * np.arange(20)
        if decoupled:
            theta = theta * (1 - lr * decay)
        else:
            g = g + decay * theta
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        theta = theta - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return theta


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize(("cls", "decay"), [(ad.optim.Adam, 0.0), (ad.optim.Adam, 0.1), (ad.optim.AdamW, 0.1)])
def test_adam_follows_its_formulas(cls, decay, backend):
    start = np.random.default_rng(0).standard_normal(20)
    with numcore.backend(backend):
        ours = descend(cls(0.02, (0.8, 0.99), 1e-6, decay), 50)
    expected = by_hand_adam(start, 0.02, 0.8, 0.99, 1e-6, decay, cls is ad.optim.AdamW, 50)
    np.testing.assert_allclose(ours, expected, rtol=1e-11)


def test_momentum_clipping_schedules_and_reset():
    theta, g = np.zeros(2), np.array([3.0, 4.0])
    opt = ad.optim.SGD(1.0, momentum=0.5)
    opt.step(theta, g)
    opt.step(theta, g)
    assert theta.tolist() == [-7.5, -10.0]
    theta = ad.optim.SGD(1.0, momentum=0.5, nesterov=True).step(np.zeros(2), g)
    assert theta.tolist() == [-4.5, -6.0]
    assert ad.optim.SGD(1.0, weight_decay=0.1).step(np.ones(2), g).tolist() == pytest.approx([-2.1, -3.1])
    opt = ad.optim.SGD(1.0, clip_norm=1.0)
    assert opt.step(np.zeros(2), g).tolist() == pytest.approx([-0.6, -0.8])
    assert opt.state["norm"] == 5.0 and g.tolist() == [3, 4]
    for scale in (1e30, 1e-30):  # squares overflow or vanish in float32
        opt.step(np.zeros(2, np.float32), np.float32(scale) * g.astype(np.float32))
        assert opt.state["norm"] == pytest.approx(5 * scale, rel=1e-6)
    assert opt.step(np.zeros(2, "f"), np.array([3e30, 4e30], "f")).tolist() == pytest.approx([-0.6, -0.8])
    opt = ad.optim.SGD(lambda t: 1.0 / (t + 1))
    assert opt.step(opt.step(np.zeros(2), g), g).tolist() == [-4.5, -6.0]
    opt.reset()
    assert opt.state["t"] == 0
    for bad, error in [
        ((np.zeros(3), g), ValueError),
        (([0.0, 0.0], g), TypeError),
        ((np.zeros(2, "f"), g), ValueError),
    ]:
        with pytest.raises(error, match="theta"):
            opt.step(*bad)
    for cls in (ad.optim.SGD, ad.optim.Adam, ad.optim.AdamW):
        opt, fixed = cls(0.1), np.ones(2)
        opt.step(np.ones(2), g)
        before = copy.deepcopy(opt.state)
        fixed.flags.writeable = False
        with pytest.raises(ValueError, match="theta must be writeable"):
            opt.step(fixed, g)
        with pytest.raises(TypeError, match="grad must be like theta"):
            opt.step(np.ones(2), [1.0, 1.0])
        with pytest.raises(TypeError, match="float32 or float64"):
            opt.step(np.ones(2, np.float16), np.ones(2, np.float16))
        assert all(np.array_equal(before[key], opt.state[key]) for key in before)
    with pytest.raises(ValueError, match="nesterov"):
        ad.optim.SGD(nesterov=True)
    with pytest.raises(ValueError, match="betas"):
        ad.optim.Adam(betas=(0.9, 1.0))


def test_perp_grad_is_orthogonal_to_the_parameters():
    rng = np.random.default_rng(0)
    net = ad.nn.MLP([3, 4, 2])
    theta, g = net.init(rng=0, dtype=np.float64), rng.standard_normal(net.n_params)
    assert abs(ad.optim.perp_grad(theta, g) @ theta) < 1e-13
    by_slices = ad.optim.perp_grad(theta, g, per=net.layout)
    by_leaves = ad.optim.perp_grad(net.views(theta), net.views(g), per="layer")
    for part in net.layout:
        assert abs(by_slices[part.slice] @ theta[part.slice]) < 1e-13
        np.testing.assert_array_equal(by_leaves[part.name].ravel(), by_slices[part.slice])
    np.testing.assert_array_equal(ad.optim.perp_grad(np.zeros(3), np.ones(3)), np.ones(3))
    for scale in (1e30, 1e-30):
        theta, g = np.array([scale, 0], np.float32), np.array([3, 4], np.float32)
        assert ad.optim.perp_grad(theta, g).tolist() == [0, 4]
    with pytest.raises(ValueError, match="g must have the shape of theta"):
        ad.optim.perp_grad(np.ones(3), np.ones(4))


# against torch


def torch_mlp(torch, net, theta):
    layers = []
    views = net.views(theta)
    for k, layer in enumerate(net.layers):
        linear = torch.nn.Linear(layer.n_in, layer.n_out, dtype=torch.float64)
        linear.weight.data = torch.from_numpy(views[f"{k}.weight"].T.copy())
        linear.bias.data = torch.from_numpy(views[f"{k}.bias"].copy())
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


@pytest.mark.parametrize("which", ["sgd", "momentum", "nesterov", "adam", "adamw"])
def test_a_hundred_steps_agree_with_torch(which):
    torch = pytest.importorskip("torch")
    net, theta, X, y = problem(np.random.default_rng(0))
    theirs = torch_mlp(torch, net, theta)
    p = list(theirs.parameters())
    ours, opt = {
        "sgd": (ad.optim.SGD(0.1, weight_decay=0.01), torch.optim.SGD(p, 0.1, weight_decay=0.01)),
        "momentum": (ad.optim.SGD(0.1, 0.9), torch.optim.SGD(p, 0.1, 0.9)),
        "nesterov": (ad.optim.SGD(0.1, 0.9, True), torch.optim.SGD(p, 0.1, 0.9, nesterov=True)),
        "adam": (ad.optim.Adam(0.01, weight_decay=0.01), torch.optim.Adam(p, 0.01, weight_decay=0.01)),
        "adamw": (ad.optim.AdamW(0.01), torch.optim.AdamW(p, 0.01)),
    }[which]
    for _ in range(100):
        _, g = net.loss_and_grad(theta, X, y)
        ours.step(theta, g)
        opt.zero_grad()
        torch.nn.functional.cross_entropy(theirs(torch.from_numpy(X)), torch.from_numpy(y)).backward()
        opt.step()
    np.testing.assert_allclose(net(theta, X), theirs(torch.from_numpy(X)).detach().numpy(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", [{}, {"stride": (2, 1), "padding": (1, 2)}, {"dilation": 2, "padding": "same"}])
def test_convolution_agrees_with_torch(options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, W = rng.standard_normal((3, 2, 8, 7)), rng.standard_normal((4, 2, 3, 3))
    tx, tW = (torch.from_numpy(a).requires_grad_() for a in (x, W))
    theirs = torch.nn.functional.conv2d(tx, tW, **options)
    u = rng.standard_normal(tuple(theirs.shape))
    expected = [a.numpy() for a in torch.autograd.grad(theirs, (tx, tW), torch.from_numpy(u))]
    out, pullback = ad.vjp(lambda x, W: ad.conv2d(x, W, **options), x, W)
    np.testing.assert_allclose(out, theirs.detach().numpy(), rtol=1e-10, atol=1e-12)
    for ours, other in zip(pullback(u), expected, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-10, atol=1e-12)


def test_norms_and_activations_agree_with_torch():
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    x = np.random.default_rng(0).standard_normal((4, 3, 5)) * 3
    tx, ones, zeros = torch.from_numpy(x), np.ones(5), np.zeros(5)
    same = lambda ours, theirs: np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-10, atol=1e-12)  # noqa: E731
    same(ad.layer_norm(x, ones, zeros), F.layer_norm(tx, (5,)))
    same(ad.batch_norm(x, ones[:3], zeros[:3]), F.batch_norm(tx, None, None, training=True))
    for name, theirs in {
        "relu": F.relu, "elu": F.elu, "selu": F.selu, "gelu": F.gelu, "silu": F.silu, "softplus": F.softplus,
        "leaky_relu": F.leaky_relu, "softsign": F.softsign, "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
    }.items():  # fmt: skip
        same(ad.functional.ACTIVATIONS[name](x), theirs(tx))


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_agree_with_torch(dtype):
    torch = pytest.importorskip("torch")
    F, rng = torch.nn.functional, np.random.default_rng(0)
    z, y = labelled(rng)
    z, p = (3 * z).astype(dtype), rng.random(z.shape).astype(dtype)
    rows = p / p.sum(1, keepdims=True)
    m, tp, tr = len(z), torch.from_numpy(p), torch.from_numpy(rows)
    for ours, theirs in [
        (lambda z: ad.losses.softmax_cross_entropy(z, y), lambda t: F.cross_entropy(t, torch.from_numpy(y))),
        (lambda z: ad.losses.softmax_cross_entropy(z, rows), lambda t: F.cross_entropy(t, tr)),
        (
            lambda z: ad.losses.softmax_cross_entropy(z, y, label_smoothing=0.2),
            lambda t: F.cross_entropy(t, torch.from_numpy(y), label_smoothing=0.2),
        ),
        (
            lambda z: ad.losses.bce_with_logits(z, p),
            lambda t: F.binary_cross_entropy_with_logits(t, tp, reduction="sum") / m,
        ),
        (lambda z: ad.losses.squared_error(z, p), lambda t: F.mse_loss(t, tp, reduction="sum") / (2 * m)),
        (lambda z: ad.losses.huber(z, p, delta=0.7), lambda t: F.huber_loss(t, tp, delta=0.7, reduction="sum") / m),
    ]:
        t = torch.from_numpy(z).requires_grad_()
        expected = theirs(t)
        (slope,) = torch.autograd.grad(expected, t)
        value, g = ad.value_and_grad(ours)(z)
        rtol = 1e-5 if dtype == np.float32 else 1e-10
        np.testing.assert_allclose(value, expected.item(), rtol=rtol)
        np.testing.assert_allclose(g, slope.numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("SGD", (0.1, 0.9, True, 0.01), {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        ("Adam", (0.01, (0.8, 0.99), 1e-6, 0.1), {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1}),
        ("AdamW", (0.01,), {"lr": 0.01}),
    ],
)
def test_a_hundred_steps_on_one_course_agree_with_torch_to_rounding(name, ours, theirs):
    torch = pytest.importorskip("torch")
    theta = np.random.default_rng(0).standard_normal(20)
    p = torch.from_numpy(theta.copy()).requires_grad_()
    opt, other = getattr(ad.optim, name)(*ours), getattr(torch.optim, name)([p], **theirs)
    for _ in range(100):
        opt.step(theta, np.sin(theta) * np.arange(20))
        p.grad = torch.sin(p.detach()) * torch.arange(20)
        other.step()
    np.testing.assert_allclose(theta, p.detach().numpy(), rtol=1e-10, atol=1e-12)
