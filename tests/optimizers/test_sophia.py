"""Sophia against a loop written from the paper's Algorithms 1 to 3, on gradients of the slow oracles."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from networks import LIKELIHOODS, Network
from support import Backend, tolerance

import grng_ref as gr
from grng_ref.optimizers.sophia import ESTIMATORS, gauss_newton_bartlett, hutchinson
from proofs_check import oracles

STEPS = 12
LR, BETA1, BETA2, EPS, DECAY, K, SEED = 0.05, 0.9, 0.7, 1e-6, 0.3, 3, 11
# so that at most steps some entries are clipped and some are not
GAMMA = {"gauss_newton_bartlett": 2.0, "hutchinson": 0.5}
# relative error of the reference's estimates: of a complex step, and of a central difference of one, whose
# error is near eps^(4/5) = 3e-13
EXACTNESS = {"gauss_newton_bartlett": tolerance("float64", terms=STEPS), "hutchinson": 32 * 3e-13}


class Run:
    """One run: what every step saw, drew and did."""

    def __init__(self, likelihood: str, estimator: str) -> None:
        self.network, self.estimator = Network("tanh", likelihood, sizes=(2, 3, 2), num_examples=5), estimator
        self.problem = self.network.problem
        opt = gr.sophia(
            self.problem,
            lr=lambda step: LR / (1 + step),
            estimator=estimator,
            betas=(BETA1, BETA2),
            gamma=GAMMA[estimator],
            eps=EPS,
            refresh=K,
            weight_decay=DECAY,
            seed=SEED,
        )
        theta = self.network.theta
        state = opt.init(theta)
        self.thetas, self.batches, self.deltas, self.infos = [], [], [], []
        for step in range(STEPS):
            batch = slice(step % 3, step % 3 + 3)  # three examples a step
            x, y = self.network.x[batch], self.network.y[batch]
            delta, state, info = opt.update(theta, state, x, y)
            self.thetas.append(theta)
            self.batches.append((x, y))
            self.deltas.append(delta)
            self.infos.append(info)
            theta = theta + delta

    def gradient(self, theta, x, y):
        """Of the mean loss: complex step through the network, unit by unit."""

        def loss(z):
            outputs = oracles.mlp_outputs(z, x, self.network.sizes, "tanh")
            return oracles.mean_loss(self.network.likelihood, outputs, y, self.network.variance)

        return oracles.complex_step_gradient(loss, theta)

    def loop(self, planted=None):
        """The steps after the paper, one parameter at a time; the thetas are those of the run."""
        size = self.network.theta.size
        m, h = [0.0] * size, [0.0] * size
        for t in range(1, STEPS + 1):
            theta, (x, y) = self.thetas[t - 1], self.batches[t - 1]
            rng = np.random.default_rng([SEED, t - 1])
            g = self.gradient(theta, x, y)
            if planted == "coupled decay":
                g = g + DECAY * theta
            if t % K == 1 or planted == "refreshed every step":
                estimate = self.estimate(theta, x, y, rng, planted)
                old = 0.0 if planted == "no average of h" else BETA2
                h = [old * h[i] + (1 - old) * estimate[i] for i in range(size)]
            m = [BETA1 * m[i] + (1 - BETA1) * g[i] for i in range(size)]
            eta, delta, clipped, least = LR / t, np.zeros(size), 0, np.inf
            for i in range(size):
                own = m[i] / (1 - BETA1**t) if planted == "bias corrected" else m[i]
                bound = max(GAMMA[self.estimator] * h[i], EPS)
                if planted == "eps added":
                    bound = GAMMA[self.estimator] * abs(h[i]) + 1e3 * EPS
                ratio = own / bound
                if abs(ratio) > 1:
                    clipped += 1
                    ratio = ratio if planted == "no clip" else min(max(ratio, -1.0), 1.0)
                else:
                    least = min(least, bound)
                decay = 0.0 if planted == "coupled decay" else DECAY
                delta[i] = -eta * decay * theta[i] - eta * ratio
            # an entry m / (gamma h) that is not clipped has the relative error of its h
            yield delta, clipped / size, GAMMA[self.estimator] * max(map(abs, h)) / least

    def estimate(self, theta, x, y, rng, planted):
        n = len(x)
        if self.estimator == "hutchinson":
            u = rng.standard_normal((1, theta.size))[0]
            moved = oracles.central_directional(lambda z: self.gradient(z, x, y), theta, u)
            return moved if planted == "u once" else u * moved
        labels = self.problem.sample(theta, x, rng=rng)[0]
        if planted == "observed labels":
            labels = y
        if planted == "squares, then mean":
            each = [self.gradient(theta, x[i : i + 1], labels[i : i + 1]) ** 2 for i in range(n)]
            return sum(each) / n
        g = self.gradient(theta, x, labels)
        return g * g if planted == "no factor N" else n * g * g


def differences(run, planted=None):
    """At each step the largest error of an entry over lr, which an entry that is clipped moves by."""
    pairs = zip(run.deltas, run.loop(planted), strict=True)
    return [float(np.abs(d - e).max()) * (t + 1) / LR for t, (d, (e, _, _)) in enumerate(pairs)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_steps_are_those_of_the_paper(likelihood, estimator):
    run = Run(likelihood, estimator)
    rows = zip(differences(run), run.loop(), run.infos, strict=True)
    for step, (difference, (_, clipped, condition), info) in enumerate(rows):
        assert difference <= EXACTNESS[estimator] * condition + tolerance("float64", terms=STEPS)
        assert info.clipped == clipped
        assert (info.step, info.damping, info.solve) == (step, 0.0, None)
    assert sum(0.0 < info.clipped < 1.0 for info in run.infos) > STEPS / 2  # both branches are seen


@pytest.mark.parametrize(
    ("estimator", "planted"),
    [
        *itertools.product(
            ESTIMATORS,
            [
                "no clip",
                "refreshed every step",
                "coupled decay",
                "bias corrected",
                "eps added",
                "no average of h",
            ],
        ),
        ("gauss_newton_bartlett", "no factor N"),
        ("gauss_newton_bartlett", "squares, then mean"),
        ("gauss_newton_bartlett", "observed labels"),
        ("hutchinson", "u once"),
    ],
)
def test_planted_errors_are_caught(estimator, planted):
    assert max(differences(Run("categorical", estimator), planted)) > 1e-3


# --- the estimators ----------------------------------------------------------------------------------------


def test_the_expected_bartlett_estimate_is_the_diagonal_of_the_fisher():
    """The expectation over the labels, written out: all of them, with their probabilities."""
    network = Network("tanh", "categorical", sizes=(2, 3, 2), num_examples=3)
    problem, theta, x = network.problem, network.theta, network.x
    p = problem.likelihood.mean(problem.outputs(theta, x))
    expected = 0.0
    for labels in itertools.product(range(2), repeat=3):
        weight = np.prod([p[n, label] for n, label in enumerate(labels)])
        expected = expected + weight * gauss_newton_bartlett(problem, theta, x, np.array([labels]))
    diagonal = np.diag(network.fisher)
    np.testing.assert_allclose(expected, diagonal, rtol=0, atol=tolerance("float64") * diagonal.max())


def test_the_mean_hutchinson_estimate_is_the_diagonal_of_the_hessian():
    """Over the P probes sqrt(P) e_i, whose mean u u^T is the identity."""
    network = Network("tanh", "poisson", sizes=(2, 3, 2), num_examples=3)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    estimate = hutchinson(problem, theta, x, y, np.sqrt(theta.size) * np.eye(theta.size))
    H = oracles.hessian(network.loss, theta)
    np.testing.assert_allclose(estimate, np.diag(H), rtol=0, atol=32 * 3e-13 * np.abs(H).max())
    assert np.diag(H).min() < 0.0  # and it may be negative


def test_estimates_of_several_draws_are_means():
    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    samples = problem.sample(theta, x, num_samples=3, rng=0)
    single = [gauss_newton_bartlett(problem, theta, x, samples[m : m + 1]) for m in range(3)]
    np.testing.assert_allclose(
        gauss_newton_bartlett(problem, theta, x, samples), np.mean(single, axis=0), rtol=1e-14
    )
    probes = np.random.default_rng(0).standard_normal((3, theta.size))
    single = [hutchinson(problem, theta, x, y, probes[m : m + 1]) for m in range(3)]
    scale = np.abs(single).max()
    np.testing.assert_allclose(
        hutchinson(problem, theta, x, y, probes), np.mean(single, axis=0), rtol=0, atol=1e-15 * 8 * scale
    )


# --- draws, limits, failures -------------------------------------------------------------------------------


def make(network, **options):
    return gr.sophia(network.problem, **({"lr": 0.1, "refresh": 2, "seed": 7} | options))


def test_draws_are_those_of_seed_and_step_and_only_at_refreshes():
    network = Network("tanh", "categorical")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    for estimator in ESTIMATORS:
        opt = make(network, estimator=estimator)
        state = opt.init(theta)
        for step in range(4):
            before = state
            _, state, info = opt.update(theta, before, x, y)
            rng = np.random.default_rng([7, step])
            if step % 2 == 1:
                assert (info.samples, info.probes) == (None, None)
                assert state.hessian is before.hessian
            elif estimator == "hutchinson":
                assert info.samples is None
                np.testing.assert_array_equal(info.probes, rng.standard_normal((1, theta.size)))
            else:
                assert info.probes is None
                np.testing.assert_array_equal(info.samples, problem.sample(theta, x, rng=rng))


@pytest.mark.parametrize(
    ("estimator", "step", "name"),
    [
        ("gauss_newton_bartlett", 0, "probes"),
        ("hutchinson", 0, "samples"),
        *itertools.product(ESTIMATORS, [1], ["samples", "probes"]),
    ],
)
def test_draws_that_a_step_does_not_use_are_refused(estimator, step, name):
    network = Network("tanh", "categorical")
    theta = network.theta
    opt = make(network, estimator=estimator)
    state = replace(opt.init(theta), step=step)
    draws = {"samples": network.y[None], "probes": theta[None]}
    with pytest.raises(ValueError, match=f"{name} must be None"):
        opt.update(theta, state, network.x, network.y, **{name: draws[name]})


def test_a_large_gamma_clips_nothing_and_a_small_one_everything():
    network = Network("tanh", "gaussian")
    theta, x, y = network.theta, network.x, network.y
    g = network.problem.gradient(theta, x, y)
    opt = make(network, gamma=1e12)
    delta, state, info = opt.update(theta, opt.init(theta), x, y)
    assert info.clipped == 0.0
    np.testing.assert_allclose(delta, -0.1 * state.momentum / (1e12 * state.hessian), rtol=1e-14)
    opt = make(network, gamma=1e-12)
    delta, _, info = opt.update(theta, opt.init(theta), x, y)
    assert info.clipped == 1.0
    np.testing.assert_array_equal(delta, -0.1 * np.sign(g))


def test_a_stationary_point_stays():
    network = Network("tanh", "gaussian")
    y = network.problem.outputs(network.theta, network.x)
    for estimator in ESTIMATORS:
        opt = make(network, estimator=estimator)
        delta, _, info = opt.update(network.theta, opt.init(network.theta), network.x, y)
        assert np.all(delta == 0.0)
        assert info.clipped == 0.0


def test_an_estimate_that_overflows_is_an_error():
    """h would be infinite, and the step a silent zero."""
    problem = gr.Problem(gr.MLP((2, 2), bias=False), gr.Categorical())
    theta, x, y = np.full(4, 1e-200), np.array([[1e200, -3e200]]), np.array([1])
    opt = gr.sophia(problem, lr=0.1)
    state = opt.init(theta)
    with pytest.raises(gr.NumericalError, match="step 0: estimate overflowed") as error:
        opt.step(theta, state, x, y)
    info = error.value.result
    assert isinstance(info, gr.StepInfo)
    assert (info.step, info.step_norm, info.clipped) == (0, None, None)
    np.testing.assert_array_equal(info.samples, problem.sample(theta, x, rng=np.random.default_rng([0, 0])))
    np.testing.assert_array_equal(state.hessian, 0.0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_backend_takes_the_same_step(estimator, backend: Backend):
    network = Network("tanh", "categorical", num_examples=8)
    opt = make(network, estimator=estimator, gamma=50.0)
    delta, state, info = opt.update(network.theta, opt.init(network.theta), network.x, network.y)
    theta, x, y = (backend.asarray(a) for a in (network.theta, network.x, network.y))
    draws = {
        name: backend.asarray(drawn)
        for name, drawn in (("samples", info.samples), ("probes", info.probes))
        if drawn is not None
    }
    moved, after, seen = opt.update(theta, opt.init(theta), x, y, **draws)
    rtol = tolerance(backend.dtype, terms=8)
    backend.assert_close(after.momentum, state.momentum, rtol=rtol)
    backend.assert_close(after.hessian, state.hessian, rtol=rtol)
    # an entry m / (gamma h) that is not clipped has the relative error of its h
    free = (50.0 * state.hessian > np.abs(state.momentum)) & (state.hessian > 0.0)
    condition = float(np.abs(state.hessian).max() / state.hessian[free].min())
    backend.assert_close(moved, delta, rtol=tolerance(backend.dtype, condition, terms=8))
    assert seen.clipped == info.clipped
    assert 0.0 < info.clipped < 1.0
