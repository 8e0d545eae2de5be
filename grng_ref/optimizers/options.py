"""The options of the natural-gradient optimizers, in groups: the curvature, and the regularization."""

from __future__ import annotations

from dataclasses import dataclass

from ..arrays import check_choice, check_integer, check_real
from ..curvature import Curvature, Structure, find_structure
from ..problem import KINDS
from .base import Schedule, check_schedule

REGULARIZATIONS = ("none", "implicit", "explicit")
HESSIAN_PRODUCTS = ("exact", "finite_difference")


@dataclass(frozen=True, eq=False)
class Regularization:
    """Where the gradient's norm enters.

    ``kind``: ``"none"`` (NGD), ``"implicit"`` (RING: into the damping), ``"explicit"`` (RENG: into the
    gradient, with ``H g`` by double backprop or, for ``hvp="finite_difference"``, a difference of gradients).
    """

    kind: str = "none"
    rho: Schedule = 0.0
    hvp: str = "exact"

    def __post_init__(self) -> None:
        check_choice("regularization", self.kind, REGULARIZATIONS)
        check_schedule("rho", self.rho, minimum=0.0)
        check_choice("hvp", self.hvp, HESSIAN_PRODUCTS)


@dataclass(frozen=True, eq=False)
class CurvatureOptions:
    """Which curvature, how long it is kept, how it is averaged over steps, and how it is solved with."""

    structure: str | Structure = "full"
    kind: str = "expected"
    num_samples: int = 1
    damping_kind: str | None = None
    method: str = "auto"
    ema: float | None = None
    refresh: int = 1

    def __post_init__(self) -> None:
        structure = find_structure(self.structure)
        check_choice("kind", self.kind, KINDS)
        check_integer("num_samples", self.num_samples, minimum=1)
        self._check_solver(getattr(structure, "solvers", None))
        check_integer("refresh", self.refresh, minimum=1)
        if self.ema is None:
            return
        if check_real("ema", self.ema, minimum=0.0, exclusive=True) >= 1.0:
            raise ValueError(f"ema must be None or lie in (0, 1), got {self.ema}")
        if not callable(getattr(structure, "average", None)):
            raise TypeError(
                "structure must have a method average(old, new, weight) to be used with ema, which "
                f"{type(structure).__name__} has not; give it one, or use ema=None"
            )
        if self.method == "gram":
            raise ValueError(
                "method must not be 'gram' with ema: an average of Fisher matrices has no score rows; got "
                f"ema={self.ema}. Use method='auto'"
            )

    def _check_solver(self, solvers: dict[str, tuple[str, ...]] | None) -> None:
        """Refuse now what every solve would refuse; a structure of the user's may not say what it has."""
        if solvers is None:
            return
        kind = next(iter(solvers)) if self.damping_kind is None else self.damping_kind
        check_choice("damping_kind", kind, solvers)
        check_choice("method", self.method, ("auto", *solvers[kind]))

    @property
    def keeps_curvature(self) -> bool:
        """Whether a later step needs the curvature of this one."""
        return self.ema is not None or self.refresh > 1

    def average(self, old: Curvature, new: Curvature, count: int) -> Curvature:
        """The bias-corrected moving average after ``count`` refreshes, from the one before and the newest.

        One step of the recursion ``structure.average(old, new, (1 - beta) / (1 - beta^count))``: of what is
        averaged linearly the closed form of `average_weight`, of EKFAC's moments not.
        ``ema`` must be given.
        """
        weight = average_weight(self.ema, count) if self.ema is not None else 1.0
        return find_structure(self.structure).average(old, new, weight)


def average_weight(beta: float, count: int) -> float:
    """``(1 - beta) / (1 - beta^t)``: the weight of the newest of t values in a bias-corrected average.

    The corrected average ``(1 - beta) sum_s beta^(t-s) C_s / (1 - beta^t)`` is ``(1 - w) average + w C_t``
    with this w, which is 1 at t = 1: nothing of a start is in it.
    """
    return (1.0 - beta) / (1.0 - beta**count)
