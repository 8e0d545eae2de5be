"""Optimizers: one contract, pure updates, everything a step did in its info."""

from .adamw import AdamW, AdamWState, adamw
from .base import Optimizer, SolveInfo, StepInfo
from .compare import Comparison, compare
from .natural import NaturalGradient, NaturalState, kfac, ngd, reng, ring
from .options import CurvatureOptions, Regularization
from .rkalman import RKalman, RKalmanState, rkalman
from .sgd import SGD, SGDState, sgd
from .sophia import Sophia, SophiaState, sophia

__all__ = [
    "SGD",
    "AdamW",
    "AdamWState",
    "Comparison",
    "CurvatureOptions",
    "NaturalGradient",
    "NaturalState",
    "Optimizer",
    "RKalman",
    "RKalmanState",
    "Regularization",
    "SGDState",
    "SolveInfo",
    "Sophia",
    "SophiaState",
    "StepInfo",
    "adamw",
    "compare",
    "kfac",
    "ngd",
    "reng",
    "ring",
    "rkalman",
    "sgd",
    "sophia",
]
