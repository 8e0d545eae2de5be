"""The contract of an optimizer."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array, NumericalError
from ..io import load, save
from ..likelihoods import Categorical, Gaussian
from ..models import MLP
from ..optimizers import Optimizer, StepInfo
from ..problem import Problem
from .common import (
    Host,
    Place,
    fingerprint,
    host,
    make_place,
    require,
    require_close,
    require_identical,
    require_kind,
    require_place,
    require_raises,
    require_unchanged,
    run_properties,
)

_SIZES = (3, 4, 3)
_BATCHES = (8, 5)  # batches may differ in size

Batch = tuple[Host, Host]
"""Inputs (N, d_0) and labels."""


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer of one small problem, with a start and a few batches."""

    name: str
    make: Callable[[Problem], Optimizer]
    problem: Problem
    place: Place
    start: Host  # theta (P,)
    batches: tuple[Batch, ...]

    def begin(self) -> tuple[Optimizer, Array, Any]:
        """A new optimizer, theta and the first state."""
        optimizer, theta = self.make(self.problem), self.place.put(self.start)
        return optimizer, theta, optimizer.init(theta)

    def batch(self, index: int) -> tuple[Array, Array]:
        """Inputs and labels of a batch at its place."""
        return self.place.put(self.batches[index])

    def walk(self) -> Iterator[tuple[Optimizer, Array, Any, Array, Array]]:
        """Optimizer, theta, state, x, y before each step over the batches."""
        optimizer, theta, state = self.begin()
        for index in range(len(self.batches)):
            x, y = self.batch(index)
            yield optimizer, theta, state, x, y
            theta, state, _ = optimizer.step(theta, state, x, y)


def check_optimizer(
    make: Callable[[Problem], Optimizer],
    *,
    backend: str = "numpy",
    dtype: str = "float64",
    device: Any = None,
    rng: int = 0,
    asarray: Callable[[Any], Any] | None = None,
) -> None:
    """Check that an optimizer keeps the contract, on a small classification and a small regression problem.

    ============================================  ============================================================
    property                                      what must hold
    ============================================  ============================================================
    delta_has_the_kind_of_theta                   library, dtype, device and shape; no NaN
    step_is_update_added_to_theta                 ``theta + delta``, same state and info, in every bit
    update_is_pure                                arguments unchanged; the same call twice gives the same
    equal_optimizers_take_equal_steps             two of the factory agree in every bit
    info_is_that_of_the_problem                   loss, gradient norm, step norm, step number, damping, solve
    draws_are_repeatable                          samples or probes of an info, given back: the same step
    draws_differ_between_steps                    other labels or probes at the next step
    draws_follow_the_seed                         labels of ``default_rng([seed, step])`` for a ``seed``
    unused_draws_are_refused                      ValueError for samples or probes that a step ignores
    saved_state_continues_identically             `save`, `load`, and the same steps in every bit
    foreign_state_is_refused                      TypeError
    bad_arguments_are_refused                     shapes, dtypes, NaN; an error changes nothing
    overflow_is_an_error                          huge inputs: a finite step or a NumericalError
    ============================================  ============================================================

    Parameters
    ----------
    make : callable
        ``make(problem) -> Optimizer``, the same one every time. There are fewer examples than parameters, and
        its steps must exist: by damping, or because its right-hand side is in the range of its curvature (NGD
        and RING with the Fisher itself), where small steps keep the numerical rank beyond doubt.
    backend, dtype, device : optional
        Where the arrays live; see `asarray`.
    rng : int
        Seed of the problems' data.
    asarray : callable, optional
        Makes the arrays from a tree of host arrays in place of ``gr.asarray(tree, backend=..., ...)``; for
        example one that makes them read-only.

    Raises
    ------
    AssertionError
        Names every property that is violated, with the numbers.
    """
    place, generator = make_place(backend, dtype, device, asarray, rng)
    name = getattr(make, "__qualname__", type(make).__name__)
    for likelihood in (Categorical(), Gaussian(0.5)):
        problem = Problem(MLP(_SIZES, activation="tanh"), likelihood)
        kind = type(likelihood).__name__
        batches = tuple(_random_batch(generator, kind, n) for n in _BATCHES)
        case = OptimizerCase(kind, make, problem, place, problem.init(generator), batches)
        run_properties(f"check_optimizer({name}, {backend}, {dtype}, {kind})", PROPERTIES, case)


