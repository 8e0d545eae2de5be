"""Test vectors on disk: every kind of damage is refused, with a message that names it."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("flint")
safetensors = pytest.importorskip("safetensors.numpy")
pytest.importorskip("jsonschema")

from grng_ref.cli.vectors import verify_vectors  # noqa: E402
from grng_ref.testing.vectors import CATALOGUE, build_case, certify, load_cases, read_manifest, save_cases  # noqa: E402
from grng_ref.testing.vectors.store import FORMAT_VERSION  # noqa: E402

ROWS = {row.id: row for row in CATALOGUE}
IDS = ("kfac-baseline", "ekfac-expected")
MAJOR = int(FORMAT_VERSION.split(".")[0])
NEWER = f"{MAJOR}.99.0"


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


@pytest.mark.parametrize(
    "change",
    [
        lambda m: None,
        lambda m: m.update(more=1),
        lambda m: m["stages"][0].update(more="text"),
        lambda m: m["stages"].append({"name": "another", **{k: m["stages"][0][k] for k in m["stages"][0]}}),
        lambda m: m["cases"][0].update(more={"a": [1]}),
        lambda m: m["cases"][0]["tensors"]["input.theta"].update(unit="none"),
    ],
)
def test_newer_minor_version_is_read_with_what_is_new_in_it(folder, change):
    edit(folder, change)
    edit(folder, lambda m: m.update(version=NEWER))
    assert len(load_cases(folder)) == len(IDS)


def test_stages_of_a_newer_minor_version_are_passed_over(folder):
    described(folder, lambda t: {**t, "expected.another": np.zeros(3)})
    with pytest.raises(ValueError, match="'another' is none of its stages"):
        load_cases(folder)
    edit(folder, lambda m: m.update(version=NEWER))
    assert "another" not in load_cases(folder)[0].expected


@pytest.mark.parametrize("part", ["network", "likelihood", "curvature", "optimizer"])
def test_no_version_adds_to_what_is_computed(folder, part):
    """A setting that this version does not know may change every result."""
    edit(folder, lambda m: m.update(version=NEWER))
    edit(folder, lambda m: m["cases"][0][part].update(more=1))
    with pytest.raises(ValueError, match="more"):
        load_cases(folder)


def test_older_major_version_is_refused(folder):
    edit(folder, lambda m: m.update(version=f"{MAJOR - 1}.9.0"))
    with pytest.raises(ValueError, match=rf"version {MAJOR - 1}\.9\.0; this package reads [0-9.]*$"):
        load_cases(folder)


def test_link_in_the_place_of_the_manifest(folder, tmp_path):
    (folder / "manifest.json").rename(tmp_path / "outside.json")
    (folder / "manifest.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(ValueError, match="is a link"):
        load_cases(folder)


def test_numbers_that_json_does_not_have(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"seed": 6', '"seed": NaN', 1))
    with pytest.raises(ValueError, match="NaN"):
        load_cases(folder)


def described(folder, change):
    """Change the tensors of the first case, and all that is said of them."""
    rewrite(folder, change)
    tensors = safetensors.load((folder / f"{IDS[0]}.safetensors").read_bytes())
    said = {name: {"dtype": str(a.dtype), "shape": list(a.shape)} for name, a in tensors.items()}
    edit(folder, lambda m: m["cases"][0].update(tensors=said))
    names = [name.removeprefix("expected.") for name in tensors if name.startswith("expected.")]
    edit(folder, lambda m: m["cases"][0].update(reasons=dict.fromkeys(names, "for the test")))


def without(*names):
    return lambda t: {name: array for name, array in t.items() if name not in names}


def replaced(name, change):
    return lambda t: {**t, name: np.ascontiguousarray(change(t[name]))}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("input.theta"), "lacks 'theta'"),
        (without("input.v"), "lacks 'v'"),
        (replaced("input.theta", lambda a: a[:-1]), "'theta' has shape"),
        (replaced("input.v", lambda a: a[:-1]), "'v' has shape"),
        (replaced("input.x", lambda a: a[:, :-1]), "x"),
        (replaced("input.x", lambda a: a * np.nan), "'x' is not finite"),
        (replaced("input.y", lambda a: a + 7), "y"),
        (replaced("input.y", lambda a: a[:-1]), "y"),
        (replaced("input.batches.x", lambda a: a[:-1]), "needs 3 steps"),
        (replaced("input.batches.x", lambda a: a[::-1]), "first step"),
        (replaced("expected.gradient", lambda a: a[:-1]), "expected array 'gradient' has shape"),
        (replaced("expected.factors.1.G", lambda a: a[:1]), r"'factors\.1\.G' has shape"),
        (replaced("radius.gradient", lambda a: a[:-1]), "radius 'gradient' has shape"),
        (replaced("radius.gradient", lambda a: -a - 1), "negative"),
        (replaced("radius.gradient", lambda a: a * np.nan), "no number or negative"),
        (lambda t: {**t, "expected.gradeint": np.zeros(3)}, "'gradeint' is none of its stages"),
        (lambda t: {**t, "expected.factors.7.A": np.zeros(3)}, r"'factors\.7\.A' is none of its stages"),
    ],
)
def test_nonsense_with_a_right_checksum(folder, change, message):
    described(folder, change)
    with pytest.raises(ValueError, match=rf"^case kfac-baseline.*{message}"):
        load_cases(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["optimizer"].update(lr="fast"), "lr"),
        (lambda c: c["optimizer"].update(ema=2.0), "ema"),
        (lambda c: c["network"].update(frozen=[0]), r"frozen\.0"),
        (lambda c: c["network"].update(sizes=[2, 3, 3]), "theta"),
        (lambda c: c["likelihood"].update(variance=1.0), "variance"),
    ],
)
def test_descriptions_of_nothing(folder, change, message):
    edit(folder, lambda m: change(m["cases"][0]))
    with pytest.raises(ValueError, match=rf"^case kfac-baseline.*{message}"):
        load_cases(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("expected.delta", "radius.delta"), "kfac-baseline: lacks the expected array 'delta'"),
        (
            lambda t: {n: a for n, a in t.items() if n.startswith("input.")},
            "kfac-baseline: lacks the expected array 'outputs'",
        ),
        (without("expected.factors.1.G", "radius.factors.1.G"), r"lacks the expected array 'factors.1.G'"),
        (lambda t: {**t, "expected.belief_mean": t["expected.parameters"]}, "which does not apply to it"),
    ],
)
def test_verify_refuses_what_is_stripped_or_added(folder, capsys, change, message):
    described(folder, change)
    assert verify_vectors(folder) == 1
    assert message in capsys.readouterr().err


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
    ],
)
def test_manifest_that_is_none(folder, change, message):
    edit(folder, change)
    with pytest.raises(ValueError, match=message):
        load_cases(folder)


def test_neither_a_radius_nor_a_reason(folder):
    rewrite(folder, without("radius.gradient"))
    edit(folder, lambda m: m["cases"][0]["tensors"].pop("radius.gradient"))
    with pytest.raises(ValueError, match="gradient has neither a radius nor a reason"):
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
