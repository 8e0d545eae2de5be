"""The categorical likelihood in its logits (softmax), accurate where it saturates.

Every probability is a quotient of exponentials relative to the largest logit, and ``1 - p_k`` is a *sum* of
the other probabilities, never a difference from one. The rounding error of ``f_k - max f``, which exp would
amplify, is known exactly and put back to first order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arrays import (
    Array,
    check_shape,
    device_of,
    from_host,
    host_generator,
    like,
    namespace,
    namespace_of_mixed,
    to_numpy,
)
from .base import ExponentialFamily, checked_draws, exp_or_inf


@dataclass(frozen=True)
class Categorical(ExponentialFamily):
    """One of K classes, in logits: ``l(f, y) = -log softmax(f)_y``.

    With ``p = softmax(f)``: mean p, gradient ``p - e_y``, ``Om = diag p - p p^T`` (singular: its null
    vector is the vector of ones), factor ``S = diag(sqrt p) - p sqrt(p)^T`` (its null vector is
    ``sqrt p``). Labels y are (N,) integers 0..K-1.

    Notes
    -----
    Componentwise relative accuracy of a few roundings: also of ``p_y - 1``, of a loss near zero, and down to
    log-probabilities of -700 (float64; -87 in float32). Below, numbers underflow gradually: p is zero beyond
    about exp(-745), in float32 exp(-103); sqrt(p), in the factor and the coefficients, reaches twice as far.
    Source: classical result.
    """

    def check_targets(self, f: Array, y: Array) -> None:
        """Raise unless y is an (N,) array of integers 0..K-1 in f's namespace and on its device.

        Raises
        ------
        TypeError
            Not an array, not an integer dtype, another namespace than f.
        ValueError
            Another length or device than f, a label outside 0..K-1.
        """
        xp = namespace_of_mixed(f=f, y=y)
        namespace(f=f)
        check_shape("f", f, (None, None), "(examples, classes)")
        if not xp.isdtype(y.dtype, "integral"):
            raise TypeError(f"y must have an integer dtype (class labels 0..{f.shape[1] - 1}), got {y.dtype}")
        check_shape("y", y, (f.shape[0],), "(examples,), one class label a row of f")
        smallest, largest = int(xp.min(y)), int(xp.max(y))
        if smallest < 0 or largest >= f.shape[1]:
            raise ValueError(
                f"y must hold class labels 0..{f.shape[1] - 1} for {f.shape[1]} outputs, "
                f"got labels from {smallest} to {largest}"
            )

    def loss(self, f: Array, y: Array) -> Array:
        """``(max f - f_y) + log(sum_k exp(f_k - max f))``: shape (N,)."""
        xp = namespace(f=f)
        soft, label = _softmax(f), _one_hot(y, f)
        zero = xp.zeros_like(f)
        shift, weight, others = (
            xp.sum(xp.where(label, part, zero), axis=1) for part in (soft.shift, soft.weights, soft.others)
        )
        # If y is the largest class, weight - 1 is zero and a small sum of the others keeps its digits;
        # if not, the loss is at least of order one wherever this argument of log1p cancels.
        return xp.log1p(others + (weight - 1.0)) - shift

    def log_base(self, f: Array, y: Array) -> Array:
        """Zero: the loss is all of ``-log p(y_n | f_n)``: shape (N,)."""
        return namespace(f=f).zeros((f.shape[0],), **like(f))

    def mean(self, f: Array) -> Array:
        """``p = softmax(f)``, the expectation of the one-hot label: shape (N, K)."""
        return _softmax(f).probabilities

    def gradient(self, f: Array, y: Array) -> Array:
        """``p - e_y``, its component y computed as ``-sum_{k != y} p_k``: shape (N, K)."""
        soft = _softmax(f)
        return namespace(f=f).where(_one_hot(y, f), -soft.complements, soft.probabilities)

    def fisher(self, f: Array) -> Array:
        """``diag p - p p^T``, its diagonal computed as ``p_k sum_{j != k} p_j``: shape (N, K, K)."""
        soft = _softmax(f)
        return _with_diagonal(-soft.probabilities, soft.probabilities, soft.probabilities * soft.complements)

    def factor(self, f: Array) -> Array:
        """``S = diag(sqrt p) - p sqrt(p)^T``, its diagonal ``sqrt(p_k) sum_{j != k} p_j``: (N, K, K)."""
        soft = _softmax(f)
        root = soft.roots
        return _with_diagonal(-soft.probabilities, root, root * soft.complements)

    def coefficients(self, f: Array, y: Array) -> Array:
        """The shortest ct with ``S ct = p - e_y``: shape (N, K).

        ``ct = sqrt(p) - e_y / sqrt(p_y)``: component y is ``-(sum_{k != y} p_k) / sqrt(p_y)``, the others
        ``sqrt(p_k)``; among the solutions ``-e_y / sqrt(p_y) + t sqrt(p)`` it is the one orthogonal to the
        null vector sqrt(p) of S. ``1 / sqrt(p_y)`` is an exponential, never a division by p. Component y is
        infinite where that overflows: p_y below about exp(-177) in float32, exp(-1419) in float64. The
        caller then takes a route that does not need the coefficients.
        """
        soft = _softmax(f)
        return namespace(f=f).where(_one_hot(y, f), -soft.complements * soft.reciprocal_roots, soft.roots)

    def sample(self, f: Array, *, num_samples: int, rng: int | np.random.Generator) -> Array:
        """Class labels drawn from softmax(f): integers of shape (num_samples, N), on f's device.

        The probabilities travel to the host, NumPy draws one uniform number a label there, the labels are
        found by inverting the distribution function, and come back. A class of probability zero is
        never drawn.

        Parameters
        ----------
        f : array (N, K)
        num_samples : int
            M >= 1.
        rng : int or numpy.random.Generator
            A seed, or a generator that is advanced.

        Raises
        ------
        TypeError, ValueError
            f is not a finite (N, K) array, ``num_samples`` < 1, or ``rng`` is something else.
        """
        shape = checked_draws(f, num_samples)[:2]
        cumulative = np.cumsum(to_numpy(self.mean(f)).astype(np.float64), axis=1)
        levels = host_generator(rng).random(shape) * cumulative[:, -1]  # the sum is one up to rounding
        labels = np.zeros(shape, dtype=np.int64)
        for k in range(cumulative.shape[1] - 1):  # a loop over classes: (M, N, K) booleans could be large
            labels += levels >= cumulative[:, k]
        return from_host(labels, f, dtype=_classes(f).dtype)


class _Softmax(NamedTuple):
    """The softmax of each row, in the parts that no formula needs to subtract from one another."""

    shift: Array  # (N, K): f - max f, rounded
    error: Array  # (N, K): what that rounding left out, f - max f = shift + error
    weights: Array  # (N, K): exp(f - max f)
    others: Array  # (N, K): the sum of the other weights of the row
    total: Array  # (N, 1): the sum of the weights of the row

    @property
    def probabilities(self) -> Array:
        return self.weights / self.total

    @property
    def complements(self) -> Array:
        """1 - p."""
        return self.others / self.total

    @property
    def roots(self) -> Array:
        """sqrt(p), also where p underflows."""
        xp = namespace(shift=self.shift)
        return xp.exp(0.5 * self.shift) * (1.0 + 0.5 * self.error) / xp.sqrt(self.total)

    @property
    def reciprocal_roots(self) -> Array:
        """1 / sqrt(p); infinite where that overflows."""
        xp = namespace(shift=self.shift)
        return exp_or_inf(-0.5 * self.shift) * (1.0 - 0.5 * self.error) * xp.sqrt(self.total)


def _softmax(f: Array) -> _Softmax:
    xp = namespace(f=f)
    zero = xp.zeros_like(f)
    shift, error = _exact_difference(f, xp.max(f, axis=1, keepdims=True))
    weights = xp.exp(shift) * (1.0 + error)
    top = _one_hot(xp.argmax(f, axis=1), f)
    rest = xp.sum(xp.where(top, zero, weights), axis=1, keepdims=True)
    total = 1.0 + rest
    # total - weight keeps its digits except for the top class: there the difference is at least total / 2
    others = xp.where(top, rest, total - weights)
    return _Softmax(shift, error, weights, others, total)


def _exact_difference(a: Array, b: Array) -> tuple[Array, Array]:
    """``a - b`` rounded and its rounding error, which sum to a - b exactly (Knuth's TwoSum)."""
    xp = namespace(a=a)
    difference = a - b
    virtual = difference - a
    error = (a - (difference - virtual)) - (b + virtual)
    return difference, xp.where(xp.isfinite(error), error, xp.zeros_like(error))  # a - b may overflow


def _with_diagonal(left: Array, right: Array, diagonal: Array) -> Array:
    """``left right^T`` of each row (N, K, K), with the given diagonals (N, K)."""
    xp = namespace(left=left)
    classes = _classes(left)
    on_diagonal = (classes[:, None] == classes[None, :])[None, :, :]
    return xp.where(on_diagonal, diagonal[:, :, None], left[:, :, None] * right[:, None, :])


def _one_hot(labels: Array, f: Array) -> Array:
    """(N, K) booleans, True at each row's label."""
    classes = _classes(f)
    return namespace(f=f).astype(labels, classes.dtype)[:, None] == classes[None, :]


def _classes(f: Array) -> Array:
    """0..K-1 in the backend's default integer dtype."""
    return namespace(f=f).arange(f.shape[1], device=device_of(f))
