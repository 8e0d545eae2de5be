"""Damped curvatures as dense matrices on the host, for references."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .data import on_host


def plus_identity(matrix: np.ndarray, damping: float) -> np.ndarray:
    """``M + a I``."""
    return matrix + damping * np.eye(len(matrix))


def damped_matrix(curvature: Any, damping: float, kind: str) -> np.ndarray:
    """The dense damped matrix of a structure, factored damping by its definition.

    Of block-tridiagonal K-FAC it is the structure's own damped operator, which has claims of its own.
    """
    if kind == "exact":
        return plus_identity(on_host(curvature.to_dense()), damping)
    if hasattr(curvature, "damped"):
        return on_host(curvature.damped(damping).to_dense())
    blocks = []
    for A, G in curvature.factors:
        a, g = on_host(A), on_host(G)
        pi = math.sqrt((a.trace() / len(a)) / (g.trace() / len(g)))
        root = math.sqrt(damping)
        blocks.append(np.kron(plus_identity(g, root / pi), plus_identity(a, pi * root)))
    total = sum(len(block) for block in blocks)
    matrix, start = np.zeros((total, total)), 0
    for block in blocks:
        stop = start + len(block)
        matrix[start:stop, start:stop], start = block, stop
    return matrix
