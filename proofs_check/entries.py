"""Numbers to compare, on the host, and what a finding says of one of their entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import grng_ref as gr

from .findings import Finding


def host(name: str, value: Any) -> np.ndarray:
    """Real numbers of any backend as float64 on the host."""
    array = np.asarray(value if isinstance(value, int | float) else gr.to_numpy(value))
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)


def norm(values: np.ndarray) -> float:
    """2-norm of all entries, scaled so that squares neither overflow nor vanish."""
    if not np.isfinite(values).all():  # a difference of finite numbers that overflowed
        return math.inf
    largest = float(np.abs(values).max())
    return largest * float(np.sqrt(np.square(values / largest).sum())) if largest > 0 else 0.0


def non_finite(sides: dict[str, np.ndarray], threshold: float, detail: str, reason: str) -> Finding:
    """Undecided: a NaN is no evidence for a claim, and none for its refutation either."""
    name, values = next((n, v) for n, v in sides.items() if not np.isfinite(v).all())
    index = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
    return Finding(
        "undecided",
        math.nan,
        threshold,
        f"{detail}; {name} is not finite at index {index}",
        reason=reason,
        witness={"index": index, "not_finite": name},
    )


def witness_at(index: Sequence[Any], **sides: np.ndarray) -> dict[str, Any]:
    """The entry of each side at an index."""
    return {"index": [int(i) for i in index], **{name: float(v[tuple(index)]) for name, v in sides.items()}}
