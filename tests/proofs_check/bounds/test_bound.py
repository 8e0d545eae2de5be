"""The record of a bound: what it accepts, and what its two sides decide."""

from __future__ import annotations

import math

import pytest

from proofs_check.bounds import Bound


def test_decisions():
    bound = Bound(1.0, 2.0, True, "by hand")
    assert [bound.at_least(v) for v in (0.5, 1.0, 1.5, 2.0, 2.5)] == [True, True, None, None, False]
    assert [bound.at_most(v) for v in (0.5, 1.0, 1.5, 2.0, 2.5)] == [False, None, None, True, True]
    everything = Bound(-math.inf, math.inf, True, "nothing")
    assert everything.at_least(0.0) is None
    assert everything.at_most(0.0) is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("1", 2.0, True, "m"), TypeError, "lower must be a number, got str"),
        ((1.0, True, True, "m"), TypeError, "upper must be a number, got bool"),
        ((2.0, 1.0, True, "m"), ValueError, r"lower must be <= upper, got \[2.0, 1.0\]"),
        ((math.nan, 1.0, True, "m"), ValueError, "lower must be <= upper, got"),
        ((1.0, 2.0, 1, "m"), TypeError, "rigorous must be True or False, got 1"),
        ((1.0, 2.0, True, " "), ValueError, "method must say how the bound was found"),
        ((1.0, 2.0, True, "m", [1.0]), TypeError, "witness must be a mapping, got list"),
        ((1.0, 2.0, True, "m", {"vector": math.nan}), ValueError, "witness must be representable in JSON"),
        ((1.0, 2.0, True, "m", {"vector": {1.0}}), ValueError, "witness must be representable in JSON"),
    ],
)
def test_bad_records(arguments, error, message):
    with pytest.raises(error, match=message):
        Bound(*arguments)


@pytest.mark.parametrize("name", ["at_least", "at_most"])
def test_nothing_is_compared_with_nan(name):
    with pytest.raises(ValueError, match="value must be a number to compare with, got NaN"):
        getattr(Bound(1.0, 2.0, True, "by hand"), name)(math.nan)
