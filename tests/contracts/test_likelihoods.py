"""Every likelihood of the package, and one of a user, through the public battery."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import array_api_compat as compat
import numpy as np
import pytest

import grng_ref as gr
from grng_ref.testing import check_likelihood


@dataclass(frozen=True)
class Exponential:
    """A user's likelihood: waiting times y with rates exp(f), ``l(f, y) = sum y exp f - f``.

    f is not the natural parameter, so the Hessian ``diag(y exp f)`` is not the Fisher, which is I.
    """

    def check_targets(self, f, y):
        gr.Gaussian().check_targets(f, y)
        if not bool(compat.array_namespace(y).all(y >= 0.0)):
            raise ValueError("y must be nonnegative")

    def loss(self, f, y):
        xp = compat.array_namespace(f)
        return xp.sum(y * xp.exp(f) - f, axis=1)

    def log_base(self, f, y):
        return 0.0 * f[:, 0]

    def mean(self, f):
        return compat.array_namespace(f).exp(-f)

    def gradient(self, f, y):
        return y * compat.array_namespace(f).exp(f) - 1.0

    def fisher(self, f):
        return self._diagonal(compat.array_namespace(f).ones_like(f))

    def factor(self, f):
        return self.fisher(f)

    def coefficients(self, f, y):
        return self.gradient(f, y)

    def hessian(self, f, y):
        return self._diagonal(y * compat.array_namespace(f).exp(f))

    def sample(self, f, *, num_samples, rng):
        if num_samples < 1:
            raise ValueError("num_samples must be positive")
        draws = np.random.default_rng(rng).standard_exponential((num_samples, *f.shape))
        host = draws * np.exp(-gr.to_numpy(f))
        xp = compat.array_namespace(f)
        return xp.asarray(host, dtype=f.dtype, device=compat.device(f))

    @staticmethod
    def _diagonal(entries):
        xp = compat.array_namespace(entries)
        eye = xp.eye(entries.shape[1], dtype=entries.dtype, device=compat.device(entries))
        return entries[:, :, None] * eye[None, :, :]


NEGATIVE, FRACTIONAL, TWO = (np.full((4, 3), value) for value in (-1.0, 0.5, 2.0))
LIKELIHOODS = {
    "gaussian": (gr.Gaussian(variance=0.3), ()),
    "categorical": (gr.Categorical(), ([0, 1, 2, 3], [0, 1, 2, -1])),
    "bernoulli": (gr.Bernoulli(), (NEGATIVE, FRACTIONAL, TWO)),
    "poisson": (gr.Poisson(), (NEGATIVE, FRACTIONAL)),
    "a user's": (Exponential(), (NEGATIVE,)),
}


def labels_of_an_output(name):
    """All labels of one output, or the nodes of a quadrature, with weights.

    The outputs are draws of a standard normal variable: rates from 0.05 to 20. The trapezoidal rule converges
    exponentially for what decays on both sides, as the exponential density does in t = log y. A step of 1/4
    is one that `arange` keeps exactly.
    """
    if name == "gaussian":
        return np.arange(-10.0, 10.0, 0.25), 0.25
    if name == "bernoulli":
        return np.arange(2.0), 1.0
    if name == "poisson":
        return np.arange(80.0), 1.0
    t = np.arange(-40.0, 8.0, 0.25)
    return np.exp(t), 0.25 * np.exp(t)


def all_labels(name, outputs):
    if name == "categorical":
        return {"labels": np.arange(outputs)}
    nodes, weights = labels_of_an_output(name)
    pairs = list(zip(nodes, np.broadcast_to(weights, nodes.shape), strict=True))
    table = np.array(list(itertools.product(pairs, repeat=outputs)))  # (labels, outputs, 2)
    return {"labels": table[:, :, 0], "label_weights": np.prod(table[:, :, 1], axis=1)}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_contract(name, place):
    likelihood, bad_targets = LIKELIHOODS[name]
    known = all_labels(name, 3) if name in ("categorical", "bernoulli") else {}
    check_likelihood(likelihood, bad_targets=bad_targets, **known, **place)


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_contract_of_few_outputs(name, outputs, dtype):
    known = all_labels(name, outputs)
    check_likelihood(LIKELIHOODS[name][0], outputs=outputs, dtype=dtype, rng=1, **known)
