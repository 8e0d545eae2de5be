"""What this machine offers: which backends are installed and usable, and their devices."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from .errors import BackendError
from .transfer import BACKENDS, load_backend

_PACKAGES = {
    "numpy": ("numpy",),
    "cupy": ("cupy", "cupy-cuda12x", "cupy-cuda13x"),
    "torch": ("torch",),
    "jax": ("jax",),
    "array_api_strict": ("array-api-strict",),
}


def describe_backends() -> list[dict[str, Any]]:
    """One record a backend: ``name, installed, version, usable, devices, note``."""
    return [_describe(name) for name in BACKENDS]


def _describe(name: str) -> dict[str, Any]:
    version = _version(name)
    record: dict[str, Any] = {
        "name": name,
        "installed": version is not None,
        "version": version,
        "usable": False,
        "devices": [],
        "note": "",
    }
    try:
        load_backend(name)
    except BackendError as error:
        record["note"] = str(error)
        return record
    return record | {"usable": True, "devices": _devices(name), "note": _note(name)}


def _version(name: str) -> str | None:
    for package in _PACKAGES[name]:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _devices(name: str) -> list[str]:
    if name == "cupy":
        runtime = importlib.import_module("cupy").cuda.runtime
        return [f"cuda:{i}" for i in range(runtime.getDeviceCount())]
    if name == "torch":
        cuda = importlib.import_module("torch").cuda
        return ["cpu"] + [f"cuda:{i}" for i in range(cuda.device_count())]
    if name == "jax":
        return [str(device) for device in importlib.import_module("jax").devices()]
    if name == "array_api_strict":
        return ["CPU_DEVICE", "device1", "device2"]
    return ["cpu"]


def _note(name: str) -> str:
    if name == "jax" and not importlib.import_module("jax").config.jax_enable_x64:
        return "float64 is off: set JAX_ENABLE_X64=1, or jax.config.update('jax_enable_x64', True)"
    if name == "torch" and importlib.import_module("torch").backends.cuda.matmul.allow_tf32:
        return "TF32 is on: float32 matrix products on the GPU keep about 3 digits"
    return ""
