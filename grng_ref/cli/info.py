"""``grng-ref info``: version, environment, backends and conventions."""

from __future__ import annotations

import dataclasses
import importlib
import json
from typing import TYPE_CHECKING, Any

from grng_ref.arrays import describe_backends
from grng_ref.conventions import CONVENTIONS
from grng_ref.environment import environment_stamp

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Add ``grng-ref info`` to the application."""
    import typer

    @app.command()
    def info(
        as_json: bool = typer.Option(False, "--json", help="Print one JSON object, for machines."),
    ) -> None:
        """Print version, environment, backends with their devices, and the conventions."""
        report = collect_info()
        if as_json:
            print(json.dumps(report, indent=2))
        else:
            _print_info(report)


def collect_info() -> dict[str, Any]:
    """Everything that ``grng-ref info`` prints, as plain data.

    Keys: ``environment`` (see `grng_ref.environment.environment_stamp`), ``backends`` (one record each),
    ``torch_float32_precision`` (None without PyTorch) and ``conventions``.
    """
    backends = describe_backends()
    torch_usable = any(record["name"] == "torch" and record["usable"] for record in backends)
    return {
        "environment": environment_stamp(),
        "backends": backends,
        "torch_float32_precision": _torch_float32_precision() if torch_usable else None,
        "conventions": dataclasses.asdict(CONVENTIONS),
    }


def backend_status(record: dict[str, Any]) -> str:
    """One of the three states of a backend, in words."""
    if not record["installed"]:
        return "not installed"
    if record["usable"]:
        return "found"
    return "installed, no usable GPU" if record["name"] == "cupy" else "installed, does not load"


def _torch_float32_precision() -> dict[str, str | bool]:
    """PyTorch's own switches: with TF32 on, float32 products on a GPU keep about three digits."""
    torch = importlib.import_module("torch")
    return {
        "matmul_allow_tf32": bool(torch.backends.cuda.matmul.allow_tf32),
        "cudnn_allow_tf32": bool(torch.backends.cudnn.allow_tf32),
        "float32_matmul_precision": str(torch.get_float32_matmul_precision()),
    }


def _print_info(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()

    def section(title: str, rows: list[tuple[str, str]]) -> None:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for key, value in rows:
            table.add_row(Text(f"  {key}"), Text(value))  # Text: a bracket in a value is no markup
        console.print(Text(title, style="bold"))
        console.print(table)

    stamp = report["environment"]
    section(
        f"grng_ref {stamp['grng_ref']}",
        [
            ("python", f"{stamp['python']} ({stamp['implementation']})"),
            ("platform", f"{stamp['platform']}, {stamp['cpu_count']} CPUs"),
            *((name, version or "not installed") for name, version in stamp["packages"].items()),
            *((f"BLAS of {blas['owner']}", _blas_line(blas)) for blas in stamp["blas"]),
            *stamp["thread_variables"].items(),
        ],
    )
    section("backends", [(record["name"], _backend_line(record)) for record in report["backends"]])
    precision = report["torch_float32_precision"]
    if precision is not None:
        section("torch float32", [(key, str(value)) for key, value in precision.items()])
    section("conventions", list(report["conventions"].items()))


def _blas_line(blas: dict[str, Any]) -> str:
    threads = (
        "threads unknown (install threadpoolctl)" if blas["threads"] is None else f"{blas['threads']} threads"
    )
    details = [str(blas[key]) for key in ("architecture", "threading") if blas.get(key)]
    return ", ".join([f"{blas['library']} {blas['version']}", threads, *details])


def _backend_line(record: dict[str, Any]) -> str:
    parts = [backend_status(record)]
    if record["installed"]:
        parts.append(f"version {record['version']}")
    if record["devices"]:
        parts.append("devices " + ", ".join(record["devices"]))
    if record["note"]:
        parts.append(record["note"])
    return "; ".join(parts)
