"""What a run is: everything its numbers depend on, as plain data; no other run is resumed in its place."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import math
import types
from typing import Any

import numpy as np

from ..arrays import Array, backend_name, device_of, dtype_name, namespace, to_numpy


def describe(value: Any) -> Any:
    """Numbers and strings as they are, objects by class and content, arrays by digest, functions by code.

    Classes and functions from outside of this package are known by name and by a digest of their bytecode
    with its constants, so that a changed one of the same name is another; what a function reads from its
    module is not looked at.

    Raises
    ------
    TypeError
        Something whose content cannot be seen, such as a generator of random numbers.
    """
    return _describe(value, ())


def _describe(value: Any, within: tuple[int, ...]) -> Any:
    """``within`` are the identities of the objects that hold the value: a circle ends there."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # JSON has none of them
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in within:
        return f"the {type(value).__qualname__} around it"

    def inner(part: Any) -> Any:
        return _describe(part, (*within, id(value)))

    if isinstance(value, tuple | list):
        return [inner(item) for item in value]
    if isinstance(value, dict):
        return {str(key): inner(item) for key, item in value.items()}
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type):
        return _with_code(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return digest(value)
    if isinstance(value, functools.partial):
        return {"partial": [inner(part) for part in (value.func, value.args, value.keywords)]}
    if isinstance(value, types.MethodType):
        return {"method": value.__func__.__qualname__, "of": inner(value.__self__)}
    if isinstance(value, types.FunctionType):  # a decorated one too: its closure holds the one inside
        own = {"closure": [inner(cell.cell_contents) for cell in value.__closure__ or ()]}
        own["defaults"] = inner(value.__defaults__ or ())
        return _with_code(value, **own)
    if callable(value) and hasattr(value, "__wrapped__"):  # such as a compiled one
        return inner(inspect.unwrap(value))
    in_c = not hasattr(value, "__dict__") or type(value).__name__ == "ufunc"
    if in_c and callable(value) and hasattr(value, "__name__"):
        return str(value.__name__)
    if dataclasses.is_dataclass(value):
        content = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "__dict__"):
        content = vars(value)
    elif " at 0x" not in repr(value):
        return repr(value)
    else:
        raise TypeError(
            "a run must be known by all that its numbers depend on, got an object of the class "
            f"{type(value).__qualname__}, whose content cannot be seen"
        )
    return {"class": _with_code(type(value)), **inner(content)}


def _with_code(value: Any, **more: Any) -> Any:
    """The name of what is part of this package, which its version tells; else with a digest of the code."""
    package = __name__.partition(".")[0]
    more = {name: content for name, content in more.items() if content}
    if (value.__module__ or "").partition(".")[0] == package and not more:
        return value.__qualname__
    code = hashlib.sha256(repr(_code(value)).encode()).hexdigest()[:16]
    return {"name": value.__qualname__, "code": code, **more}


def _code(value: Any) -> Any:
    """Bytecode and constants of a function; of a class, those of all that it and its bases define."""
    if isinstance(value, type):
        bases = [base for base in value.__mro__ if base is not object]
        named = [(name, item) for base in bases for name, item in sorted(vars(base).items())]
        return [(name, _code(item)) for name, item in named if name != "__firstlineno__"]
    if isinstance(value, staticmethod | classmethod):
        return _code(value.__func__)
    if isinstance(value, property):
        return [_code(part) for part in (value.fget, value.fset)]
    code = value if isinstance(value, types.CodeType) else getattr(value, "__code__", None)
    if isinstance(code, types.CodeType):
        return code.co_code, [_code(item) for item in code.co_consts], code.co_names, code.co_varnames
    if isinstance(value, tuple | frozenset):
        return sorted(repr(_code(item)) for item in value) if isinstance(value, frozenset) else repr(value)
    return repr(value) if isinstance(value, bool | int | float | str | bytes | None) else type(value).__name__


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