def _random_batch(generator: np.random.Generator, kind: str, examples: int) -> Batch:
    x = generator.normal(0.0, 1.0, (examples, _SIZES[0]))
    if kind == "Categorical":
        return x, generator.integers(0, _SIZES[-1], examples)
    return x, generator.normal(0.0, 1.0, (examples, _SIZES[-1]))


# --- the step --------------------------------------------------------------------------------------------


def delta_has_the_kind_of_theta(case: OptimizerCase) -> None:
    """Library, dtype, device and shape; no NaN."""
    for optimizer, theta, state, x, y in case.walk():
        delta, _, info = optimizer.update(theta, state, x, y)
        require_kind("delta", delta, theta, case.start.shape)
        require(bool(np.all(np.isfinite(host(delta)))), "delta has NaN or infinite entries")
        moved, _, _ = optimizer.step(theta, state, x, y)
        require_kind("theta after a step", moved, theta, case.start.shape)
        require(isinstance(info, StepInfo), f"info is {type(info).__name__}, expected StepInfo")


def step_is_update_added_to_theta(case: OptimizerCase) -> None:
    """``theta + delta``, same state and info, in every bit."""
    for optimizer, theta, state, x, y in case.walk():
        delta, after, info = optimizer.update(theta, state, x, y)
        moved, state_of_step, info_of_step = optimizer.step(theta, state, x, y)
        require_identical("step's theta and theta + delta", moved, theta + delta)
        require_identical("the states of step and update", state_of_step, after)
        require_identical("the infos of step and update", info_of_step, info)


def update_is_pure(case: OptimizerCase) -> None:
    """Arguments unchanged; the same call twice gives the same."""
    for optimizer, theta, state, x, y in case.walk():
        before = fingerprint((theta, state, x, y))
        first = optimizer.update(theta, state, x, y)
        require_unchanged("theta, state, x or y", before, (theta, state, x, y))
        second = optimizer.update(theta, state, x, y)
        for name, one, other in zip(("delta", "state", "info"), first, second, strict=True):
            require_identical(f"{name} of two equal updates", one, other)


def equal_optimizers_take_equal_steps(case: OptimizerCase) -> None:
    """Two of the factory agree in every bit."""
    for number, (mine, other) in enumerate(zip(case.walk(), case.walk(), strict=True)):
        require_identical(f"theta of two equal optimizers before step {number}", mine[1], other[1])
        require_identical(f"state of two equal optimizers before step {number}", mine[2], other[2])


def info_is_that_of_the_problem(case: OptimizerCase) -> None:
    """Loss, gradient norm, step norm, step number, damping, solve."""
    for number, (optimizer, theta, state, x, y) in enumerate(case.walk()):
        delta, _, info = optimizer.update(theta, state, x, y)
        loss = float(case.problem.loss(theta, x, y))
        gradient = float(np.linalg.norm(host(case.problem.gradient(theta, x, y))))
        step = float(np.linalg.norm(host(delta)))
        terms = case.start.shape[0]
        for name, value, expected in (
            ("loss", info.loss, loss),
            ("gradient_norm", info.gradient_norm, gradient),
            ("step_norm", info.step_norm, step),
        ):
            require(isinstance(value, float), f"info.{name} is {type(value).__name__}, expected a float")
            bound = case.place.rounding(max(expected, 1.0), terms=terms)
            require_close(f"info.{name} at step {number}", value, expected, bound)
        require(info.step == number, f"info.step is {info.step}, expected {number}")
        require(0.0 <= info.damping < math.inf, f"info.damping is {info.damping}")
        status = None if info.solve is None else info.solve.status
        require(status in (None, "converged"), f"info.solve.status of a step taken is {status!r}")


