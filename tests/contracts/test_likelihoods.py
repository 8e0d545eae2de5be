"""Every likelihood of the package, and one of a user, through the public battery."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_contract(name, place):
    likelihood, bad_targets = LIKELIHOODS[name]
    check_likelihood(likelihood, bad_targets=bad_targets, **place)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_contract_of_a_single_output(name, dtype):
    check_likelihood(LIKELIHOODS[name][0], outputs=1, dtype=dtype, rng=1)
