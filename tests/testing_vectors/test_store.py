"""Test vectors on disk: every kind of damage is refused, with a message that names it."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("flint")
safetensors = pytest.importorskip("safetensors.numpy")
pytest.importorskip("jsonschema")

from grng_ref.testing.vectors import CATALOGUE, build_case, certify, load_cases, read_manifest, save_cases  # noqa: E402
from grng_ref.testing.vectors.store import FORMAT_VERSION  # noqa: E402

ROWS = {row.id: row for row in CATALOGUE}
IDS = ("kfac-baseline", "ekfac-expected")


@pytest.fixture(scope="module")
def cases():
    return tuple(certify(build_case(ROWS[name])) for name in IDS)


@pytest.fixture
def folder(tmp_path, cases):
    save_cases(tmp_path / "set", cases, seed=6)
    return tmp_path / "set"


def edit(folder, change):
    """Change the manifest, as plain data."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def rewrite(folder, change):
    """Change the tensors of the first case, its checksum made right again."""
    path = folder / f"{IDS[0]}.safetensors"
    tensors = change(safetensors.load(path.read_bytes()))
    content = safetensors.save(tensors)
    path.write_bytes(content)
    edit(folder, lambda m: m["cases"][0].update(sha256=hashlib.sha256(content).hexdigest()))


def test_reads_back_every_bit(folder, cases):
    for case, again in zip(cases, load_cases(folder), strict=True):
        assert (again.id, again.flags, again.optimizer, again.network) == (
            case.id,
            case.flags,
            case.optimizer,
            case.network,
        )
        for part in ("inputs", "expected", "radii"):
            written, read = getattr(case, part), getattr(again, part)
            assert set(written) == set(read)
            for name, array in written.items():
                if array is None:
                    assert read[name] is None
                    assert again.reasons[name] == case.reasons[name] != ""
                else:
                    assert read[name].dtype == array.dtype
                    assert read[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("make", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2]])
def test_memory_order_does_not_reach_the_file(tmp_path, cases, make):
    # safetensors itself writes the bytes of such arrays in the order of the memory
    case = cases[0]
    x = make(case.x)
    assert not x.flags.c_contiguous
    save_cases(tmp_path / "set", [replace(case, inputs={**case.inputs, "x": x})], seed=0)
    assert np.array_equal(load_cases(tmp_path / "set")[0].x, case.x)


@pytest.mark.parametrize("place", [8, 200, -1])
def test_corrupted_byte(folder, place):
    path = folder / f"{IDS[0]}.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"kfac-baseline.*differs from its checksum"):
        load_cases(folder)


def test_truncated_file(folder):
    path = folder / f"{IDS[0]}.safetensors"
    path.write_bytes(path.read_bytes()[:-16])
    with pytest.raises(ValueError, match="differs from its checksum"):
        load_cases(folder)


def test_truncated_file_with_a_right_checksum(folder):
    path = folder / f"{IDS[0]}.safetensors"
    content = path.read_bytes()[:-16]
    path.write_bytes(content)
    edit(folder, lambda m: m["cases"][0].update(sha256=hashlib.sha256(content).hexdigest()))
    with pytest.raises(ValueError, match="no safetensors file"):
        load_cases(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {("expected.grad" if k == "expected.gradient" else k): a for k, a in t.items()},
            "lacks.*gradient",
        ),
        (lambda t: {k: a for k, a in t.items() if k != "input.theta"}, "lacks the tensor 'input.theta'"),
        (lambda t: {**t, "input.more": np.zeros(2)}, "unknown to the manifest.*input.more"),
        (lambda t: {**t, "input.theta": t["input.theta"][:-1].copy()}, "input.theta is.*shape"),
        (lambda t: {**t, "input.theta": t["input.theta"].astype(np.float32)}, "float32"),
    ],
    ids=["renamed", "missing", "extra", "shape", "dtype"],
)
def test_tensors_that_the_manifest_does_not_describe(folder, change, message):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        load_cases(folder)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "other.safetensors"]
)
def test_path_that_leaves_the_folder(folder, name):
    edit(folder, lambda m: m["cases"][0].update(file=name))
    with pytest.raises(ValueError, match=r"file"):
        load_cases(folder)


def test_symbolic_link(folder, tmp_path):
    path = folder / f"{IDS[0]}.safetensors"
    outside = tmp_path / "outside.safetensors"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(ValueError, match="link"):
        load_cases(folder)


def test_missing_file_and_missing_manifest(folder, tmp_path):
    (folder / f"{IDS[0]}.safetensors").unlink()
    with pytest.raises(ValueError, match="is missing"):
        load_cases(folder)
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        load_cases(tmp_path)


def test_newer_major_version_is_refused_and_says_what_to_do(folder):
    major = int(FORMAT_VERSION.split(".")[0]) + 1
    edit(folder, lambda m: m.update(version=f"{major}.0.0", cases={"another": "layout"}))
    with pytest.raises(ValueError, match=rf"version {major}\.0\.0.*update"):
        load_cases(folder)


def test_newer_minor_version_is_read(folder):
    edit(folder, lambda m: m.update(version="1.9.0"))
    assert len(load_cases(folder)) == len(IDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["cases"].append(m["cases"][0]), "id 'kfac-baseline' twice"),
        (lambda m: m.update(more=1), "more"),
        (lambda m: m["cases"][0].update(more=1), "more"),
        (lambda m: m["cases"][0]["network"].update(more=1), "more"),
        (lambda m: m["cases"][0]["optimizer"].update(more=1), "more"),
        (lambda m: m["cases"][0]["optimizer"].pop("lr"), "lr"),
        (lambda m: m.pop("conventions"), "conventions"),
        (lambda m: m.update(format="something"), "format|constant|expected"),
        (lambda m: m["cases"][1]["reasons"].clear(), "neither a radius nor a reason"),
    ],
)
def test_manifest_that_is_none(folder, change, message):
    edit(folder, change)
    with pytest.raises(ValueError, match=message):
        load_cases(folder)


def test_key_twice_in_one_object(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 6', '"seed": 6, "seed": 7', 1))
    with pytest.raises(ValueError, match="'seed' twice"):
        read_manifest(folder)


def test_no_json(folder):
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        read_manifest(folder)


def test_failed_export_leaves_nothing(tmp_path, cases):
    with pytest.raises(ValueError, match="twice"):
        save_cases(tmp_path / "set", [cases[0], cases[0]], seed=0)
    with pytest.raises(ValueError, match="float64 or int64"):
        save_cases(tmp_path / "set", [cases[0].astype("float32")], seed=0)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_not_written_to(folder, cases):
    with pytest.raises(FileExistsError, match="exists"):
        save_cases(folder, cases, seed=0)
