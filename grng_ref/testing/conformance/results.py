"""Result files of a foreign program, in the place of an adapter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...arrays import BackendError
from .adapter import STAGE_NAMES
from .names import nearest, unknown

SUFFIXES = (".safetensors", ".npz")
SETTINGS_FILE = "conventions.json"
_KEYS = ("dtype", "conventions", "expected_failures")


class ResultFiles:
    """Result files of a foreign program as an adapter: one ``<case id>.safetensors`` or ``.npz`` a case.

    ``conventions.json`` in the directory may hold the keys ``dtype``, ``conventions``, ``expected_failures``.
    Arrays have the names of the case's expected ones. Stages that a case does not have are passed over, names
    that nothing has are refused. So are files that are named nearly as these; others may lie beside them.

    Raises
    ------
    FileNotFoundError
        No such directory.
    ValueError
        A ``conventions.json`` that is no JSON object of these keys.
    """

    library = "numpy"

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise FileNotFoundError(f"no such directory of results: {str(directory)!r}")
        settings = self._settings()
        self.dtype = settings.get("dtype", "float64")
        self.conventions = settings.get("conventions")
        self.expected_failures = settings.get("expected_failures")
        self._last: tuple[str, dict[str, Any]] | None = None

    def _settings(self) -> dict[str, Any]:
        path = self.directory / SETTINGS_FILE
        if not path.is_file():
            return {}
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{SETTINGS_FILE} is no JSON: {error}") from None
        if not isinstance(settings, dict):
            raise ValueError(f"{SETTINGS_FILE} must be an object with keys among {', '.join(_KEYS)}")
        for key in settings:
            if key not in _KEYS:
                raise ValueError(unknown(f"{SETTINGS_FILE} has the key", key, _KEYS))
        return settings

    def check_files(self, known: Iterable[str]) -> None:
        """Refuses files that are meant as results and would be passed over in silence."""
        known = list(known)
        for path in sorted(self.directory.iterdir()):
            name, stem = path.name, path.stem
            if path.is_dir() or name.startswith(".") or name == SETTINGS_FILE:
                continue
            if path.suffix in SUFFIXES:
                if stem not in known:
                    raise ValueError(unknown(f"results: the file {name!r} is of the case", stem, known))
                if path.suffix == SUFFIXES[0] and path.with_suffix(SUFFIXES[1]).exists():
                    raise ValueError(f"results: {name!r} and {stem + SUFFIXES[1]!r} are of the same case")
            elif stem in known or nearest(name, [SETTINGS_FILE]):
                needed = (
                    f"one of {' or '.join(stem + s for s in SUFFIXES)}" if stem in known else SETTINGS_FILE
                )
                raise ValueError(f"results: the file {name!r} would not be read; its name must be {needed}")

    def stage(self, case: Any, stage: str) -> tuple[Any, ...] | None:
        """The stage's arrays as they are in the file, None without a result.

        Raises
        ------
        ValueError
            A file that cannot be read, a name in it that nothing has, a stage of which a part is missing.
        """
        if self._last is None or self._last[0] != case.id:
            self._last = case.id, self._arrays(case)
        stored = self._last[1]
        names = [key for key in case.expected if key.split(".")[0] == stage]
        if not any(name in stored for name in names):
            return None
        return tuple(stored[name] for name in names)

    def _arrays(self, case: Any) -> dict[str, Any]:
        for suffix in SUFFIXES:
            path = self.directory / f"{case.id}{suffix}"
            if path.is_file():
                stored = _read(path)
                _check_arrays(path.name, case, stored)
                return stored
        return {}


def _read(path: Path) -> dict[str, Any]:
    reader = _npz if path.suffix == ".npz" else _safetensors()
    try:
        return reader(path)
    except Exception as error:  # safetensors has exceptions of its own
        raise ValueError(f"results: {path.name} cannot be read: {type(error).__name__}: {error}") from error


def _npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _safetensors() -> Callable[[Path], dict[str, Any]]:
    try:
        from safetensors.numpy import load
    except ImportError as error:
        message = f"safetensors is not installed ({error}): pip install 'grng-ref[vectors]'"
        raise BackendError(message) from error
    return lambda path: dict(load(path.read_bytes()))


def _check_arrays(file: str, case: Any, stored: dict[str, Any]) -> None:
    for name in stored:
        stage = name.split(".")[0]
        if stage not in STAGE_NAMES or (stage in case.stages and name not in case.expected):
            raise ValueError(unknown(f"results: {file} has the array", name, [*case.expected, *STAGE_NAMES]))
    for name in case.expected:
        beside = [other for other in stored if other.split(".")[0] == name.split(".")[0]]
        if beside and name not in stored:
            raise ValueError(f"results: {file} has {beside[0]!r} and lacks {name!r} of the same stage")
