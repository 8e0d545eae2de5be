"""`gr.save` and `gr.load`: every state comes back bit for bit, or an error says why not."""

from __future__ import annotations

import collections
import dataclasses
import enum
import sys
import types
from pathlib import Path
from typing import Any

import array_api_compat as compat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import grng_ref as gr
from grng_ref.arrays import dtype_name
from grng_ref.curvature import BlockDiagonalFisher, FullFisher, KroneckerFactored

RNG = np.random.default_rng(4)
PROBLEM = gr.Problem(gr.MLP((3, 4, 2), frozen={1: RNG.standard_normal((2, 5))}), gr.Categorical())
THETA, X, Y = PROBLEM.init(rng=0), RNG.standard_normal((6, 3)), np.array([0, 1, 1, 0, 1, 0])
B, G = PROBLEM.score_rows(THETA, X), PROBLEM.gradient(THETA, X, Y)
BELIEF = gr.full_belief(THETA, prior_variance=2.0)
RING, RKALMAN = gr.ring(PROBLEM, lr=0.1, rho=0.1, damping=0.1), gr.rkalman(PROBLEM, rho=0.1)
KFAC = gr.kfac(PROBLEM, lr=0.1, damping=0.1)


def fisher(structure: str) -> Any:
    return gr.fisher(PROBLEM, THETA, X, structure=structure)


