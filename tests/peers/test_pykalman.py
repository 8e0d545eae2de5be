"""The belief as a plain Kalman filter: pykalman's robot data, against pykalman and the data's own answers.

501 steps of a 5-dimensional state, with a transition, an offset a step, noise with a full covariance, and two
correlated observations. The answers that come with the data were made by a MATLAB program.
"""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.linalg
from support import assert_values_close, import_peer, tolerance

import grng_ref as gr
from grng_ref.beliefs import FORMS, log_evidence

pytestmark = pytest.mark.peers

pykalman = import_peer("pykalman")


class Model(NamedTuple):
    """``x <- A x + b_t + N(0, Q)``, then ``z = C x + d + N(0, R)``; the first observation is missing."""

    A: np.ndarray
    b: np.ndarray
    Q: np.ndarray
    C: np.ndarray
    d: np.ndarray
    R: np.ndarray
    z: np.ndarray  # (500, 2)
    start: np.ndarray
    spread: np.ndarray


class Answer(NamedTuple):
    means: np.ndarray  # (501, 5)
    covariances: np.ndarray  # (501, 5, 5)
    log_likelihood: float


@functools.cache
def robot() -> tuple[Model, Answer, Any]:
    """The model, pykalman's answer, and the data set."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its loader leaves a file open
        data = import_peer("pykalman.datasets").load_robot()
    model = Model(
        A=data.transition_matrix,
        b=np.ascontiguousarray(data.transition_offsets),
        Q=(data.transition_covariance + data.transition_covariance.T) / 2,  # it is symmetric to 14 digits
        C=data.observation_matrix,
        d=data.observation_offset,
        R=data.observation_covariance,
        z=np.asarray(data.observations[1:]),
        start=data.initial_state_mean.astype(float),
        spread=data.initial_state_covariance.astype(float),
    )
    judge = pykalman.KalmanFilter(
        model.A, model.C, model.Q, model.R, model.b, model.d, model.start, model.spread
    )
    means, covariances = judge.filter(data.observations)
    return model, Answer(means, covariances, float(judge.loglikelihood(data.observations))), data


def filtered(model: Model, *, form: str = "auto", noise_last: bool = False) -> Answer:
    """Means, covariances and log likelihood by the public functions.

    ``noise_last`` plants an error: the noise enters after the observation.
    """
    root = np.linalg.cholesky(model.R)
    rows = scipy.linalg.solve_triangular(root, model.C, lower=True)
    constant = np.sum(np.log(np.diag(root))) + math.log(2 * math.pi)  # two observations
    mean, belief = model.start, gr.full_belief(model.start, prior_variance=1.0, form=form)
    np.testing.assert_array_equal(model.spread, np.eye(len(mean)))
    means, covariances, total = [mean], [belief.covariance()], 0.0
    for b, z in zip(model.b, model.z, strict=True):
        noise = 0.0 if noise_last else model.Q
        mean, belief = gr.kalman_predict(mean, belief, transition=model.A, offset=b, noise=noise)
        t = scipy.linalg.solve_triangular(root, z - model.C @ mean - model.d, lower=True)
        total += log_evidence(belief, rows, t) - t @ t / 2 - constant
        belief, step = belief.update(rows, -rows.T @ t, targets=t)
        if noise_last:
            belief = belief.predict(noise=model.Q)
        mean = mean + step
        means.append(mean)
        covariances.append(belief.covariance())
    return Answer(np.stack(means), np.stack(covariances), float(total))


def rounding(model: Model, answer: Answer) -> float:
    """Relative error that 500 backward stable steps may have.

    A step perturbs its Gaussian by the condition numbers of its covariance and of A times roundoff; later
    steps pass that on through the closed loop ``(I - K C) A``, whose powers shrink: the sum of their norms is
    what an error of every step adds up to.
    """
    last = answer.covariances[-1]
    closed = (np.eye(len(last)) - last @ model.C.T @ np.linalg.solve(model.R, model.C)) @ model.A
    powers = [np.linalg.norm(np.linalg.matrix_power(closed, k), 2) for k in range(500)]
    assert powers[-1] < 1e-3  # the filter forgets
    condition = max(np.linalg.cond(P) for P in answer.covariances[1:]) * np.linalg.cond(model.A)
    return tolerance("float64", condition * sum(powers), terms=len(last))


def check(found: Answer, expected: Answer, rtol: float) -> None:
    """Means, covariances, and the log likelihood: a sum of 500 terms, each as uncertain as its mean."""
    assert_values_close(found.means, expected.means, dtype="float64", rtol=rtol)
    assert_values_close(found.covariances, expected.covariances, dtype="float64", rtol=rtol)
    assert abs(found.log_likelihood - expected.log_likelihood) <= rtol * abs(expected.log_likelihood)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_agrees_with_pykalman(form: str) -> None:
    model, answer, _ = robot()
    check(filtered(model, form=form), answer, rounding(model, answer))


def test_the_answers_of_the_data_set() -> None:
    model, answer, data = robot()
    known = Answer(data.filtered_state_means, data.filtered_state_covariances, answer.log_likelihood)
    check(filtered(model), known, rounding(model, answer))


PLANTED = {
    "transition transposed": lambda m: m._replace(A=m.A.T),
    "offsets a step late": lambda m: m._replace(b=np.roll(m.b, 1, axis=0)),
    "no offset of the observations": lambda m: m._replace(d=0.0 * m.d),
    "noise dropped": lambda m: m._replace(Q=0.0 * m.Q),
    "correlation of the observations dropped": lambda m: m._replace(R=np.diag(np.diag(m.R))),
    "noise a millionth too large": lambda m: m._replace(Q=m.Q * (1.0 + 1e-6)),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_wrong_model_is_caught(planted: str) -> None:
    model, answer, _ = robot()
    found, rtol = filtered(PLANTED[planted](model)), rounding(model, answer)
    for part in Answer._fields:
        if part == "covariances" and "offset" in planted:
            continue  # an offset has no place in a covariance
        wrong = answer._replace(**{part: getattr(found, part)})
        with pytest.raises(AssertionError):
            check(wrong, answer, rtol)


def test_noise_after_the_observation_is_caught() -> None:
    model, answer, _ = robot()
    with pytest.raises(AssertionError):
        check(filtered(model, noise_last=True), answer, rounding(model, answer))
