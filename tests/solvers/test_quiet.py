"""Overflow inside a solve is a status; it does not escape as a NumPy warning (an error in these tests)."""

import numpy as np
import pytest

import grng_ref as gr
from grng_ref.curvature import find_structure


@pytest.mark.parametrize("structure", ["full", "block_diagonal", "kfac"])
@pytest.mark.parametrize("scale", [1e160, 1e300])
def test_overflow_is_a_status(structure: str, scale: float) -> None:
    activations, signals = (np.full((2, 3), scale),), (np.full((2, 1, 2), scale),)
    with pytest.raises(gr.NumericalError, match="curvature overflowed"):
        gr.curvature(activations, signals, structure=structure)
    with np.errstate(all="ignore"):  # a structure's own build does not check
        built = find_structure(structure).build(activations, signals)
    result = gr.solve(built, np.ones(6), damping=1.0)
    assert not result.success
    assert result.status in ("not_finite", "not_positive_definite", "inaccurate")


def test_kronecker_solve_raises_without_a_warning() -> None:
    with pytest.raises(gr.NumericalError) as caught:
        gr.kronecker_solve(1e200 * np.eye(3), 1e200 * np.eye(2), np.ones((2, 3)), damping=1.0)
    assert not caught.value.result.success
