"""Gaussian beliefs of the Kalman filter: arrays only, no network."""

from .base import Belief
from .full import FullBelief, full_belief
from .update import KalmanInfo, KalmanResult, kalman_update

__all__ = ["Belief", "FullBelief", "KalmanInfo", "KalmanResult", "full_belief", "kalman_update"]
