"""Tolerances from the sensitivity of the problem, and the verdict on one stage of one case.

``tolerance = FACTOR eps (s + FLOOR rms(s)) + radius``, entry by entry. s is the root mean square, over seeded
directions, of what relative perturbations of one eps do to the entry: of theta, x, v, every activation and
its derivative, score signals, score rows, and, by their norm, every matrix that is solved with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...solvers import ACCEPTED_RESIDUAL
from .knobs import Knobs
from .layouts import places
from .noise import Noise
from .replay import Replay, damping_kind
from .view import NotApplicable

FACTOR = 64.0
"""Roundings that the perturbations do not count: sums of some tens of terms, one after the other. Measured
over random cases in both dtypes: see benchmarks/conformance.py alarms."""

FLOOR = 0.1
"""An entry may be hit by the roundings of its neighbours: their root mean square counts a tenth."""

DIRECTIONS = 6
UNDECIDABLE = 0.01
"""A passed comparison that would not have seen a relative error of one per cent decides nothing."""

LOST = 0.5
"""A step that one rounding of everything moves by this share of its norm is not determined by the inputs."""

BACKWARD = ACCEPTED_RESIDUAL
"""Scaled residuals up to here are those of a backward stable solve: the threshold of LAPACK's tests."""

DETERMINED = 0.1
"""Beyond this relative error a bound for stable solves or inverses says nothing: the tolerance decides."""

_STEPS = ("parameters", "belief_mean")  # stages whose first axis runs over the steps
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


def expected_arrays(case: Any, stage: str, knobs: Any) -> tuple[Any, ...]:
    """The comparable expected arrays, under the declared conventions."""
    plain = tuple(
        np.asarray(case.expected[k], dtype=np.float64) for k in case.expected if k.split(".")[0] == stage
    )
    if knobs:
        plain = Replay(case, knobs).stage(stage)
    if stage == "loss":
        plain = tuple(np.reshape(one, ()) for one in plain)
    return comparable(stage, plain, case.x.shape[0])


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


def tolerances(stage: str, expected: Any, s: Any, dtype: str, radius: Any = None) -> Any:
    """The tolerance of every entry from the sensitivities; inf in steps that roundings have destroyed.

    Steps are judged one by one. A step after the first is *lost*, and all that follow it, where a single
    relative rounding of every quantity moves it by half of its norm or more: the run is then beyond the
    linear regime in which a tolerance means something, and any finite value may come out.
    """
    eps = float(np.finfo(dtype).eps)
    stepwise = stage in _STEPS and s.ndim == 2
    rms = np.sqrt(np.mean(s**2, axis=-1 if stepwise else None, keepdims=True)) if s.size else 0.0
    limit = FACTOR * eps * (s + FLOOR * rms)
    if stepwise:
        moved = eps * np.linalg.norm(s, axis=1)
        lost = moved >= LOST * np.linalg.norm(expected, axis=1)
        lost[0] = False
        limit = np.where(np.logical_or.accumulate(lost)[:, None], np.inf, limit)
    return limit if radius is None else limit + radius


def radius_of(case: Any, stage: str, index: int, array: Any) -> Any:
    """The certified radius of the expected value, for an array in its place scaled by the norms; or None."""
    names = [key for key in case.expected if key.split(".")[0] == stage]
    radius = case.radii.get(names[index]) if index < len(names) else None
    if radius is None or np.shape(radius) != np.shape(array):
        return None
    norm = float(np.linalg.norm(case.expected[names[index]]))
    return radius * (float(np.linalg.norm(array)) / norm) if norm > 0.0 else radius


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


@dataclass(frozen=True)
class SolveQuality:
    """A damped solve against its own system ``M x = v``."""

    residual: float  #: ``|v - M x| / (n eps |M| |x|)``
    detectable: float  #: relative errors up to here a backward stable solve may have
    backward: bool  #: the residual is that of a stable solver, at most `BACKWARD`, and this says something
    inverse: bool  #: the error is at most `FACTOR` times that of an inverse, ``eps |M| |M^-1|^2 |v|``


def solve_quality(
    case: Any, stage: str, got: Any, expected: Any, dtype: str, knobs: Knobs
) -> SolveQuality | None:
    """How good a solve with exact damping is as a solution, whatever its distance from the expected one.

    Under the declared conventions: the system is theirs, in their order; None where they leave entries out.

    A backward stable solver has a forward error up to ``eps n cond(M) |x|`` and a small residual; an explicit
    inverse has an error up to ``eps |M| |M^-1|^2 |v|``, and its residual may be large.
    """
    if stage != "damped_solve" or not np.all(np.isfinite(got)):
        return None
    run = Replay(case, knobs)
    order = places(run.original, run.knobs["layout"]) if "layout" in run.knobs else np.arange(run.v.size)
    if run.knobs.get("damping_place", damping_kind(case)) != "exact" or order.size != run.v.size:
        return None
    M = run.first.dense[np.ix_(order, order)] + case.optimizer["damping"] * np.eye(order.size)
    v = run.v[order]
    eps, n = float(np.finfo(dtype).eps), M.shape[0]
    values = np.linalg.eigvalsh(M)
    if values[0] <= 0.0:
        return None
    size, inverse = float(values[-1]), 1.0 / float(values[0])
    allowed = FACTOR * eps * size * inverse**2 * float(np.linalg.norm(v))
    scale = n * eps * size * float(np.linalg.norm(got))
    residual = _over(float(np.linalg.norm(v - M @ got)), scale)
    detectable = BACKWARD * n * eps * size * inverse
    return SolveQuality(
        residual,
        detectable,
        residual <= BACKWARD and detectable < DETERMINED,
        bool(np.linalg.norm(got - expected) <= allowed < DETERMINED * np.linalg.norm(expected)),
    )
