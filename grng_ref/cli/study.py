"""``grng-ref study``: run the comparison, redo it from its JSON, or make its page again."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from grng_ref.arrays import BackendError
from grng_ref.environment import require_extra

if TYPE_CHECKING:
    import typer

SUFFIXES = (".json", ".html", ".md")  # in the order in which they are written
_SUFFIXES = ", ".join(SUFFIXES)


def register(app: typer.Typer) -> None:
    """Add ``grng-ref study`` to the application."""
    import typer

    @app.command()
    def study(
        quick: bool = typer.Option(False, "--quick", help="Two small data sets, few trials."),
        data: list[str] | None = typer.Option(None, help="Only this data set of the protocol; repeat it."),
        trials: int | None = typer.Option(None, help="Tuning trials of every entry."),
        seeds: int | None = typer.Option(None, help="Final runs of every entry."),
        seed: int | None = typer.Option(None, help="Of splits, search and runs."),
        jobs: int = typer.Option(1, help="Processes; more than the cores spoil the times."),
        again: Path | None = typer.Option(
            None, "--from", help="Redo the study of this JSON; compare the runs."
        ),
        report: Path | None = typer.Option(None, "--report", help="Run nothing: report this JSON."),
        out: list[Path] | None = typer.Option(None, help="Write the result: json, html or md; repeat it."),
    ) -> None:
        """Compare RING, RENG and R-Kalman with SGD, AdamW, K-FAC and Sophia under one protocol.

        With a json among the outputs, finished runs are kept beside it until it is written: a study that was
        interrupted goes on if the same command is given again.

        Exit status: 0 the protocol was kept, 1 it was not, or --from gave other runs, 2 wrong use,
        130 interrupted.
        """
        require_extra("grng-ref study", extra="verify", modules=("joblib", "matplotlib", "sklearn"))
        from grng_ref.training.stored import read_study

        paths = sorted(out or [], key=lambda path: SUFFIXES.index(_suffix(path)))
        chosen = {"trials": trials, "seeds": seeds, "seed": seed}
        given = {k: v for k, v in chosen.items() if v is not None}
        if again and any(path.exists() and path.samefile(again) for path in paths):
            _refuse("out must be another file than that of --from, which it would replace")
        if ((again or report) and (quick or data or given)) or (again and report):
            _refuse("--from and --report take the stored protocol: no other option but --jobs and --out")
        journal = next((p.with_name(p.name + ".runs") for p in paths if p.suffix == ".json"), None)
        try:
            before = read_study(again) if again else None
            result = (
                read_study(report) if report else _run(_planned(before, quick, data, given), jobs, journal)
            )
        except (TypeError, ValueError, OSError, ModuleNotFoundError, BackendError) as error:
            _refuse(str(error))
        except KeyboardInterrupt:
            kept = (
                f"finished runs are in {journal}" if journal else "without --out study.json nothing is kept"
            )
            print(f"\ninterrupted: {kept}", file=sys.stderr)
            raise typer.Exit(130) from None
        status = _finish(result, before, paths)
        if journal and not report:
            journal.unlink(missing_ok=True)
        raise typer.Exit(status)


def _suffix(path: Path) -> str:
    """The suffix of an output, if it can be written, before anything runs."""
    from grng_ref.training.stored import probe

    if path.suffix not in SUFFIXES or not path.parent.is_dir():
        _refuse(f"out must be a {_SUFFIXES} file in an existing directory, got {str(path)!r}")
    try:
        probe(path)
    except OSError as error:
        _refuse(f"out must be a file that can be written: {error}")
    return path.suffix


def _planned(
    before: dict[str, Any] | None, quick: bool, data: list[str] | None, given: dict[str, Any]
) -> tuple[Any, Any]:
    """Protocol and entries."""
    from grng_ref.training.entries import default_entries
    from grng_ref.training.studies import QUICK_PROTOCOL, Protocol, entries_of

    if before is not None:
        return Protocol.of(before["protocol"]), entries_of(before)
    protocol = dataclasses.replace(QUICK_PROTOCOL if quick else Protocol(), **given)
    if data:
        known = {plan.name: plan for plan in protocol.plans}
        unknown = set(data) - set(known)
        if unknown:
            raise ValueError(f"data must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
        protocol = dataclasses.replace(protocol, plans=tuple(known[name] for name in dict.fromkeys(data)))
    return protocol, default_entries()


def _run(planned: tuple[Any, Any], jobs: int, journal: Path | None) -> dict[str, Any]:
    from grng_ref.training.stored import to_json_and_back
    from grng_ref.training.studies import study

    def progress(done: int, total: int, what: str) -> None:
        if sys.stderr.isatty() or done in (1, total) or done % 50 == 0:
            print(
                f"\r{what}: {done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True
            )

    protocol, entries = planned
    return to_json_and_back(study(protocol, entries=entries, jobs=jobs, progress=progress, journal=journal))


def _finish(result: dict[str, Any], before: dict[str, Any] | None, out: list[Path]) -> int:
    from grng_ref.reports import study_html, study_lines, study_markdown
    from grng_ref.training.stored import replace_file

    print("\n".join(study_lines(result)))
    write: dict[str, Callable[[dict[str, Any]], str]] = {
        ".json": lambda result: json.dumps(result, allow_nan=False),
        ".html": study_html,
        ".md": study_markdown,
    }
    for path in out:
        replace_file(path, write[path.suffix](result))
    status = 1 if result["audit"] else 0
    if before is not None:
        from grng_ref.training.studies import differences

        found = differences(before, result)
        said = "yes" if not found else f"no, {len(found)} runs differ"
        print(f"all but the seconds bit-identical to the stored: {said}")
        status = 1 if found else status
    return status


def _refuse(message: str) -> NoReturn:
    print(f"grng-ref study: {message}", file=sys.stderr)
    raise SystemExit(2)
