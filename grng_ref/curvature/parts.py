"""Vectors and results that fall into one part a layer."""

from __future__ import annotations

from collections.abc import Sequence

from ..arrays import Array, check_real, check_shape, like, namespace
from ..solvers import SolveResult


def split(v: Array, sizes: Sequence[int]) -> list[Array]:
    """Consecutive parts of the first axis, of the given sizes."""
    parts, start = [], 0
    for size in sizes:
        parts.append(v[start : start + size, ...])
        start += size
    return parts


def layer_matrices(columns: Array, shapes: Sequence[tuple[int, int]]) -> list[Array]:
    """Columns (P, R) as one array (R, d_out, d_in) a layer."""
    xp = namespace(columns=columns)
    parts = split(columns, [rows * inputs for rows, inputs in shapes])
    return [xp.reshape(part.T, (-1, *shape)) for part, shape in zip(parts, shapes, strict=True)]


def blend(old: Array, new: Array, weight: float) -> Array:
    """``(1 - weight) old + weight new``; at the ends of [0, 1] one of them in every bit.

    Raises
    ------
    TypeError, ValueError
        Arrays of another library, dtype, device or shape; a weight outside [0, 1].
    """
    namespace(new=new, old=old)
    check_shape("old", old, tuple(new.shape), "that of new")
    if check_real("weight", weight, minimum=0.0) > 1.0:
        raise ValueError(f"weight must lie in [0, 1], got {weight}")
    return (1.0 - weight) * old + weight * new


def block_matrix(blocks: Sequence[Array]) -> Array:
    """The square matrix with the given square blocks on its diagonal and zeros elsewhere."""
    xp = namespace(block=blocks[0])
    total = sum(block.shape[0] for block in blocks)
    rows, start = [], 0
    for block in blocks:
        size = block.shape[0]
        before = xp.zeros((size, start), **like(block))
        after = xp.zeros((size, total - start - size), **like(block))
        rows.append(xp.concat([before, block, after], axis=1))
        start += size
    return xp.concat(rows)


def join_results(results: Sequence[SolveResult]) -> SolveResult:
    """One result of independent solves: parts joined, and the worst status, residual and count."""
    xp = namespace(x=results[0].x)
    failed = [r for r in results if not r.success]
    ranks = [r.rank for r in results if r.rank is not None]
    return SolveResult(
        x=xp.concat([xp.reshape(r.x, (-1,)) for r in results]),
        status=failed[0].status if failed else "converged",
        iterations=max(r.iterations for r in results),
        residual=max(r.residual for r in results),
        rank=sum(ranks) if len(ranks) == len(results) else None,
        method=results[0].method,
    )
