"""``grng-ref check``: an adapter, or result files of a foreign program, against test vectors."""

import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..arrays import BackendError

if TYPE_CHECKING:
    import typer


def register(app: "typer.Typer") -> None:
    """Add ``grng-ref check`` to the application."""
    import typer

    @app.command()
    def check(
        adapter: Annotated[
            str, typer.Argument(help="module:object; the current directory is on the path.")
        ] = "",
        results: Annotated[
            Path | None, typer.Option(help="Directory of result files, one .safetensors or .npz a case.")
        ] = None,
        vectors: Annotated[
            Path | None, typer.Option(help="Directory of test vectors; the shipped ones unless given.")
        ] = None,
        stages: Annotated[str, typer.Option(help="Only these stages, separated by commas.")] = "",
        cases: Annotated[str, typer.Option(help="Only these case ids, separated by commas.")] = "",
        out: Annotated[Path | None, typer.Option(help="Write the report: .json, .html or .md.")] = None,
    ) -> None:
        """Check an implementation stage by stage, and name the cause of what is wrong."""
        from ..testing.conformance import UserCodeError

        try:
            record = run_check(adapter, results, vectors, stages=stages, cases=cases, out=out)
        except (ValueError, OSError, BackendError) as error:
            if isinstance(error, UserCodeError) and error.__cause__ is not None:
                _print_traceback(error.__cause__)
            typer.echo(f"grng-ref check: {_printable(str(error))}", err=True)
            raise typer.Exit(2) from None
        raise typer.Exit(0 if record["ok"] else 1)


def run_check(
    adapter: str, results: Path | None, vectors: Path | None, *, stages: str, cases: str, out: Path | None
) -> dict[str, Any]:
    """Run the check, print and write its record."""
    from ..reports import print_conformance, write_conformance
    from ..testing.conformance import ResultFiles, check, load_adapter
    from ..testing.vectors import load_cases

    if bool(adapter) == (results is not None):
        raise ValueError("give either an adapter module:object or --results DIRECTORY")
    if out is not None:
        _probe(out)
    subject = ResultFiles(results) if results is not None else load_adapter(adapter)
    report = check(
        subject,
        load_cases(vectors),
        only=_listed(cases),
        stages=_listed(stages),
        name=adapter or _printable(str(results)),
    )
    record = report.to_dict()
    print_conformance(record)
    if out is not None:
        write_conformance(record, out)
    return record


def _listed(text: str) -> list[str] | None:
    return [part.strip() for part in text.split(",")] if text else None


def _probe(out: Path) -> None:
    """Whether the report can be written, before the work that it reports."""
    if out.suffix not in (".json", ".html", ".md"):
        raise ValueError(f"--out must end in .json, .html or .md, got {out.name!r}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"no such directory for the report: {str(out.parent)!r}")
    new = not os.path.lexists(out)
    with out.open("ab"):
        pass
    if new:
        out.unlink()


def _printable(text: str) -> str:
    """Names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _print_traceback(error: BaseException) -> None:
    """The user's own frames, as Python prints them."""
    package, frames = Path(__file__).parents[1], error.__traceback__
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        machinery = file.startswith("<frozen importlib") or file.endswith("importlib/__init__.py")
        if not machinery and not Path(file).is_relative_to(package):
            break
        frames = frames.tb_next
    traceback.print_exception(type(error), error, frames)
