"""Likelihoods in their natural parameter: loss, mean, output Fisher and its factor, sampling."""

from .base import ExponentialFamily, Likelihood
from .bernoulli import Bernoulli
from .categorical import Categorical
from .gaussian import Gaussian
from .poisson import Poisson

__all__ = ["Bernoulli", "Categorical", "ExponentialFamily", "Gaussian", "Likelihood", "Poisson"]
