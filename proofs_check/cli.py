"""Command line of the verification suite: ``proofs-check [run FILE | list | show | verify | table]``."""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast

import typer

import grng_ref as gr

from . import terminal
from .claim import DEFAULT_SUITE, ClaimFileError, Suite, load_suite
from .context import Run
from .report import check_suffix, to_json, to_record, to_tex, write_report
from .report.tables import markdown_table
from .runner import run_suite, select
from .sweep import jobs_of, parse_sweep
from .verify import PROVED, REFUSED, UNCHECKED, check_format, verify

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
Seeds = Annotated[int, typer.Option(help="How many seeds, from --seed on.")]
Sweep = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=VALUES for a parameter: width=64:8192 doubles, eta=0.5,1 lists; several make a grid."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The machine-readable result on standard output.")]
File = Annotated[Path | None, typer.Option(help="A Python file with claims, in place of the default suite.")]
Record = Annotated[Path, typer.Argument(help="A record: what --out FILE.json wrote.")]
Out = Annotated[
    list[Path] | None,
    typer.Option(help="Write a report; the suffix says how: json, md, html or tex; repeat it for several."),
]


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
    seeds: Seeds = 1,
    sweep: Sweep = None,
    json_: Json = False,
    out: Out = None,
) -> None:
    """Compare the structured and the Kalman updates with the exact inverse-Fisher updates.

    Without a command, runs the default suite. Exit status: 0 every verdict is as expected and every planted
    error was caught, 1 something is not, 2 wrong use, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        settings = (backend, dtype, device, full, seed)
        _run(DEFAULT_SUITE, only, settings, jobs, seeds, sweep or [], json_, out or [])
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
    seeds: Seeds = 1,
    sweep: Sweep = None,
    json_: Json = False,
    out: Out = None,
) -> None:
    """Run the claims of a file of your own, at each point of a sweep and with each seed."""
    _run(file, only, (backend, dtype, device, full, seed), jobs, seeds, sweep or [], json_, out or [])


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
    if claim.full:
        typer.echo(f"  in a full run: {json.dumps(dict(claim.full))}")
    typer.echo("  how it could fail:")
    for line in (claim.doc or "(its docstring does not say)").splitlines():
        typer.echo(f"    {line}".rstrip())


@app.command("verify")
def verify_record(file: Record) -> None:
    """Prove the certificates and witnesses of a record again. 0: at least one, and none refused; 1: not."""
    with _wrong_use():
        record = _read(file)
    counts: Counter[str] = Counter()
    for one in verify(record):
        counts[one.outcome] += 1
        if one.outcome != PROVED:
            typer.echo(f"{one.outcome}: {one.name}: {one.what}: {one.reason}")
    checked = counts[PROVED] + counts[REFUSED]
    nothing = "" if checked else "NOTHING CHECKED: "
    typer.echo(
        f"{nothing}{checked} checked: {counts[PROVED]} proved again, {counts[REFUSED]} refused; "
        f"{counts[UNCHECKED]} could not be checked"
    )
    raise typer.Exit(0 if counts[PROVED] and not counts[REFUSED] else 1)


@app.command("table")
def table(
    file: Record,
    format: Annotated[str, typer.Option(help="latex (with booktabs) or markdown.")] = "markdown",
) -> None:
    """Print the table of verdicts of a record."""
    makers = {"latex": to_tex, "markdown": markdown_table}
    with _wrong_use():
        if format not in makers:
            raise ValueError(f"format must be latex or markdown, got {format!r}")
        record = _read(file)
        try:
            text = makers[format](record)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the record is damaged: {type(error).__name__}: {error}") from None
    sys.stdout.write(text)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    check_format(record)
    return cast("dict[str, Any]", record)


def _run(
    origin: str | Path,
    only: list[str] | None,
    settings: tuple[str, str, str | None, bool, int],
    jobs: int,
    seeds: int,
    swept: list[str],
    as_json: bool,
    out: list[Path],
) -> None:
    """Everything that can be wrong with the command is found before the first claim runs."""
    backend, dtype, device, full, seed = settings
    with _wrong_use():
        run = Run(backend, dtype, device, full, seed)
        for path in out:
            check_suffix(path)
            _check_writable(path)
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
        sweep = parse_sweep(swept)
        planned = jobs_of(select(suite, patterns), run, sweep, seeds)
    with terminal.progress(len(planned)) as bar:
        result = run_suite(
            suite,
            run,
            only=patterns,
            jobs=jobs,
            sweep=sweep,
            seeds=seeds,
            on_result=bar.finish,
            on_start=bar.start,
        )
    record = to_record(result)
    # printed first: the disk may have filled up while the claims ran
    if as_json:
        sys.stdout.write(to_json(record))
    else:
        terminal.print_result(record, sys.stdout)
    for path in out:
        with _wrong_use():
            write_report(result, path)
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
