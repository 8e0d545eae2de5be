"""Test vectors on disk: a manifest, and one safetensors file a case; nothing is believed unverified."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays import BackendError
from ...conventions import CONVENTIONS
from ...environment import environment_stamp
from .case import SETTINGS, Case
from .sound import require_sound
from .stages import STAGES

FORMAT = "grng_ref test vectors"
FORMAT_VERSION = "2.0.0"  # of the files: a new key is a minor version, another meaning a major one
MANIFEST = "manifest.json"
DEFAULT_SET = Path(__file__).parent / "data"

_SCHEMA = Path(__file__).parent / "manifest.schema.json"
_DESCRIBED = (
    *("id", "title", "notes", "source", "network", "likelihood", "curvature", "optimizer", "steps"),
    "schedules",
)
_COMPUTATION = ("network", "likelihood", "curvature", "optimizer", "schedules")
_PREFIXES = {"input": "inputs", "expected": "expected", "radius": "radii"}


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError(f"{name} is not installed ({error}): pip install 'grng-ref[vectors]'") from error


# --- writing -----------------------------------------------------------------------------------------------


def save_cases(directory: str | os.PathLike[str], cases: Iterable[Case], *, seed: int) -> None:
    """Write cases to a new directory, atomically, and read them back.

    Parameters
    ----------
    directory : path
        Must not exist; its parent must.
    cases : iterable of Case
        With expected arrays, and radii or reasons.
    seed : int
        Of their inputs; for the record.

    Raises
    ------
    FileExistsError, FileNotFoundError
        The directory exists; its parent does not.
    ValueError
        Two cases of one id; an array of another dtype than float64 or int64; something that the
        schema refuses; a file that does not read back as it was.
    """
    target = Path(directory)
    if target.exists() or target.is_symlink():
        raise FileExistsError(f"directory {str(target)!r} exists; vectors are written to a new one")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"directory {str(target)!r} needs an existing parent directory")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    temporary.mkdir()
    try:
        written = list(cases)
        manifest = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "generator": f"grng_ref {environment_stamp()['grng_ref']}",
            "seed": seed,
            "conventions": asdict(CONVENTIONS),
            "stages": [{**stage._asdict(), "depends_on": list(stage.depends_on)} for stage in STAGES],
            "cases": [_write_case(temporary, case) for case in written],
        }
        _check_manifest(manifest, "the manifest to be written")
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        for case, again in zip(written, load_cases(temporary), strict=True):
            _require_same(case, again)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _tensors(case: Case) -> dict[str, np.ndarray]:
    parts = {prefix: getattr(case, name) for prefix, name in _PREFIXES.items()}
    named = {f"{p}.{name}": a for p, arrays in parts.items() for name, a in arrays.items() if a is not None}
    return {name: _plain(case.id, name, array) for name, array in named.items()}


def _plain(case_id: str, name: str, array: Any) -> np.ndarray:
    """C-ordered: safetensors writes the memory of another order as if it were C's, silently."""
    if not isinstance(array, np.ndarray | np.generic) or array.dtype not in (np.float64, np.int64):
        raise ValueError(f"case {case_id}: {name} must be a float64 or int64 NumPy array")
    return np.ascontiguousarray(array).reshape(np.shape(array))


def _write_case(folder: Path, case: Case) -> dict[str, Any]:
    tensors = _tensors(case)
    content = _library("safetensors.numpy").save(tensors)
    name = f"{case.id}.safetensors"
    (folder / name).write_bytes(content)
    return {
        **{key: getattr(case, key) for key in _DESCRIBED},
        "flags": list(case.flags),
        "file": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "tensors": {key: {"dtype": str(a.dtype), "shape": list(a.shape)} for key, a in tensors.items()},
        "reasons": dict(case.reasons),
    }


def _require_same(case: Case, again: Case) -> None:
    written, read = _tensors(case), _tensors(again)
    for name in written:
        if name not in read or written[name].tobytes() != read[name].tobytes():
            raise ValueError(f"case {case.id}: {name} did not read back as it was written")


# --- reading -----------------------------------------------------------------------------------------------


def load_cases(directory: str | os.PathLike[str] | None = None) -> tuple[Case, ...]:
    """The cases of a directory, by default those that come with the package; every file verified.

    Parameters
    ----------
    directory : path, optional

    Returns
    -------
    tuple of Case

    Raises
    ------
    FileNotFoundError
        No manifest there.
    ValueError
        A manifest that is no such manifest, a link, or of another major version; duplicate ids; a file that
        is missing, leaves the directory, is a link, or differs from its checksum; a tensor that is missing,
        unknown, or of another dtype or shape than the manifest says; a case whose parts do not fit together.

    Notes
    -----
    Of a newer minor version what is unknown is passed over, but in what says which computation it is:
    network, likelihood, curvature, optimizer.
    """
    folder = DEFAULT_SET if directory is None else Path(directory)
    manifest = read_manifest(folder)
    newer = _newer(manifest["version"])
    cases = tuple(_read_case(folder, entry, newer) for entry in manifest["cases"])
    for case in cases:
        require_sound(case)
    return cases


