"""A checked linear motion ``theta <- A theta + b + w`` of the parameters, w ~ N(0, Q)."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import Array, check_finite, check_real, check_shape, epsilon, namespace
from ..arrays.linalg import eigh, identity, norm, transpose
from .base import check_forgetting, check_offset


@dataclass(frozen=True, eq=False)
class Motion:
    """``P <- A P A^T / forgetting + Q``, as a full belief uses it.

    ``Q = variance I`` where `deviation` is None, else ``deviation deviation^T``.
    """

    transition: Array | None
    variance: float
    deviation: Array | None
    forgetting: float

    @classmethod
    def checked(
        cls,
        template: Array,
        transition: Array | None,
        offset: Array | None,
        noise: float | Array,
        forgetting: float,
    ) -> Motion:
        """The motion of a belief with matrices like the template (P, P), its arguments checked."""
        size = template.shape[0]
        phi = check_forgetting(forgetting)
        check_offset(offset, template[0, :])
        if transition is not None:
            namespace(belief=template, transition=transition)
            check_shape("transition", transition, (size, size), "(parameters, parameters)")
            check_finite(transition=transition)
        if not hasattr(noise, "shape") or tuple(noise.shape) == ():
            return cls(transition, check_real("noise", noise, minimum=0.0), None, phi)
        namespace(belief=template, noise=noise)
        check_shape("noise", noise, (size, size), "(parameters, parameters), or a number")
        check_finite(noise=noise)
        return cls(transition, 0.0, _root_of_covariance(noise), phi)

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves; b aside, which moves no spread."""
        return self.is_still and self.transition is None and self.forgetting == 1.0

    @property
    def is_still(self) -> bool:
        """Whether there is no noise."""
        return self.variance == 0.0 and self.deviation is None

    def moved(self, covariance: Array) -> Array:
        """``A P A^T / forgetting + Q``."""
        if self.transition is not None:
            covariance = self.transition @ covariance @ transpose(self.transition)
        if self.forgetting < 1.0:
            covariance = covariance / self.forgetting
        noise = self.noise(covariance)
        return covariance if noise is None else covariance + noise

    def noise(self, template: Array) -> Array | None:
        """Q (P, P); None where it is zero."""
        if self.is_still:
            return None
        if self.deviation is None:
            return identity(template.shape[0], template, self.variance)
        return self.deviation @ transpose(self.deviation)

    def noise_root(self, template: Array) -> Array | None:
        """C with ``C C^T = Q``; None where it is zero."""
        if self.deviation is None and not self.is_still:
            return identity(template.shape[0], template, self.variance**0.5)
        return self.deviation


def _root_of_covariance(noise: Array) -> Array:
    """C with ``C C^T = Q`` for a symmetric positive semidefinite Q, which may be singular."""
    xp = namespace(noise=noise)
    roundoff = noise.shape[0] * epsilon(noise) * norm(noise)
    if norm(noise - transpose(noise)) > roundoff:
        raise ValueError("noise must be symmetric, got a matrix that is not")
    values, vectors = eigh(noise)
    if float(xp.min(values)) < -roundoff:
        raise ValueError(
            f"noise must be positive semidefinite, got the eigenvalue {float(xp.min(values)):.3g}"
        )
    return vectors * xp.sqrt(xp.where(values > 0.0, values, 0.0 * values))[None, :]
