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

SUFFIXES = (".json", ".html", ".md")
_SUFFIXES = ", ".join(SUFFIXES)


def register(app: typer.Typer) -> None:
    """Add ``grng-ref study`` to the application."""
    import typer

    @app.command()
    def study(
        quick: bool = typer.Option(False, "--quick", help="Two small data sets, few trials and seeds."),
        data: list[str] | None = typer.Option(None, help="Only this data set of the protocol; repeat it."),
        trials: int | None = typer.Option(None, help="Tuning trials of every entry."),
        seeds: int | None = typer.Option(None, help="Final runs of every entry."),
        seed: int | None = typer.Option(None, help="Of splits, search and runs."),
        jobs: int = typer.Option(1, help="Processes; more than the cores spoil the times."),
        again: Path | None = typer.Option(
            None, "--from", help="Redo the study of this JSON; compare the losses."
        ),
        report: Path | None = typer.Option(None, "--report", help="Run nothing: report this JSON."),
        out: list[Path] | None = typer.Option(None, help="Write the result: json, html or md; repeat it."),
    ) -> None:
        """Compare RING, RENG and R-Kalman with SGD, AdamW, K-FAC and Sophia under one protocol.

        Exit status: 0 the protocol was kept, 1 it was not, or --from gave other losses, 2 wrong use.
        """
        require_extra("grng-ref study", extra="verify", modules=("joblib", "matplotlib", "sklearn"))
        for path in out or []:
            if path.suffix not in SUFFIXES or not path.parent.is_dir():
                _refuse(f"out must be a {_SUFFIXES} file in an existing directory, got {str(path)!r}")
        chosen = {"trials": trials, "seeds": seeds, "seed": seed}
        given = {k: v for k, v in chosen.items() if v is not None}
        if ((again or report) and (quick or data or given)) or (again and report):
            _refuse("--from and --report take the stored protocol: no other option but --jobs and --out")
        try:
            before = _read(again) if again else None  # now: --out may name the same file
            result = _read(report) if report else _run(_protocol(before, quick, data, given), jobs)
        except (TypeError, ValueError, KeyError, OSError, ModuleNotFoundError, BackendError) as error:
            _refuse(str(error))
        raise typer.Exit(_finish(result, before, out or []))


def _protocol(
    before: dict[str, Any] | None, quick: bool, data: list[str] | None, given: dict[str, Any]
) -> Any:
    from grng_ref.training.studies import QUICK_PROTOCOL, Protocol

    if before is not None:
        return Protocol.of(before["protocol"])
    protocol = dataclasses.replace(QUICK_PROTOCOL if quick else Protocol(), **given)
    if data:
        known = {plan.name: plan for plan in protocol.plans}
        unknown = set(data) - set(known)
        if unknown:
            raise ValueError(f"data must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
        protocol = dataclasses.replace(protocol, plans=tuple(known[name] for name in dict.fromkeys(data)))
    return protocol


def _run(protocol: Any, jobs: int) -> dict[str, Any]:
    from grng_ref.training.studies import study

    def progress(done: int, total: int, what: str) -> None:
        if sys.stderr.isatty() or done in (1, total) or done % 50 == 0:
            print(
                f"\r{what}: {done} of {total}", end="" if done < total else "\n", file=sys.stderr, flush=True
            )

    return study(protocol, jobs=jobs, progress=progress)


def _read(path: Path) -> dict[str, Any]:
    result = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(result, dict) or (result.get("kind"), result.get("schema")) != ("study", 1):
        raise ValueError(f"{str(path)!r} must be the JSON of a study, schema 1")
    return result


def _finish(result: dict[str, Any], before: dict[str, Any] | None, out: list[Path]) -> int:
    from grng_ref.reports import study_html, study_lines, study_markdown

    print("\n".join(study_lines(result)))
    write: dict[str, Callable[[dict[str, Any]], str]] = {
        ".json": json.dumps,
        ".html": study_html,
        ".md": study_markdown,
    }
    for path in out:
        path.write_text(write[path.suffix](result), encoding="utf-8")
    status = 1 if result["audit"] else 0
    if before is not None:
        from grng_ref.training.studies import differences

        found = differences(before, result)
        print(
            f"losses bit-identical to the stored: {'yes' if not found else f'no, {len(found)} runs differ'}"
        )
        status = 1 if found else status
    return status


def _refuse(message: str) -> NoReturn:
    print(f"grng-ref study: {message}", file=sys.stderr)
    raise SystemExit(2)
