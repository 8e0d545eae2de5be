"""``grng-ref train``: any optimizer on any of the data sets, with records, checkpoints and resumption."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grng_ref import data, optimizers, training
from grng_ref.arrays import BackendError, NumericalError, asarray, check_choice, check_integer, stream
from grng_ref.models import MLP
from grng_ref.optimizers import Optimizer
from grng_ref.problem import Problem
from grng_ref.training import Fit, Record
from grng_ref.training.batches import Batches

if TYPE_CHECKING:
    import typer

# What an optimizer needs and was not given: values that train every data set, tuned for none.
DEFAULTS: dict[str, dict[str, float]] = {
    "ngd": {"lr": 0.5, "damping": 0.1},
    "ring": {"lr": 0.5, "damping": 0.1, "rho": 0.1},
    "reng": {"lr": 0.5, "damping": 0.1, "rho": 0.1},
    "kfac": {"lr": 0.05, "damping": 0.1},
    "sgd": {"lr": 0.1},
    "adamw": {"lr": 0.01},
    "sophia": {"lr": 0.003},
    "rkalman": {},
}
SCHEDULED = ("lr", "damping", "rho")


def register(app: typer.Typer) -> None:
    """Add ``grng-ref train`` to the application."""
    import typer

    @app.command()
    def train(
        name: str = typer.Option("digits", "--data", help=f"Data set: {', '.join(data.NAMES)}."),
        optimizer: str = typer.Option("ring", help=f"{', '.join(DEFAULTS)}."),
        lr: str | None = typer.Option(None, help="VALUE or SCHEDULE:VALUE, such as cosine:0.5."),
        damping: str | None = typer.Option(None, help="VALUE or SCHEDULE:VALUE."),
        rho: str | None = typer.Option(None, help="Gradient regularization: VALUE or SCHEDULE:VALUE."),
        settings: list[str] | None = typer.Option(
            None, "--set", help="NAME=VALUE: another argument of the optimizer; repeat it."
        ),
        hidden: str = typer.Option("16", help="Widths of the hidden layers, such as 32,16."),
        activation: str = typer.Option("tanh", help="Of the hidden layers."),
        epochs: int | None = typer.Option(None, help="Passes over the training examples (10)."),
        steps: int | None = typer.Option(None, help="Steps, in place of --epochs."),
        batch_size: int = typer.Option(128, help="Examples a step at most; 0: all."),
        seed: int = typer.Option(0, help="Of first parameters, batches and the optimizer's draws."),
        data_seed: int = typer.Option(0, help="Of the split of the data."),
        size: int | None = typer.Option(None, help="Examples of all parts together at most."),
        backend: str = typer.Option(
            "numpy", envvar="GRNG_BACKEND", help="numpy, cupy, torch, jax or array_api_strict."
        ),
        device: str | None = typer.Option(None, help="The backend's name of a device, such as cuda:0."),
        dtype: str = typer.Option("float64", help="float64 or float32."),
        align: float | None = typer.Option(
            None, help="Compare recorded steps with the exact natural step of this damping."
        ),
        every: int | None = typer.Option(None, help="Steps between records (one an epoch)."),
        records: Path | None = typer.Option(None, help="Write records there, JSON lines."),
        checkpoint: Path | None = typer.Option(None, help="Keep the state of the run there."),
        checkpoint_every: int | None = typer.Option(None, help="Steps between checkpoints (one an epoch)."),
        resume: bool = typer.Option(False, "--resume", help="Go on from the checkpoint, if there is one."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON object, for machines."),
    ) -> None:
        """Train a network on one of the data sets that need no download.

        Exit status: 0 finished, 1 a step failed, 2 wrong use, 130 interrupted (Ctrl-C or SIGTERM: the
        step in progress is finished and the checkpoint written).
        """
        with _wrong_use():
            if backend == "jax":  # labels are int64 also beside float32
                os.environ.setdefault("JAX_ENABLE_X64", "1")  # read when JAX is first imported
            check_choice("--data", name, data.NAMES)
            check_choice("--optimizer", optimizer, tuple(DEFAULTS))
            check_integer("--data-seed", data_seed, minimum=0)
            loaded = data.load(name, rng=data_seed, size=size)
            if epochs is None and steps is None:
                epochs = 10
            batches = Batches(len(loaded.x_train), batch_size or None, seed)
            total = batches.total(epochs, steps)
            sizes = (loaded.inputs, *_widths(hidden), loaded.outputs)
            on_device: dict[str, Any] = {"backend": backend, "dtype": dtype, "device": device}
            problem = Problem(MLP(sizes, activation=activation), loaded.likelihood)
            theta = problem.init(rng=stream(seed, "parameters"), **on_device)
            arrays = asarray(
                {
                    part: (getattr(loaded, f"x_{part}"), getattr(loaded, f"y_{part}"))
                    for part in ("train", "validation", "test")
                },
                **on_device,
            )
            given = {"lr": lr, "damping": damping, "rho": rho}
            made = _make_optimizer(problem, optimizer, given, settings or [], seed, total)
            origin = (
                f"from {checkpoint}" if checkpoint and checkpoint.exists() else "there is no checkpoint yet"
            )
            with _progress(total, quiet=as_json) as show:

                def started(step: int) -> None:
                    if resume:
                        _tell(f"starts at step {step} of {total}, {origin}")
                    show(step, "")

                fitted = training.fit(
                    problem,
                    made,
                    theta,
                    *arrays["train"],
                    epochs=epochs,
                    steps=steps,
                    batch_size=batches.batch_size,
                    seed=seed,
                    validation=arrays["validation"],
                    align=align,
                    every=every,
                    records=records,
                    checkpoint=checkpoint,
                    checkpoint_every=checkpoint_every,
                    resume=resume,
                    on_start=started,
                    on_record=lambda record: show(record.step, _brief(record)),
                )
        if fitted.status == "interrupted":
            kept = "it cannot be resumed without --checkpoint" if checkpoint is None else "--resume goes on"
            _tell(f"interrupted after step {fitted.step} of {total}: {kept}")
        summary = _summary(loaded, optimizer, fitted, problem, arrays["test"])
        if as_json:
            print(json.dumps(summary, indent=2, allow_nan=False))
        else:
            _print_summary(summary)
        raise typer.Exit({"finished": 0, "interrupted": 130}.get(summary["status"], 1))


# --- from words to objects ---------------------------------------------------------------------------------


def _make_optimizer(
    problem: Problem,
    name: str,
    given: dict[str, str | None],
    settings: list[str],
    seed: int,
    total: int,
) -> Optimizer:
    """The optimizer of that name with these options; schedules run over so many steps."""
    factory: Callable[..., Any] = getattr(optimizers, name)
    known = [p.name for p in inspect.signature(factory).parameters.values() if p.kind is p.KEYWORD_ONLY]
    options: dict[str, Any] = dict(DEFAULTS[name])
    if "seed" in known:
        options["seed"] = seed
    for key, text in given.items():
        if text is not None:
            options[key] = _scheduled(f"--{key}", text, total)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set must be NAME=VALUE, got {setting!r}")
        options[key] = _scheduled(f"--set {key}", text, total) if key in SCHEDULED else _value(text)
    for key in options:
        if key not in known:
            raise ValueError(
                f"--set and its like must name arguments of {name}: {', '.join(known)}; got {key!r}"
            )
    return factory(problem, **options)


def _scheduled(name: str, text: str, total: int) -> Any:
    """A number, or a schedule from ``name:number``."""
    kind, colon, number = text.rpartition(":")
    try:
        value = float(number)
        return training.schedule(kind, value, steps=total) if colon else value
    except ValueError as error:
        raise ValueError(f"{name} must be VALUE or SCHEDULE:VALUE, got {text!r}: {error}") from None


def _value(text: str) -> Any:
    """A JSON value, or the text itself; a list is a tuple."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _widths(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"--hidden must be widths such as 32,16, got {text!r}")
    return tuple(int(part) for part in parts)


