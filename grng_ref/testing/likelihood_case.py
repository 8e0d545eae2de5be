"""The labelled outputs that the battery of likelihoods looks at, ordinary and saturated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, NumericalError
from ..likelihoods import Likelihood
from .common import Host, Place, host

EXAMPLES = 4
SATURATED = 40.0
"""exp(-40) is below eps in float64; exp(-80), between two outputs, is normal in float32."""


@dataclass(frozen=True)
class LikelihoodCase:
    """A likelihood with ordinary outputs f (N, K), saturated ones, and labels drawn at the ordinary ones."""

    likelihood: Likelihood
    place: Place
    f: Array
    y: Array
    saturated: Array
    bad_targets: tuple[Host, ...]
    labels: Host | None
    weights: Host
    seed: int

    def results(self, f: Array) -> dict[str, Array]:
        """What every method but `sample` says of f and the labels."""
        of = self.likelihood
        labelled = ("loss", "log_base", "gradient", "coefficients", "hessian")
        both = {name: getattr(of, name)(f, self.y) for name in labelled}
        return both | {name: getattr(of, name)(f) for name in ("mean", "fisher", "factor")}

    def situations(self) -> Iterator[tuple[str, Array, Array]]:
        """Outputs and labels: ordinary, saturated and wrong, saturated and right."""
        yield "ordinary outputs", self.f, self.y
        yield "saturated outputs with unlikely labels", self.saturated, self.y
        with contextlib.suppress(NumericalError):  # counts of that size may be refused
            likely = self.likelihood.sample(self.saturated, num_samples=1, rng=self.seed)[0, ...]
            yield "saturated outputs with likely labels", self.saturated, likely


def uncertainty(case: LikelihoodCase, f: Array, y: Array) -> Host:
    """What a relative error of one in f and in the result does to the gradient, entry by entry (N, K).

    Componentwise, so that ``1 - p`` may not be rounded to the size of p; the part of f lets a mean that
    equals its label to many digits be as uncertain as f makes it.
    """
    gradient, hessian = host(case.likelihood.gradient(f, y)), host(case.likelihood.hessian(f, y))
    return np.abs(gradient) + np.einsum("nkj,nj->nk", np.abs(hessian), np.abs(host(f)))