def same(a: Any, b: Any) -> bool:
    """Equal in type, structure and every bit; objects that are no records are compared by their repr."""
    if compat.is_array_api_obj(a) and compat.is_array_api_obj(b):
        return (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
    if type(a) is not type(b):
        return False
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return repr(a) == repr(b)  # NaN equals NaN, and 0.0 is not -0.0


def round_trip(path: Path, state: Any) -> Any:
    gr.save(path, state)
    return gr.load(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.npz"


# --- what comes back ---------------------------------------------------------------------------------------

STATES = {
    "theta": THETA,
    "layers": PROBLEM.unpack(THETA),
    "NaturalState": RING.init(THETA),
    "NaturalState with averages": KFAC.step(THETA, KFAC.init(THETA), X, Y)[1],
    "InverseResult": gr.inverse_root(np.array([[2.0, 0.5], [0.5, 1.0]]), order=2),
    "RKalmanState": RKALMAN.init(THETA),
    "VarianceEstimate": gr.update_variance(None, np.array([[1.0], [2.0]]), np.zeros((2, 1, 1))),
    "BlockDiagonalBelief": gr.block_diagonal_belief(THETA, prior_variance=0.5, blocks=(1, THETA.size - 1)),
    "DiagonalBelief": gr.diagonal_belief(THETA, prior_variance=0.5),
    "LowRankBelief": gr.low_rank_belief(THETA, prior_variance=0.5, rank=2),
    "a step": RKALMAN.step(THETA, RKALMAN.init(THETA), X, Y),
    "StepInfo": RING.step(THETA, RING.init(THETA), X, Y)[2],
    "FullBelief": BELIEF,
    "KalmanResult": gr.kalman_update(THETA, BELIEF, B, G, num_examples=6, rho=0.1),
    "Linearization": PROBLEM.linearize(THETA, X, Y),
    "SolveResult": gr.solve(fisher("full"), G, damping=0.1),
    "Comparison": gr.compare(G, 2.0 * G),
    "FullFisher": fisher("full"),
    "BlockDiagonalFisher": fisher("block_diagonal"),
    "KroneckerFactored": fisher("kfac"),
    "Problem": PROBLEM,
    "Conventions": gr.CONVENTIONS,
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_every_state_comes_back(state, path):
    assert same(round_trip(path, state), state)


def test_the_table_of_states_holds_every_record_of_the_package():
    """A record that joins the public names joins the table; what holds functions cannot be saved."""
    records = {
        name
        for name in gr.__all__
        if isinstance(kind := getattr(gr, name), type)
        and (dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"))
    }
    inside = {"MLP", "Categorical", "SolveInfo", "KalmanInfo"}  # of the problem, a StepInfo, a KalmanResult
    others = {"Activation", "Gaussian", "Bernoulli", "Poisson"}  # functions; records of one number or none
    assert records <= set(STATES) | inside | others
    assert {type(fisher(s)) for s in ("full", "block_diagonal", "kfac")} == {
        FullFisher,
        BlockDiagonalFisher,
        KroneckerFactored,
    }


@pytest.mark.parametrize("opt", [RING, RKALMAN, KFAC], ids=["ring", "rkalman", "kfac"])
def test_a_run_goes_on_as_if_it_had_not_stopped(opt, path):
    theta, state, _ = opt.step(THETA, opt.init(THETA), X, Y)
    loaded_theta, loaded_state = round_trip(path, (theta, state))
    assert same(opt.step(loaded_theta, loaded_state, X, Y), opt.step(theta, state, X, Y))


GRID = np.arange(24.0).reshape(4, 6)
PAYLOAD = np.array([0x7FF8DEADBEEF0001, 0xFFF0000000000001, 0x8000000000000000], dtype=np.uint64)
ARRAYS = {
    "Fortran order": np.asfortranarray(GRID),
    "strided": GRID[::2, ::-3],
    "transposed": GRID.T,
    "broadcast": np.broadcast_to(GRID[0], (3, 6)),
    "0-d": np.array(3.5),
    "0-d integer": np.array(-7),
    "empty": np.zeros((0, 3)),
    "empty in the middle": np.zeros((2, 0, 3), dtype=np.float32),
    "NaN payloads and -0": PAYLOAD.view(np.float64),
    "subnormal": np.array([5e-324, -2.2e-308]),
    "big-endian": GRID.astype(">f8"),
    "float16": GRID.astype(np.float16),
    "uint8": GRID.astype(np.uint8),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "bool": GRID > 5,
    "complex": GRID * (1 - 2j),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_every_array_comes_back(array, path):
    loaded = round_trip(path, array)
    assert same(loaded, array)
    assert loaded.flags.writeable


def test_numpy_scalars_come_back_as_arrays(path):
    loaded = round_trip(path, [np.float32(0.1), np.int8(3), np.bool_(True)])
    assert [(v.dtype.name, v.shape) for v in loaded] == [("float32", ()), ("int8", ()), ("bool", ())]
    assert loaded[0] == np.float32(0.1)


def test_arrays_of_any_library(backend, path):
    gr.save(path, {"a": backend.asarray(GRID), "n": backend.asarray(np.arange(3))})
    on_host = gr.load(path)
    assert same(on_host, {"a": GRID.astype(backend.dtype), "n": np.arange(3)})
    there = gr.load(path, backend=backend.library, device=backend.device)
    backend.assert_close(there["a"], GRID, rtol=0.0)
    assert dtype_name(there["n"]) == "int64"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.text(max_size=3) | st.integers() | st.tuples(st.integers(), st.text(max_size=2))
DTYPES = st.sampled_from(["<f8", "<f4", ">f8", "<i8", "?", "<c16"])
LEAVES = SCALARS | npst.arrays(DTYPES, npst.array_shapes(min_dims=0, min_side=0, max_side=3))
TREES = st.recursive(
    LEAVES,
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(KEYS, children, max_size=3)
        | st.builds(gr.SolveInfo, *[children] * 5)
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(tree=TREES)
def test_any_tree_comes_back(tree, tmp_path_factory):
    assert same(round_trip(tmp_path_factory.getbasetemp() / "tree.npz", tree), tree)


def test_the_comparator_sees_differences():
    assert not same(0.0, -0.0)
    assert not same((1,), [1])
    assert not same(1, True)
    assert not same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert not same(np.zeros(2), np.zeros(2, dtype=np.float32))
    assert not same(PAYLOAD.view(float), np.array([np.nan, np.nan, -0.0]))
    assert not same(BELIEF, gr.full_belief(THETA, prior_variance=2.0 + 1e-15))


# --- what cannot come back as it was is refused -------------------------------------------------------------


class Colour(enum.IntEnum):
    RED = 1


RELATIVES = [Colour.RED, collections.OrderedDict(a=1), np.str_("a"), b"bytes", range(3)]


@pytest.mark.parametrize("value", RELATIVES)
def test_near_relatives_of_plain_values_are_refused(value, path):
    with pytest.raises(TypeError, match=r"state\['x'\] must be an array"):
        gr.save(path, {"x": value})
    assert not path.exists()


def held(field: str) -> type:
    """The dataclass ``some_module.Held`` with one field."""
    made = dataclasses.make_dataclass("Held", [field], frozen=True)
    made.__module__ = "some_module"  # afterwards: from 3.12 on `make_dataclass` sets it itself
    return made


@pytest.fixture
def module(monkeypatch):
    """An imported module with one dataclass, which holds what it gets."""
    made = types.ModuleType("some_module")
    made.Held = held("value")
    monkeypatch.setitem(sys.modules, "some_module", made)
    return made


def test_a_class_that_is_not_imported(module, path, monkeypatch):
    gr.save(path, module.Held(3))
    assert gr.load(path) == module.Held(3)
    monkeypatch.delitem(sys.modules, "some_module")
    with pytest.raises(ValueError, match=r"needs the class some_module:Held.*import some_module first"):
        gr.load(path)
    assert "some_module" not in sys.modules


def test_a_class_that_has_changed(module, path):
    gr.save(path, module.Held(3))
    module.Held = held("other")
    with pytest.raises(ValueError, match=r"holds no state that can be rebuilt here.*value"):
        gr.load(path)


# --- paths ------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Place:
    path: Path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("form", [str, Path, Place])
def test_a_path_or_a_string_without_a_suffix(form, tmp_path):
    path = form(tmp_path / "state")
    assert same(round_trip(path, GRID), GRID)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]