# --- draws and states ------------------------------------------------------------------------------------


def draws_are_repeatable(case: OptimizerCase) -> None:
    """Samples or probes of an info, given back: the same step."""
    for optimizer, theta, state, x, y in case.walk():
        delta, after, info = optimizer.update(theta, state, x, y)
        for name, drawn in _draws_of(info).items():
            again = optimizer.update(theta, state, x, y, **{name: drawn})
            require_identical(f"delta with the {name} of its info given back", again[0], delta)
            require_identical(f"state with the {name} of its info given back", again[1], after)
            require_place(f"info.{name}", drawn, theta)
            others = [_other_draws(case, name, drawn, theta, x, seed) for seed in (1, 2, 3)]
            steps = {fingerprint(optimizer.update(theta, state, x, y, **{name: d})[:2]) for d in others}
            require(len(steps) > 1, f"three different {name} from outside gave the same delta and state")


def _draws_of(info: StepInfo) -> dict[str, Array]:
    draws = {"samples": info.samples, "probes": info.probes}
    return {name: drawn for name, drawn in draws.items() if drawn is not None}


def _other_draws(case: OptimizerCase, name: str, drawn: Array, theta: Array, x: Array, seed: int) -> Array:
    count = int(drawn.shape[0])
    if name == "samples":
        return case.problem.sample(theta, x, num_samples=count, rng=seed)
    return case.place.put(np.random.default_rng(seed).normal(0.0, 1.0, tuple(drawn.shape)))


def draws_differ_between_steps(case: OptimizerCase) -> None:
    """Other labels or probes at the next step."""
    optimizer, theta, state = case.begin()
    x, y = case.batch(0)
    drawn = []
    for _ in range(4):  # at one theta: only the step number differs
        _, state, info = optimizer.update(theta, state, x, y)
        if not _draws_of(info):
            return
        drawn.append(fingerprint(tuple(_draws_of(info).values())))
    require(len(set(drawn)) > 1, "the same labels or probes were drawn at 4 steps in a row")


def draws_follow_the_seed(case: OptimizerCase) -> None:
    """Labels of ``default_rng([seed, step])`` for a ``seed``."""
    for number, (optimizer, theta, state, x, y) in enumerate(case.walk()):
        samples = optimizer.update(theta, state, x, y)[2].samples
        seed = getattr(optimizer, "seed", None)
        if samples is None or seed is None:
            return
        generator = np.random.default_rng([seed, number])
        expected = case.problem.sample(theta, x, num_samples=samples.shape[0], rng=generator)
        name = f"samples at step {number} and draws of default_rng([{seed}, {number}])"
        require_identical(name, samples, expected)


def unused_draws_are_refused(case: OptimizerCase) -> None:
    """ValueError for samples or probes that a step ignores."""
    for optimizer, theta, state, x, y in case.walk():
        used = _draws_of(optimizer.update(theta, state, x, y)[2])
        given = {"samples": case.problem.sample(theta, x, rng=0), "probes": theta[None, :]}
        for name in given.keys() - used.keys():
            what = f"update with {name}, where its info has none,"
            draws = {name: given[name]}
            require_raises(what, ValueError, optimizer.update, theta, state, x, y, mention=(name,), **draws)


def saved_state_continues_identically(case: OptimizerCase) -> None:
    """`save`, `load`, and the same steps in every bit."""
    for number, (optimizer, theta, state, x, y) in enumerate(case.walk()):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "state.npz"
            save(path, {"theta": theta, "state": state})
            saved = load(path, backend=case.place.backend, device=case.place.device)
        require_identical(f"state before step {number}, after save and load", saved["state"], state)
        straight = optimizer.step(theta, state, x, y)
        resumed = case.make(case.problem).step(saved["theta"], saved["state"], x, y)
        require_identical(f"theta after step {number} from a loaded state", resumed[0], straight[0])
        require_identical(f"state after step {number} from a loaded state", resumed[1], straight[1])


