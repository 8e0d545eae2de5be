"""What a belief is tried on: two observations of a linear model, one of fewer rows than parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..beliefs import Belief
from .common import Host, Place, host, require_close

SIZE = 6


@dataclass(frozen=True)
class BeliefCase:
    """A factory of beliefs, with two observations of a linear model ``z = rows theta + noise``."""

    make: Callable[[Array], Belief]
    place: Place
    mean: Host  # (P,)
    rows: tuple[Host, Host]  # whitened: the noise has unit variance
    targets: tuple[Host, Host]  # z - rows mean
    exact: bool

    def prior(self) -> Belief:
        """The belief as the factory makes it."""
        return self.make(self.place.put(self.mean))

    def update(
        self, belief: Belief, rows: Host, targets: Host, *, given: bool = False, precision: float = 0.0
    ) -> tuple[Belief, Array]:
        """One update, with the gradient ``-rows^T targets``; ``given`` passes the targets, too."""
        put = self.place.put
        passed = put(targets) if given else None
        return belief.update(put(rows), put(-rows.T @ targets), targets=passed, precision=precision)

    def posterior(self) -> Belief:
        """The belief after the first observation: no longer isotropic."""
        return self.update(self.prior(), self.rows[0], self.targets[0])[0]

    def bound(self, information: Host) -> float:
        """Relative rounding error of what passes through the inverse of an information matrix."""
        condition = float(np.linalg.cond(information))
        return self.place.rounding(1.0, terms=SIZE + len(self.rows[0]), condition=condition)


def require_same(case: BeliefCase, name: str, actual: Any, expected: Host, information: Host) -> None:
    """Raise unless the array has the values, up to `BeliefCase.bound` of the largest one."""
    bound = case.bound(information) * float(np.max(np.abs(expected)))
    require_close(name, host(actual), expected, bound)
