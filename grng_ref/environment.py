"""What a result was computed with: versions, BLAS and platform, as plain data that JSON can hold."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
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
    "joblib",
    "torch",
    "jax",
    "jaxlib",
    "cupy",
)
_DISTRIBUTIONS = {"cupy": ("cupy-cuda13x", "cupy-cuda12x", "cupy")}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_CORETYPE")


class EnvironmentStamp(TypedDict):
    """The record that `environment_stamp` returns."""

    grng_ref: str
    python: str
    implementation: str
    platform: str
    machine: str
    cpu_count: int | None
    processor: str
    accelerators: dict[str, list[str]]
    packages: dict[str, str | None]
    blas: list[dict[str, Any]]
    thread_variables: dict[str, str]


def environment_stamp() -> EnvironmentStamp:
    """Versions, BLAS libraries with their threads, platform and Python, JSON-serialisable.

    Accelerators are named by the array libraries that this process has loaded; none is loaded for it.
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
        "processor": _processor(),
        "accelerators": _accelerators(),
        "packages": {name: _version(name) for name in PACKAGES},
        "blas": _loaded_blas() if _version("threadpoolctl") else _built_blas(),
        "thread_variables": {k: os.environ[k] for k in _THREAD_VARIABLES if k in os.environ},
    }


def versions() -> dict[str, str | None]:
    """What rounds: the versions of this package, NumPy and SciPy."""
    return {"grng_ref": _own_version(), "numpy": _version("numpy"), "scipy": _version("scipy")}


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
    for name in _DISTRIBUTIONS.get(package, (package,)):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _processor() -> str:
    """The processor's model where the system tells it, else its architecture."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _accelerators() -> dict[str, list[str]]:
    """Names of the devices besides the processor, for each array library that is loaded."""
    found = {}
    for library, names in _DEVICE_NAMES.items():
        module = sys.modules.get(library)
        if module is None:
            continue
        try:
            devices = names(module)
        except Exception:  # noqa: BLE001 - a driver that is missing or broken, in each library's own words
            devices = []
        if devices:
            found[library] = devices
    return found


def _cupy_devices(cupy: Any) -> list[str]:
    runtime = cupy.cuda.runtime
    return [runtime.getDeviceProperties(i)["name"].decode() for i in range(runtime.getDeviceCount())]


_DEVICE_NAMES: dict[str, Callable[[Any], list[str]]] = {
    "cupy": _cupy_devices,
    "torch": lambda torch: [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    "jax": lambda jax: [d.device_kind for d in jax.devices() if d.platform != "cpu"],
}


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
