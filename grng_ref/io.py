"""Saving and loading of any state: one npz file, no pickle, checksummed, written atomically."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import secrets
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

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
        Something in the state is none of these, or of a class that `load` could not find; the message says
        where.
    OSError
        The file cannot be written.

    Notes
    -----
    Arrays of numbers and booleans keep their dtype, shape and every bit, NaN payloads too; NumPy
    arrays keep their memory order (row- or column-major), on which the last bits of later matrix products
    depend. NumPy scalars come back as 0-d arrays. Arrays are copied to the host. The file is
    read back and compared before it takes the place of an old one. It is an ordinary npz: ``numpy.load``
    shows the arrays and the JSON manifest.
    """
    target = _checked_path(path).resolve()  # a link stays a link: what it points to is replaced
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path {str(path)!r} needs an existing directory, got {str(target.parent)!r}")
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
    # Opened by name, so that the file gets the permissions that any new file gets.
    temporary = target.with_name(f"{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        _read(temporary)  # what stands on the disk is what was meant
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def load(path: str | os.PathLike[str], *, backend: str = "numpy", device: Any = None) -> Any:
    """Read what `save` wrote; dtypes are kept, arrays go to the given backend and device.

    Parameters
    ----------
    path : path
    backend, device : optional
        As in `asarray`.

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
    tree, arrays = _read(_checked_path(path))
    moved = asarray(arrays, backend=backend, device=device)
    try:
        return _decode(tree, moved)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        name = os.fspath(path)
        raise ValueError(f"path {name!r} holds no state that can be rebuilt here: {error}") from error


def _checked_path(path: Any) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be a string or a path, got {type(path).__name__}")
    return Path(path)


def _encode(value: Any, where: str, arrays: dict[str, np.ndarray]) -> Any:
    """The value as JSON, its arrays put aside under names; ``where`` says where it stands in the state."""
    if compat.is_array_api_obj(value):
        host = to_numpy(value)
        if host.dtype.kind not in "biufc" or isinstance(host, np.ma.MaskedArray):  # objects need pickle
            got = f"{type(host).__name__} of dtype {host.dtype}"
            raise TypeError(f"{where} must be an array of numbers or booleans, without a mask; got {got}")
        name = f"array{len(arrays)}"
        arrays[name] = host if host.flags.f_contiguous else np.ascontiguousarray(host)
        return {"array": name}
    # Exact types: an enumeration or an OrderedDict would come back as something else.
    if value is None or type(value) in (bool, int, float, str):
        return {"value": value}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value) if f.init]
        return _encode_record(value, {n: getattr(value, n) for n in names}, where, arrays)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _encode_record(value, value._asdict(), where, arrays)
    if type(value) in (tuple, list):
        items = [_encode(item, f"{where}[{i}]", arrays) for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if type(value) is dict:
        pairs = [[_encode(k, where, arrays), _encode(v, f"{where}[{k!r}]", arrays)] for k, v in value.items()]
        return {"dict": pairs}
    raise TypeError(
        f"{where} must be an array, number, string, None, or a tuple, list, dict or dataclass of them; "
        f"got {type(value).__name__}"
    )


def _encode_record(value: Any, fields: dict[str, Any], where: str, arrays: dict[str, np.ndarray]) -> Any:
    kind = type(value)
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _find_record_class(name) is not kind:
        raise TypeError(
            f"{where} must be of a class that its module holds by name, so that load can find it; got {name}"
        )
    encoded = {name: _encode(field, f"{where}.{name}", arrays) for name, field in fields.items()}
    return {"class": name, "fields": encoded}


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
    kind = _find_record_class(content)
    if kind is None:
        raise ValueError(
            f"the saved state needs the class {content}, which is not imported: import "
            f"{content.partition(':')[0]} first"
        )
    return kind(**fields)


def _find_record_class(name: str) -> type | None:
    """A dataclass or NamedTuple of a module that is imported already: a file cannot run an import."""
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    is_record = isinstance(found, type) and (dataclasses.is_dataclass(found) or hasattr(found, "_fields"))
    return found if is_record else None


def _read(path: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """The tree and the arrays of a file, every checksum verified."""
    broken = f"path {str(path)!r} is corrupt or not a file that gr.save wrote"
    with path.open("rb") as file:
        try:
            entries = _read_entries(file)
            manifest = _checked_manifest(entries.pop(_MANIFEST), entries.pop(_CHECKSUM))
            version = manifest["format"]
        except Exception as error:  # no list of what the readers of a damaged zip file raise is complete
            raise ValueError(f"{broken}: {type(error).__name__}: {error}") from error
    if version != _FORMAT:
        raise ValueError(f"path {str(path)!r} has format {version!r}; this version reads {_FORMAT}")
    if {name: _digest(array) for name, array in entries.items()} != manifest.get("sha256"):
        raise ValueError(f"{broken}: the checksum of an array differs")
    return manifest.get("tree"), entries


def _read_entries(file: BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of an npz file, read entry by entry: each one's CRC is verified before it is parsed."""
    with zipfile.ZipFile(file) as archive:
        contents = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    return {
        name: np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        for name, content in contents.items()
    }


def _checked_manifest(text: np.ndarray, checksum: np.ndarray) -> dict[str, Any]:
    if hashlib.sha256(text.tobytes()).digest() != checksum.tobytes():
        raise ValueError("the checksum of the manifest differs")
    manifest = json.loads(text.tobytes())
    if not isinstance(manifest, dict):
        raise TypeError("the manifest is no JSON object")
    return manifest


def _digest(array: np.ndarray) -> str:
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.sha256(header + array.tobytes()).hexdigest()
