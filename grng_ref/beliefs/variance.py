"""The variance of a Gaussian likelihood, estimated from the errors of the filter's predictions."""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Array, NumericalError, check_finite, check_shape, namespace
from ..arrays.linalg import diagonal, quiet
from .base import check_forgetting


class VarianceEstimate(NamedTuple):
    """Exponential averages over batches, bias-corrected: the weights of the batches add up to one."""

    weight: float  #: ``1 + phi + phi^2 + ...``, one term a batch
    squares: float  #: average of ``e^2``
    spread: float  #: average of ``(H P H^T)_kk``

    @property
    def variance(self) -> float:
        """``s2 = E[e^2] - E[H P H^T]``; a NumericalError where that is not positive."""
        difference = self.squares - self.spread
        if difference > 0.0:
            return difference
        raise NumericalError(
            "the variance must be positive, got E[e^2] - E[H P H^T] = "
            f"{self.squares:.6g} - {self.spread:.6g}: too few batches, or a belief that is too uncertain"
        )


def update_variance(
    estimate: VarianceEstimate | None,
    innovations: Array,
    covariance: Array,
    *,
    forgetting: float = 1.0,
) -> VarianceEstimate:
    """Average the errors of one more batch of predictions: ``s2 = E[e^2] - E[H P H^T]``.

    An error ``e = y - f(x)`` at the predicted mean is the label's noise and the error of the parameters:
    ``E[e^2] = s2 + H P H^T`` with the Jacobian H of f and the predicted covariance P. The two averages are
    kept apart; `VarianceEstimate.variance` is their difference.

    Parameters
    ----------
    estimate : VarianceEstimate or None
        Of the batches before; None for the first one.
    innovations : array (N, K)
        e, *before* the filter has seen these labels.
    covariance : array (N, K, K)
        ``H P H^T`` of every example, likewise: the ``covariance`` of ``opt.predict(theta, state, x)``, where
        the filter neither forgets nor adds process noise; else ``belief.observed_covariance(H)`` of the
        predicted belief. Only the diagonals are read.
    forgetting : float
        phi in (0, 1]: what the batches before count for, beside this one. 1: the mean of all of them.

    Returns
    -------
    VarianceEstimate
        Averages over batches, outputs and the examples of a batch; a batch counts once, whatever its size.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.
    NumericalError
        An average overflowed.

    Notes
    -----
    Unbiased where P is the true covariance of the parameters: on linear-Gaussian models, filtered with the
    true variance. With another one P is wrong, and so is the estimate; it may be put back into the
    likelihood, batch by batch. Source: classical (covariance matching; Mehra 1972; Myers and Tapley 1976).
    """
    xp = namespace(innovations=innovations, covariance=covariance)
    check_shape("innovations", innovations, (None, None), "(examples, outputs)")
    count, outputs = innovations.shape
    check_shape("covariance", covariance, (count, outputs, outputs), "(examples, outputs, outputs)")
    check_finite(innovations=innovations, covariance=covariance)
    if estimate is not None and not isinstance(estimate, VarianceEstimate):
        raise TypeError(f"estimate must be a VarianceEstimate or None, got {type(estimate).__name__}")
    phi = check_forgetting(forgetting)
    before = estimate or VarianceEstimate(0.0, 0.0, 0.0)
    weight = phi * before.weight + 1.0
    with quiet():
        squares = float(xp.mean(innovations * innovations))
        spread = float(xp.mean(diagonal(covariance)))
    if not squares + spread < float("inf"):
        raise NumericalError(f"the averages overflowed, got E[e^2] = {squares} and E[H P H^T] = {spread}")
    return VarianceEstimate(
        weight,
        before.squares + (squares - before.squares) / weight,
        before.spread + (spread - before.spread) / weight,
    )