@contextlib.contextmanager
def _wrong_use() -> Iterator[None]:
    """One line on standard error and exit status 2 for what the arguments, files or packages lack."""
    try:
        yield
    except (TypeError, ValueError, OSError, ModuleNotFoundError, BackendError) as error:
        _tell(str(error))
        raise SystemExit(2) from None


def _tell(message: str) -> None:
    print(f"grng-ref train: {message}", file=sys.stderr)


# --- what is shown -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(total: int, *, quiet: bool) -> Iterator[Callable[[int, str], None]]:
    """A bar on standard error, set by ``show(step, text)``, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    if quiet or not sys.stderr.isatty():
        yield lambda step, text: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda step, text: bar.update(task, completed=step, description=text)


def _brief(record: Record) -> str:
    parts = [("loss", record.loss), ("validation", record.validation_loss), ("cosine", record.cosine)]
    return "  ".join(f"{name} {value:.4g}" for name, value in parts if value is not None)


def _summary(
    loaded: data.DataSet, optimizer: str, fitted: Fit, problem: Problem, test: tuple[Any, Any]
) -> dict[str, Any]:
    """The run in one object; the test set is looked at here, once."""
    last = fitted.records[-1]._asdict() if fitted.records else None
    status, seen = fitted.status, None
    try:
        seen = training.evaluate(problem, fitted.theta, *test)
    except NumericalError as error:
        status = f"failed: test part: {error}" if status == "finished" else status
    return {
        "status": status,
        "step": fitted.step,
        "data": loaded.name,
        "source": loaded.source,
        "optimizer": optimizer,
        "parameters": problem.num_parameters,
        "test_loss": seen and seen.loss,
        "test_accuracy": seen and seen.accuracy,
        "optimum": loaded.optimum,
        "last_record": last,
    }


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = {key: value for key, value in summary.items() if key != "last_record"}
    rows |= summary["last_record"] or {}
    table = Table.grid(padding=(0, 2))
    for key, value in rows.items():
        if value is not None:
            table.add_row(Text(key), Text(f"{value:.6g}" if isinstance(value, float) else str(value)))
    Console().print(table)
