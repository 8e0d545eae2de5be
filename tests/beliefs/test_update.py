"""The regularized Kalman update: gain form, pseudo-observations, RING, and saturated observations."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from networks import LIKELIHOODS, Network
from support import Backend, tolerance

import grng_ref as gr
from grng_ref.beliefs import Observation, log_evidence
from proofs_check import oracles


def data(rows: int = 5, size: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    B, c = rng.standard_normal((rows, size)), rng.standard_normal(rows)
    H = rng.standard_normal((size, size))
    return B, c, B.T @ c, 0.5 * (H + H.T), rng.standard_normal(size)


@pytest.mark.parametrize("with_coefficients", [False, True])
@pytest.mark.parametrize("rho", [0.0, 0.6])
@pytest.mark.parametrize("regularization", ["implicit", "explicit"])
def test_update_is_its_definition(regularization, rho, with_coefficients, backend: Backend):
    """``Y + N B^T B + (N rho |g|^2 I or N rho H^2)``; mean ``- Y^{-1} N (g or g + rho H g)``."""
    B, c, g, H, mean = data()
    n, p0 = 3, 0.5
    size = mean.size
    move = [backend.asarray(a) for a in (mean, B, g, H, c)]
    result = gr.kalman_update(
        move[0],
        gr.full_belief(move[0], prior_variance=p0),
        move[1],
        move[2],
        num_examples=n,
        rho=rho,
        regularization=regularization,
        hessian=move[3],
        coefficients=move[4] if with_coefficients else None,
    )
    Y = np.eye(size) / p0 + n * B.T @ B
    if regularization == "implicit":
        Y, v = Y + n * rho * float(g @ g) * np.eye(size), g
    else:
        Y, v = Y + n * rho * H @ H, g + rho * H @ g
    step = -np.linalg.solve(Y, n * v)
    rtol = tolerance(backend.dtype, np.linalg.cond(Y), terms=size + len(B))
    backend.assert_close(result.belief.information(), Y, rtol=rtol)
    atol = rtol * (np.linalg.norm(step) + n * np.linalg.norm(np.linalg.inv(Y), 2) * np.linalg.norm(g))
    backend.assert_close(result.mean, mean + step, rtol=rtol, atol=atol)
    assert result.info.gradient_norm == pytest.approx(np.linalg.norm(g), rel=rtol)
    implicit = regularization == "implicit"
    assert result.info.precision == pytest.approx(n * rho * float(g @ g) if implicit else 0.0, rel=rtol)
    assert result.info.step_norm == pytest.approx(np.linalg.norm(step), rel=rtol + atol)
    # negative controls: means for sums; the regularized gradient left out
    mean_form = mean - np.linalg.solve(np.eye(size) / p0 + B.T @ B, g)
    with pytest.raises(AssertionError):
        backend.assert_close(result.mean, mean_form, rtol=rtol, atol=atol)
    if not implicit and rho > 0.0:
        with pytest.raises(AssertionError):
            backend.assert_close(result.mean, mean - np.linalg.solve(Y, n * g), rtol=rtol, atol=atol)


def gain_form(mean, P, H, innovation, R):
    return oracles.ekf_update(mean, P, H, innovation, R)


def test_regularization_is_the_observation_that_it_claims_to_be():
    """Implicit: theta observed at its own mean with precision N rho |g|^2. Explicit: zero observed where the
    model says sqrt(N rho) g(theta), unit noise, Jacobian sqrt(N rho) H. By the covariance form of the oracle.
    """
    B, c, g, H, mean = data()
    n, p0, rho, size = 3, 0.5, 0.6, 4
    rows, innovation = math.sqrt(n) * B, -math.sqrt(n) * c
    prior = gr.full_belief(mean, prior_variance=p0)
    m1, P1 = gain_form(mean, p0 * np.eye(size), rows, innovation, np.eye(len(B)))
    precision = n * rho * float(g @ g)
    # the pseudo-observation is part of the same batch: theta observed at the predicted mean
    together = np.vstack([rows, np.eye(size)])
    noise = np.diag(np.concatenate([np.ones(len(B)), np.full(size, 1.0 / precision)]))
    m2, P2 = gain_form(mean, p0 * np.eye(size), together, np.concatenate([innovation, np.zeros(size)]), noise)
    implicit = gr.kalman_update(mean, prior, B, g, num_examples=n, rho=rho, coefficients=c)
    np.testing.assert_allclose(implicit.mean, m2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(implicit.belief.covariance(), P2, rtol=0, atol=1e-13)
    root = math.sqrt(n * rho)
    together = np.vstack([rows, root * H])
    m3, P3 = gain_form(
        mean,
        p0 * np.eye(size),
        together,
        np.concatenate([innovation, -root * g]),
        np.eye(len(B) + size),
    )
    explicit = gr.kalman_update(
        mean, prior, B, g, num_examples=n, rho=rho, regularization="explicit", hessian=H, coefficients=c
    )
    np.testing.assert_allclose(explicit.mean, m3, rtol=0, atol=1e-12)
    np.testing.assert_allclose(explicit.belief.covariance(), P3, rtol=0, atol=1e-13)
    for other in (m1, m2):  # negative control
        assert not np.allclose(explicit.mean, other, atol=1e-3)
    assert not np.allclose(implicit.belief.covariance(), P1, atol=1e-3)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "poisson"])
def test_logit_space_is_the_filter_of_the_observed_mean(likelihood):
    """Ours works on score rows; the oracle observes y with Jacobian dh/dtheta and covariance Cov[y|f]."""
    network = Network("tanh", likelihood, "ntk")
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    p0 = 0.3
    H, innovation, R = oracles.mean_space_observation(
        likelihood, network.outputs(theta), network.jacobian, y, network.variance
    )
    mean, P = oracles.ekf_update(theta, p0 * np.eye(theta.size), H, innovation, R)
    result = gr.kalman_update(
        theta,
        gr.full_belief(theta, prior_variance=p0),
        problem.score_rows(theta, x),
        problem.gradient(theta, x, y),
        num_examples=len(x),
        coefficients=problem.score_coefficients(theta, x, y),
    )
    np.testing.assert_allclose(result.mean, mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.belief.covariance(), P, rtol=0, atol=1e-13)
    if likelihood != "gaussian":  # negative control: df/dtheta with the covariance of y
        wrong = oracles.ekf_update(
            theta, p0 * np.eye(theta.size), network.jacobian.reshape(-1, theta.size), innovation, R
        )[0]
        assert not np.allclose(result.mean, wrong, atol=1e-4)


def test_linear_gaussian_model_gives_the_exact_posterior():
    """A linear network: one update is Bayes' rule, in 50 digits."""
    rng = np.random.default_rng(1)
    model, s2, p0 = gr.MLP((3, 1), activation="identity"), 0.2, 5.0
    problem = gr.Problem(model, gr.Gaussian(variance=s2))
    theta, x, y = rng.standard_normal(4), rng.standard_normal((6, 3)), rng.standard_normal((6, 1))
    design = np.hstack([x, np.ones((6, 1))])
    mean, covariance = oracles.linear_gaussian_posterior(
        design, y[:, 0], theta, p0 * np.eye(4), s2, digits=50
    )
    result = gr.kalman_update(
        theta,
        gr.full_belief(theta, prior_variance=p0),
        problem.score_rows(theta, x),
        problem.gradient(theta, x, y),
        num_examples=6,
        coefficients=problem.score_coefficients(theta, x, y),
    )
    np.testing.assert_allclose(result.mean, mean, rtol=1e-12)
    error = np.linalg.norm(result.belief.covariance() - covariance) / np.linalg.norm(covariance)
    assert error <= tolerance("float64", np.linalg.cond(covariance))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("rho", [0.0, 2.0])
