"""AdamW against its closed form: weighted means over all past gradients, where the code has recursions."""

from __future__ import annotations

import numpy as np
import pytest
from networks import LIKELIHOODS, Network
from support import Backend, tolerance

import grng_ref as gr

LR, BETAS, EPS, DECAY, STEPS = 0.02, (0.8, 0.95), 1e-3, 0.2, 25


def lr(step):
    return LR / (1 + step)


def walk(opt, theta, x, y):
    """theta and gradient before each step, the step and its info."""
    state = opt.init(theta)
    for step in range(STEPS):
        batch = slice(step % 2, step % 2 + 3)
        delta, state, info = opt.update(theta, state, x[batch], y[batch])
        yield theta, opt.problem.gradient(theta, x[batch], y[batch]), delta, info
        theta = theta + delta


def weighted_mean(terms, beta, *, corrected=True):
    """``sum_s beta^(t - s) v_s / sum_s beta^(t - s)``: the bias-corrected average is a mean."""
    weights = beta ** np.arange(len(terms) - 1, -1, -1.0)
    total = np.sum(weights) if corrected else 1.0 / (1.0 - beta)
    return np.tensordot(weights, np.array(terms), axes=1) / total


def closed_form(thetas, gradients, *, planted=None):
    """The last step."""
    last, decay = len(gradients) - 1, DECAY
    if planted == "coupled decay":
        gradients = [g + DECAY * theta for theta, g in zip(thetas, gradients, strict=True)]
        decay = 0.0
    mean = weighted_mean(gradients, BETAS[0], corrected=planted != "m not corrected")
    square = weighted_mean([g**2 for g in gradients], BETAS[1], corrected=planted != "v not corrected")
    scale = np.sqrt(square + EPS**2) if planted == "eps in the root" else np.sqrt(square) + EPS
    decayed = decay / lr(last) if planted == "decay without lr" else decay
    return -lr(last) * (mean / scale + decayed * thetas[-1])


def record(likelihood):
    network = Network("tanh", likelihood, num_examples=4)
    opt = gr.adamw(network.problem, lr=lr, betas=BETAS, eps=EPS, weight_decay=DECAY)
    return list(walk(opt, network.theta, network.x, network.y))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_steps_are_their_closed_form(likelihood):
    rows = record(likelihood)
    for step, (_, g, delta, info) in enumerate(rows):
        past = rows[: step + 1]
        expected = closed_form([row[0] for row in past], [row[1] for row in past])
        # entries of m / sqrt(v) are of order one at most, whatever cancels in m
        atol = tolerance("float64", terms=STEPS) * lr(step)
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
    "planted",
    ["m not corrected", "v not corrected", "coupled decay", "eps in the root", "decay without lr"],
)
@pytest.mark.parametrize("step", [0, 5])
def test_planted_errors_are_caught(planted, step):
    rows = record("categorical")[: step + 1]
    wrong = closed_form([row[0] for row in rows], [row[1] for row in rows], planted=planted)
    assert np.linalg.norm(rows[-1][2] - wrong) > 1e-3 * np.linalg.norm(wrong)


def test_the_first_step_is_the_sign_of_the_gradient():
    network = Network("gelu", "gaussian")
    opt = gr.adamw(network.problem, lr=0.5, eps=1e-300, weight_decay=0.0)
    delta, _, _ = opt.update(network.theta, opt.init(network.theta), network.x, network.y)
    g = network.problem.gradient(network.theta, network.x, network.y)
    assert np.all(g != 0.0)
    np.testing.assert_allclose(delta, -0.5 * np.sign(g), rtol=1e-14)


def test_a_stationary_point_only_decays():
    network = Network("tanh", "gaussian")
    y = network.problem.outputs(network.theta, network.x)
    opt = gr.adamw(network.problem, lr=0.5, weight_decay=0.25)
    delta, _, info = opt.update(network.theta, opt.init(network.theta), network.x, y)
    assert info.gradient_norm == 0.0
    np.testing.assert_allclose(delta, -0.125 * network.theta, rtol=1e-15)


def test_every_backend_takes_the_same_steps(backend: Backend):
    network = Network("tanh", "bernoulli")
    steps = {}
    for name, move in (("host", np.asarray), ("backend", backend.asarray)):
        theta, x, y = (move(a) for a in (network.theta, network.x, network.y))
        opt = gr.adamw(network.problem, lr=0.1, eps=EPS, weight_decay=DECAY)
        state = opt.init(theta)
        for _ in range(3):
            theta, state, _ = opt.step(theta, state, x, y)
        steps[name] = theta
    # an entry of m / (sqrt(v) + eps) moves by at most |dg| / eps
    g = network.gradients.mean(axis=0)
    condition = 1.0 + float(np.abs(g).max()) / EPS
    backend.assert_close(
        steps["backend"], steps["host"], rtol=tolerance(backend.dtype, min(condition, 100.0))
    )


def test_a_square_that_overflows_is_an_error():
    """v would be infinite, and the step a silent zero."""
    problem = gr.Problem(gr.MLP((2, 2), bias=False), gr.Categorical())
    theta, x, y = np.full(4, 1e-200), np.array([[1e200, -3e200]]), np.array([1])
    opt = gr.adamw(problem, lr=0.1)
    state = opt.init(theta)
    with pytest.raises(gr.NumericalError, match="step 0: square overflowed") as error:
        opt.step(theta, state, x, y)
    info = error.value.result
    assert isinstance(info, gr.StepInfo)
    assert (info.step, info.step_norm) == (0, None)
    assert info.gradient_norm > 1e199
    np.testing.assert_array_equal(state.square, 0.0)
