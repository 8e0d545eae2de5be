"""The entries of a study: optimizers, what of them is tuned and where, and what each is compared with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..arrays import check_choice
from ..optimizers import Optimizer, adamw, kfac, ngd, reng, ring, rkalman, sgd, sophia
from ..problem import Problem

GROUPS = ("baseline", "plain", "regularized", "other")
TWIN = ", rho = 0"  # what the name of a regularized entry's twin ends with

Settings = Mapping[str, Any]  # numbers, but options of other types stand beside them in the constructors
Make = Callable[[Problem, Settings, int], Optimizer]


@dataclass(frozen=True)
class Entry:
    """An optimizer in a study.

    Parameters
    ----------
    name : str
    make : callable
        ``make(problem, settings, seed) -> Optimizer``; settings has one number for each name in ``space``.
        At the top level of a module, so that other processes can import it.
    space : dict
        ``{"lr": (low, high)}``: tuned log-uniformly between the two, 0 < low < high.
    group : {"baseline", "plain", "regularized", "other"}
        Baselines are what a claim must beat; regularized and other entries are held against them. A
        regularized entry has a setting ``rho`` and is also run with ``rho = 0``, everything else equal.
    plain : str, optional
        The entry that is the same method without gradient regularization, tuned by itself.
    family : str, optional
        Entries of one family share one answer to "faster?" and "generalizes better?"; without one, an entry
        has answers of its own.
    one_pass : bool
        Online: it sees every training example once, whatever the number of epochs.
    """

    name: str
    make: Make
    space: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    group: str = "other"
    plain: str | None = None
    family: str | None = None
    one_pass: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a string, not an empty one, got {self.name!r}")
        if not callable(self.make):
            raise TypeError(f"make must be a function, got {type(self.make).__name__}")
        check_choice("group", self.group, GROUPS)
        for name, bounds in self.space.items():
            pair = isinstance(bounds, tuple | list) and len(bounds) == 2
            if not pair or not 0.0 < bounds[0] < bounds[1] < math.inf:
                raise ValueError(f"space[{name!r}] must be two numbers 0 < low < high, got {bounds!r}")
        if self.group == "regularized" and "rho" not in self.space:
            raise ValueError(f"space must hold rho for a regularized entry, got {sorted(self.space)}")


_STEP = {"lr": (1e-2, 1.0), "damping": (1e-3, 1.0)}
_RING = {**_STEP, "rho": (1e-2, 1e2)}
_RENG = {**_STEP, "rho": (1e-3, 1.0)}
_FILTER = {"prior_variance": (1e-2, 1.0)}
_EPOCHS = {**_FILTER, "forgotten": (1e-3, 1e-1)}
_PENALTY = {"rho": (1e-2, 1e2)}
_R_EPOCHS = {**_EPOCHS, **_PENALTY}
_DECAYED = {"lr": (1e-3, 1e-1), "weight_decay": (1e-4, 1e-1)}


def default_entries() -> tuple[Entry, ...]:
    """The entries of the paper's comparison.

    Notes
    -----
    docs/study.md lists them with what is tuned and where.
    """
    frequentist, bayesian = "RING and RENG", "R-Kalman"
    beliefs = {
        "full": _kalman_full,
        "block-diagonal": _kalman_block_diagonal,
        "diagonal": _kalman_diagonal,
        "low rank": _kalman_low_rank,
    }
    return (
        Entry("SGD", _sgd, {"lr": (1e-3, 1.0)}, "baseline"),
        Entry("AdamW", _adamw, _DECAYED, "baseline"),
        Entry("K-FAC", _kfac, _STEP, "baseline"),
        Entry("Sophia-G", _sophia, _DECAYED, "baseline"),
        Entry("NGD", _ngd, _STEP, "plain"),
        Entry("NGD kfac", _ngd_kfac, _STEP, "plain"),
        Entry("RING", _ring, _RING, "regularized", "NGD", frequentist),
        Entry("RING kfac", _ring_kfac, _RING, "regularized", "NGD kfac", frequentist),
        Entry("RENG", _reng, _RENG, "regularized", "NGD", frequentist),
        Entry("RENG kfac", _reng_kfac, _RENG, "regularized", "NGD kfac", frequentist),
        *(Entry(f"Kalman {name}", make, _EPOCHS, "plain") for name, make in beliefs.items()),
        *(
            Entry(f"R-Kalman {name}", make, _R_EPOCHS, "regularized", f"Kalman {name}", bayesian)
            for name, make in beliefs.items()
        ),
        Entry("Kalman online", _kalman_full, _FILTER, "plain", one_pass=True),
        Entry(
            "R-Kalman online",
            _kalman_full,
            {**_FILTER, **_PENALTY},
            "regularized",
            "Kalman online",
            bayesian,
            one_pass=True,
        ),
    )


def _sgd(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return sgd(problem, momentum=0.9, **settings)


def _adamw(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return adamw(problem, **settings)


def _kfac(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return kfac(problem, **settings)


def _sophia(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return sophia(problem, seed=seed, **settings)


def _ngd(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return ngd(problem, **settings)


def _ngd_kfac(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return ngd(problem, structure="kfac", **settings)


def _ring(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return ring(problem, **settings)


def _ring_kfac(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return ring(problem, structure="kfac", **settings)


def _reng(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return reng(problem, **settings)


def _reng_kfac(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return reng(problem, structure="kfac", **settings)


def _kalman_full(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return _kalman(problem, settings, "full")


def _kalman_block_diagonal(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return _kalman(problem, settings, "block_diagonal")


def _kalman_diagonal(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return _kalman(problem, settings, "diagonal")


def _kalman_low_rank(problem: Problem, settings: Settings, seed: int) -> Optimizer:
    return _kalman(problem, settings, "low_rank")


def _kalman(problem: Problem, settings: Settings, belief: str) -> Optimizer:
    options = dict(settings)
    forgetting = 1.0 - options.pop("forgotten", 0.0)
    return rkalman(problem, belief=belief, forgetting=forgetting, **options)
