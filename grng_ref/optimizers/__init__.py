"""Optimizers: one contract, pure updates, everything a step did in its info."""

from .base import Optimizer, SolveInfo, StepInfo
from .compare import Comparison, compare
from .natural import NaturalGradient, NaturalState, ngd, reng, ring
from .rkalman import RKalman, RKalmanState, rkalman

__all__ = [
    "Comparison",
    "NaturalGradient",
    "NaturalState",
    "Optimizer",
    "RKalman",
    "RKalmanState",
    "SolveInfo",
    "StepInfo",
    "compare",
    "ngd",
    "reng",
    "ring",
    "rkalman",
]
