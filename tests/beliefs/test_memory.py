"""A belief holds its own arrays and no larger ones, of which they would be views."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import grng_ref as gr
from grng_ref.beliefs import FORMS

SIZE = 12
MEAN = np.zeros(SIZE)
PRIORS = {form: gr.full_belief(MEAN, prior_variance=2.0, form=form) for form in FORMS} | {
    "diagonal": gr.diagonal_belief(MEAN, prior_variance=2.0),
    "precision": gr.diagonal_belief(MEAN, prior_variance=2.0, projection="precision"),
    "low_rank": gr.low_rank_belief(MEAN, prior_variance=2.0, rank=3),
}


def bytes_held(belief: Any) -> tuple[int, int]:
    """What its fields take, and what they keep alive."""
    fields = [getattr(belief, field.name) for field in dataclasses.fields(belief)]
    arrays = [value for value in fields if isinstance(value, np.ndarray)]
    owners = {}
    for owner in arrays:
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        owners[id(owner)] = owner.nbytes
    return sum(array.nbytes for array in arrays), sum(owners.values())


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("rows", [2, SIZE + 5])
def test_nothing_larger_is_kept(name: str, rows: int) -> None:
    rng = np.random.default_rng(0)
    V, t = rng.normal(size=(rows, SIZE)), rng.normal(size=rows)
    moved = PRIORS[name].predict(noise=0.1, forgetting=0.9)
    told, _ = moved.update(V, -V.T @ t, targets=t, precision=0.5)
    for belief in (PRIORS[name], moved, told):
        own, kept = bytes_held(belief)
        assert own == kept


def test_a_view_is_found() -> None:
    own, kept = bytes_held(gr.FullBelief(np.eye(2 * SIZE)[:SIZE, :SIZE]))
    assert kept == 4 * own
