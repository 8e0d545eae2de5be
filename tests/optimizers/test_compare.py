"""The measures of a step against a reference, by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import Network
from support import Backend, tolerance

import grng_ref as gr
from grng_ref.curvature import DenseRows, FullFisher


@given(
    size=st.integers(2, 8),
    exponents=st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    dtype=st.sampled_from(["float64", "float32"]),
    seed=st.integers(0, 10**6),
)
def test_measures_at_any_scale(size, exponents, dtype, seed):
    rng = np.random.default_rng(seed)
    unit = rng.standard_normal((2, size))
    delta, reference = ((u * 10.0**e).astype(dtype) for u, e in zip(unit, exponents, strict=True))
    found = gr.compare(delta, reference)
    a, b = delta.astype(np.longdouble), reference.astype(np.longdouble)
    rtol = tolerance(dtype, terms=size)

    def correlation(u, v):
        return float(np.sum(u * v) / np.sqrt(np.sum(u * u) * np.sum(v * v)))

    assert found.relative_error == pytest.approx(
        float(np.sqrt(np.sum((a - b) ** 2) / np.sum(b * b))), rel=rtol, abs=0.0
    )
    assert found.cosine == pytest.approx(correlation(a, b), abs=rtol)
    spread = min(np.std(u) / np.abs(u).max() for u in unit)
    assert found.pearson == pytest.approx(correlation(a - a.mean(), b - b.mean()), abs=rtol / spread)
    assert found.decrease_ratio is None


def test_decrease_ratio_is_the_quotient_of_the_models_decreases(backend: Backend):
    rng = np.random.default_rng(0)
    B, g = rng.standard_normal((4, 3)), rng.standard_normal(3)
    C = FullFisher(DenseRows(backend.asarray(B)))
    a = 0.3
    damped = B.T @ B + a * np.eye(3)
    best = -np.linalg.solve(damped, g)

    def decrease(d):
        return -(g @ d + 0.5 * d @ damped @ d)

    for delta in (best, 0.5 * best, -g, -0.1 * best, 3.0 * best):
        found = gr.compare(
            backend.asarray(delta),
            backend.asarray(best),
            gradient=backend.asarray(g),
            curvature=C,
            damping=a,
        )
        expected = decrease(delta) / decrease(best)
        rtol = tolerance(backend.dtype, np.linalg.cond(damped), terms=4)
        assert found.decrease_ratio == pytest.approx(expected, rel=rtol, abs=rtol)
        assert delta is best or found.decrease_ratio < 1.0  # nothing beats the minimizer of the model
    undamped = gr.compare(  # negative control: the damping is part of the model
        backend.asarray(0.5 * best), backend.asarray(best), gradient=backend.asarray(g), curvature=C
    )
    assert undamped.decrease_ratio != pytest.approx(decrease(0.5 * best) / decrease(best), rel=1e-3)


def test_known_values():
    reference = np.array([1.0, 2.0, 3.0])
    same = gr.compare(reference, reference)
    assert same.relative_error == 0.0
    assert same.cosine == pytest.approx(1.0, rel=1e-15)
    assert same.pearson == pytest.approx(1.0, rel=1e-15)
    opposite = gr.compare(-2.0 * reference, reference)
    assert opposite.relative_error == pytest.approx(3.0, rel=1e-15)
    assert opposite.cosine == pytest.approx(-1.0, rel=1e-15)
    shifted = gr.compare(reference + 10.0, reference)
    assert shifted.pearson == pytest.approx(1.0, rel=1e-13)
    assert shifted.cosine < 0.99


def test_undefined_measures_are_none():
    reference = np.array([1.0, 2.0, 3.0])
    zero = gr.compare(np.zeros(3), reference)
    assert zero.relative_error == 1.0
    assert zero.cosine is None
    assert zero.pearson is None
    for size in (3, 5, 7, 10):  # the mean of equal numbers may differ from them by a rounding
        constant = gr.compare(np.full(size, 0.1), np.arange(float(size)))
        assert constant.pearson is None
        assert constant.cosine is not None
    with pytest.raises(ValueError, match="reference"):
        gr.compare(reference, np.zeros(3))


def test_a_structured_step_against_the_exact_one():
    network = Network("tanh", "categorical", num_examples=6)
    problem, theta, x, y = network.problem, network.theta, network.x, network.y
    C = gr.fisher(problem, theta, x)
    g = problem.gradient(theta, x, y)
    steps = {
        name: -gr.fisher(problem, theta, x, structure=name).solve(g, damping=0.1)
        for name in ("full", "block_diagonal", "kfac")
    }
    found = {
        name: gr.compare(step, steps["full"], gradient=g, curvature=C, damping=0.1)
        for name, step in steps.items()
    }
    assert found["full"].decrease_ratio == pytest.approx(1.0, rel=1e-12)
    for name in ("block_diagonal", "kfac"):
        assert found[name].decrease_ratio < 1.0
        assert 0.0 < found[name].cosine < 1.0
        assert found[name].relative_error > 0.0


@pytest.mark.parametrize(
    ("dtype", "scales"), [("float32", [1e-35, 1e-21, 1e-19, 1e30]), ("float64", [1e-290, 1e-161, 1e160])]
)
def test_the_decrease_ratio_has_no_scale(dtype, scales):
    """Gradient and steps times s multiply every decrease by s^2, which the dtype need not hold."""
    rng = np.random.default_rng(1)
    B, g, delta, reference = (rng.standard_normal(shape) for shape in ((4, 3), 3, 3, 3))
    C, damped = FullFisher(DenseRows(B.astype(dtype))), B.T @ B + 0.3 * np.eye(3)
    terms = [(g @ d, 0.5 * d @ damped @ d) for d in (delta, reference)]
    achieved, expected = (-sum(pair) for pair in terms)
    cancelled = max((abs(a) + abs(b)) / abs(a + b) for a, b in terms)
    for scale in scales:
        small = [(v * scale).astype(dtype) for v in (delta, reference, g)]
        found = gr.compare(small[0], small[1], gradient=small[2], curvature=C, damping=0.3)
        assert found.decrease_ratio == pytest.approx(
            achieved / expected, rel=tolerance(dtype, cancelled, terms=4)
        )


def test_a_decrease_without_a_gradient_is_the_models_curvature():
    C = FullFisher(DenseRows(np.eye(3)))
    step = 1e-200 * np.array([1.0, 2.0, 3.0])
    found = gr.compare(2.0 * step, step, gradient=0.0 * step, curvature=C)
    assert found.decrease_ratio == pytest.approx(4.0, rel=1e-14)


def test_exact_damping_is_refused_where_the_structure_has_none():
    network = Network("tanh", "categorical", num_examples=6)
    C = gr.fisher(network.problem, network.theta, network.x, structure="tridiagonal_kfac")
    g = network.problem.gradient(network.theta, network.x, network.y)
    step = -C.solve(g, damping=0.1)
    with pytest.raises(ValueError, match="damping must be 0 for TridiagonalKFAC"):
        gr.compare(step, step, gradient=g, curvature=C, damping=0.1)
    # its own damped operator: the solve is the minimizer of that model, g . d / 2 below zero
    found = gr.compare(0.5 * step, step, gradient=g, curvature=C.damped(0.1))
    assert found.decrease_ratio == pytest.approx(0.75, rel=1e-9)
