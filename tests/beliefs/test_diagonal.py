"""The diagonal belief: two projections, in memory linear in P, with every variance to its own size."""

from __future__ import annotations

import numpy as np
import pytest
from rationals import exact_covariance, rational, relative_error
from support import Backend, tolerance

import grng_ref as gr
from grng_ref.beliefs import diagonal
from grng_ref.beliefs.diagonal import PROJECTIONS

SIZE = 5


@pytest.mark.parametrize("with_targets", [False, True])
@pytest.mark.parametrize("precision", [0.0, 0.7])
@pytest.mark.parametrize("m", [0, 1, 3, 9])
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_update_is_its_definition(projection, m, precision, with_targets, backend: Backend):
    """Covariance: joint step, diagonal of the joint covariance. Precision: that of the information, own step.

    Twice: the second prior is not isotropic.
    """
    rng = np.random.default_rng(m)
    like = backend.asarray(np.zeros(SIZE))
    belief = gr.diagonal_belief(like, prior_variance=0.5, projection=projection)
    y = np.full(SIZE, 2.0)
    for rows, targets in ((rng.standard_normal((m, SIZE)), rng.standard_normal(m)) for _ in range(2)):
        gradient = -rows.T @ targets if with_targets else rng.standard_normal(SIZE)
        belief, step = belief.update(
            backend.asarray(rows),
            backend.asarray(gradient),
            targets=backend.asarray(targets) if with_targets else None,
            precision=precision,
        )
        Y = np.diag(y + precision) + rows.T @ rows
        joint = np.linalg.inv(Y)
        by_covariance, by_precision = 1.0 / np.diag(joint), np.diag(Y)
        steps = {"covariance": -joint @ gradient, "precision": -gradient / by_precision}
        precisions = {"covariance": by_covariance, "precision": by_precision}
        other = next(name for name in PROJECTIONS if name != projection)
        rtol = tolerance(backend.dtype, np.linalg.cond(Y), terms=m + SIZE)
        atol = rtol * (np.linalg.norm(rows) + 1.0) * (np.linalg.norm(targets) + 1.0)
        backend.assert_close(belief.precisions, precisions[projection], rtol=rtol)
        backend.assert_close(belief.information(), np.diag(precisions[projection]), rtol=rtol)
        backend.assert_close(belief.covariance(), np.diag(1.0 / precisions[projection]), rtol=rtol)
        backend.assert_close(step, steps[projection], rtol=rtol, atol=atol)
        if m > 0:
            planted = {  # the other projection; the own gain where the joint is meant; the old information
                "other": steps[other],
                "own": -gradient / by_covariance,
                "before": -gradient / (y + precision),
            }
            for wrong in planted.values():
                with pytest.raises(AssertionError):
                    backend.assert_close(step, wrong, rtol=rtol, atol=atol)
            with pytest.raises(AssertionError):
                backend.assert_close(belief.precisions, precisions[other], rtol=rtol)
        y = precisions[projection]


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_prediction_and_observed_covariance(projection, backend: Backend):
    y = np.array([0.5, 1.0, 4.0])
    belief = gr.DiagonalBelief(backend.asarray(y), projection)
    moved = belief.predict(noise=0.2, forgetting=0.8)
    assert moved.projection == projection
    rtol = tolerance(backend.dtype)
    backend.assert_close(moved.covariance(), np.diag(1 / y / 0.8 + 0.2), rtol=rtol)
    for wrong in (1 / y / 0.8, 1 / y + 0.2, (1 / y + 0.2) / 0.8, 1 / (0.8 * y + 0.2)):
        with pytest.raises(AssertionError):
            backend.assert_close(moved.covariance(), np.diag(wrong), rtol=rtol)
    rows = np.random.default_rng(0).standard_normal((4, 3))
    spread = belief.observed_covariance(backend.asarray(rows))
    backend.assert_close(spread, rows @ np.diag(1 / y) @ rows.T, rtol=tolerance(backend.dtype, terms=3))
    with pytest.raises(AssertionError):  # planted: the precisions for the variances
        backend.assert_close(spread, rows @ np.diag(y) @ rows.T, rtol=tolerance(backend.dtype, terms=3))


# --- digits ------------------------------------------------------------------------------------------------