def test_one_step_from_the_isotropic_prior_is_ring(likelihood, rho):
    """``P_0 = I/(N lam)``: the mean moves by RING with eta = 1 and damping lam."""
    network = Network("silu", likelihood)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    lam, n = 0.05, len(x)
    B, g = problem.score_rows(theta, x), problem.gradient(theta, x, y)
    c = problem.score_coefficients(theta, x, y)
    direction = gr.ring_direction(B, g, rho=rho, damping=lam, coefficients=c)
    prior = gr.full_belief(theta, prior_variance=1.0 / (n * lam))
    for coefficients in (None, c):
        result = gr.kalman_update(theta, prior, B, g, num_examples=n, rho=rho, coefficients=coefficients)
        np.testing.assert_allclose(
            result.mean, theta - direction, rtol=0, atol=1e-11 * np.linalg.norm(direction)
        )
    assert not np.allclose(result.mean, theta - 0.9 * direction, rtol=1e-6)


# --- saturated softmax -------------------------------------------------------------------------------------


def exact_softmax_update(theta: np.ndarray, x: np.ndarray, y: np.ndarray, classes: int, p0: float):
    """The step, the posterior covariance and the least probability of a linear softmax, in 120 digits."""
    with mpmath.workdps(120):
        _n, d = x.shape
        size = classes * d
        W = mpmath.matrix(theta.reshape(classes, d).tolist())
        Y = mpmath.eye(size) / mpmath.mpf(p0)
        total = mpmath.zeros(size, 1)
        smallest = mpmath.mpf(1)
        for row, label in zip(x, y, strict=True):
            a = mpmath.matrix(row.tolist())
            f = W * a
            weights = [mpmath.exp(value) for value in f]
            p = [w / sum(weights) for w in weights]
            smallest = min([smallest, *p])
            for k in range(classes):
                slope = p[k] - (1 if k == label else 0)
                for i in range(d):
                    total[k * d + i] += slope * a[i]
                for m in range(classes):
                    omega = (p[k] if k == m else 0) - p[k] * p[m]
                    for i in range(d):
                        for j in range(d):
                            Y[k * d + i, m * d + j] += omega * a[i] * a[j]
        P = Y**-1
        step = np.array([float(entry) for entry in -P * total])
        covariance = np.array([[float(P[i, j]) for j in range(size)] for i in range(size)])
        return step, covariance, float(smallest)


