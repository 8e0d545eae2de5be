"""Bad input at every public door: the exact error type, and a message that names the argument, what it got
and what it needs; nothing has changed afterwards. The table is in `bad_inputs`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import NO_BAD_INPUT, PEERS, TABLE, WORLD, Row
from bad_inputs.values import PROBLEM, SIZE, THETA, X, Y
from support import import_peer

import grng_ref as gr

ROWS = [(door, Row(*row)) for door, rows in TABLE.items() for row in rows]
PEER_ROWS = [(door, Row(*row)) for door, rows in PEERS.items() for row in rows]


def named(rows):
    return {"argvalues": rows, "ids": [f"{door}: {row.defect}" for door, row in rows]}


@pytest.fixture
def saved(tmp_path):
    """A good file, alone in its directory, that holds the arrays and states which the calls get."""
    path = tmp_path / "state.npz"
    gr.save(path, WORLD)
    return path


def contents(path: Path) -> dict[str, bytes]:
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files}


def check(row: Row, saved: Path) -> None:
    """Run one row: the exact type, and the three parts of the message."""
    takes_path = bool(inspect.signature(row.call).parameters)
    with pytest.raises(Exception) as caught:
        row.call(saved) if takes_path else row.call()
    assert type(caught.value) is row.error, f"got {type(caught.value).__name__}: {caught.value}"
    message = str(caught.value)
    argument = rf"(?<!\w){re.escape(row.argument)}(?![\w\[])"  # as a word: "g" is not in "got"
    assert re.search(argument, message), f"{row.argument!r} is not named: {message}"
    assert row.needs in message, f"it does not say what is needed ({row.needs}): {message}"
    assert row.got in message, f"it does not say what it got ({row.got}): {message}"


def check_unchanged(saved: Path, act: Callable[[], None]) -> None:
    """Run something, and compare the arguments that all rows share, the old file and its directory."""
    old = saved.read_bytes()
    act()
    assert saved.read_bytes() == old
    assert {path.name for path in saved.parent.iterdir()} <= {saved.name, "other.npz"}, (
        "a file was left behind"
    )
    gr.save(saved.parent / "now.npz", WORLD)
    assert contents(saved.parent / "now.npz") == contents(saved), "an argument was changed"


@pytest.mark.parametrize(("door", "row"), **named(ROWS))
def test_bad_input(door, row, saved):
    check_unchanged(saved, lambda: check(row, saved))


@pytest.mark.peers
@pytest.mark.parametrize(("door", "row"), **named(PEER_ROWS))
def test_bad_input_of_pytorch(door, row, saved):
    import_peer("torch")
    check_unchanged(saved, lambda: check(row, saved))


# --- numerics that fail: good arguments, no answer ----------------------------------------------------------

SINGULAR = gr.FullBelief(np.zeros((SIZE, SIZE)))
FAILING = {
    "F singular": gr.ngd(PROBLEM, lr=0.1, method="cholesky"),
    "G singular": gr.ring(
        PROBLEM, lr=0.1, rho=0.0, structure="kfac", damping_kind="factored", method="cholesky"
    ),
    "H g outside the range": gr.reng(PROBLEM, lr=0.1, rho=1.0),
    "no information": gr.rkalman(PROBLEM, belief=SINGULAR),
}


@pytest.mark.parametrize("opt", FAILING.values(), ids=FAILING)
def test_a_failed_step_carries_its_info_and_changes_nothing(opt, saved):
    state = opt.init(THETA)
    gr.save(saved.parent / "other.npz", state)

    def act() -> None:
        with pytest.raises(gr.NumericalError, match="step 0: ") as caught:
            opt.step(THETA, state, X, Y)
        info = caught.value.result
        assert isinstance(info, gr.StepInfo)
        assert (info.step, info.step_norm) == (0, None)
        assert info.loss == PROBLEM.loss(THETA, X, Y)

    check_unchanged(saved, act)
    gr.save(saved.parent / "after.npz", state)
    assert contents(saved.parent / "after.npz") == contents(saved.parent / "other.npz")


# --- the table itself --------------------------------------------------------------------------------------


def test_every_public_callable_has_a_row_or_a_reason():
    public = {name for name in gr.__all__ if callable(getattr(gr, name))}
    doors = set(TABLE)
    assert public <= doors | set(NO_BAD_INPUT), "a public name without a row"
    assert not doors & set(NO_BAD_INPUT), "a reason for a name that has rows"
    assert set(NO_BAD_INPUT) <= set(gr.__all__)


def test_every_method_of_a_problem_has_a_row():
    methods = {
        f"Problem.{name}"
        for name, value in vars(gr.Problem).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    assert methods <= set(TABLE)


def test_rows_are_distinct():
    pairs = [(door, row.defect) for door, row in ROWS]
    assert len(set(pairs)) == len(pairs)
    assert len(pairs) >= 40


# --- planted errors: what a row must catch -----------------------------------------------------------------


def planted(error: Exception, **changes: object) -> Row:
    def call() -> None:
        raise error

    row = Row("planted", call, ValueError, "rho", "a finite number >= 0", "got -1.0")
    return row._replace(**changes)


GOOD = "rho must be a finite number >= 0, got -1.0"


def test_a_good_error_passes(saved):
    check_unchanged(saved, lambda: check(planted(ValueError(GOOD)), saved))


@pytest.mark.parametrize(
    "row",
    [
        planted(TypeError(GOOD)),
        planted(UnicodeError(GOOD)),  # a subclass of ValueError
        planted(ValueError(GOOD.replace("rho", "argument"))),
        planted(ValueError(GOOD.replace("rho", "other_rho"))),
        planted(ValueError("rho is wrong, got -1.0")),
        planted(ValueError("rho must be a finite number >= 0")),
        planted(ValueError(GOOD), call=lambda: None),
    ],
    ids=["type", "subclass", "no name", "other name", "no need", "no value", "no error"],
)
def test_a_bad_error_is_caught(row, saved):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(row, saved)


def changed_belief(saved: Path) -> None:
    WORLD["belief"].root[0, 0] += 1.0


def changed_file(saved: Path) -> None:
    saved.write_bytes(b"")


def left_file(saved: Path) -> None:
    (saved.parent / "state.npz.tmp").touch()


@pytest.mark.parametrize("damage", [changed_belief, changed_file, left_file])
def test_a_change_is_caught(damage, saved):
    root = WORLD["belief"].root
    kept = root.copy()
    try:
        with pytest.raises(AssertionError):
            check_unchanged(saved, lambda: damage(saved))
    finally:
        root[...] = kept