def rows_of(kind: str, m: int, size: int, rng: np.random.Generator) -> np.ndarray:
    rows = rng.standard_normal((m, size))
    if kind == "the same column twice":
        rows[:, 1] = rows[:, 0]
    elif kind == "units of parameters":
        rows = rows * 10.0 ** rng.uniform(-6, 6, size)
    elif kind == "precisions of observations":
        rows = rows * 10.0 ** rng.uniform(-6, 6, (m, 1))
    elif kind == "a row that adds nothing":
        rows[-1] = rows[0]
    elif kind == "zeros":
        rows = rows * (rng.random((m, size)) < 0.4)
    elif kind == "one strong parameter":
        rows = rows * np.where(np.arange(size) == 0, 1.0, 1e-9)
    return rows


def leverages(rows: np.ndarray, variance: float) -> np.ndarray:
    white = np.sqrt(variance) * rows.T
    basis = np.linalg.qr(np.concatenate([white, np.eye(len(rows))]))[0][: rows.shape[1]]
    return np.sum(basis**2, axis=1)


KINDS = [
    "normal",
    "the same column twice",
    "units of parameters",
    "precisions of observations",
    "a row that adds nothing",
    "zeros",
    "one strong parameter",
]


@pytest.mark.parametrize("ratio", [1.0, 1e3, 1e6, 1e12, 1e18])
@pytest.mark.parametrize("m", [1, 2, 5, 6, 7, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_every_variance_against_exact_rationals(kind, m, ratio):
    """Leverages near one, one of them or all, and fewer, as many and more observations than parameters."""
    size = 6
    for seed in range(4):
        rows = rows_of(kind, m, size, np.random.default_rng([m, seed]))
        belief = gr.diagonal_belief(np.zeros(size), prior_variance=ratio)
        exact = exact_covariance(rows, belief.precisions)
        after, _ = belief.update(rows, np.zeros(size))
        for i in range(size):
            own = relative_error(1.0 / after.precisions[i], exact_entry(exact, i))
            # cond^2 of random square matrices is 1e4 now and then; the digits do not depend on the ratio
            assert own <= tolerance("float64", 3e4), (seed, i, own)


def exact_entry(matrix, i):
    return type(matrix)(1, 1, [matrix[i, i]])


def test_the_cases_reach_both_routes():
    """Some leverages near one, several at once and all of them; some not; and `1 - h` alone would fail."""
    found = set()
    worst = 0.0
    for kind in KINDS:
        for m in (1, 2, 6, 20):
            rows = rows_of(kind, m, 6, np.random.default_rng([m, 0]))
            h = leverages(rows, 1e12)
            found.add(int(np.sum(h > diagonal._NEAR_ONE)))
            exact = exact_covariance(rows, np.full(6, 1e-12))
            naive = [relative_error((1.0 - h[i]) * 1e12, exact_entry(exact, i)) for i in range(6)]
            worst = max(worst, *naive)
    assert {0, 1, 4, 6} <= found
    assert worst > 1e-3  # negative control


def test_steps_with_targets_against_exact_rationals():
    """Least squares: the step keeps its digits at P0/R = 1e18, where its gradient could not state it."""
    for seed in range(5):
        for m in (2, 9):
            rng = np.random.default_rng([m, seed])
            rows, targets = rng.standard_normal((m, 6)), rng.standard_normal(m)
            belief = gr.diagonal_belief(np.zeros(6), prior_variance=1e18)
            exact = exact_covariance(rows, belief.precisions)
            expected = exact * rational(rows).transpose() * rational(targets[:, None])
            _, step = belief.update(rows, -rows.T @ targets, targets=targets)
            assert relative_error(step[:, None], expected) <= tolerance("float64", 1e3)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_memory_is_linear(projection):
    """200,000 parameters: a matrix of their covariances would take 300 GB."""
    size = 200_000
    rng = np.random.default_rng(1)
    rows, targets = rng.standard_normal((3, size)), rng.standard_normal(3)
    belief = gr.diagonal_belief(np.zeros(size), prior_variance=1e-3, projection=projection)
    belief, step = belief.predict(noise=1e-6).update(rows, -rows.T @ targets, targets=targets)
    assert belief.precisions.shape == step.shape == (size,)
    assert belief.observed_covariance(rows).shape == (3, 3)


def test_wind_up_beyond_the_dtype_is_an_error():
    """A precision forgotten to zero is no variance of infinity."""
    belief = gr.diagonal_belief(np.zeros(2), prior_variance=1.0)
    for _ in range(1100):
        belief = belief.predict(forgetting=0.5)
    for call in (belief.covariance, lambda: belief.observed_covariance(np.eye(2))):
        with pytest.raises(gr.NumericalError, match="overflowed"):
            call()
    with pytest.raises(gr.NumericalError, match="overflowed"):
        belief.update(np.array([[1.0, 0.0]]), np.ones(2))