def read_manifest(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a directory, checked against its schema; see `load_cases`."""
    path = Path(directory) / MANIFEST
    if path.is_symlink():
        raise ValueError(f"{path} is a link; test vectors are files of their directory")
    if not path.is_file():
        raise FileNotFoundError(f"no {MANIFEST} in {str(directory)!r}: not a directory of test vectors")
    try:
        manifest = json.loads(path.read_bytes(), object_pairs_hook=_unique, parse_constant=_no_number)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    _check_manifest(manifest, str(path))
    return dict(manifest)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise ValueError(f"{MANIFEST} has the key {twice[0]!r} twice in one object")
    return dict(pairs)


def _no_number(text: str) -> None:
    raise ValueError(f"{MANIFEST} has {text}, which is no number in JSON")


def _version(text: Any) -> tuple[int, ...]:
    """Its numbers; none where it is no version, which the schema says better."""
    parts = text.split(".") if isinstance(text, str) else []
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else ()


def _newer(version: Any) -> bool:
    """Whether files of that version may hold what this one does not know."""
    return _version(version)[:2] > _version(FORMAT_VERSION)[:2]


def _tolerant(schema: Any) -> Any:
    """The schema with unknown keys passed over, but in what says which computation a case is."""
    if not isinstance(schema, dict):
        return schema
    out = {key: part if key in _COMPUTATION else _tolerant(part) for key, part in schema.items()}
    return {key: part for key, part in out.items() if (key, part) != ("additionalProperties", False)}


def _check_manifest(manifest: Any, where: str) -> None:
    """The version first: a newer major version may look otherwise altogether."""
    version = manifest.get("version") if isinstance(manifest, dict) else None
    major, ours = _version(version)[:1], _version(FORMAT_VERSION)[:1]
    if major and major != ours:
        advice = ": update it" if major > ours else ""
        raise ValueError(f"{where} has version {version}; this package reads {FORMAT_VERSION}{advice}")
    schema = json.loads(_SCHEMA.read_text(encoding="utf-8"))
    if major and _newer(version):
        schema = _tolerant(schema)
    error = next(iter(_library("jsonschema").Draft202012Validator(schema).iter_errors(manifest)), None)
    if error is not None:
        place = "/".join(str(part) for part in error.absolute_path) or "the top"
        raise ValueError(f"{where} is no manifest of version {FORMAT_VERSION}: at {place}: {error.message}")
    for entry in manifest["cases"]:
        unknown = set(entry["optimizer"]) ^ {"name", *SETTINGS[entry["optimizer"]["name"]]}
        if unknown:
            raise ValueError(f"{where}: case {entry['id']}: unknown or missing settings {sorted(unknown)}")
        for name, values in entry["schedules"].items():
            if len(values) != entry["steps"] or values[0] != entry["optimizer"].get(name):
                raise ValueError(
                    f"{where}: case {entry['id']}: the schedule of {name!r} must have a number a step, the "
                    f"first that of the optimizer, got {values}"
                )
        if entry["file"] != f"{entry['id']}.safetensors":
            raise ValueError(
                f"{where}: the file of case {entry['id']} must have its name, got {entry['file']!r}"
            )
    twice = [i for i, count in Counter(entry["id"] for entry in manifest["cases"]).items() if count > 1]
    if twice:
        raise ValueError(f"{where} has the id {twice[0]!r} twice")


def _read_case(folder: Path, entry: dict[str, Any], newer: bool) -> Case:
    path = folder / entry["file"]
    if path.is_symlink() or path.resolve().parent != folder.resolve():
        raise ValueError(f"case {entry['id']}: {entry['file']!r} leaves the directory, or is a link")
    if not path.is_file():
        raise ValueError(f"case {entry['id']}: the file {entry['file']!r} is missing")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(
            f"case {entry['id']}: {entry['file']} differs from its checksum (damaged, truncated or changed)"
        )
    try:
        tensors = _library("safetensors.numpy").load(content)
    except Exception as error:  # the reader has exceptions of its own
        raise ValueError(f"case {entry['id']}: {entry['file']} is no safetensors file: {error}") from error
    for verb, names in (
        ("lacks", sorted(set(entry["tensors"]) - set(tensors))),
        ("has, unknown to the manifest,", sorted(set(tensors) - set(entry["tensors"]))),
    ):
        if names:
            raise ValueError(f"case {entry['id']}: {entry['file']} {verb} the tensor {names[0]!r}")
    for name, said in entry["tensors"].items():
        got = {"dtype": str(tensors[name].dtype), "shape": list(tensors[name].shape)}
        if got != {key: said[key] for key in got}:
            raise ValueError(f"case {entry['id']}: {name} is {got} in the file, {said} in the manifest")
    if newer:
        tensors = {name: array for name, array in tensors.items() if _is_known(name)}
    return _case(entry, tensors)


def _is_known(name: str) -> bool:
    """Whether this version has a use for a tensor: a newer one may have more stages."""
    prefix, _, rest = name.partition(".")
    return prefix == "input" or rest.split(".")[0] in {stage.name for stage in STAGES}


def _case(entry: dict[str, Any], tensors: dict[str, np.ndarray]) -> Case:
    parts: dict[str, dict[str, Any]] = {attribute: {} for attribute in _PREFIXES.values()}
    for key in sorted(tensors, key=list(entry["tensors"]).index):
        prefix, _, name = key.partition(".")
        parts[_PREFIXES[prefix]][name] = tensors[key]
    names = parts["expected"]
    silent = set(names) - set(parts["radii"]) - set(entry["reasons"])
    if silent or set(parts["radii"]) - set(names):
        odd = sorted(silent | (set(parts["radii"]) - set(names)))[0]
        raise ValueError(
            f"case {entry['id']}: {odd} has neither a radius nor a reason, or a radius and no value"
        )
    parts["radii"] = {name: parts["radii"].get(name) for name in names}
    described: dict[str, Any] = {key: entry[key] for key in _DESCRIBED}
    arrays: dict[str, Any] = parts
    return Case(**described, **arrays, flags=tuple(entry["flags"]), reasons=entry["reasons"])
