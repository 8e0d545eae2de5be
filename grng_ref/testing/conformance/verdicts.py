"""Tolerances from the sensitivity of the problem, and the verdict on one stage of one case.

``tolerance = FACTOR eps (s + FLOOR rms(s)) + radius``, entry by entry. s is the root mean square, over seeded
directions, of what relative perturbations of one eps do to the entry: of theta, x, v, every activation and its
derivative, score signals, score rows, and, by their norm, every matrix that is solved with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .noise import Noise
from .replay import Replay
from .view import Knobs, NotApplicable

FACTOR = 64.0
"""Roundings that the perturbations do not count: sums of some tens of terms, one after the other. Measured
over random cases in both dtypes, correct implementations stay under a tenth of it (benchmarks/conformance.py)."""

FLOOR = 0.1
"""An entry may be hit by the roundings of its neighbours: their root mean square counts a tenth."""

DIRECTIONS = 6
UNDECIDABLE = 0.01
"""A passed comparison that would not have seen a relative error of one per cent decides nothing."""

_STEP = {"float64": 2.0**-36, "float32": 2.0**-23}  # float64: far over its own roundings, still linear
VERDICTS = (
    "right",
    "right under another convention",
    "accurate, not backward stable",
    "undecidable",
    "wrong",
)


def comparable(stage: str, arrays: tuple[Any, ...], examples: int) -> tuple[Any, ...]:
    """What of a stage is compared: itself, or what is invariant under the symmetry that it has."""
    if stage == "score_signals":
        return tuple(np.einsum("nkd,nke->nde", d, d) for d in arrays)
    if stage == "score_rows":
        (B,) = arrays
        per = B.reshape(examples if B.shape[0] % examples == 0 else 1, -1, B.shape[-1])
        return (np.einsum("nkp,nkq->npq", per, per),)
    if stage == "factors":
        return tuple(np.kron(arrays[i + 1], arrays[i]) for i in range(0, len(arrays), 2))
    return arrays


def sensitivity(
    case: Any, stage: str, dtype: str, knobs: Knobs, cache: dict[Any, Any]
) -> tuple[Any, ...] | None:
    """S of every comparable array of the stage; None where the replay has nothing to say of it."""
    size = _STEP[dtype]
    runs = cache.setdefault((case.id, dtype, _key(knobs)), None)
    if runs is None:
        runs = [Replay(case, knobs)] + [Replay(case, knobs, Noise(size, seed)) for seed in range(DIRECTIONS)]
        cache[(case.id, dtype, _key(knobs))] = runs
    examples = case.x.shape[0]
    try:
        base, *moved = (comparable(stage, run.stage(stage), examples) for run in runs)
    except NotApplicable:
        return None
    out = []
    for index, array in enumerate(base):
        with np.errstate(all="ignore"):
            squares = [((m[index] - array) / size) ** 2 for m in moved]
            out.append(np.sqrt(np.mean(squares, axis=0)))
    return tuple(np.where(np.isfinite(s), s, np.inf) for s in out)


def _key(knobs: Knobs) -> str:
    return repr(sorted(knobs.items(), key=lambda item: item[0]))


def tolerances(s: Any, dtype: str, radius: Any = None) -> Any:
    """The tolerance of every entry from the sensitivities."""
    eps = float(np.finfo(dtype).eps)
    rms = float(np.sqrt(np.mean(s**2))) if s.size else 0.0
    limit = FACTOR * eps * (s + FLOOR * rms)
    return limit if radius is None else limit + radius


@dataclass(frozen=True)
class Comparison:
    """A submitted array against what is expected of it."""

    error: float  #: norm of the difference over the norm of the expected array
    excess: float  #: largest difference over its tolerance; at most 1 passes
    detectable: (
        float  #: norm of the tolerances over the norm of the expected array: smaller defects are not seen
    )
    entry: tuple[int, ...] | None  #: where the excess is largest
    got: float
    expected: float


def compare(got: Any, expected: Any, limit: Any) -> Comparison:
    """One array; shapes must agree."""
    difference = np.abs(got - expected)
    difference = np.where(np.isfinite(difference), difference, np.inf)
    with np.errstate(all="ignore"):
        ratio = np.where(difference == 0.0, 0.0, difference / limit)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    norm = float(np.linalg.norm(expected))
    width = float(np.linalg.norm(np.where(np.isfinite(limit), limit, 1e300)))
    if ratio.size == 0:
        return Comparison(0.0, 0.0, 0.0, None, 0.0, 0.0)
    where = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return Comparison(
        error=_over(float(np.linalg.norm(difference)), norm),
        excess=float(ratio[where]),
        detectable=_over(width, norm),
        entry=tuple(int(i) for i in where),
        got=float(np.asarray(got)[where]),
        expected=float(np.asarray(expected)[where]),
    )


def _over(top: float, bottom: float) -> float:
    if top == 0.0:
        return 0.0
    return top / bottom if bottom > 0.0 and math.isfinite(top) else math.inf


def forward_bound(case: Any, stage: str, got: Any, expected: Any, dtype: str) -> tuple[bool, float] | None:
    """For a damped solve: whether its error is that of a solve through an inverse, and its scaled residual.

    An explicit inverse has a forward error of ``eps |M| |M^-1| |M^-1| |v|`` where a stable solver has
    ``eps |M| |M^-1| |x|``; its residual over ``|M| |x| n eps`` may exceed the 30 that LAPACK's tests accept.
    """
    if stage != "damped_solve":
        return None
    run = Replay(case)
    kind = case.optimizer.get("damping_kind") or "exact"
    if kind != "exact" or run.first.structure == "tridiagonal_kfac":
        return None
    M = run.first.dense + case.optimizer["damping"] * np.eye(run.theta.shape[0])
    eps, n = float(np.finfo(dtype).eps), M.shape[0]
    inverse = 1.0 / float(np.linalg.eigvalsh(M)[0])
    size, v = float(np.linalg.norm(M, 2)), float(np.linalg.norm(run.v))
    allowed = FACTOR * eps * size * inverse * inverse * v
    residual = float(np.linalg.norm(run.v - M @ got)) / (size * float(np.linalg.norm(got)) * n * eps)
    return bool(np.linalg.norm(got - expected) <= allowed < 0.1 * np.linalg.norm(expected)), residual