# --- errors ----------------------------------------------------------------------------------------------


def foreign_state_is_refused(case: OptimizerCase) -> None:
    """TypeError."""
    optimizer, theta, _ = case.begin()
    x, y = case.batch(0)
    for state in (None, 0, (), {}, object()):
        what = f"update with a state of type {type(state).__name__}"
        require_raises(what, TypeError, optimizer.update, theta, state, x, y, mention=("state",))


def bad_arguments_are_refused(case: OptimizerCase) -> None:
    """Shapes, dtypes, NaN; an error changes nothing."""
    optimizer, theta, state = case.begin()
    x, y = case.batch(0)
    inputs, broken_start = case.batches[0][0].copy(), case.start.copy()
    inputs[0, 0] = broken_start[0] = math.nan
    put = case.place.put
    bad: list[tuple[str, type[Exception], str, dict[str, Any]]] = [
        ("a NaN in x", ValueError, "x", {"x": put(inputs)}),
        ("x of another width", ValueError, "x", {"x": x[:, 1:]}),
        ("a one-dimensional x", ValueError, "x", {"x": x[:, 0]}),
        ("an empty batch", ValueError, "x", {"x": x[:0, :], "y": y[:0, ...]}),
        ("fewer labels than inputs", ValueError, "y", {"y": y[1:, ...]}),
        ("a NaN in theta", ValueError, "theta", {"theta": put(broken_start)}),
        ("a short theta", ValueError, "theta", {"theta": theta[1:]}),
        ("theta as a list", TypeError, "theta", {"theta": case.start.tolist()}),
    ]
    for wrong in case.place.wrong_dtypes(case.batches[0][0]):
        bad.append((f"x of dtype {wrong.dtype}", TypeError, "x", {"x": wrong}))
    good = {"theta": theta, "x": x, "y": y}
    before = fingerprint((theta, state, x, y))
    expected = fingerprint(optimizer.update(theta, state, x, y)[0])
    for what, kind, name, changed in bad:
        now = good | changed
        arguments = (now["theta"], state, now["x"], now["y"])
        require_raises(f"update with {what}", kind, optimizer.update, *arguments, mention=(name,))
        require_raises(f"step with {what}", kind, optimizer.step, *arguments, mention=(name,))
        if name == "theta":
            require_raises(f"init with {what}", kind, optimizer.init, now["theta"], mention=(name,))
    require_unchanged("theta, state, x or y, after errors,", before, (theta, state, x, y))
    again = fingerprint(optimizer.update(theta, state, x, y)[0])
    require(again == expected, "after errors the same update gives another delta")


def overflow_is_an_error(case: OptimizerCase) -> None:
    """Huge inputs: a finite step or a NumericalError."""
    optimizer, theta, state = case.begin()
    inputs, labels = case.batches[0]
    huge = float(np.finfo(case.place.dtype).max) ** 0.75
    x, y = case.place.put((huge * inputs, labels))
    before = fingerprint((theta, state))
    try:
        with np.errstate(all="ignore"):
            delta, _, _ = optimizer.update(theta, state, x, y)
    except NumericalError:
        delta = None
    if delta is not None:
        bad = int(np.sum(~np.isfinite(host(delta))))
        require(bad == 0, f"inputs of size {huge:.1e} give a delta with {bad} NaN or infinite entries")
    require_unchanged("theta or state", before, (theta, state))


PROPERTIES = (
    delta_has_the_kind_of_theta,
    step_is_update_added_to_theta,
    update_is_pure,
    equal_optimizers_take_equal_steps,
    info_is_that_of_the_problem,
    draws_are_repeatable,
    draws_differ_between_steps,
    draws_follow_the_seed,
    unused_draws_are_refused,
    saved_state_continues_identically,
    foreign_state_is_refused,
    bad_arguments_are_refused,
    overflow_is_an_error,
)
