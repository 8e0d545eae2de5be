"""The contract of a Gaussian belief over parameters, as the Kalman filter uses it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ..arrays import Array


@runtime_checkable
class Belief(Protocol):
    """The spread of a Gaussian N(mean, Y^{-1}) over P parameters; it knows no network and no mean.

    Immutable: `predict` and `update` return new beliefs.
    """

    @property
    def size(self) -> int:
        """P."""
        ...

    def predict(self, *, noise: float = 0.0, forgetting: float = 1.0) -> Belief:
        """The belief after ``P <- P / forgetting + noise I``."""
        ...

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[Belief, Array]:
        """The posterior of a linear observation, and the step of its mean.

        ``Y <- Y + rows^T rows + precision I`` and ``step = -Y^{-1} gradient`` with the updated Y.

        Parameters
        ----------
        rows : array (m, P)
            Whitened observation rows.
        gradient : array (P,)
            The negative log likelihood's gradient at the mean, summed over observations.
        targets : array (m,), optional
            t with ``gradient = -rows^T t``, where known: the step is then the least-squares solution.
        precision : float
            Precision of an observation of the mean itself, at the mean itself.
        """
        ...

    def information(self) -> Array:
        """Y (P, P)."""
        ...

    def covariance(self) -> Array:
        """``Y^{-1}`` (P, P)."""
        ...
