"""Every optimizer of the package, and one of a user, through the public battery."""

from __future__ import annotations

from dataclasses import dataclass, replace

import array_api_compat as compat
import numpy as np
import pytest

import grng_ref as gr
from grng_ref.curvature import STRUCTURES, FullFisher
from grng_ref.testing import check_optimizer


@dataclass(frozen=True)
class DescentState:
    step: int


@dataclass(frozen=True)
class Descent:
    """A user's optimizer: gradient descent, written from the contract alone."""

    problem: gr.Problem

    def init(self, theta):
        self.problem.unpack(theta)
        if not bool(compat.array_namespace(theta).all(theta == theta)):
            raise ValueError("theta must be finite")
        return DescentState(0)

    def update(self, theta, state, x, y, *, samples=None, probes=None):
        if not isinstance(state, DescentState):
            raise TypeError(f"state must be a DescentState, got {type(state).__name__}")
        if samples is not None or probes is not None:
            raise ValueError("samples and probes must be None: nothing is drawn")
        gradient = self.problem.gradient(theta, x, y)
        delta = -0.1 * gradient
        norm = float(compat.array_namespace(gradient).linalg.vector_norm(gradient))
        loss = float(self.problem.loss(theta, x, y))
        info = gr.StepInfo(state.step, loss, norm, 0.0, 0.1 * norm, None, None)
        return delta, DescentState(state.step + 1), info

    def step(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = self.update(theta, state, x, y, samples=samples, probes=probes)
        return theta + delta, state, info


OPTIMIZERS = {
    "ngd": lambda problem: gr.ngd(problem, lr=0.5, damping=0.1),
    "ngd monte_carlo": lambda problem: gr.ngd(
        problem, lr=0.5, damping=0.1, structure="kfac", kind="monte_carlo", num_samples=2, seed=3
    ),
    "ngd empirical, schedules": lambda problem: gr.ngd(
        problem,
        lr=lambda step: 0.5 / (step + 1),
        damping=lambda step: 0.1 * (step + 1),
        kind="empirical",
        method="cholesky",
    ),
    "ring factored": lambda problem: gr.ring(
        problem, lr=0.5, damping=0.1, rho=0.5, structure="kfac", damping_kind="factored"
    ),
    "reng": lambda problem: gr.reng(problem, lr=0.5, damping=0.1, rho=0.5),
    "ngd of averages": lambda problem: gr.ngd(
        problem, lr=0.5, damping=0.1, structure="ekfac", ema=0.9, momentum=0.5, weight_decay=0.01
    ),
    "ring, a refresh now and then": lambda problem: gr.ring(problem, lr=0.5, damping=0.1, rho=0.5, refresh=2),
    "reng by finite differences": lambda problem: gr.reng(
        problem, lr=0.5, damping=0.1, rho=0.5, hvp="finite_difference", ema=0.5
    ),
    "kfac": lambda problem: gr.kfac(problem, lr=0.1, damping=0.1, kind="monte_carlo", seed=7),
    # undamped: the gradient is in the range of the Fisher; small steps keep its rank beyond doubt
    "ngd undamped": lambda problem: gr.ngd(problem, lr=0.05),
    "ring undamped": lambda problem: gr.ring(problem, lr=0.05, rho=0.5),
    "rkalman": lambda problem: gr.rkalman(problem, prior_variance=0.5, rho=0.5, process_noise=0.01),
    "rkalman explicit": lambda problem: gr.rkalman(
        problem, prior_variance=0.5, rho=0.1, regularization="explicit", forgetting=0.9
    ),
    "rkalman monte_carlo": lambda problem: gr.rkalman(problem, kind="monte_carlo", seed=4),
    "sgd": lambda problem: gr.sgd(problem, lr=0.1, weight_decay=0.01),
    "sgd momentum, schedule": lambda problem: gr.sgd(
        problem, lr=lambda step: 0.1 / (step + 1), momentum=0.9, nesterov=True
    ),
    "adamw": lambda problem: gr.adamw(problem, lr=0.01),
    "sophia gauss_newton_bartlett": lambda problem: gr.sophia(problem, lr=0.01, refresh=1, seed=5),
    "sophia hutchinson": lambda problem: gr.sophia(
        problem, lr=0.01, estimator="hutchinson", gamma=0.01, refresh=1, weight_decay=0.1, seed=6
    ),
    "sophia, a refresh now and then": lambda problem: gr.sophia(problem, lr=lambda step: 0.01, refresh=2),
    "a user's": Descent,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_contract(name, place):
    check_optimizer(OPTIMIZERS[name], **place)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_contract_over_structures(structure, dtype):
    """On NumPy; elsewhere every structure passes its own battery (`test_structures.py`)."""
    check_optimizer(lambda problem: gr.ngd(problem, lr=0.5, damping=0.1, structure=structure), dtype=dtype)


# --- a failed solve carries the info of its step ---------------------------------------------------------


class StagnatingFisher(FullFisher):
    def _solve(self, *arguments):
        return replace(super()._solve(*arguments), status="stagnated")


class StagnatingStructure:
    def build(self, activations, score_signals):
        return StagnatingFisher(STRUCTURES["full"].build(activations, score_signals).rows)


class SingularBelief(gr.FullBelief):
    def predict(self, **options):
        return self

    def update(self, *arguments, **options):
        raise gr.NumericalError("the information matrix is singular")


FAILING = {
    "ngd": lambda problem: gr.ngd(problem, lr=0.5, damping=0.1, structure=StagnatingStructure()),
    "ring": lambda problem: gr.ring(problem, lr=0.5, rho=0.5, structure=StagnatingStructure()),
    "reng": lambda problem: gr.reng(problem, lr=0.5, damping=0.1, rho=0.5, structure=StagnatingStructure()),
    "rkalman": lambda problem: gr.rkalman(problem, belief=SingularBelief(np.eye(problem.num_parameters))),
}


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.parametrize("verb", ["update", "step"])
def test_a_failed_step_carries_its_info_and_changes_nothing(name, verb):
    problem = gr.Problem(gr.MLP((2, 3, 2)), gr.Gaussian())
    theta, x, y = problem.init(rng=0), np.eye(2), np.ones((2, 2))
    optimizer, before = FAILING[name](problem), theta.copy()
    state = optimizer.init(theta)
    with pytest.raises(gr.NumericalError, match=r"step 0: .*(stagnated|singular)") as error:
        getattr(optimizer, verb)(theta, state, x, y)
    info = error.value.result
    assert isinstance(info, gr.StepInfo)
    assert info.step == 0
    assert info.step_norm is None
    assert info.loss == problem.loss(theta, x, y)
    assert info.solve is None or info.solve.status == "stagnated"
    assert np.array_equal(theta, before)
    assert state.step == 0
