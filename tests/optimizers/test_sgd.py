"""SGD against its closed form: weighted sums over all past gradients, where the code has a recursion."""

from __future__ import annotations

import numpy as np
import pytest
from networks import LIKELIHOODS, Network
from support import Backend, tolerance

import grng_ref as gr

MOMENTUM, DECAY, STEPS = 0.9, 0.03, 20
VARIANTS = {
    "plain": {},
    "decay": {"weight_decay": DECAY},
    "momentum": {"momentum": MOMENTUM},
    "momentum, decay": {"momentum": MOMENTUM, "weight_decay": DECAY},
    "nesterov, decay": {"momentum": MOMENTUM, "nesterov": True, "weight_decay": DECAY},
}


def lr(step):
    return 0.1 / (1 + step)


def walk(opt, theta, x, y):
    """theta and gradient before each step, the step and its info."""
    state = opt.init(theta)
    for step in range(STEPS):
        batch = slice(step % 2, step % 2 + 3)
        delta, state, info = opt.update(theta, state, x[batch], y[batch])
        yield theta, opt.problem.gradient(theta, x[batch], y[batch]), delta, info
        theta = theta + delta


def closed_form(thetas, gradients, *, momentum=0.0, nesterov=False, weight_decay=0.0, planted=None):
    """The last step: ``-lr sum_s momentum^(t - s) v_s``; Nesterov's looks one step ahead."""
    last = len(gradients) - 1
    decay = 0.0 if planted == "decoupled decay" else weight_decay
    inputs = [g + decay * theta for theta, g in zip(thetas, gradients, strict=True)]
    weights = [momentum ** (last - s) for s in range(last + 1)]
    if planted == "damped gradient":
        weights = [w * (1.0 - momentum) for w in weights]
    if nesterov and planted != "old buffer":  # v_t + momentum b_{t-1} would be the plain momentum
        weights = [momentum * w for w in weights]
        weights[-1] += 1.0
    rates = [lr(s) if planted == "lr in the buffer" else lr(last) for s in range(last + 1)]
    step = -sum(r * w * v for r, w, v in zip(rates, weights, inputs, strict=True))
    return step - lr(last) * weight_decay * thetas[-1] if planted == "decoupled decay" else step


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_steps_are_their_closed_form(likelihood, options):
    network = Network("tanh", likelihood, num_examples=4)
    opt = gr.sgd(network.problem, lr=lr, **options)
    thetas, gradients = [], []
    for step, (theta, g, delta, info) in enumerate(walk(opt, network.theta, network.x, network.y)):
        thetas.append(theta)
        gradients.append(g)
        expected = closed_form(thetas, gradients, **options)
        # the sums of the past are of the size of their terms, which may cancel
        scale = lr(step) * sum(np.abs(v).max() for v in gradients)
        atol = tolerance("float64", terms=STEPS) * scale
        np.testing.assert_allclose(delta, expected, rtol=0, atol=atol)
        assert (info.step, info.damping, info.solve, info.samples, info.probes) == (
            step,
            0.0,
            None,
            None,
            None,
        )
        assert info.clipped is None
        assert info.gradient_norm == pytest.approx(np.linalg.norm(g), rel=1e-14)


@pytest.mark.parametrize(
    ("variant", "planted"),
    [
        ("momentum, decay", "decoupled decay"),
        ("momentum", "damped gradient"),
        ("momentum", "lr in the buffer"),
        ("nesterov, decay", "old buffer"),
    ],
)
def test_planted_errors_are_caught(variant, planted):
    network, options = Network("tanh", "categorical", num_examples=4), VARIANTS[variant]
    opt = gr.sgd(network.problem, lr=lr, **options)
    rows = list(walk(opt, network.theta, network.x, network.y))
    thetas, gradients = [row[0] for row in rows], [row[1] for row in rows]
    wrong = closed_form(thetas, gradients, **options, planted=planted)
    assert np.linalg.norm(rows[-1][2] - wrong) > 1e-3 * np.linalg.norm(wrong)


def test_without_momentum_the_step_is_the_gradient():
    network = Network("gelu", "gaussian")
    opt = gr.sgd(network.problem, lr=0.25)
    delta, state, _ = opt.update(network.theta, opt.init(network.theta), network.x, network.y)
    g = network.problem.gradient(network.theta, network.x, network.y)
    np.testing.assert_array_equal(delta, -0.25 * g)
    np.testing.assert_array_equal(state.buffer, g)


def test_every_backend_takes_the_same_steps(backend: Backend):
    network = Network("tanh", "bernoulli")
    steps = {}
    for name, move in (("host", np.asarray), ("backend", backend.asarray)):
        theta, x, y = (move(a) for a in (network.theta, network.x, network.y))
        opt = gr.sgd(network.problem, lr=0.1, momentum=0.9, nesterov=True, weight_decay=DECAY)
        state = opt.init(theta)
        for _ in range(3):
            theta, state, _ = opt.step(theta, state, x, y)
        steps[name] = theta
    backend.assert_close(steps["backend"], steps["host"], rtol=tolerance(backend.dtype, terms=30))


def test_an_overflow_carries_the_step_info():
    network = Network("identity", "gaussian")
    opt = gr.sgd(network.problem, lr=1e308)
    state = opt.init(network.theta)
    with pytest.raises(gr.NumericalError, match="step 0: delta overflowed") as error:
        opt.step(network.theta, state, network.x, 1e6 * network.y)
    assert isinstance(error.value.result, gr.StepInfo)
    assert error.value.result.step_norm is None
    np.testing.assert_array_equal(state.buffer, 0.0)
