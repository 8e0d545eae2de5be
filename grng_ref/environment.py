"""What a result was computed with: versions, BLAS and platform, as plain data that JSON can hold."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence
from typing import Any, TypedDict

PACKAGES = (
    "numpy",
    "scipy",
    "array-api-compat",
    "array-api-extra",
    "array-api-strict",
    "python-flint",
    "scikit-learn",
    "threadpoolctl",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")


class EnvironmentStamp(TypedDict):
    """The record that `environment_stamp` returns."""

    grng_ref: str
    python: str
    implementation: str
    platform: str
    machine: str
    cpu_count: int | None
    packages: dict[str, str | None]
    blas: list[dict[str, Any]]
    thread_variables: dict[str, str]


def environment_stamp() -> EnvironmentStamp:
    """Versions, BLAS libraries with their threads, platform and Python, JSON-serialisable.

    A package that is not installed has the version ``None``. Every BLAS entry says whose it is
    (``owner``: numpy or scipy wheels carry one each); where threadpoolctl is not installed, the entries are
    those of the build configurations, without threads. Nothing that names a person, a host or a path is
    recorded.
    """
    return {
        "grng_ref": _own_version(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "blas": _loaded_blas() if _version("threadpoolctl") else _built_blas(),
        "thread_variables": {k: os.environ[k] for k in _THREAD_VARIABLES if k in os.environ},
    }


def require_extra(command: str, *, extra: str, modules: Sequence[str]) -> None:
    """End a command with exit status 2 and the install line, if a module of an extra is missing.

    Raises
    ------
    SystemExit
        With status 2, after one line on standard error that says what is missing and how to install it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            print(
                f"{command} needs the package {error.name!r}, which is not installed: "
                f"pip install 'grng-ref[{extra}]'",
                file=sys.stderr,
            )
            raise SystemExit(2) from None


def _own_version() -> str:
    # Read when asked for, not on import: the package's __init__ is where the version is written, and it
    # may itself import this module.
    return str(importlib.import_module("grng_ref").__version__)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _loaded_blas() -> list[dict[str, Any]]:
    """The BLAS libraries that are loaded in this process, with their present number of threads."""
    importlib.import_module("numpy.linalg")
    importlib.import_module("scipy.linalg")  # loads SciPy's own copy
    pools = importlib.import_module("threadpoolctl").threadpool_info()
    found = [
        {
            "owner": _owner(pool["filepath"]),
            "library": pool["internal_api"],
            "version": pool["version"],
            "threads": pool["num_threads"],
            "architecture": pool.get("architecture"),
            "threading": pool.get("threading_layer"),
        }
        for pool in pools
        if pool["user_api"] == "blas"
    ]
    return sorted(found, key=lambda blas: str(blas["owner"]))


def _owner(path: str) -> str:
    """Whose wheel a library came in: only this word is kept, the path stays on the machine."""
    for owner in ("numpy", "scipy"):
        if f"{owner}.libs" in path or f"/{owner}/" in path:
            return owner
    return "system"


def _built_blas() -> list[dict[str, Any]]:
    """The BLAS libraries that NumPy and SciPy were built against."""
    found = []
    for owner in ("numpy", "scipy"):
        blas = importlib.import_module(owner).show_config(mode="dicts")["Build Dependencies"]["blas"]
        found.append({"owner": owner, "library": blas["name"], "version": blas["version"], "threads": None})
    return found