@pytest.mark.parametrize("saturation", [1.0, 10.0, 35.0, 70.0])
@pytest.mark.parametrize("right_label", [True, False])
@pytest.mark.parametrize("with_coefficients", [False, True])
def test_saturated_softmax_against_high_precision(saturation, right_label, with_coefficients):
    """Probabilities down to 1e-30: no epsilon, no dropped class, steps right to their own size."""
    classes, d, p0 = 3, 2, 4.0
    x = np.array([[1.0, 0.25], [0.5, -1.0]])
    W = np.array([[1.0, 0.5], [0.0, -0.25], [-0.125, 0.0]]) * saturation
    theta = W.ravel()
    model = gr.MLP((d, classes), bias=False)
    problem = gr.Problem(model, gr.Categorical())
    f = x @ W.T
    y = f.argmax(axis=1) if right_label else f.argmin(axis=1)
    step, covariance, smallest = exact_softmax_update(theta, x, y, classes, p0)
    result = gr.kalman_update(
        np.zeros_like(theta),  # the step itself, without the rounding of adding it to theta
        gr.full_belief(theta, prior_variance=p0),
        problem.score_rows(theta, x),
        problem.gradient(theta, x, y),
        num_examples=len(x),
        coefficients=problem.score_coefficients(theta, x, y) if with_coefficients else None,
    )
    assert saturation < 70.0 or smallest < 1e-30
    # P_0 = 4 I bounds the condition of Y by 4 |Y|, near 10 here
    assert np.linalg.norm(result.mean - step) <= 1e-13 * np.linalg.norm(step)
    error = np.linalg.norm(result.belief.covariance() - covariance) / np.linalg.norm(covariance)
    assert error <= 1e-13
    # negative control: the usual filter, its observation covariance made invertible by an epsilon of 1e-6
    p = np.exp(f - f.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    if saturation >= 10.0:
        n = len(x)
        J = problem.jacobian(theta, x)
        omega = np.array([np.diag(q) - np.outer(q, q) for q in p])
        H = np.einsum("nkm,nmp->nkp", omega, J).reshape(n * classes, -1)
        R = np.zeros((n * classes,) * 2)
        for i in range(n):
            part = slice(i * classes, (i + 1) * classes)
            R[part, part] = omega[i] + 1e-6 * np.eye(classes)
        innovation = (np.eye(classes)[y] - p).ravel()
        wrong, _ = oracles.ekf_update(np.zeros_like(theta), p0 * np.eye(theta.size), H, innovation, R)
        assert np.linalg.norm(wrong - step) > 1e-6 * np.linalg.norm(step)


def test_coefficients_that_do_not_give_the_gradient_are_refused():
    """The step is made from c; a g that does not belong to it would be ignored without a word."""
    belief = gr.full_belief(np.zeros(2), prior_variance=1.0)
    with pytest.raises(ValueError, match=r"coefficients must satisfy g = B\^T c"):
        gr.kalman_update(
            np.zeros(2),
            belief,
            np.eye(2),
            np.array([1.0, 0.0]),
            num_examples=1,
            coefficients=np.array([0.0, 5.0]),
        )


# --- predictions, relinearised observations, evidence -------------------------------------------------------


def test_predict_moves_mean_and_covariance(backend: Backend):
    """``A mean + b`` and ``A P A^T / phi + Q``."""
    rng = np.random.default_rng(8)
    A, b, mean = np.eye(3) + 0.5 * np.eye(3, k=1), rng.standard_normal(3), rng.standard_normal(3)
    Q = np.diag([0.1, 0.2, 0.0])
    put = backend.asarray
    moved, belief = gr.kalman_predict(
        put(mean),
        gr.full_belief(put(mean), prior_variance=0.5),
        transition=put(A),
        offset=put(b),
        noise=put(Q),
        forgetting=0.9,
    )
    rtol = tolerance(backend.dtype, np.linalg.cond(A) ** 2, terms=3)
    backend.assert_close(moved, A @ mean + b, rtol=rtol)
    backend.assert_close(belief.covariance(), A @ (0.5 * np.eye(3)) @ A.T / 0.9 + Q, rtol=rtol)
    for wrong in (A @ (mean + b), A.T @ mean + b, mean + b, A @ mean):  # planted
        with pytest.raises(AssertionError):
            backend.assert_close(moved, wrong, rtol=rtol)


@pytest.mark.parametrize(
    "make",
    [
        lambda like: gr.block_diagonal_belief(like, prior_variance=0.5, blocks=[1, 2]),
        lambda like: gr.diagonal_belief(like, prior_variance=0.5),
        lambda like: gr.low_rank_belief(like, prior_variance=0.5, rank=1),
    ],
    ids=["block_diagonal", "diagonal", "low_rank"],
)
def test_predict_of_a_structured_belief_is_a_random_walk(make):
    mean, b = np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.0, -1.0])
    moved, belief = gr.kalman_predict(mean, make(mean), offset=b, noise=0.1, forgetting=0.5)
    np.testing.assert_array_equal(moved, mean + b)
    np.testing.assert_allclose(belief.covariance(), 1.1 * np.eye(3), rtol=1e-14)
    for bad in ({"transition": np.eye(3)}, {"noise": np.eye(3)}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            gr.kalman_predict(mean, make(mean), **bad)


def test_predict_that_leaves_the_dtype_is_an_error():
    belief = gr.full_belief(np.zeros(2), prior_variance=1.0)
    with pytest.raises(gr.NumericalError, match="mean overflowed"):
        gr.kalman_predict(np.full(2, 1e300), belief, transition=1e10 * np.eye(2))


@pytest.mark.parametrize("with_targets", [True, False])
def test_a_linear_model_looks_the_same_from_everywhere(with_targets):
    """Rows made at ``mean + d`` see the same posterior from the mean; without the shift they do not."""
    rng = np.random.default_rng(9)
    rows, truth, mean, d = (rng.standard_normal(s) for s in ((5, 3), 3, 3, 3))
    z = rows @ truth + rng.standard_normal(5)
    prior = gr.full_belief(mean, prior_variance=0.5)

    def seen(point):
        targets = z - rows @ point
        return Observation(rows, -rows.T @ targets, targets if with_targets else None, 0.3)

    here, there = seen(mean), seen(mean + d)
    moved = there.seen_from(d)
    np.testing.assert_allclose(moved.gradient, here.gradient, rtol=1e-12)
    assert moved.precision == 0.3
    assert (moved.targets is None) == (not with_targets)
    (after, step), (same, again) = here.update(prior), moved.update(prior)
    np.testing.assert_allclose(again, step, rtol=1e-11)
    np.testing.assert_array_equal(same.information(), after.information())
    for wrong in (there, there.seen_from(-d)):  # planted: not shifted; to the other side
        assert not np.allclose(wrong.update(prior)[1], step, atol=1e-3)


def gaussian_log_density(z: np.ndarray, covariance: np.ndarray) -> float:
    _, logdet = np.linalg.slogdet(2.0 * np.pi * covariance)
    return float(-0.5 * (z @ np.linalg.solve(covariance, z) + logdet))


EVIDENCE = {
    "full": lambda like: gr.full_belief(like, prior_variance=0.5),
    "covariance": lambda like: gr.full_belief(like, prior_variance=0.5, form="covariance"),
    "block_diagonal": lambda like: gr.block_diagonal_belief(like, prior_variance=0.5, blocks=[1, 2]),
    "diagonal": lambda like: gr.diagonal_belief(like, prior_variance=0.5),
    "low_rank": lambda like: gr.low_rank_belief(like, prior_variance=0.5, rank=2),
}


@pytest.mark.parametrize("name", EVIDENCE)
@pytest.mark.parametrize("m", [1, 3, 7])
def test_log_evidence_is_the_gain_over_the_likelihood_at_the_mean(name, m, backend: Backend):
    """``log N(t; 0, rows P rows^T + I) - log N(t; 0, I)``, after an update that makes P no multiple of I."""
    rng = np.random.default_rng(m)
    put = backend.asarray
    first, rows, t = rng.standard_normal((2, 3)), rng.standard_normal((m, 3)), rng.standard_normal(m)
    belief, _ = EVIDENCE[name](put(np.zeros(3))).update(put(first), put(np.zeros(3)))
    P = backend.to_numpy(belief.covariance()).astype(np.float64)
    S = rows @ P @ rows.T + np.eye(m)
    gain = log_evidence(belief, put(rows), put(t))
    assert type(gain) is float
    expected = gaussian_log_density(t, S) - gaussian_log_density(t, np.eye(m))
    bound = tolerance(backend.dtype, np.linalg.cond(S), terms=m + 3) * (t @ t + m)
    assert abs(gain - expected) <= bound
    planted = {
        "the fit alone": 0.5 * (t @ t - t @ np.linalg.solve(S, t)),
        "the prior's spread without the unit noise": -0.5 * np.linalg.slogdet(S)[1],
        "the log determinant not halved": expected - 0.5 * np.linalg.slogdet(S)[1],
    }
    for wrong in planted.values():
        assert abs(gain - wrong) > bound


def test_log_evidence_adds_up():
    """Rows at once, or one after the other: the chain rule of probabilities."""
    rng = np.random.default_rng(10)
    rows, t = rng.standard_normal((6, 3)), rng.standard_normal(6)
    prior = gr.full_belief(np.zeros(3), prior_variance=2.0)
    # log N(t; 0, I) of what is left of the targets changes with the mean; it is put back
    total, belief, mean = 0.0, prior, np.zeros(3)
    for row, target in zip(rows, t, strict=True):
        left = np.array([target - row @ mean])
        total += gaussian_log_density(left, np.eye(1)) + log_evidence(belief, row[None, :], left)
        belief, step = belief.update(row[None, :], -row * left, targets=left)
        mean = mean + step
    at_once = gaussian_log_density(t, np.eye(6)) + log_evidence(prior, rows, t)
    assert total == pytest.approx(at_once, rel=1e-13)


def test_log_evidence_overflows_only_where_the_root_of_the_spread_does():
    """1e15 times 1e10 squares beyond float32, but log(1 + 2e50) does not; 1e15 times 1e30 is lost."""
    belief = gr.full_belief(np.zeros(2, dtype=np.float32), prior_variance=1e30)
    one = np.ones(1, dtype=np.float32)
    gain = log_evidence(belief, np.full((1, 2), 1e10, dtype=np.float32), one)
    assert gain == pytest.approx(0.5 - 0.5 * (math.log(2.0) + 50 * math.log(10.0)), rel=tolerance("float32"))
    with pytest.raises(gr.NumericalError, match="overflowed"):
        log_evidence(belief, np.full((1, 2), 1e30, dtype=np.float32), one)


@pytest.mark.parametrize("form", ["auto", "covariance"])
def test_evidence_of_nothing_is_zero_and_of_nonsense_an_error(form):
    belief = gr.full_belief(np.zeros(3), prior_variance=1.0, form=form)
    assert log_evidence(belief, np.zeros((0, 3)), np.zeros(0)) == 0.0
    with pytest.raises(ValueError, match="targets must have shape"):
        log_evidence(belief, np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match="targets must be finite"):
        log_evidence(belief, np.ones((2, 3)), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="rows must have shape"):
        log_evidence(belief, np.ones(3), np.ones(1))
    with pytest.raises(TypeError, match="belief must be a Belief"):
        log_evidence(3, np.ones((2, 3)), np.ones(2))
