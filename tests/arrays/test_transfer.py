"""Moving data: round trips of arrays and trees, what is kept or copied, and what a backend cannot do."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import types
from typing import Any, NamedTuple

import array_api_compat as compat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support import assert_close, import_peer

import grng_ref as gr
from grng_ref.arrays import describe_backends, dtype_name, load_backend, row_major_copy

DTYPES = ("bool", "int8", "int32", "int64", "uint8", "float32", "float64", "complex64", "complex128")
VALUES = np.array([[0.0, 1.0, -2.5], [3.0, np.nan, np.inf]])


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass(frozen=True)
class Record:
    array: Any
    name: str = "record"
    count: int = 0
    twice: Any = dataclasses.field(init=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.array)


def move(tree: Any, backend: Any, dtype: str | None = None) -> Any:
    return gr.asarray(tree, backend=backend.library, dtype=dtype, device=backend.device)


def require_same(actual: np.ndarray, expected: np.ndarray) -> None:
    """The same bits, dtype and shape; NaN payloads count."""
    assert isinstance(actual, np.ndarray)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert actual.tobytes() == expected.tobytes()


# --- arrays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DTYPES)
def test_every_dtype_comes_back(kind, backend):
    host = np.array([[0, 1, 1], [1, 0, 1]]).astype(kind)
    moved = move(host, backend)
    assert compat.array_namespace(moved) is compat.array_namespace(backend.xp.empty(1))
    assert dtype_name(moved) == kind
    require_same(gr.to_numpy(moved), host)


@pytest.mark.parametrize(
    "host",
    [VALUES, np.asfortranarray(VALUES), VALUES[::-1, ::2], VALUES[:, :0], np.array(2.5), np.array(3)],
    ids=["C order", "Fortran order", "strided", "empty", "0-d", "0-d integer"],
)
def test_every_layout_comes_back(host, backend):
    require_same(gr.to_numpy(move(host, backend)), host)


@given(host=npst.arrays(st.sampled_from([np.float64, np.float32, np.int64]), npst.array_shapes(min_dims=0)))
def test_any_array_comes_back_from_a_device(host):
    there = gr.asarray(host, backend="array_api_strict", device="device1")
    require_same(gr.to_numpy(there), host)


def test_only_floats_are_cast(dtype):
    tree = {
        "float": VALUES,
        "half": VALUES.astype(np.float16),
        "int": np.arange(3),
        "bool": VALUES > 0,
        "n": 0.1,
    }
    cast = gr.asarray(tree, backend="numpy", dtype=dtype)
    assert [str(cast[k].dtype) for k in ("float", "half", "int", "bool")] == [dtype, dtype, "int64", "bool"]
    assert cast["n"] == 0.1
    kept = gr.asarray(tree, backend="numpy")
    assert [kept[k].dtype for k in ("float", "half", "int", "bool")] == [
        v.dtype for v in list(tree.values())[:4]
    ]


def test_casting_to_float32_rounds_once(dtype):
    third = np.array([1.0 / 3.0])
    there = gr.asarray(third, backend="array_api_strict", dtype=dtype, device="device1")
    require_same(gr.to_numpy(there), third.astype(dtype))


def test_what_fits_is_returned_as_it_is(backend, dtype):
    moved = move(VALUES, backend, dtype)
    assert move(moved, backend) is moved
    assert move(moved, backend, dtype) is moved
    assert gr.asarray(moved, backend=backend.library) is moved  # also on a device that is not the default
    host = VALUES.copy()
    assert gr.to_numpy(host) is host
    assert gr.asarray(host, backend="numpy", device="cpu") is host


def test_copies_share_no_memory(backend):
    host = VALUES.copy()
    moved = move(host, backend)
    if backend.library != "numpy":
        host[0, 1] = 77.0
        assert gr.to_numpy(moved)[0, 1] == 1.0
        back = gr.to_numpy(moved)
        back[0, 1] = 55.0
        assert gr.to_numpy(moved)[0, 1] == 1.0
        assert gr.asarray(moved, backend="numpy").flags.writeable


@pytest.mark.peers
def test_a_tensor_that_requires_grad_arrives_detached():
    torch = import_peer("torch")
    tracked = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    require_same(gr.to_numpy(tracked), np.array([1.0, 2.0]))
    require_same(gr.asarray(tracked, backend="numpy"), np.array([1.0, 2.0]))
    assert tracked.requires_grad


# --- trees -------------------------------------------------------------------------------------------------


def test_containers_keep_their_kind(backend):
    a, b = VALUES, np.arange(4)
    tree = {"pair": Pair(a, [b, None, "text", 3]), 5: (Record(a, name="x", count=2), abs)}
    moved = move(tree, backend)
    assert list(moved) == ["pair", 5]
    assert type(moved["pair"]) is Pair
    assert moved["pair"].right[1:] == [None, "text", 3]
    record, function = moved[5]
    assert type(record) is Record
    assert (record.name, record.count, function) == ("x", 2, abs)
    for array, host in (
        (moved["pair"].left, a),
        (moved["pair"].right[0], b),
        (record.array, a),
        (record.twice, 2 * a),
    ):
        assert compat.array_namespace(array) is compat.array_namespace(backend.xp.empty(1))
        require_same(gr.to_numpy(array), host)
    assert tree["pair"].left is a  # the tree itself is as it was


@pytest.mark.parametrize("empty", [(), [], {}, Pair(1, 2.0), gr.Problem(gr.MLP((2, 1)), gr.Gaussian())])
def test_trees_without_arrays_are_no_error(empty):
    moved = gr.asarray(empty, backend="numpy")
    assert type(moved) is type(empty)


def test_a_problem_moves_with_its_frozen_layers(backend, dtype):
    problem = gr.Problem(gr.two_layer(3, 4), gr.Gaussian())
    theta, x = problem.init(rng=1), np.random.default_rng(2).standard_normal((5, 3))
    moved = move(problem, backend, dtype)
    outputs = moved.outputs(*move((theta, x), backend, dtype))
    # Five roundings deep at most, over sums of up to 4 terms; the values themselves are other tests' matter.
    backend.assert_close(outputs, problem.outputs(theta, x), rtol=1e-5 if dtype == "float32" else 1e-14)
    assert moved.model.frozen[1].dtype == outputs.dtype
    assert problem.model.frozen[1].dtype == np.float64


@pytest.mark.parametrize(
    "make", [lambda p: gr.ring(p, lr=0.1, rho=0.1, damping=0.1), lambda p: gr.rkalman(p)]
)
def test_states_move_and_go_on(make, backend):
    """From the host to the backend and back in mid-run: the moved state is the same state."""
    problem = gr.Problem(gr.MLP((3, 4, 2)), gr.Categorical())
    rng = np.random.default_rng(3)
    theta, x, y = problem.init(rng=0), rng.standard_normal((6, 3)), np.array([0, 1, 1, 0, 1, 0])
    opt = make(problem)
    theta, state, _ = opt.step(theta, opt.init(theta), x, y)
    there = move((theta, state, x, y), backend, "float64")
    ours, theirs = opt.step(theta, state, x, y), opt.step(*there)
    assert type(theirs[1]) is type(state)
    # One more step on another library: the same up to rounding, times a condition number below 1e4.
    np.testing.assert_allclose(gr.to_numpy(theirs[0]), ours[0], rtol=1e-10, atol=1e-12)
    back = gr.to_numpy(there[1])
    for field in dataclasses.fields(state):
        before, after = getattr(state, field.name), getattr(back, field.name)
        if compat.is_array_api_obj(before):
            require_same(after, before)


# --- what a backend cannot do ------------------------------------------------------------------------------


def fake_cupy(count: Any) -> types.ModuleType:
    """A CuPy whose runtime answers ``count``, or raises it."""

    def get_device_count() -> int:
        if isinstance(count, Exception):
            raise count
        return count

    module = types.ModuleType("cupy")
    module.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=get_device_count))
    return module


class CUDARuntimeError(RuntimeError):
    """As CuPy's: it cannot be imported where there are no CUDA libraries."""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (
            None,
            (
                "backend 'cupy' is not installed",
                "pip install 'grng-ref[cuda12]'",
                "cuda13",
                "backend='numpy'",
            ),
        ),
        (
            fake_cupy(CUDARuntimeError("cudaErrorInsufficientDriver")),
            (
                "installed but has no usable GPU",
                "cudaErrorInsufficientDriver",
                "nvidia-smi",
                "backend='numpy'",
            ),
        ),
        (fake_cupy(0), ("installed but finds no GPU", "backend='numpy'")),
    ],
    ids=["not installed", "no driver", "no device"],
)
def test_cupy_without_a_gpu(monkeypatch, module, words):
    monkeypatch.setitem(sys.modules, "cupy", module)  # None makes an import fail
    doors = [
        lambda: gr.asarray(VALUES, backend="cupy"),
        lambda: gr.Problem(gr.MLP((2, 1)), gr.Gaussian()).init(backend="cupy"),
    ]
    for door in doors:
        with pytest.raises(gr.BackendError) as caught:
            door()
        for word in words:
            assert word in str(caught.value)
    record = next(r for r in describe_backends() if r["name"] == "cupy")
    assert not record["usable"]
    assert words[0] in record["note"]


