"""``grng-ref check``: an adapter, or result files of a foreign program, against test vectors."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
        try:
            record = run_check(adapter, results, vectors, stages=stages, cases=cases, out=out)
        except (ValueError, OSError, ImportError, AttributeError, KeyError) as error:
            typer.echo(f"grng-ref check: {error}", err=True)
            raise typer.Exit(2) from None
        raise typer.Exit(0 if record["ok"] else 1)


def run_check(
    adapter: str, results: Path | None, vectors: Path | None, *, stages: str, cases: str, out: Path | None
) -> dict[str, Any]:
    """Run the check, print and write its record."""
    from grng_ref.reports import print_conformance, write_conformance
    from grng_ref.testing.conformance import ResultFiles, check, load_adapter
    from grng_ref.testing.vectors import load_cases

    if bool(adapter) == (results is not None):
        raise ValueError("give either an adapter module:object or --results DIRECTORY")
    if out is not None and out.suffix not in (".json", ".html", ".md"):
        raise ValueError(f"--out must end in .json, .html or .md, got {out.name!r}")
    if out is not None and not out.parent.is_dir():
        raise FileNotFoundError(f"no such directory for the report: {out.parent}")
    subject = ResultFiles(results) if results is not None else load_adapter(adapter)
    loaded = load_cases(vectors)
    if cases:
        wanted = cases.split(",")
        missing = sorted(set(wanted) - {case.id for case in loaded})
        if missing:
            raise ValueError(f"no such case: {', '.join(missing)}")
        loaded = tuple(case for case in loaded if case.id in wanted)
    report = check(
        subject, loaded, stages=stages.split(",") if stages else None, name=adapter or str(results)
    )
    record = report.to_dict()
    print_conformance(record)
    if out is not None:
        write_conformance(record, out)
    return record
