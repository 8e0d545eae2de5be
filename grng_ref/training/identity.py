"""What a run is: everything its numbers depend on, as plain data; no other run is resumed in its place."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np

from ..arrays import Array, backend_name, device_of, dtype_name, namespace, to_numpy


def describe(value: Any) -> Any:
    """Numbers and strings as they are, dataclasses by class and fields, arrays by digest, functions by name.

    A function of the user's is known by its name only: a changed one of the same name goes unnoticed, which
    the schedules of `schedule` avoid.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {str(key): describe(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__qualname__, **fields}
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return digest(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


def digest(array: Array) -> str:
    """The first 64 bits of the SHA-256 of dtype, shape and content."""
    host = np.ascontiguousarray(to_numpy(array))
    header = f"{host.dtype.str}{host.shape}".encode()
    return hashlib.sha256(header + host.tobytes()).hexdigest()[:16]


def describe_arrays(theta: Array) -> dict[str, str]:
    """Library, dtype and device."""
    return {
        "backend": backend_name(namespace(theta=theta)),
        "dtype": dtype_name(theta),
        "device": str(device_of(theta)),
    }


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """Where two descriptions differ, as ``path: old, now new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted(set(old) | set(new)):
            found += differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
        return found
    return [] if old == new else [f"{where}: {old!r}, now {new!r}"]
