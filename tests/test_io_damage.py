"""`gr.load` of files that are damaged or that lie, and `gr.save` where it fails: the old file stays."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import grng_ref as gr

GRID = np.arange(24.0).reshape(4, 6)


def same(a: Any, b: Any) -> bool:
    """Equal trees of tuples, dicts, arrays and numbers, bit for bit."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.npz"


# --- files that lie: right checksums, wrong contents --------------------------------------------------------


def write(path: Path, tree: Any, arrays: dict[str, np.ndarray], **manifest: Any) -> None:
    """A file of our format with whatever contents."""
    parts = {name: f"{a.dtype.str}{a.shape}".encode() + a.tobytes() for name, a in arrays.items()}
    digests = {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}
    text = json.dumps({"format": 1, "tree": tree, "sha256": digests} | manifest).encode()
    checksum = hashlib.sha256(text).digest()
    entries = {"manifest": np.frombuffer(text, np.uint8), "checksum": np.frombuffer(checksum, np.uint8)}
    np.savez(path, **arrays, **entries)


def test_the_format_is_as_the_tests_write_it(path):
    write(path, {"list": [{"array": "array0"}, {"value": 1}]}, {"array0": GRID})
    assert same(gr.load(path), [GRID, 1])


NAMES = ["builtins:dict", "os:system", "subprocess:Popen", "no:Where", "os", ":", "os:path.x"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_cannot_name_what_runs(name, path):
    write(path, {"class": name, "fields": {}}, {})
    with pytest.raises(ValueError, match="needs the class"):
        gr.load(path)


BROKEN_TREES = [{"array": "array9"}, {"unknown": 1}, {}, [], None, {"tuple": 3}, {"dict": [[1]]}]


@pytest.mark.parametrize("tree", BROKEN_TREES)
def test_a_tree_that_is_none(tree, path):
    write(path, tree, {"array0": GRID})
    with pytest.raises(ValueError, match=r"path '.*' holds no state that can be rebuilt here"):
        gr.load(path)


@pytest.mark.parametrize("manifest", [{"format": 2}, {"format": None}, {"format": "1"}])
def test_another_format(manifest, path):
    write(path, {"value": 1}, {}, **manifest)
    with pytest.raises(ValueError, match="this version reads 1"):
        gr.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.update(array0=e["array0"] + 1e-300),
        lambda e: e.update(array0=e["array1"], array1=e["array0"]),
        lambda e: e.update(array0=e["array0"].astype(">f8")),
        lambda e: e.update(array0=e["array0"].T),
        lambda e: e.update(array2=GRID),
        lambda e: e.pop("array0"),
        lambda e: e.pop("checksum"),
        lambda e: e.update(
            manifest=np.frombuffer(e["manifest"].tobytes().replace(b'"value": 3', b'"value": 4'), np.uint8)
        ),
    ],
    ids=["value", "swapped", "dtype", "shape", "one more", "one less", "no checksum", "manifest"],
)
def test_a_file_whose_contents_changed(change, path):
    """Written anew by NumPy, so that only our own checksums can tell."""
    gr.save(path, (np.array([[1e-300, 2.0]]), np.array([[3.0, 4.0]]), 3))
    with np.load(path) as file:
        entries = dict(file)
    change(entries)
    np.savez(path, **entries)
    with pytest.raises(ValueError, match=r"path '.*' is corrupt or not a file that gr.save wrote"):
        gr.load(path)


class Trap:
    """Unpickling it would leave a mark."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_a_pickle_is_refused_and_not_run(path):
    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    text = json.dumps({"format": 1, "tree": {"array": "array0"}, "sha256": {}}).encode()
    checksum = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    np.savez(path, array0=trap, manifest=np.frombuffer(text, np.uint8), checksum=checksum)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        gr.load(path)
    assert not Trap.sprung
    with np.load(path, allow_pickle=True) as file:
        file["array0"]
    assert Trap.sprung  # the trap works


# --- damage ------------------------------------------------------------------------------------------------


def outcome(path: Path) -> Any:
    try:
        return gr.load(path)
    except ValueError as error:
        return str(error)


def content_positions(path: Path) -> set[int]:
    """Where the contents of the zip entries stand; the rest are headers, with times and attributes."""
    positions: set[int] = set()
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            file.seek(entry.header_offset + 26)
            lengths = struct.unpack("<HH", file.read(4))  # of the name and the extra field
            start = entry.header_offset + 30 + sum(lengths)
            positions |= set(range(start, start + entry.compress_size))
    return positions


def test_a_flipped_bit_is_seen_wherever_it_is(path):
    """One bit, then all bits, of every byte of a small file: an error, or exactly the same state."""
    state = (np.array([1.0, -2.0, 3.0]), 7)
    gr.save(path, state)
    good, contents = path.read_bytes(), content_positions(path)
    assert len(contents) > len(good) / 2
    for position in range(len(good)):
        for mask in (1 << position % 8, 0xFF):
            changed = bytearray(good)
            changed[position] ^= mask
            path.write_bytes(changed)
            found = outcome(path)
            if isinstance(found, str):
                assert str(path) in found
            else:
                assert same(found, state), f"mask {mask} at byte {position} changes the state silently"
                assert position not in contents, f"mask {mask} at byte {position} is not seen"


def test_a_file_cut_short_is_seen(path):
    gr.save(path, (np.array([1.0, -2.0, 3.0]), 7))
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(ValueError, match="corrupt"):
            gr.load(path)


# --- atomicity ---------------------------------------------------------------------------------------------

OLD, NEW = {"theta": GRID}, {"theta": GRID + 1.0}


def fail(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def damage(descriptor: int) -> None:
    """As a bad disk would: the file has the right length and a wrong byte."""
    os.pwrite(descriptor, b"\xff", 300)


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize(
    ("owner", "name", "crash", "error"),
    [
        (os, "fsync", fail, OSError),
        (os, "fsync", interrupt, KeyboardInterrupt),
        (os, "fsync", damage, ValueError),
        (Path, "replace", fail, OSError),
    ],
    ids=["disk full", "interrupted", "bad disk", "not replaced"],
)
def test_a_failed_save_changes_nothing(owner, name, crash, error, existing, path, monkeypatch):
    if existing:
        gr.save(path, OLD)
    before = [(p.name, p.read_bytes()) for p in path.parent.iterdir()]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, crash)
        with pytest.raises(error):
            gr.save(path, NEW)
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == before
    gr.save(path, NEW)
    assert same(gr.load(path), NEW)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_link_stays_a_link(path):
    real = path.parent / "runs" / "real.npz"
    real.parent.mkdir()
    gr.save(real, OLD)
    path.symlink_to(real)
    gr.save(path, NEW)
    assert path.is_symlink()
    assert same(gr.load(real), NEW)


def test_a_directory_is_no_file(path):
    path.mkdir()
    with pytest.raises(OSError, match=re.escape(path.name)):
        gr.save(path, OLD)
    with pytest.raises(IsADirectoryError):
        gr.load(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_saved_file_has_the_permissions_of_any_new_file(path):
    other = path.parent / "other"
    other.touch()
    gr.save(path, OLD)
    assert path.stat().st_mode == other.stat().st_mode
