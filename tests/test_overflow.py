"""Finite arguments whose results overflow raise a NumericalError; no NaN, no infinity comes out silently."""

import numpy as np
import pytest

import grng_ref as gr

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own word on the same overflow


@pytest.mark.parametrize("structure", ["full", "block_diagonal", "kfac"])
def test_fisher_of_huge_inputs(structure):
    problem = gr.Problem(gr.MLP((1, 1), activation="identity"), gr.Gaussian())
    with pytest.raises(gr.NumericalError, match="overflowed"):
        gr.fisher(problem, np.zeros(2), np.array([[1e200]]), structure=structure)


@pytest.mark.parametrize("make", [gr.ngd, lambda p, **k: gr.ngd(p, structure="kfac", **k)])
def test_steps_where_the_score_signals_overflow(make):
    """Outputs are zero at x = 0, but two layers of 1e200 multiply in the backward pass."""
    model = gr.MLP((2, 2, 2, 2), activation="identity", bias=False)
    problem = gr.Problem(model, gr.Gaussian())
    theta, x, y = np.full(12, 1e200), np.zeros((1, 2)), np.zeros((1, 2))
    optimizer = make(problem, lr=1.0, damping=1.0)
    with pytest.raises(gr.NumericalError, match="score_signals overflowed"):
        optimizer.step(theta, optimizer.init(theta), x, y)
    with pytest.raises(gr.NumericalError, match="score_signals overflowed"):
        problem.score_signals(theta, x)


def test_log_likelihood():
    problem = gr.Problem(gr.MLP((1, 1), bias=False), gr.Gaussian(variance=1e-300))
    with pytest.raises(gr.NumericalError, match="log_likelihood overflowed"):
        problem.log_likelihood(np.ones(1), np.array([[1e10]]), np.zeros((1, 1)))


def test_regularized_gradient():
    with pytest.raises(gr.NumericalError, match=r"g \+ rho H g overflowed"):
        gr.reng_direction(np.eye(2), np.full(2, 1e200), lambda v: 1e100 * v, rho=1e100, damping=1.0)


def test_decrease_ratio():
    curvature = gr.curvature((np.ones((1, 1)),), (np.ones((1, 1, 2)),))
    with pytest.raises(gr.NumericalError, match="decrease ratio overflowed"):
        gr.compare(np.full(2, 1e200), np.ones(2), gradient=np.ones(2), curvature=curvature)


def test_big_endian_arrays_are_converted_when_asked_to():
    foreign = np.arange(3.0).astype(">f8")
    for dtype in ("float64", "float32"):
        moved = gr.asarray(foreign, backend="numpy", dtype=dtype)
        assert moved.dtype == np.dtype(dtype)
        assert moved.dtype.isnative
        assert np.array_equal(moved, foreign)
