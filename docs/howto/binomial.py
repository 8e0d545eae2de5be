"""A likelihood of a user: the page "How to add a likelihood" explains it."""

import math
from dataclasses import dataclass

import array_api_compat
import numpy as np

import grng_ref as gr
from grng_ref.arrays.linalg import identity
from grng_ref.arrays.special import log_factorial, sigmoid, softplus


@dataclass(frozen=True)
class Binomial:
    """Successes in ``trials`` trials an output; f is the logit, y (N, K) in f's dtype."""

    trials: int

    def check_targets(self, f, y):
        xp = array_api_compat.array_namespace(f)
        if not array_api_compat.is_array_api_obj(y) or y.dtype != f.dtype:
            raise TypeError(f"y must be an array of dtype {f.dtype}, got {getattr(y, 'dtype', type(y))}")
        if tuple(y.shape) != tuple(f.shape):
            raise ValueError(f"y must have the shape {tuple(f.shape)} of f, got {tuple(y.shape)}")
        if not bool(xp.all((y >= 0) & (y <= self.trials) & (xp.floor(y) == y))):
            raise ValueError(f"y must hold whole numbers from 0 to {self.trials}")

    def loss(self, f, y):
        xp = array_api_compat.array_namespace(f)
        return xp.sum((self.trials - y) * softplus(f) + y * softplus(-f), axis=1)

    def log_base(self, f, y):
        xp = array_api_compat.array_namespace(f)
        all_trials = log_factorial(xp.full_like(y, self.trials))
        return xp.sum(all_trials - log_factorial(y) - log_factorial(self.trials - y), axis=1)

    def mean(self, f):
        return self.trials * sigmoid(f)

    def gradient(self, f, y):
        return (self.trials - y) * sigmoid(f) - y * sigmoid(-f)

    def fisher(self, f):
        return self._diagonal(self.trials * sigmoid(f) * sigmoid(-f))

    def factor(self, f):
        xp = array_api_compat.array_namespace(f)
        half = xp.exp(-0.5 * xp.abs(f))
        return self._diagonal(math.sqrt(self.trials) * half / (1.0 + half * half))

    def coefficients(self, f, y):
        xp = array_api_compat.array_namespace(f)
        return ((self.trials - y) * xp.exp(0.5 * f) - y * xp.exp(-0.5 * f)) / math.sqrt(self.trials)

    def hessian(self, f, y):
        return self.fisher(f)

    def sample(self, f, *, num_samples, rng):
        xp = array_api_compat.array_namespace(f)
        chance = gr.to_numpy(sigmoid(f)).astype(np.float64)
        drawn = np.random.default_rng(rng).binomial(self.trials, chance, size=(num_samples, *chance.shape))
        return xp.asarray(drawn, dtype=f.dtype, device=array_api_compat.device(f))

    def _diagonal(self, entries):
        return entries[:, :, None] * identity(entries.shape[1], entries)
