"""The contract of a Gaussian belief over parameters, as the Kalman filter uses it, and its shared checks."""

from __future__ import annotations

import math
from typing import ClassVar, Protocol, runtime_checkable

from ..arrays import (
    Array,
    NumericalError,
    check_finite,
    check_real,
    check_shape,
    like,
    namespace,
)
from ..arrays.linalg import identity, quiet, transpose


@runtime_checkable
class Belief(Protocol):
    """The spread of a Gaussian N(mean, Y^{-1}) over P parameters; it knows no network and no mean.

    Immutable: `predict` and `update` return new beliefs.
    """

    explicit: ClassVar[bool]
    """Whether explicit regularization may observe all P entries of the gradient: P dense rows in `update`."""

    @property
    def size(self) -> int:
        """P."""
        ...

    def predict(
        self,
        *,
        transition: Array | None = None,
        offset: Array | None = None,
        noise: float | Array = 0.0,
        forgetting: float = 1.0,
    ) -> Belief:
        """The belief after ``theta <- A theta + b + w``: ``P <- A P A^T / forgetting + Q``, w ~ N(0, Q).

        Parameters
        ----------
        transition : array (P, P), optional
            A; the identity if None.
        offset : array (P,), optional
            b. It moves the mean and no spread, so a belief only checks it; `kalman_predict` moves the mean.
        noise : float or array (P, P)
            Q; a number q means q I.
        forgetting : float
            phi in (0, 1].

        Raises
        ------
        ValueError
            Also for a transition, or a noise matrix, that the belief's structure does not survive.
        """
        ...

    def update(
        self, rows: Array, gradient: Array, *, targets: Array | None = None, precision: float = 0.0
    ) -> tuple[Belief, Array]:
        """The posterior of a linear observation, and the step of its mean.

        ``Y <- Y + rows^T rows + precision I`` and ``step = -Y^{-1} gradient`` with the updated Y. A belief
        that projects says what its step and its projection are.

        Parameters
        ----------
        rows : array (m, P)
            Whitened observation rows. No row (m = 0): nothing but the precision is observed.
        gradient : array (P,)
            The negative log likelihood's gradient at the mean, summed over observations.
        targets : array (m,), optional
            t with ``gradient = -rows^T t``, where known: the step is then the least-squares solution.
        precision : float
            Precision of an observation of the mean itself, at the mean itself.
        """
        ...

    def observed_covariance(self, rows: Array) -> Array:
        """``rows P rows^T`` (m, m) for rows (m, P): the spread of what the rows observe.

        A belief may also have ``observed_root(rows)``, V with ``V^T V`` that matrix: the log marginal
        likelihood keeps its digits then at any prior-to-noise ratio.
        """
        ...

    def information(self) -> Array:
        """Y (P, P)."""
        ...

    def covariance(self) -> Array:
        """``Y^{-1}`` (P, P)."""
        ...


def check_forgetting(forgetting: float) -> float:
    """The forgetting factor phi, in (0, 1]."""
    phi = check_real("forgetting", forgetting, minimum=0.0, exclusive=True)
    if phi > 1.0:
        raise ValueError(f"forgetting must lie in (0, 1], got {phi}")
    return phi


def check_random_walk(
    kind: str,
    template: Array,
    *,
    transition: Array | None,
    offset: Array | None,
    noise: float | Array,
    forgetting: float,
) -> tuple[float, float]:
    """Variance q and factor phi of a random walk, the only motion that a structured belief survives."""
    if transition is not None:
        raise ValueError(f"transition must be None: a {kind} belief does not keep its structure under one")
    check_offset(offset, template)
    if hasattr(noise, "shape") and noise.shape != ():
        raise ValueError(f"noise must be a number q, for q I: a {kind} belief keeps no other, got an array")
    return check_real("noise", noise, minimum=0.0), check_forgetting(forgetting)


def check_offset(offset: Array | None, template: Array) -> None:
    """Raise unless the offset is None or a finite vector of one entry a parameter, of the belief's kind."""
    if offset is not None:
        namespace(belief=template, offset=offset)
        check_shape("offset", offset, (template.shape[0],), "one entry a parameter")
        check_finite(offset=offset)


def check_observation(
    template: Array, rows: Array, gradient: Array, targets: Array | None, precision: float
) -> float:
    """Check the arguments of an update of P = ``template.shape[0]`` parameters; returns the precision."""
    check_rows(template, rows)
    namespace(belief=template, gradient=gradient, targets=targets)
    check_shape("gradient", gradient, (template.shape[0],), "one entry a parameter")
    if targets is not None:
        check_shape("targets", targets, (rows.shape[0],), "one entry an observation")
    check_finite(gradient=gradient, targets=targets)
    return check_real("precision", precision, minimum=0.0)


def check_rows(template: Array, rows: Array) -> None:
    """Raise unless rows is finite (m, P) with P = ``template.shape[0]`` parameters; m may be 0."""
    namespace(belief=template, rows=rows)
    count = rows.shape[0] if rows.ndim == 2 else None
    check_shape("rows", rows, (count, template.shape[0]), "(observations, parameters)")
    check_finite(rows=rows)


def check_square(name: str, matrix: Array) -> None:
    """Raise unless the array is a square matrix."""
    namespace(**{name: matrix})
    check_shape(name, matrix, (None, *matrix.shape[:1]), "(parameters, parameters)")


def precision_rows(precision: float, template: Array) -> Array:
    """``sqrt(precision) I``: the rows of an observation of all P = ``template.shape[-1]`` parameters."""
    with quiet():  # one beyond the dtype is an overflow of the information, which the update finds
        return identity(template.shape[-1], template, math.sqrt(precision))


def with_precision(rows: Array, targets: Array | None, precision: float) -> tuple[Array, Array | None]:
    """The observation with that of the mean itself, at the mean itself, as P more rows."""
    if precision == 0.0:
        return rows, targets
    xp = namespace(rows=rows)
    if targets is not None:
        targets = xp.concat([targets, xp.zeros(rows.shape[1], **like(rows))])
    return xp.concat([rows, precision_rows(precision, rows)]), targets


def require_finite(name: str, array: Array) -> Array:
    """The array, or a NumericalError where it has an entry that is not finite."""
    xp = namespace(array=array)
    if not bool(xp.all(xp.isfinite(array))):
        raise NumericalError(
            f"the {name} overflowed: numbers are too large for the dtype, or a direction that no observation "
            "reaches was forgotten without bound"
        )
    return array


def square_of(root: Array) -> Array:
    """``V^T V``, finite."""
    with quiet():
        return require_finite("covariance", transpose(root) @ root)
