"""What the claims about the Kalman filter share: small problems, and the filter seen from outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

import grng_ref as gr

from .comparisons import identity
from .context import Run
from .data import LIKELIHOODS, Instance, on_host, synthetic
from .findings import Finding
from .tolerance import Tolerance

FORMS = ("square_root_information", "information", "square_root_covariance", "covariance", "joseph")
"""The forms of the full belief."""

NOISE_VARIANCE = 0.5  # a power of two: exact in every dtype


class FilterStep(NamedTuple):
    """One step of the filter, seen from outside."""

    theta: Any  # before the step, (P,)
    before: Any  # the state
    x: Any
    y: Any
    delta: np.ndarray
    after: Any  # the state
    info: gr.StepInfo

    @property
    def num_examples(self) -> int:
        """N of the batch."""
        return int(self.x.shape[0])

    @property
    def covariance(self) -> np.ndarray:
        """After the step, (P, P)."""
        return on_host(self.after.covariance())

    @property
    def information(self) -> np.ndarray:
        """After the step, (P, P)."""
        return on_host(self.after.information())

    def moments(self, problem: gr.Problem) -> tuple[np.ndarray, np.ndarray]:
        """``N F`` (P, P) and ``N g`` (P,) of the batch, at the mean before the step."""
        fisher = on_host(gr.fisher(problem, self.theta, self.x).to_dense())
        g = on_host(problem.gradient(self.theta, self.x, self.y))
        return self.num_examples * fisher, self.num_examples * g


def filter_steps(
    instance: Instance, optimizer: gr.Optimizer, batches: Iterable[tuple[Any, Any]]
) -> Iterator[FilterStep]:
    """The steps of a filter from the instance's theta, batch after batch."""
    theta, state = instance.theta, optimizer.init(instance.theta)
    for x, y in batches:
        delta, after, info = optimizer.update(theta, state, x, y)
        yield FilterStep(theta, state, x, y, on_host(delta), after, info)
        theta, state = theta + delta, after


def one_of_each_likelihood(run: Run, *, num_examples: int, key: int) -> list[Instance]:
    """A small network (2-3-3, tanh) for each of the four likelihoods."""
    return [
        synthetic(run, likelihood, (2, 3, 3), num_examples=num_examples, key=(key, i))
        for i, likelihood in enumerate(LIKELIHOODS)
    ]


def linear_gaussian(run: Run, sizes: tuple[int, int], *, num_examples: int, key: int) -> Instance:
    """A linear model with bias and Gaussian noise of variance `NOISE_VARIANCE`."""
    return synthetic(run, "gaussian", sizes, num_examples=num_examples, key=(key,), variance=NOISE_VARIANCE)


def design(instance: Instance) -> np.ndarray:
    """The Jacobian (N K, P) of a linear model's outputs, example-major: ``f = design theta``."""
    _, x, y = instance.host
    rows = np.hstack([x, np.ones((len(x), 1))])
    return np.vstack([np.kron(np.eye(y.shape[1]), row) for row in rows])


def mean_and_covariance(step: FilterStep) -> np.ndarray:
    """The posterior after a step: mean in the first row, below it the covariance."""
    return np.vstack([(on_host(step.theta) + step.delta)[None, :], step.covariance])


def posteriors_agree(
    computed: np.ndarray,
    exact: np.ndarray,
    planted: tuple[np.ndarray, np.ndarray],
    limit: Tolerance,
    detail: str,
) -> list[Finding]:
    """Mean and covariance as `mean_and_covariance` stacks them: each in units of its own size.

    The planted pair is the negative control of both.
    """

    def finding(name: str, rows: slice, pair: tuple[np.ndarray, np.ndarray]) -> Finding:
        return identity(pair[0][rows], pair[1][rows], **limit, detail=f"{name}, {detail}")

    return [
        finding(name, rows, (computed, exact)).with_control(finding(name, rows, planted))
        for name, rows in (("mean", slice(0, 1)), ("covariance", slice(1, None)))
    ]
