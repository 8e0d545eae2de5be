"""Solvers for ``(C + a I) x = v`` without an explicit inverse; every result carries its residual."""

from .cholesky import solve_cholesky
from .conjugate_gradient import solve_conjugate_gradient
from .eigenbasis import logdet_of_spectrum, solve_eigenbasis, spectral_inverse, truncated_inverse
from .gram import RowFactor, solve_gram
from .inverse_root import inverse_root
from .newton_schulz import InverseResult, newton_schulz_inverse, solve_newton_schulz
from .result import (
    ACCEPTED_RESIDUAL,
    SolveResult,
    check_row_coefficients,
    failure,
    refine,
    scaled_residual,
)

__all__ = [
    "ACCEPTED_RESIDUAL",
    "InverseResult",
    "RowFactor",
    "SolveResult",
    "check_row_coefficients",
    "failure",
    "inverse_root",
    "logdet_of_spectrum",
    "newton_schulz_inverse",
    "refine",
    "scaled_residual",
    "solve_cholesky",
    "solve_conjugate_gradient",
    "solve_eigenbasis",
    "solve_gram",
    "solve_newton_schulz",
    "spectral_inverse",
    "truncated_inverse",
]
