"""What a likelihood offers, and what the four of this room share.

Everywhere f (N, K) is the *natural parameter* that a model puts out, y the labels, ``l_n`` the loss of
example n (minus its log likelihood without the terms that do not depend on f), ``Om_n`` the output Fisher
(K, K) and ``S_n`` a factor of it (K, K'). Nothing here is averaged or summed over the N examples.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

import numpy as np

from ..arrays import Array, check_finite, check_integer, check_shape, like, namespace


@runtime_checkable
class Likelihood(Protocol):
    """A likelihood p(y | f) of the outputs f (N, K): arrays in, arrays of the same kind out.

    Every method works on one row of f and y at a time (stacked), and moves no data; `sample` alone goes
    through the host. A likelihood that is not an exponential family in f may have a `hessian` other than
    its `fisher`, and an indefinite one.
    """

    def check_targets(self, f: Array, y: Array) -> None:
        """Raise a TypeError or ValueError that names ``y`` unless y holds labels for the outputs f."""
        ...

    def loss(self, f: Array, y: Array) -> Array:
        """l(f_n, y_n), without the terms that do not depend on f: shape (N,)."""
        ...

    def log_base(self, f: Array, y: Array) -> Array:
        """The terms that the loss leaves out, ``log p(y_n | f_n) + l_n``, the same for all f: shape (N,)."""
        ...

    def mean(self, f: Array) -> Array:
        """E[T(y) | f] of the sufficient statistic T(y): shape (N, K)."""
        ...

    def gradient(self, f: Array, y: Array) -> Array:
        """The gradient ``d l_n / d f_n``: shape (N, K)."""
        ...

    def fisher(self, f: Array) -> Array:
        """The output Fisher ``Om_n = E_y[grad l grad l^T]``: shape (N, K, K)."""
        ...

    def factor(self, f: Array) -> Array:
        """S_n with ``S_n S_n^T = Om_n``: shape (N, K, K')."""
        ...

    def coefficients(self, f: Array, y: Array) -> Array:
        """ct_n with ``S_n ct_n = d l_n / d f_n``: shape (N, K')."""
        ...

    def hessian(self, f: Array, y: Array) -> Array:
        """The Hessian ``d^2 l_n / d f_n^2``: shape (N, K, K)."""
        ...

    def sample(self, f: Array, *, num_samples: int, rng: int | np.random.Generator) -> Array:
        """Labels drawn from p(y | f), with a leading axis of length ``num_samples``."""
        ...


class ExponentialFamily(ABC):
    """Shared part of the likelihoods with ``l(f, y) = A(f) - <T(y), f>``, f the natural parameter.

    Since y enters the loss linearly in f, the output Hessian does not depend on y and is the output
    Fisher, ``d^2 A / d f^2`` (a classical result): the Fisher is the generalized Gauss-Newton matrix.
    """

    @abstractmethod
    def fisher(self, f: Array) -> Array:
        """The output Fisher, (N, K, K)."""

    def hessian(self, f: Array, y: Array) -> Array:
        """``d^2 l_n / d f_n^2 = Om_n``, whatever y: shape (N, K, K)."""
        return self.fisher(f)


# --- shared by the files of this room ----------------------------------------------------------------------


def check_real_targets(f: Array, y: Array) -> None:
    """Raise unless f is (N, K) and y is a finite array of the same shape, dtype, namespace and device."""
    namespace(f=f, y=y)
    check_shape("f", f, (None, None), "(examples, outputs)")
    check_shape("y", y, tuple(f.shape), "(examples, outputs), the shape of the outputs f")
    check_finite(y=y)


def check_values(y: Array, allowed: Array, needed: str) -> None:
    """Raise a ValueError that shows one entry of y where ``allowed`` (boolean, y's shape) is False."""
    if not bool(namespace(y=y).all(allowed)):
        raise ValueError(f"y must hold {needed}, got an entry {float(y[~allowed][0]):g}")


def checked_draws(f: Array, num_samples: int) -> tuple[int, int, int]:
    """The shape (M, N, K) of real-valued draws, after a check of f and ``num_samples``."""
    check_shape("f", f, (None, None), "(examples, outputs)")
    check_finite(f=f)
    return check_integer("num_samples", num_samples, minimum=1), *f.shape


def diagonal_matrices(entries: Array) -> Array:
    """(N, K) -> (N, K, K) with the entries on the diagonals."""
    xp = namespace(entries=entries)
    return entries[:, :, None] * xp.eye(entries.shape[1], **like(entries))[None, :, :]


def largest_exponent(f: Array) -> float:
    """A bound below which exp does not overflow in f's dtype: about 709.78 (float64), 88.72 (float32)."""
    info = namespace(f=f).finfo(f.dtype)
    # log(max), less what rounding it to the dtype can add: exp of the result must stay finite
    return math.log(float(info.max)) * (1.0 - 4.0 * float(info.eps))


def exp_or_inf(x: Array) -> Array:
    """exp(x); infinite, and without a floating-point warning, where that overflows."""
    xp = namespace(x=x)
    return xp.exp(xp.where(x > largest_exponent(x), xp.full_like(x, math.inf), x))
