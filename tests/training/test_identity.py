"""What a run is known by: objects of any kind by their content and code, or refused."""

from __future__ import annotations

import functools
import math
import types

import numpy as np
import pytest
from training.training_cases import PROBLEM, THETA, X, Y

import grng_ref as gr
from grng_ref import training
from grng_ref.training.identity import describe

SOURCE = """
class Plain:
    scale = 1.0

    def __init__(self, lr):
        self.lr, self.problem = lr, problem

    def init(self, theta):
        return 0

    def step(self, theta, state, x, y):
        g = self.problem.gradient(theta, x, y)
        info = StepInfo(state, 0.0, 1.0, None, None, None, None)
        return theta - self.lr * self.scale * g, state + 1, info

def rule(step):
    return 0.1 / (1 + step)

def outer(factor):
    def inner(step):
        return factor * step
    return inner
"""


def defined(*change: str) -> types.SimpleNamespace:
    """The names that the source defines, with a part of it replaced."""
    names = {"problem": PROBLEM, "StepInfo": gr.StepInfo, "__name__": "users"}
    source = SOURCE.replace(*change) if change else SOURCE
    assert not change or source != SOURCE
    exec(compile(source, "users.py", "exec"), names)  # noqa: S102
    return types.SimpleNamespace(**names)


def test_a_plain_object_is_known_by_its_settings_and_its_code():
    first = describe(defined().Plain(0.1))
    assert describe(defined().Plain(0.1)) == first
    assert describe(defined().Plain(0.2)) != first
    assert describe(defined("theta - self.lr", "theta + self.lr").Plain(0.1)) != first
    assert describe(defined("scale = 1.0", "scale = 2.0").Plain(0.1)) != first
    moved = describe(defined("\nclass Plain", "\n\n\nclass Plain").Plain(0.1))
    assert moved == first  # other lines, the same code


def test_functions_are_known_by_code_closure_and_defaults():
    first = describe(defined().rule)
    assert describe(defined().rule) == first
    assert describe(defined("0.1 / (1", "0.2 / (1").rule) != first
    assert describe(defined("(step):\n    return 0.1", "(step, a=1):\n    return 0.1").rule) != first
    assert describe(defined().outer(1.0)) == describe(defined().outer(1.0))
    assert describe(defined().outer(1.0)) != describe(defined().outer(2.0))


def test_partial_functions_methods_and_wrapped_functions_are_looked_into():
    one, two = defined().Plain(0.1), defined().Plain(0.2)
    assert describe(one.step) != describe(two.step)
    assert describe(functools.partial(one.step, 1)) != describe(functools.partial(one.step, 2))

    def wrapped(around):
        @functools.wraps(around)
        def inner(*arguments):
            return around(*arguments)

        return inner

    assert describe(wrapped(defined().outer(1.0))) != describe(wrapped(defined().outer(2.0)))

    def scaled(factor):
        def decorate(around):
            @functools.wraps(around)
            def inner(step):
                return factor * around(step)

            return inner

        return decorate

    base = defined().outer(1.0)
    assert describe(scaled(1.0)(base)) != describe(scaled(3.0)(base))
    assert describe(scaled(1.0)(base)) == describe(scaled(1.0)(base))
    assert describe(np.vectorize(math.sin)) != describe(np.vectorize(math.cos))


def test_an_object_that_holds_itself_has_an_end():
    one = defined().Plain(0.1)
    one.jitted = one.step
    assert "around it" in str(describe(one))


def test_modules_and_values_of_other_types_are_known_by_their_names():
    one, two = defined().Plain(np), defined().Plain(np.float32(1.0).dtype)
    assert describe(one)["lr"] == "numpy"
    assert describe(two)["lr"] == "dtype('float32')"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_lacks_are_known_by_their_names(value, tmp_path):
    made = defined().Plain(0.1)
    made.best = value
    assert describe(made)["best"] == repr(value)
    files = {"records": tmp_path / "r.jsonl", "checkpoint": tmp_path / "c.npz"}
    for steps in (2, 3):
        resumed = {"resume": steps == 3, "batch_size": 12, **files}
        assert training.fit(PROBLEM, made, THETA, X, Y, steps=steps, **resumed).status == "finished"


def test_what_cannot_be_seen_is_refused():
    one = defined().Plain(0.1)
    one.draws = np.random.default_rng(0)
    with pytest.raises(TypeError, match="got an object of the class Generator, whose content"):
        describe(one)


def test_built_in_optimizers_are_known_by_their_fields_and_no_code():
    seen = describe(gr.sgd(PROBLEM, lr=0.1))
    assert seen["class"] == "SGD"
    assert seen["lr"] == 0.1
    assert "code" not in str(seen)


@pytest.mark.parametrize("change", [None, ("theta - self.lr", "theta - 2.0 * self.lr")])
def test_a_plain_optimizer_with_other_settings_or_code_is_not_resumed(change, tmp_path):
    def run(made, steps, **more):
        files = {"records": tmp_path / "r.jsonl", "checkpoint": tmp_path / "c.npz"}
        return training.fit(PROBLEM, made, THETA, X, Y, steps=steps, batch_size=12, **files, **more)

    run(defined().Plain(0.1), 2)
    other = defined(*change).Plain(0.1) if change else defined().Plain(0.2)
    with pytest.raises(ValueError, match=r"checkpoint must be of this same run.*optimizer"):
        run(other, 4, resume=True)
    assert run(defined().Plain(0.1), 4, resume=True).status == "finished"
