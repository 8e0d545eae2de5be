"""Bad input at `save` and `load`; the calls take the path of a good file.

Door -> rows ``(defect, call, error, argument, needs, got)``; see `values.Row`.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import grng_ref as gr

from .values import B_, FILE_, T_, THETA, V_


@dataclass(frozen=True)
class Thing:
    """A dataclass that `save` accepts, unlike one that is made inside a function."""

    value: Any


def local_record() -> Any:
    @dataclass(frozen=True)
    class Local:
        value: int

    return Local(1)


def spoil(saved: Path, change: Callable[[bytes], bytes]) -> Path:
    return other_file(saved, lambda file: file.write(change(saved.read_bytes())))


def other_file(saved: Path, fill: Callable[[Any], Any]) -> Path:
    path = saved.parent / "other.npz"
    with path.open("wb") as file:
        fill(file)
    return path


def flip_array_bit(raw: bytes) -> bytes:
    at = raw.index(THETA.tobytes()[:16])
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def write(file: Any, manifest: dict[str, Any]) -> None:
    """A file with right checksums that this version nevertheless cannot know."""
    text = json.dumps(manifest).encode()
    checksum = hashlib.sha256(text).digest()
    np.savez(
        file, manifest=np.frombuffer(text, dtype=np.uint8), checksum=np.frombuffer(checksum, dtype=np.uint8)
    )


# fmt: off
TABLE: dict[str, list[tuple[Any, ...]]] = {
    "save": [
        ("set", lambda saved: gr.save(saved, {"a": {1}}), T_, "state['a']", "an array, number", "got set"),
        ("function", lambda saved: gr.save(saved, (1, abs)), T_, "state[1]", "or dataclass", "builtin"),
        ("class", lambda saved: gr.save(saved, Thing(gr.MLP)), T_, "state.value", "or dataclass", "got type"),
        ("problem with a function", lambda saved: gr.save(saved, gr.Activation("a", abs, abs, abs)),
         T_, "state.value", "or dataclass", "builtin"),
        ("complex number", lambda saved: gr.save(saved, [1j]), T_, "state[0]", "number", "got complex"),
        ("object array", lambda saved: gr.save(saved, [np.array([None])]),
         T_, "state[0]", "numbers or booleans", "dtype object"),
        ("masked array", lambda saved: gr.save(saved, [np.ma.masked_less(THETA, 0)]),
         T_, "state[0]", "without a mask", "got MaskedArray"),
        ("local class", lambda saved: gr.save(saved, local_record()),
         T_, "state", "that its module holds by name", "<locals>.Local"),
        ("number for a path", lambda saved: gr.save(3, 1), T_, "path", "a string or a path", "got int"),
        ("missing directory", lambda saved: gr.save(saved.parent / "none" / "s.npz", 1),
         FILE_, "path", "an existing directory", "none"),
    ],
    "load": [
        ("missing file", lambda saved: gr.load(saved.parent / "none.npz"),
         FILE_, "none.npz", "No such file", "/none.npz"),
        ("unknown backend", lambda saved: gr.load(saved, backend="keras"),
         V_, "backend", "'numpy'", "got 'keras'"),
        ("unknown device", lambda saved: gr.load(saved, backend="array_api_strict", device="gpu"),
         B_, "device", "not a valid choice", "'gpu'"),
        ("truncated", lambda saved: gr.load(spoil(saved, lambda raw: raw[:-40])),
         V_, "path", "a file that gr.save wrote", "corrupt"),
        ("empty", lambda saved: gr.load(spoil(saved, lambda raw: b"")),
         V_, "path", "a file that gr.save wrote", "corrupt"),
        ("flipped bit", lambda saved: gr.load(spoil(saved, flip_array_bit)),
         V_, "path", "a file that gr.save wrote", "Bad CRC"),
        ("text", lambda saved: gr.load(spoil(saved, lambda raw: b"theta = 1\n")),
         V_, "path", "a file that gr.save wrote", "not a zip file"),
        ("npy file", lambda saved: gr.load(other_file(saved, lambda file: np.save(file, THETA))),
         V_, "path", "a file that gr.save wrote", "not a zip file"),
        ("foreign npz file", lambda saved: gr.load(other_file(saved, lambda file: np.savez(file, a=THETA))),
         V_, "path", "a file that gr.save wrote", "'manifest'"),
        ("pickle", lambda saved: gr.load(other_file(saved, lambda file: pickle.dump([1], file))),
         V_, "path", "a file that gr.save wrote", "not a zip file"),
        ("pickled objects in an npz file",
         lambda saved: gr.load(other_file(saved, lambda file: np.savez(file, manifest=np.array([None])))),
         V_, "path", "a file that gr.save wrote", "allow_pickle=False"),
        ("newer format", lambda saved: gr.load(other_file(saved, lambda file: write(file, {"format": 99}))),
         V_, "path", "this version reads 1", "has format 99"),
        ("class not imported", lambda saved: gr.load(other_file(saved, lambda file: write(file, {
            "format": 1, "sha256": {}, "tree": {"class": "somewhere:Else", "fields": {}}}))),
         V_, "state", "import somewhere first", "somewhere:Else"),
        ("number for a path", lambda saved: gr.load(3), T_, "path", "a string or a path", "got int"),
    ],
}
# fmt: on