def test_a_saved_state_is_not_loaded_to_a_missing_gpu(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cupy", None)
    gr.save(tmp_path / "s.npz", VALUES)
    with pytest.raises(gr.BackendError, match="not installed"):
        gr.load(tmp_path / "s.npz", backend="cupy")


@pytest.mark.parametrize("name", ["torch", "jax", "array_api_strict"])
def test_a_missing_library_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    for module in [m for m in sys.modules if m.startswith(f"array_api_compat.{name}") or m == "jax.numpy"]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(
        gr.BackendError, match=f"backend '{name}' is not installed.*pip install.*backend='numpy'"
    ):
        gr.asarray(VALUES, backend=name)


OPTIONAL = (
    "cupy",
    "cupyx",
    "torch",
    "jax",
    "array_api_strict",
    "sklearn",
    "flint",
    "matplotlib",
    "typer",
    "rich",
)


def test_importing_the_package_imports_no_optional_library():
    code = f"""
import sys
import grng_ref
import grng_ref.cli
loaded = [name for name in {OPTIONAL!r} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# A process of its own: this one has JAX's 64-bit numbers switched on.
WITHOUT_X64 = """
import warnings
warnings.simplefilter("error")
import numpy as np
import grng_ref as gr
f, i, c = np.ones(2), np.arange(2), 1j * np.ones(2)
for values, dtype in ((f, None), (f, "float64"), (i, None), (c, None)):
    try:
        got = gr.asarray(values, backend="jax", dtype=dtype)
    except gr.BackendError as error:
        assert "would silently give" in str(error) and "jax_enable_x64" in str(error), error
    else:
        raise AssertionError(f"no error: {got.dtype}")
single = gr.asarray(np.ones(2), backend="jax", dtype="float32")
assert str(single.dtype) == "float32"
try:
    gr.asarray(single, backend="jax", dtype="float64")
except gr.BackendError:
    print("as it should be")
"""


@pytest.mark.peers
def test_jax_without_float64_is_an_error():
    import_peer("jax")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_X64],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "JAX_ENABLE_X64": "0"},
    )
    assert done.stdout.strip() == "as it should be", done.stderr


@pytest.mark.parametrize("device", ["device2", "no_float64", "no_x64"])
def test_a_device_that_prefers_float32_never_gives_it_silently(device):
    """device2 holds float64 though float32 is its default; the other two do not hold it at all."""
    xp = load_backend("array_api_strict")
    try:
        xp.Device(device)
    except ValueError:
        pytest.skip(f"this array-api-strict has no device {device}")
    single = gr.asarray(VALUES, backend="array_api_strict", dtype="float32", device=device)
    require_same(gr.to_numpy(single), VALUES.astype(np.float32))
    if device == "device2":
        require_same(gr.to_numpy(gr.asarray(VALUES, backend="array_api_strict", device=device)), VALUES)
    else:
        with pytest.raises(gr.BackendError, match=f"cannot hold float64 on device .*{device}"):
            gr.asarray(VALUES, backend="array_api_strict", device=device)


@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_a_device_of_other_defaults_computes_in_the_dtype_of_theta(kind):
    """Every array that the package makes has theta's dtype: on device2 a forgotten ``dtype=`` is float32."""
    problem = gr.Problem(gr.MLP((3, 4, 2)), gr.Categorical())
    theta, x = problem.init(rng=0), np.random.default_rng(1).standard_normal((5, 3))
    y = np.array([0, 1, 1, 0, 1])
    there = gr.asarray((theta, x, y), backend="array_api_strict", dtype=kind, device="device2")
    for opt in (gr.ring(problem, lr=0.1, rho=0.1, damping=0.1), gr.rkalman(problem)):
        ours = opt.step(theta, opt.init(theta), x, y)[0]
        theirs = opt.step(there[0], opt.init(there[0]), *there[1:])[0]
        assert dtype_name(theirs) == kind
        # float32 inside a float64 run would be wrong by 1e-8 and more
        np.testing.assert_allclose(gr.to_numpy(theirs), ours, rtol=1e-12 if kind == "float64" else 1e-3)


# --- copies for a state ------------------------------------------------------------------------------------


def test_row_major_copies_are_equal_and_nobody_elses(backend):
    """Of transposed and strided arrays too; library, dtype and device are kept, numbers stay as they are."""
    values = np.arange(24.0).reshape(4, 6)
    array = backend.asarray(values)
    xp = backend.xp
    tree = (array, xp.matrix_transpose(array), array[::2, 1:], backend.asarray(np.array(3.0)), 5, None)
    copied = row_major_copy(tree)
    assert copied[4:] == (5, None)
    for copy, original in zip(copied[:4], tree[:4], strict=True):
        assert_close(copy, original, rtol=0.0)
    if backend.library == "numpy":
        for copy, original in zip(copied[:4], tree[:4], strict=True):
            assert copy.flags.c_contiguous
            assert not np.shares_memory(copy, original)
        assert not tree[1].flags.c_contiguous  # the test has something to show
