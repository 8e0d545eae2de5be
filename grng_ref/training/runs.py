"""One run of a study: an entry with its settings on a data set with a seed, as plain data."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..arrays import Array, NumericalError, asarray, check_choice, check_integer, stream, to_numpy
from ..data import NAMES, DataSet, load
from ..models import MLP
from ..problem import Problem
from .batches import Batches
from .entries import Entry
from .evaluation import Evaluation, evaluate
from .fitting import Fit, fit
from .hessians import flatness

CURVE = (
    *("step", "epoch", "seconds", "gradient_evaluations", "loss", "validation_loss"),
    *("gradient_norm", "cosine", "pearson"),
)


@dataclasses.dataclass(frozen=True)
class DataPlan:
    """A data set of a study, the network trained on it, and for how long."""

    name: str
    hidden: tuple[int, ...] = (8,)
    size: int | None = None  #: examples, as `grng_ref.data.load` takes it
    batch_size: int = 50
    epochs: int = 5
    without: tuple[str, ...] = ()  #: entries that are left out here, for their cost

    def __post_init__(self) -> None:
        check_choice("name", self.name, NAMES)
        for name in ("hidden", "without"):
            if not isinstance(getattr(self, name), tuple):
                raise TypeError(f"{name} must be a tuple, got {type(getattr(self, name)).__name__}")
        for width in self.hidden:
            check_integer("hidden", width, minimum=1)
        if self.size is not None:
            check_integer("size", self.size, minimum=10)
        check_integer("batch_size", self.batch_size, minimum=1)
        check_integer("epochs", self.epochs, minimum=1)


class Place(NamedTuple):
    """Where a study computes."""

    backend: str = "numpy"
    dtype: str = "float64"
    device: str | None = None


@functools.lru_cache(maxsize=8)
def prepare(plan: DataPlan, seed: int, place: Place) -> tuple[Problem, DataSet, dict[str, Any]]:
    """Problem, data set and its arrays where they are computed with; the split depends on the seed."""
    data = load(plan.name, rng=seed, size=plan.size)
    problem = Problem(MLP((data.inputs, *plan.hidden, data.outputs), activation="tanh"), data.likelihood)
    parts = ("train", "validation", "test")
    arrays = {
        part: tuple(
            asarray(
                getattr(data, f"{axis}_{part}"), backend=place.backend, dtype=place.dtype, device=place.device
            )
            for axis in ("x", "y")
        )
        for part in parts
    }
    return problem, data, arrays


def run_once(
    plan: DataPlan,
    entry: Entry,
    settings: Mapping[str, float],
    *,
    seed: int,
    split_seed: int,
    place: Place,
    points: int,
    align: float | None = None,
    final: bool = True,
) -> dict[str, Any]:
    """Train once; the seed gives first parameters, batches and the optimizer's own draws.

    The test part is looked at only where ``final`` is true, after training.
    """
    problem, _, arrays = prepare(plan, split_seed, place)
    x, y = arrays["train"]
    first = stream(seed, "parameters")
    theta = problem.init(rng=first, backend=place.backend, dtype=place.dtype, device=place.device)
    per_epoch = math.ceil(int(x.shape[0]) / plan.batch_size)
    done = fit(
        problem,
        entry.make(problem, settings, seed),
        theta,
        x,
        y,
        epochs=1 if entry.one_pass else plan.epochs,
        batch_size=plan.batch_size,
        seed=seed,
        validation=arrays["validation"],
        align=align,
        every=max(1, per_epoch // points),
    )
    if done.status == "interrupted":
        raise KeyboardInterrupt
    curve = {name: [getattr(record, name) for record in done.records] for name in CURVE}
    good = done.status == "finished"
    run = {
        "data": plan.name,
        "entry": entry.name,
        "settings": dict(settings),
        "seed": seed,
        "epochs": 1 if entry.one_pass else plan.epochs,
        "start": _fingerprint(theta),
        "first_batch": _fingerprint(*Batches(int(x.shape[0]), plan.batch_size, seed).take(x, y, 0)),
        "status": done.status,
        "steps": done.step,
        "validation_loss": curve["validation_loss"][-1] if good else None,
        "curve": curve,
    }
    return run | (_end(problem, done, arrays) if final and good else {})


def _end(problem: Problem, done: Fit, arrays: dict[str, Any]) -> dict[str, Any]:
    """What is measured at the last parameters; the run failed if its losses overflow there."""
    try:
        train, test = (evaluate(problem, done.theta, *arrays[part]) for part in ("train", "test"))
    except NumericalError as error:
        return {"status": f"failed: {error}", "validation_loss": None}
    try:
        flat = flatness(problem, done.theta, *arrays["train"])._asdict()
    except NumericalError as error:
        flat = {"trace": None, "top": None, "method": f"failed: {error}"}
    return {
        "train_loss": train.loss,
        "test_loss": test.loss,
        "test_error": _error(test),
        "gap": test.loss - train.loss,
        "flatness": flat,
    }


def _fingerprint(*arrays: Array) -> str:
    return hashlib.sha256(b"".join(to_numpy(array).tobytes() for array in arrays)).hexdigest()[:16]


def _error(seen: Evaluation) -> float | None:
    return None if seen.accuracy is None else 1.0 - seen.accuracy
