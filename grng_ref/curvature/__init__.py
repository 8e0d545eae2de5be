"""Curvature: Fisher matrices in several structures, from arrays of any architecture."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array, NumericalError, check_choice, check_finite, namespace
from ..arrays.linalg import quiet
from .base import Curvature, Structure, raise_on_failure, solve
from .block_diagonal import BlockDiagonalFisher, BlockDiagonalStructure
from .diagonal import DiagonalFisher, DiagonalStructure
from .ekfac import EKFAC, EKFACStructure
from .full import FullFisher, FullStructure
from .kfac import KFACStructure, KroneckerFactored, kfac_factors, kronecker_solve
from .kronecker_optimal import OptimalKroneckerStructure
from .score import DenseRows, LayerRows
from .tridiagonal import TridiagonalKFAC, TridiagonalKFACStructure
from .unitwise import UnitwiseStructure

STRUCTURES: dict[str, Structure] = {
    "full": FullStructure(),
    "block_diagonal": BlockDiagonalStructure(),
    "kfac": KFACStructure(),
    "ekfac": EKFACStructure(),
    "tridiagonal_kfac": TridiagonalKFACStructure(),
    "kronecker_optimal": OptimalKroneckerStructure(),
    "unitwise": UnitwiseStructure(),
    "diagonal": DiagonalStructure(),
}

__all__ = [
    "STRUCTURES",
    "BlockDiagonalFisher",
    "BlockDiagonalStructure",
    "Curvature",
    "DenseRows",
    "DiagonalFisher",
    "DiagonalStructure",
    "EKFAC",
    "EKFACStructure",
    "FullFisher",
    "FullStructure",
    "KFACStructure",
    "KroneckerFactored",
    "LayerRows",
    "OptimalKroneckerStructure",
    "Structure",
    "TridiagonalKFAC",
    "TridiagonalKFACStructure",
    "UnitwiseStructure",
    "build_curvature",
    "curvature",
    "find_structure",
    "fisher",
    "kfac_factors",
    "kronecker_solve",
    "raise_on_failure",
    "solve",
]


def find_structure(structure: str | Structure) -> Structure:
    """The named structure, or the object itself if it has the protocol's ``build``."""
    if hasattr(structure, "build") and not isinstance(structure, str | type):
        return structure
    return STRUCTURES[check_choice("structure", structure, STRUCTURES)]


def curvature(
    activations: tuple[Array, ...],
    score_signals: tuple[Array, ...],
    *,
    structure: str | Structure = "full",
) -> Curvature:
    """A curvature from the layer factors of any architecture.

    Parameters
    ----------
    activations : tuple of arrays (N, d_in[+1])
        One entry a layer: its inputs abar.
    score_signals : tuple of arrays (N, K', d_out)
        One entry a layer. The score row of example n and column k has the block
        ``D_nk (x) abar_n / sqrt(N)``, and ``F = B^T B``.
    structure : str or Structure
        A name in `STRUCTURES` (full, block_diagonal, unitwise, diagonal, kfac, ekfac,
        kronecker_optimal, tridiagonal_kfac), or
        an object with the protocol's ``build``.

    Raises
    ------
    TypeError, ValueError
        Not tuples of arrays of one library, dtype and device; shapes that do not fit; unknown structure.
    NumericalError
        The curvature overflowed.
    """
    built = find_structure(structure)
    for name, arrays in (("activations", activations), ("score_signals", score_signals)):
        if isinstance(arrays, tuple | list) and arrays:
            check_finite(**{f"{name}[{i}]": array for i, array in enumerate(arrays)})
    return build_curvature(built, activations, score_signals)


def fisher(
    problem: Any,
    theta: Array,
    x: Array,
    y: Array | None = None,
    *,
    structure: str | Structure = "full",
    kind: str = "expected",
    samples: Array | None = None,
    num_samples: int = 1,
    rng: int | np.random.Generator | None = None,
) -> Curvature:
    """The Fisher of a problem at theta, mean over the examples, in one structure.

    Parameters
    ----------
    problem : Problem
    theta : array (P,)
    x : array (N, d_0)
    y : array, optional
        Observed labels; needed by ``kind="empirical"`` only.
    structure : str or Structure
        A name in `STRUCTURES` (full, block_diagonal, unitwise, diagonal, kfac, ekfac,
        kronecker_optimal, tridiagonal_kfac), or
        an object with the protocol's ``build``.
    kind : {"expected", "monte_carlo", "empirical"}
        ``(1/N) sum J^T Om J``; gradients on labels drawn from the model; gradients on the observed labels
        (another matrix, although often called the Fisher).
    samples, num_samples, rng
        Labels for Monte-Carlo, or how to draw them.

    Raises
    ------
    TypeError, ValueError
        Bad arguments; an unknown structure or kind.
    NumericalError
        The outputs or the curvature overflowed.

    Notes
    -----
    Source: classical (Amari 1998).
    """
    if not hasattr(problem, "layer_factors") or isinstance(problem, type):
        got = getattr(problem, "__name__", type(problem).__name__)
        raise TypeError(f"problem must be a Problem, got {got}")
    built = find_structure(structure)
    options = {"kind": kind, "samples": samples, "num_samples": num_samples, "rng": rng}
    return build_curvature(built, *problem.layer_factors(theta, x, y, **options))


def build_curvature(
    structure: Structure, activations: tuple[Array, ...], signals: tuple[Array, ...]
) -> Curvature:
    """The curvature, or a NumericalError where products of finite numbers overflowed.

    No entry of a positive semidefinite matrix is larger than the largest one on its diagonal.
    """
    message = "the curvature overflowed: activations or score_signals are too large"
    try:
        with quiet():
            built = structure.build(activations, signals)
            diagonal = built.diagonal()
    except NumericalError as error:  # where a factor is decomposed, nothing can be built
        raise NumericalError(f"{message} ({error})") from error
    xp = namespace(diagonal=diagonal)
    if not bool(xp.all(xp.isfinite(diagonal))):
        raise NumericalError(message, built)
    return built
