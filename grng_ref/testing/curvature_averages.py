"""Properties of a structure's ``average``, which the moving averages of the optimizers are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from .common import fingerprint, host, require_close, require_kind, require_solves, require_unchanged
from .curvature_case import Batch, CurvatureCase, require_same_matrix, typical_eigenvalue

_WEIGHT = 0.3


def average_is_that_of_the_factors(case: CurvatureCase) -> None:
    """``average``, if there is one: its ends, and of A and G each."""
    average = getattr(case.structure, "average", None)
    if average is None:
        return
    other = case.large.of_examples(np.arange(2 * len(case.large.signals[0]) // 3)).scaled(1.5)
    old: Any = case.build(case.large)
    new: Any = case.build(other)
    before = fingerprint((old, new))
    ends = {0.0: case.dense(case.large), 1.0: case.dense(other)}
    for weight, expected in ends.items():
        name = f"average with weight {weight:g} of the newest"
        require_same_matrix(case, name, host(average(old, new, weight).to_dense()), expected, len(expected))
    between = average(old, new, _WEIGHT)
    dense, v = host(between.to_dense()), case.place.put(case.v)
    require_kind("to_dense() of an average", between.to_dense(), v, ends[0.0].shape)
    if hasattr(between, "factors"):
        _require_average_factors(case, between.factors, old.factors, new.factors)
    else:
        expected = (1.0 - _WEIGHT) * ends[0.0] + _WEIGHT * ends[1.0]
        require_same_matrix(case, f"average with weight {_WEIGHT:g}", dense, expected, len(expected))
    if "exact" in between.solvers:
        a = 0.1 * typical_eigenvalue(dense)
        x = between.solve(v, damping=a, damping_kind="exact")
        require_solves("solve with an average", dense + a * np.eye(len(dense)), x, case.v, case.place)
    again = host(average(between, new, 1.0).to_dense())
    require_same_matrix(case, "average with weight 1 of an average", again, ends[1.0], len(again))
    require_unchanged("a curvature that was averaged", before, (old, new))


def average_is_linear_in_each_factor(case: CurvatureCase) -> None:
    """Signals, activations times 2: ``(1 - w + 4 w) C``."""
    average = getattr(case.structure, "average", None)
    if average is None:
        return
    dense = case.dense(case.large)
    doubled = Batch(tuple(2.0 * a for a in case.large.activations), case.large.signals)
    for name, other in (("signals", case.large.scaled(2.0)), ("activations", doubled)):
        mixed = host(average(case.build(case.large), case.build(other), _WEIGHT).to_dense())
        factor = 1.0 + 3.0 * _WEIGHT
        what = f"average of C and C of {name} times 2, over {factor:g},"
        require_same_matrix(case, what, mixed / factor, dense, len(dense))


def _require_average_factors(case: CurvatureCase, mixed: Any, old: Any, new: Any) -> None:
    for layer, triple in enumerate(zip(mixed, old, new, strict=True)):
        for name, got, first, second in zip(("A", "G"), *triple, strict=True):
            expected = (1.0 - _WEIGHT) * host(first) + _WEIGHT * host(second)
            bound = case.place.rounding(float(np.max(np.abs(expected))))
            require_close(f"{name} of layer {layer} of an average", host(got), expected, bound)
