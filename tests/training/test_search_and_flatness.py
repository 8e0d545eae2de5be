"""The search draws what it says, and flatness is that of the dense Hessian."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import grng_ref as gr
from grng_ref.training import choose, draw_trials, flatness


def test_draws_are_log_uniform_seeded_and_shared_between_entries():
    space = {"lr": (1e-4, 1.0)}
    draws = [trial["lr"] for trial in draw_trials(space, 500, seed=3)]
    # Kolmogorov-Smirnov at a false-alarm rate of 1e-4, fixed seed
    assert stats.kstest((np.log10(draws) + 4.0) / 4.0, "uniform").pvalue > 1e-4
    assert stats.kstest(np.asarray(draws), "uniform").pvalue < 1e-4  # uniform draws would pass this one
    more = draw_trials({"rho": (0.1, 1.0), **space}, 500, seed=3)
    assert [trial["lr"] for trial in more] == draws
    assert [trial["lr"] for trial in draw_trials(space, 500, seed=4)] != draws


def test_choice_is_the_least_validation_loss_and_failed_trials_never_win():
    tried = [{"validation_loss": loss} for loss in (None, 2.0, 1.0, 3.0)]
    assert choose(tried) == 2
    assert choose(tried[:1]) is None
    assert choose([]) is None


@pytest.mark.parametrize("dense", [0, 10**6])
def test_flatness_of_a_quadratic_is_known(dense):
    """A linear model with squared errors: the Hessian is the second moment of ``[x; 1]``."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)), rng.normal(size=(40, 1))
    problem = gr.Problem(gr.MLP((5, 1)), gr.Gaussian())
    seen = flatness(problem, problem.init(rng=0), x, y, dense=dense)
    inputs = np.column_stack([x, np.ones(40)])
    values = np.linalg.eigvalsh(inputs.T @ inputs / 40)
    assert np.isclose(seen.trace, values.sum(), rtol=1e-12)
    assert np.isclose(seen.top, values[-1], rtol=1e-7)  # Lanczos stops at 1e-8
    assert seen.method == ("dense" if dense else "products")


@pytest.mark.parametrize("dense", [0, 10**6])
def test_top_eigenvalue_is_the_largest_not_the_largest_in_magnitude(dense):
    rng = np.random.default_rng(1)
    problem = gr.Problem(gr.MLP((2, 3, 1), activation="tanh"), gr.Gaussian())
    x = rng.normal(size=(20, 2))
    y = 40.0 * np.sin(3.0 * x[:, :1] * x[:, 1:])
    for seed in range(50):
        theta = problem.init(rng=seed)
        values = np.linalg.eigvalsh(problem.hessian(theta, x, y))
        if -values[0] > 1.05 * values[-1]:
            break
    else:
        pytest.fail("none of fifty Hessians has a negative eigenvalue larger than all others")
    assert np.isclose(flatness(problem, theta, x, y, dense=dense).top, values[-1], rtol=1e-6)


def test_flatness_on_every_backend(backend):
    rng = np.random.default_rng(0)
    problem = gr.Problem(gr.MLP((3, 2, 2), activation="tanh"), gr.Categorical())
    x, y, theta = rng.normal(size=(8, 3)), rng.integers(0, 2, 8), problem.init(rng=0)
    host = np.linalg.eigvalsh(problem.hessian(theta, x, y))
    rtol = 1e-3 if "32" in str(backend.dtype) else 1e-6  # Lanczos stops at 1e-8, in float32 at its roundoff
    for dense in (0, 10**6):
        seen = flatness(problem, *map(backend.asarray, (theta, x, y)), dense=dense)
        assert np.isclose(seen.top, host[-1], rtol=rtol)
        assert np.isclose(seen.trace, host.sum(), rtol=0.0, atol=rtol * np.abs(host).sum())
