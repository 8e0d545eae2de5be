"""Likelihoods of the network outputs, which are their natural parameters, with derivatives and draws."""

from .base import ExponentialFamily, Likelihood
from .bernoulli import Bernoulli
from .categorical import Categorical
from .gaussian import Gaussian
from .poisson import Poisson

__all__ = ["Bernoulli", "Categorical", "ExponentialFamily", "Gaussian", "Likelihood", "Poisson"]
