"""Saving and loading of any state: one npz file, no pickle, checksummed, written atomically."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import array_api_compat as compat
import numpy as np

from .arrays import asarray, check_choice, to_numpy
from .arrays.transfer import BACKENDS

_FORMAT = 1
_MANIFEST, _CHECKSUM = "manifest", "checksum"


def save(path: str | os.PathLike[str], state: Any) -> None:
    """Write a state to one file, atomically: an interrupted save leaves the old file as it was.

    Parameters
    ----------
    path : path
        Any name; ``.npz`` says what it is.
    state : tree
        Arrays, numbers, strings, None, and tuples, lists, dicts, NamedTuples and dataclasses of them:
        parameters, optimizer states, beliefs, problems' arrays.

    Raises
    ------
    TypeError
        Something in the state is none of these; the message says where.
    OSError
        The file cannot be written.

    Notes
    -----
    Arrays are copied to the host. The file is read back and compared before it takes the place of an old
    one. It is an ordinary npz: ``numpy.load`` shows the arrays and the JSON manifest.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = _encode(state, "state", arrays)
    manifest = {"format": _FORMAT, "tree": tree, "sha256": {k: _digest(v) for k, v in arrays.items()}}
    text = json.dumps(manifest).encode()
    buffer = io.BytesIO()
    entries: dict[str, Any] = {
        **arrays,
        _MANIFEST: np.frombuffer(text, dtype=np.uint8),
        _CHECKSUM: np.frombuffer(hashlib.sha256(text).digest(), dtype=np.uint8),
    }
    np.savez(buffer, **entries)
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        _read(Path(name))  # what stands on the disk is what was meant
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str], *, backend: str = "numpy", device: Any = None) -> Any:
    """Read what `save` wrote; dtypes are kept, arrays go to the given backend and device.

    Raises
    ------
    FileNotFoundError
        No such file.
    ValueError
        Not a file of `save`, corrupt (a checksum differs), of a newer format, or of a class whose module
        has not been imported.
    BackendError
        The backend cannot hold the arrays.
    """
    check_choice("backend", backend, BACKENDS)
    tree, arrays = _read(Path(path))
    moved = asarray(arrays, backend=backend, device=device)
    try:
        return _decode(tree, moved)
    except (KeyError, TypeError) as error:
        name = os.fspath(path)
        raise ValueError(f"path {name!r} does not hold a state this version understands: {error}") from error


def _encode(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """The value as JSON, its arrays put aside under names; ``where`` says where it stands in the state."""
    if compat.is_array_api_obj(value):
        name = f"array{len(arrays)}"
        arrays[name] = np.ascontiguousarray(to_numpy(value)).reshape(value.shape)
        return {"array": name}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if f.init]
        return _encode_record(value, {n: getattr(value, n) for n in names}, where, arrays)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _encode_record(value, value._asdict(), where, arrays)
    if isinstance(value, tuple | list):
        items = [_encode(item, f"{where}[{i}]", arrays) for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if isinstance(value, dict):
        pairs = [[_encode(k, where, arrays), _encode(v, f"{where}[{k!r}]", arrays)] for k, v in value.items()]
        return {"dict": pairs}
    raise TypeError(
        f"{where} must be an array, number, string, None, or a tuple, list, dict or dataclass of them; "
        f"got {type(value).__name__}"
    )


def _encode_record(value: Any, fields: dict[str, Any], where: str, arrays: dict[str, np.ndarray]) -> Any:
    encoded = {name: _encode(field, f"{where}.{name}", arrays) for name, field in fields.items()}
    return {"class": f"{type(value).__module__}:{type(value).__qualname__}", "fields": encoded}


def _decode(tree: Any, arrays: dict[str, Any]) -> Any:
    ((kind, content), *rest) = tree.items()
    if kind == "array":
        return arrays[content]
    if kind == "value":
        return content
    if kind == "tuple":
        return tuple(_decode(item, arrays) for item in content)
    if kind == "list":
        return [_decode(item, arrays) for item in content]
    if kind == "dict":
        return {_decode(k, arrays): _decode(v, arrays) for k, v in content}
    fields = {name: _decode(field, arrays) for name, field in dict(rest)["fields"].items()}
    return _find_record_class(content)(**fields)


def _find_record_class(name: str) -> type:
    """A dataclass or NamedTuple of a module that is imported already: a file cannot run an import."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    is_record = isinstance(found, type) and (dataclasses.is_dataclass(found) or hasattr(found, "_fields"))
    if not is_record:
        raise ValueError(
            f"the saved state needs the class {name}, which is not imported: import {module} first"
        )
    return found


def _read(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """The tree and the arrays of a file, every checksum verified."""
    broken = f"path {str(path)!r} is corrupt or not a file that gr.save wrote"
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile) or not {_MANIFEST, _CHECKSUM} <= set(file.files):
                raise ValueError(f"{broken}: it has no manifest")
            entries = {name: file[name] for name in file.files}
        text = entries.pop(_MANIFEST).tobytes()
        if hashlib.sha256(text).digest() != entries.pop(_CHECKSUM).tobytes():
            raise ValueError(f"{broken}: the checksum of the manifest differs")
        manifest = json.loads(text)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{broken}: {error}") from error
    except ValueError as error:
        raise error if str(error).startswith("path ") else ValueError(f"{broken}: {error}") from error
    if manifest["format"] != _FORMAT:
        raise ValueError(f"path {str(path)!r} has format {manifest['format']}; this version reads {_FORMAT}")
    if {name: _digest(array) for name, array in entries.items()} != manifest["sha256"]:
        raise ValueError(f"{broken}: the checksum of an array differs")
    return manifest["tree"], entries


def _digest(array: np.ndarray) -> str:
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()
