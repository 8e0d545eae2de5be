"""Bayes' rule for linear-Gaussian models in exact rational arithmetic: no rounding, whatever the scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, check_choice
from .enclosure import Enclosure, enclose
from .library import check_precision, exact_number, on_host, working_precision
from .linear import rational, rational_matrix
from .prior import read_prior
from .rounding import fractions, nearest, root_upward, sum_of_squares

PARTS = ("mean", "information", "covariance")


@dataclass(frozen=True, eq=False)
class ExactGaussian:
    """A Gaussian over P parameters with rational mean and covariance.

    Attributes
    ----------
    mean : flint.fmpq_mat (P, 1)
    information : flint.fmpq_mat (P, P)
        Y, the inverse of the covariance.
    covariance : flint.fmpq_mat (P, P)
        ``Y^{-1}``.
    """

    mean: Any
    information: Any
    covariance: Any

    def rounded(self, which: str) -> np.ndarray:
        """The mean (P,), the information (P, P) or the covariance (P, P), each entry correctly rounded.

        Parameters
        ----------
        which : {"mean", "information", "covariance"}

        Returns
        -------
        numpy.ndarray, float64

        Raises
        ------
        ValueError
            Another name.
        NumericalError
            An entry is beyond the largest float64.
        """
        entries = [nearest(value) for value in self._entries(which)]
        return np.array(entries, dtype=np.float64).reshape(self._shape(which))

    def relative_error(self, computed: Array, which: str) -> float:
        """``|computed - t| / |t|`` with t the exact mean, information or covariance.

        2-norm over all entries (Frobenius for matrices). The ratio of squares is exact, and its root
        rounded upwards, so the result is an upper bound within two units in its last place. Infinite where
        t is zero and ``computed`` is not.

        Parameters
        ----------
        computed : float32 or float64 array (P,) or (P, P), of any backend
            Its entries are taken as the exact numbers that they store.
        which : {"mean", "information", "covariance"}

        Raises
        ------
        TypeError, ValueError
            Another name, or not a finite array of that shape.
        """
        truth = self._entries(which)
        values = fractions(on_host("computed", computed, self._shape(which), f"the shape of the {which}"))
        error = sum_of_squares(value - true for value, true in zip(values, truth, strict=True))
        size = sum_of_squares(truth)
        if error == 0:
            return 0.0
        return root_upward(error / size) if size else math.inf

    def _entries(self, which: str) -> list[Fraction]:
        matrix = getattr(self, check_choice("which", which, PARTS))
        return [Fraction(int(entry.p), int(entry.q)) for entry in matrix.entries()]

    def _shape(self, which: str) -> tuple[int, ...]:
        size = int(self.mean.nrows())
        return (size,) if which == "mean" else (size, size)


def exact_posterior(
    mean: Array,
    rows: Array,
    targets: Array,
    *,
    noise_variance: Any,
    prior_variance: Any = None,
    prior_information: Array | None = None,
    prior_covariance: Array | None = None,
) -> ExactGaussian:
    """The posterior of ``theta ~ N(m, Y0^{-1})`` after ``targets = rows theta + noise``, exactly.

    ``Y = Y0 + X^T X / R``, covariance ``Y^{-1}``, mean ``m + Y^{-1} X^T (y - X m) / R``; X the M rows,
    y the targets, R the variance of each target. Sums over the M observations, no mean.

    Parameters
    ----------
    mean : array (P,)
        m.
    rows : array (M, P)
        X.
    targets : array (M,)
        y.
    noise_variance : float, int or fractions.Fraction
        R > 0, taken exactly.
    prior_variance : float, int or fractions.Fraction, optional
        p0 > 0: ``Y0 = I / p0``. One of the three priors must be given.
    prior_information : array (P, P), optional
        Y0, symmetric in every bit and positive definite.
    prior_covariance : array (P, P), optional
        ``Y0^{-1}``, likewise.

    Returns
    -------
    ExactGaussian

    Raises
    ------
    TypeError, ValueError
        Bad arguments; a prior that is not positive definite.
    BackendError
        python-flint is not installed.

    Notes
    -----
    Arrays are float32 or float64, of any backend and also mixed: they are copied to the host and every
    entry is the rational that it stores. The covariance has entries of about 120 P bits, so the cost grows
    fast: milliseconds at P = 20, seconds at P = 80. Source: classical (Bayes' rule).
    """
    data = _read(mean, rows, targets, noise_variance)
    prior = read_prior(
        data.size, variance=prior_variance, information=prior_information, covariance=prior_covariance
    )
    return _condition(prior.exact_information(), data)


def exact_log_marginal_likelihood(
    mean: Array,
    rows: Array,
    targets: Array,
    *,
    noise_variance: Any,
    prior_variance: Any = None,
    prior_information: Array | None = None,
    prior_covariance: Array | None = None,
    precision: int = 256,
) -> Enclosure:
    """``log N(y; X m, X Y0^{-1} X^T + R I)`` of the targets of `exact_posterior`, as an enclosure.

    ``-(M log(2 pi R) + log(det Y / det Y0) + |r|^2 / R - b^T Y^{-1} b) / 2`` with the residual
    ``r = y - X m`` and ``b = X^T r / R``. Determinants and quadratic forms are exact rationals; only the
    logarithms are balls.

    Parameters
    ----------
    mean, rows, targets, noise_variance, prior_variance, prior_information, prior_covariance
        As for `exact_posterior`.
    precision : int
        Bits of the logarithms, at least 53.

    Returns
    -------
    Enclosure
        Of one number, shape ().

    Raises
    ------
    TypeError, ValueError, BackendError
        As `exact_posterior`.

    Notes
    -----
    Source: classical (marginal likelihood of the linear-Gaussian model; determinants by Sylvester).
    """
    bits = check_precision(precision)
    data = _read(mean, rows, targets, noise_variance)
    prior = read_prior(
        data.size, variance=prior_variance, information=prior_information, covariance=prior_covariance
    )
    before = prior.exact_information()
    posterior = _condition(before, data)
    residual = data.targets - data.rows * data.mean
    pull = data.rows.transpose() * residual * data.precision
    explained = pull.transpose() * posterior.covariance * pull
    square = (residual.transpose() * residual)[0, 0] * data.precision - explained[0, 0]
    ratio = posterior.information.det() / before.det()
    with working_precision(bits) as flint:
        noise = (2 * flint.arb.pi() / flint.arb(data.precision)).log()
        total = data.rows.nrows() * noise + flint.arb(ratio).log() + flint.arb(square)
        return enclose("the log marginal likelihood", -total / 2, ())


class _Data(NamedTuple):
    """The exact numbers of one linear observation."""

    mean: Any  # fmpq_mat (P, 1)
    rows: Any  # fmpq_mat (M, P)
    targets: Any  # fmpq_mat (M, 1)
    precision: Any  # fmpq, 1 / R

    @property
    def size(self) -> int:
        return int(self.mean.nrows())


def _read(mean: Array, rows: Array, targets: Array, noise_variance: Any) -> _Data:
    m = on_host("mean", mean, (None,), "one entry a parameter")
    x = on_host("rows", rows, (None, len(m)), "(observations, parameters)")
    y = on_host("targets", targets, (len(x),), "one entry an observation")
    precision = rational(1 / exact_number("noise_variance", noise_variance))
    return _Data(rational_matrix(m), rational_matrix(x), rational_matrix(y), precision)


def _condition(information: Any, data: _Data) -> ExactGaussian:
    transposed = data.rows.transpose()
    posterior = information + transposed * data.rows * data.precision
    covariance = posterior.inv()
    residual = data.targets - data.rows * data.mean
    mean = data.mean + covariance * (transposed * residual) * data.precision
    return ExactGaussian(mean, posterior, covariance)
