"""Gaussian beliefs of the Kalman filter: arrays only, no network."""

from .base import Belief
from .block_diagonal import BlockDiagonalBelief
from .diagonal import DiagonalBelief
from .full import FullBelief
from .low_rank import LowRankBelief
from .priors import FORMS, block_diagonal_belief, diagonal_belief, full_belief, low_rank_belief
from .update import (
    REGULARIZATIONS,
    KalmanInfo,
    KalmanResult,
    Observation,
    kalman_predict,
    kalman_update,
    log_evidence,
    observation,
)
from .variance import VarianceEstimate, update_variance

__all__ = [
    "FORMS",
    "REGULARIZATIONS",
    "Belief",
    "BlockDiagonalBelief",
    "DiagonalBelief",
    "FullBelief",
    "KalmanInfo",
    "KalmanResult",
    "LowRankBelief",
    "Observation",
    "VarianceEstimate",
    "block_diagonal_belief",
    "diagonal_belief",
    "full_belief",
    "kalman_predict",
    "kalman_update",
    "log_evidence",
    "low_rank_belief",
    "observation",
    "update_variance",
]
