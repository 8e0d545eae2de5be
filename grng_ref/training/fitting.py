"""`fit`: an optimizer, a problem and data, with records and checkpoints."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..arrays import (
    Array,
    NumericalError,
    check_integer,
    check_real,
    namespace,
    namespace_of_mixed,
    row_major_copy,
)
from ..environment import versions
from ..optimizers import Comparison, Optimizer, StepInfo
from ..optimizers.base import check_problem
from ..problem import Problem
from .batches import Batches
from .checkpoints import Position, check_writable, read_checkpoint, remove_leftovers, write_checkpoint
from .cost import check_optimizer, gradient_evaluations, passes_of_step
from .evaluation import alignment, evaluate, is_zero
from .identity import describe, describe_arrays, digest
from .records import (
    Record,
    RecordFile,
    check_unfinished_start,
    checked_path,
    cut_back,
    header,
    writable,
)
from .signals import stop_wishes


class Fit(NamedTuple):
    """What `fit` returns."""

    theta: Array  #: (P,), after the last good step
    state: Any  #: the optimizer's
    records: tuple[Record, ...]
    status: str  #: ``"finished"``, ``"interrupted"``, or ``"failed: ..."`` with the message of the error
    step: int  #: steps taken


def fit(
    problem: Problem,
    optimizer: Optimizer,
    theta: Array,
    x: Array,
    y: Array,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    validation: tuple[Array, Array] | None = None,
    align: float | None = None,
    every: int | None = None,
    records: str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = False,
    on_start: Callable[[int], None] | None = None,
    on_record: Callable[[Record], None] | None = None,
) -> Fit:
    """Train: ``theta, state, info = optimizer.step(theta, state, x_batch, y_batch)``, step after step.

    Parameters
    ----------
    problem : Problem
    optimizer : Optimizer
        A built-in one or one of that protocol, made for this problem. R-Kalman learns online: each batch is
        observed once an epoch, so that ``epochs=1`` is the filter's one pass.
    theta : array (P,)
        Where to start; not changed.
    x, y : arrays
        All training examples, of theta's library, dtype and device.
    epochs, steps : int
        How long, one of the two: passes over the examples, or steps.
    batch_size : int, optional
        Each epoch visits every example once, in batches of nearly equal size, at most this one, by the
        permutation of ``default_rng(SeedSequence(seed, spawn_key=(0, epoch)))`` of `numpy.random`.
        ``None``: all examples at each step, in their order.
    seed : int
        Of the permutations, which share no draws with ``problem.init(rng=seed)`` and with an optimizer of
        this seed.
    validation : (x, y), optional
        Other examples, for the records only.
    align : float, optional
        Compare recorded steps with ``-(F + align I)^{-1} g``, the exact damped natural step on the same
        batch; > 0. It costs a solve each time, which ``seconds`` does not include.
    every : int, optional
        Steps between two records; ``None``: one an epoch. There is a record of step 0 and of the last step.
    records : path, optional
        A file for the records, JSON lines; see docs/training.md for their schema.
    checkpoint : path, optional
        A file for the state of the run, replaced atomically every ``checkpoint_every`` steps (``None``: once
        an epoch) and at the end.
    checkpoint_every : int, optional
    resume : bool
        Go on from the checkpoint, if there is one, to results that are bit-identical to those of an
        uninterrupted run (except ``seconds``); records after it are cut off, and written again.
        ``epochs`` or ``steps`` count from the start of the run and may differ from those of the interrupted
        one. Without it, a records file or checkpoint that is there is refused.
    on_start : callable, optional
        Called once, before the first step of this call, with the number of steps that are taken already.
    on_record : callable, optional
        Called with each new `Record`.

    Returns
    -------
    Fit
        ``records`` are all since the start where there is a records file, else those of this call.

    Raises
    ------
    TypeError, ValueError
        Bad arguments; a checkpoint or records of another run.
    FileExistsError, FileNotFoundError
        A file that is there without ``resume``; a directory that is not.

    Notes
    -----
    A NumericalError of the optimizer ends the run with the status ``"failed: ..."``, in the records too, and
    the parameters before the failed step; checkpoints stay as they were. In the main thread, Ctrl-C and
    SIGTERM let the step in progress finish, write a checkpoint and end with ``"interrupted"``; a second
    signal raises KeyboardInterrupt at once. After a kill the last checkpoint is valid.
    """
    _check(problem, optimizer, theta, x, y, validation)
    batches = Batches(int(x.shape[0]), batch_size, seed)
    total = batches.total(epochs, steps)
    every = batches.per_epoch if every is None else check_integer("every", every, minimum=1)
    if align is not None:
        check_real("align", align, minimum=0.0, exclusive=True)
    if checkpoint_every is None:
        checkpoint_every = batches.per_epoch
    check_integer("checkpoint_every", checkpoint_every, minimum=1)
    for name, function in (("on_start", on_start), ("on_record", on_record)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} must be a function, got {type(function).__name__}")
    files = _Files(
        None if records is None else checked_path("records", records),
        None if checkpoint is None else checked_path("checkpoint", checkpoint),
    )
    files.check(resume)
    run = _Run(problem, optimizer, x, y, validation, batches, align, every, total)
    identity = run.identity(theta)
    start, kept = _start(run, theta, identity, files, resume)
    with RecordFile(files.records, append=bool(kept)) as out:
        if on_start is not None:
            on_start(start.step)
        return _Loop(run, files, out, identity, checkpoint_every, on_record).go(start, kept)


@dataclass(frozen=True, eq=False)
class _Run:
    """What is trained, and how; nothing here changes."""

    problem: Problem
    optimizer: Optimizer
    x: Array
    y: Array
    validation: tuple[Array, Array] | None
    batches: Batches
    align: float | None
    every: int
    total: int

    def identity(self, theta: Array) -> dict[str, Any]:
        """Everything that the results depend on, except how long the run is; as JSON gives it back."""
        found = {
            "optimizer": describe(self.optimizer),
            "problem": describe(self.problem),
            "start": digest(theta),
            "arrays": describe_arrays(theta),
            "data": [digest(self.x), digest(self.y)],
            "validation": describe(self.validation),
            "batches": describe(self.batches),
            "align": self.align,
            "every": self.every,
            "versions": versions(),
        }
        return json.loads(json.dumps(found))

    def recorded(self, step: int) -> bool:
        """Whether there is a record after so many steps."""
        return step % self.every == 0 or step == self.total

    def record(self, at: Position, info: StepInfo | None, seen: Comparison | None) -> Record:
        """The record of a position; info and comparison are those of its last step."""
        train = evaluate(self.problem, at.theta, self.x, self.y)
        other = None if self.validation is None else evaluate(self.problem, at.theta, *self.validation)
        return Record(
            step=at.step,
            epoch=at.step / self.batches.per_epoch,
            loss=train.loss,
            accuracy=train.accuracy,
            validation_loss=None if other is None else other.loss,
            validation_accuracy=None if other is None else other.accuracy,
            batch_loss=None if info is None else info.loss,
            gradient_norm=None if info is None else info.gradient_norm,
            damping=None if info is None else info.damping,
            step_norm=None if info is None else info.step_norm,
            solve_status=None if info is None or info.solve is None else info.solve.status,
            clipped=None if info is None else info.clipped,
            log_marginal=None if info is None else info.log_marginal,
            cosine=None if seen is None else seen.cosine,
            pearson=None if seen is None else seen.pearson,
            gradient_evaluations=gradient_evaluations(at.passes),
            seconds=at.seconds,
        )

    def advance(self, at: Position) -> tuple[Position, StepInfo, Comparison | None]:
        """One step, timed; compared with the exact direction where there is a record after it."""
        xb, yb = self.batches.take(self.x, self.y, at.step)
        before = time.perf_counter()
        theta, state, info = self.optimizer.step(at.theta, at.state, xb, yb)
        seconds = at.seconds + time.perf_counter() - before
        _require_numbers(self.optimizer, at.step, theta, info)
        seen = None
        if self.align is not None and self.recorded(at.step + 1):
            delta = theta - at.theta
            if info.gradient_norm > 0.0 and not is_zero(delta):
                seen = alignment(self.problem, at.theta, xb, yb, delta, damping=self.align)
        outputs = self.problem.model.sizes[-1]
        cost = passes_of_step(self.optimizer, at.step, outputs)
        passes = None if at.passes is None or cost is None else at.passes + cost
        return Position(theta, state, at.step + 1, passes, seconds), info, seen


def _require_numbers(optimizer: Any, step: int, theta: Array, info: StepInfo) -> None:
    """A NumericalError for parameters or numbers of the info that are no numbers: the run ends there."""
    numbers = {"gradient_norm": info.gradient_norm, "step_norm": info.step_norm, "loss": info.loss}
    bad = [
        f"info.{name}" for name, value in numbers.items() if value is not None and not math.isfinite(value)
    ]
    if not bool(namespace(theta=theta).all(namespace(theta=theta).isfinite(theta))):
        bad.insert(0, "parameters")
    if bad:
        raise NumericalError(f"step {step}: {type(optimizer).__name__} gave {', '.join(bad)} not finite")


@dataclass(frozen=True)
class _Files:
    """The two files of a run, either of which may be absent."""

    records: Path | None
    checkpoint: Path | None

    def check(self, resume: bool) -> None:
        """Refuse what cannot be written, and what would be overwritten."""
        if resume and self.checkpoint is None:
            raise ValueError("checkpoint must be given with resume=True (--resume), got None")
        if self.records and self.checkpoint and self.records.resolve() == self.checkpoint.resolve():
            raise ValueError(
                f"records and checkpoint must be two files, got {str(self.records)!r} and "
                f"{str(self.checkpoint)!r}"
            )
        for name, path in (("records", self.records), ("checkpoint", self.checkpoint)):
            if path is None:
                continue
            if not path.parent.is_dir():
                raise FileNotFoundError(f"{name} needs an existing directory, got {str(path.parent)!r}")
            with writable(name, path):
                there = path.exists()
            if there and not resume:
                raise FileExistsError(
                    f"{name} must be a new file, got {str(path)!r}, which exists: resume=True (--resume) "
                    "goes on with it"
                )
        if self.checkpoint is not None:
            check_writable(self.checkpoint)


@dataclass(frozen=True, eq=False)
class _Loop:
    """The loop over steps, and the order in which files are written: a record before its checkpoint."""

    run: _Run
    files: _Files
    out: RecordFile
    identity: dict[str, Any]
    checkpoint_every: int
    on_record: Callable[[Record], None] | None

    def go(self, start: Position, kept: tuple[Record, ...]) -> Fit:
        """Run to the end, to a signal, or to a failed step."""
        at, found = start, list(kept)
        with stop_wishes() as wish:
            try:
                if not kept and at.step == 0:
                    self.out.write("run", header(self.identity))
                    self.note(found, self.run.record(at, None, None))
                    self.save(at)
                while at.step < self.run.total and not wish.stop:
                    after, info, seen = self.run.advance(at)
                    if self.run.recorded(after.step):
                        self.note(found, self.run.record(after, info, seen))
                    at = after
                    if at.step % self.checkpoint_every == 0 or at.step == self.run.total:
                        self.save(at)
                status = "finished" if at.step == self.run.total else "interrupted"
                if status == "interrupted":
                    self.save(at)
            except NumericalError as error:
                status = f"failed: {error}"
            self.out.write("end", {"status": status, "step": at.step})
            self.out.sync()
        return Fit(at.theta, at.state, tuple(found), status, at.step)

    def note(self, found: list[Record], record: Record) -> None:
        """Keep, write and report a record."""
        found.append(record)
        self.out.write("record", record._asdict())
        if self.on_record is not None:
            self.on_record(record)

    def save(self, at: Position) -> None:
        """Write the checkpoint, after the records that it relies on have reached the disk."""
        if self.files.checkpoint is not None:
            self.out.sync()
            write_checkpoint(self.files.checkpoint, at, self.identity)


def _start(
    run: _Run, theta: Array, identity: dict[str, Any], files: _Files, resume: bool
) -> tuple[Position, tuple[Record, ...]]:
    """Where to start, and the records that are there already."""
    if files.checkpoint is not None and resume:
        remove_leftovers(files.checkpoint)
        if files.checkpoint.exists():
            at = read_checkpoint(files.checkpoint, theta, identity)
            if at.step > run.total:
                raise ValueError(
                    f"steps must be at least those of the checkpoint, {at.step}, got {run.total}"
                )
            if files.records is None:
                return at, ()
            if not files.records.exists():
                raise FileNotFoundError(
                    f"records must be those of the checkpoint's run, got {str(files.records)!r}, which is "
                    "not there"
                )
            steps = [step for step in range(at.step + 1) if run.recorded(step)]
            return at, cut_back(files.records, steps, identity)
        if files.records is not None and files.records.exists():
            check_unfinished_start(files.records, identity)
    own = row_major_copy(theta)
    return Position(own, run.optimizer.init(own), 0, 0, 0.0), ()


# --- checks ------------------------------------------------------------------------------------------------


def _check(problem: Any, optimizer: Any, theta: Array, x: Array, y: Array, validation: Any) -> None:
    """Raise for bad arguments before anything is written."""
    check_problem(problem)
    check_optimizer(optimizer)
    namespace(theta=theta, x=x)
    namespace_of_mixed(theta=theta, y=y)
    problem.loss(theta, x, y)
    if validation is not None:
        if not isinstance(validation, tuple) or len(validation) != 2:
            raise TypeError(f"validation must be a pair (x, y), got {type(validation).__name__}")
        problem.loss(theta, *validation)
