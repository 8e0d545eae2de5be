"""Command line of the verification suite (typer, rich): ``proofs-check [run FILE | list | show ID]``."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

import grng_ref as gr

from . import terminal
from .claim import DEFAULT_SUITE, ClaimFileError, Suite, load_suite
from .context import Run
from .report import check_suffix, to_json, to_record, write_report
from .runner import run_suite, select

# plain help and messages: typer's decorated ones write control characters where the environment asks for it
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

Only = Annotated[
    list[str] | None,
    typer.Option(help="Ids or patterns such as 'ring-*'; repeat it, or separate by commas."),
]
Backend = Annotated[
    str,
    typer.Option(envvar="GRNG_BACKEND", help="numpy, cupy, torch, jax or array_api_strict."),
]
Device = Annotated[str | None, typer.Option(help="The backend's name of a device, such as cuda:0.")]
Dtype = Annotated[str, typer.Option(help="float64 or float32.")]
Jobs = Annotated[int, typer.Option(help="Worker processes.")]
Full = Annotated[bool, typer.Option("--full", help="The full number of trials where a claim samples.")]
Seed = Annotated[int, typer.Option(help="Offset of all random draws.")]
Json = Annotated[bool, typer.Option("--json", help="The machine-readable result on standard output.")]
File = Annotated[Path | None, typer.Option(help="A Python file with claims, in place of the default suite.")]
Out = Annotated[Path | None, typer.Option(help="Write a report; the suffix says how: json, md, html or tex.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"proofs-check {gr.__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
]


@app.callback(invoke_without_command=True)
def check(
    context: typer.Context,
    version: Version = False,
    only: Only = None,
    backend: Backend = "numpy",
    device: Device = None,
    dtype: Dtype = "float64",
    jobs: Jobs = 1,
    full: Full = False,
    seed: Seed = 0,
    json_: Json = False,
    out: Out = None,
) -> None:
    """Compare the structured and the Kalman updates with the exact inverse-Fisher updates.

    Without a command, runs the default suite. Exit status: 0 every verdict is as expected and every planted
    error was caught, 1 something is not, 2 wrong use, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        _run(DEFAULT_SUITE, only, (backend, dtype, device, full, seed), jobs, json_, out)
        return
    # they would be dropped silently: the commands have options of their own
    given = [n for n in context.params if _on_command_line(context, n)]
    if given:
        names = ", ".join("--" + name.rstrip("_") for name in given)
        raise typer.BadParameter(f"{names}: options go after the command {context.invoked_subcommand!r}")


@app.command("run")
def run_file(
    file: Annotated[Path, typer.Argument(help="A Python file with claims.")],
    only: Only = None,
    backend: Backend = "numpy",
    device: Device = None,
    dtype: Dtype = "float64",
    jobs: Jobs = 1,
    full: Full = False,
    seed: Seed = 0,
    json_: Json = False,
    out: Out = None,
) -> None:
    """Run the claims of a file of your own."""
    _run(file, only, (backend, dtype, device, full, seed), jobs, json_, out)


@app.command("list")
def list_claims(file: File = None) -> None:
    """List the claims of the default suite, or of a file of your own."""
    with _wrong_use():
        suite = _load(file or DEFAULT_SUITE)
    rows = [(c.id, c.kind, c.expected, " ".join(c.statement.split())) for c in suite.claims]
    terminal.print_claims(rows, ("claim", "kind", "expected", "statement"), sys.stdout)


@app.command("show")
def show(id: Annotated[str, typer.Argument(help="A claim's id.")], file: File = None) -> None:
    """Show one claim: statement, source, kind, expected verdict, parameters, how it could fail."""
    with _wrong_use():
        suite = _load(file or DEFAULT_SUITE)
        if id not in (one.id for one in suite.claims):
            of = f" --file {file}" if file else ""
            raise ValueError(f"no claim {id!r}; proofs-check list{of} names them all{_similar(id, suite)}")
    claim = suite[id]
    typer.echo(claim.id)
    for name in ("statement", "source", "kind", "expected"):
        typer.echo(f"  {name}: {getattr(claim, name)}")
    typer.echo(f"  params: {json.dumps(dict(claim.params))}")
    typer.echo("  how it could fail:")
    for line in (claim.doc or "(its docstring does not say)").splitlines():
        typer.echo(f"    {line}".rstrip())


def _run(
    origin: str | Path,
    only: list[str] | None,
    settings: tuple[str, str, str | None, bool, int],
    jobs: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Everything that can be wrong with the command is found before the first claim runs."""
    backend, dtype, device, full, seed = settings
    with _wrong_use():
        run = Run(backend, dtype, device, full, seed)
        if out is not None:
            check_suffix(out)
            _check_writable(out)
        if jobs < 1:
            raise ValueError(f"jobs must be at least 1, got {jobs}")
        if backend == "jax" and dtype == "float64":
            # this process and its workers are ours: JAX reads the variable when it is first imported
            os.environ.setdefault("JAX_ENABLE_X64", "1")
        run.check_available()
        suite = _load(origin)
        patterns = [part.strip() for text in only or () for part in text.split(",") if part.strip()]
        if only and not patterns:
            raise ValueError(f"only must name ids or patterns, got {', '.join(map(repr, only))}")
        chosen = select(suite, patterns)
    with terminal.progress(len(chosen)) as bar:
        result = run_suite(
            suite, run, only=patterns, jobs=jobs, on_result=bar.finish, on_start=bar.start
        )  # fmt: skip
    record = to_record(result)
    # printed first: the disk may have filled up while the claims ran
    if as_json:
        sys.stdout.write(to_json(record))
    else:
        terminal.print_result(record, sys.stdout)
    if out is not None:
        with _wrong_use():
            write_report(result, out)
    if result.interrupted:
        raise typer.Exit(130)
    raise typer.Exit(0 if result.ok else 1)


def _check_writable(path: Path) -> None:
    """Raise unless the report can be written here; what stands there stays as it is."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such directory for the report: {path.parent}")
    existed = path.exists()
    with path.open("a"):
        pass
    if not existed:
        path.unlink()


def _load(origin: str | Path) -> Suite:
    """Load a suite; what its files print while they load goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        try:
            return load_suite(origin)
        except (FileNotFoundError, ClaimFileError):
            raise
        except (Exception, SystemExit) as error:  # whatever the file itself raised, with its line
            traceback.print_exc()
            raise ValueError(f"{origin} cannot be loaded: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _wrong_use() -> Iterator[None]:
    """Turn the errors of a wrong command into a message and exit status 2."""
    try:
        yield
    except (ValueError, OSError, gr.BackendError) as error:
        typer.echo(f"proofs-check: {error}", err=True)
        raise typer.Exit(2) from None


def _similar(id: str, suite: Suite) -> str:
    close = difflib.get_close_matches(id, [one.id for one in suite.claims])
    return f"; similar: {', '.join(close)}" if close else ""


def _on_command_line(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
