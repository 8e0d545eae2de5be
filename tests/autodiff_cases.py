"""The problems compared with autodiff in `peers/test_jax_autodiff.py`, and what grng_ref says of them."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from support import Backend

import grng_ref as gr

DAMPING, RHO, LR, PRIOR_VARIANCE = 0.3, 0.1, 0.7, 0.5
VARIANCE = 2.5  # of the Gaussian likelihood


@dataclass(frozen=True)
class Case:
    """A network, a likelihood and a number of examples."""

    sizes: tuple[int, ...]
    activation: str
    likelihood: str
    bias: bool = True
    parameterization: str = "standard"
    scales: tuple[float, ...] | None = None
    frozen: tuple[int, ...] = ()
    two_layer: bool = False
    examples: int = 5

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        return tuple((d_out, d_in + self.bias) for d_in, d_out in pairwise(self.sizes))

    @property
    def trainable(self) -> tuple[int, ...]:
        return tuple(i for i in range(len(self.shapes)) if i not in self.frozen)


# Many cases share their shapes, because JAX compiles every operation anew for each shape, which takes long.
CASES = {
    "tanh-categorical": Case((4, 5, 3), "tanh", "categorical"),
    "relu-ntk-categorical": Case((4, 5, 3), "relu", "categorical", parameterization="ntk"),
    "gelu-ntk-gaussian": Case((4, 5, 3), "gelu", "gaussian", parameterization="ntk"),
    "silu-scales-bernoulli": Case((4, 5, 3), "silu", "bernoulli", scales=(0.5, 1.7)),
    "softplus-poisson": Case((4, 5, 3), "softplus", "poisson"),
    "sigmoid-nobias-categorical": Case((4, 5, 3), "sigmoid", "categorical", bias=False),
    "relu-nobias-ntk-poisson": Case((4, 5, 3), "relu", "poisson", bias=False, parameterization="ntk"),
    "gelu-frozen-first-bernoulli": Case((4, 5, 5, 3), "gelu", "bernoulli", frozen=(0,)),
    "silu-frozen-middle-categorical": Case(
        (4, 5, 5, 3), "silu", "categorical", parameterization="ntk", frozen=(1,)
    ),
    "softplus-frozen-ends-gaussian": Case((4, 5, 5, 3), "softplus", "gaussian", frozen=(0, 2)),
    "tanh-frozen-last-poisson": Case((4, 5, 3), "tanh", "poisson", frozen=(1,)),
    "deep-tanh-ntk-gaussian": Case((4, 5, 5, 5, 3), "tanh", "gaussian", parameterization="ntk"),
    "deep-gelu-scales-bernoulli": Case((4, 5, 5, 5, 3), "gelu", "bernoulli", scales=(1.0, 0.8, 1.2, 0.9)),
    "identity-deep-gaussian": Case((4, 5, 5, 3), "identity", "gaussian"),
    "single-layer-categorical": Case((4, 3), "identity", "categorical"),
    "two-layer-tanh-gaussian": Case((4, 5, 1), "tanh", "gaussian", bias=False, frozen=(1,), two_layer=True),
    "two-layer-relu-gaussian": Case((4, 5, 1), "relu", "gaussian", bias=False, frozen=(1,), two_layer=True),
    "one-output-bernoulli": Case((4, 5, 1), "gelu", "bernoulli"),
    "more-rows-than-parameters": Case((2, 2, 3), "sigmoid", "categorical", examples=12),
    "one-example": Case((4, 5, 3), "silu", "poisson", examples=1),
}


ON_NUMPY_ONLY = {
    "softplus-frozen-ends-gaussian",
    "tanh-frozen-last-poisson",
    "single-layer-categorical",
    "one-output-bernoulli",
    "more-rows-than-parameters",
    "one-example",
}
"""Cases of their own shapes, too slow to compile; the others are checked on JAX arrays too."""


@dataclass(frozen=True)
class Data:
    """The numbers of a case, on the host."""

    theta: np.ndarray
    frozen: dict[int, np.ndarray]
    x: np.ndarray
    y: np.ndarray
    v: np.ndarray  # a direction (P,)
    u: np.ndarray  # a cotangent (N, K)


@functools.cache
def data(case: Case) -> Data:
    rng = np.random.default_rng(list(CASES.values()).index(case))
    n, k = case.examples, case.sizes[-1]
    layers = [rng.standard_normal(shape) / math.sqrt(shape[1]) for shape in case.shapes]
    if case.two_layer:
        layers[-1] = rng.choice([-1.0, 1.0], layers[-1].shape)
    y = {
        "gaussian": rng.standard_normal((n, k)),
        "categorical": rng.integers(0, k, n),
        "bernoulli": rng.integers(0, 2, (n, k)).astype(float),
        "poisson": rng.poisson(2.0, (n, k)).astype(float),
    }[case.likelihood]
    theta = np.concatenate([layers[i].ravel() for i in case.trainable])
    return Data(
        theta=theta,
        frozen={i: layers[i] for i in case.frozen},
        x=rng.standard_normal((n, case.sizes[0])),
        y=y,
        v=rng.standard_normal(theta.shape),
        u=rng.standard_normal((n, k)),
    )


def make_problem(case: Case, frozen: dict[int, Any]) -> gr.Problem:
    likelihood = {
        "gaussian": gr.Gaussian(VARIANCE),
        "categorical": gr.Categorical(),
        "bernoulli": gr.Bernoulli(),
        "poisson": gr.Poisson(),
    }[case.likelihood]
    if case.two_layer:
        d, m, _ = case.sizes
        return gr.Problem(gr.two_layer(d, m, case.activation, signs=frozen[1][0, :]), likelihood)
    model = gr.MLP(
        case.sizes,
        activation=case.activation,
        bias=case.bias,
        parameterization=case.parameterization,
        scales=case.scales,
        frozen=frozen,
    )
    return gr.Problem(model, likelihood)


def by_hand(case: Case, backend: Backend) -> dict[str, Any]:
    """Every quantity by grng_ref, on arrays of the backend."""
    given = backend.asarray(data(case))
    problem = make_problem(case, given.frozen)
    theta, batch = given.theta, (given.x, given.y)

    B, g = problem.score_rows(theta, given.x), problem.gradient(theta, *batch)
    fisher = gr.fisher(problem, theta, given.x)
    found = {
        "outputs": problem.outputs(theta, given.x),
        "loss": backend.xp.asarray(problem.loss(theta, *batch)),  # NumPy: a scalar for a 0-d array
        "gradient": g,
        "per-example gradients": problem.per_example_gradients(theta, *batch),
        "jacobian": problem.jacobian(theta, given.x),
        "jvp": problem.jvp(theta, given.x, given.v),
        "vjp": problem.vjp(theta, given.x, given.u),
        "hvp": problem.hvp(theta, *batch, given.v),
        "hessian": problem.hessian(theta, *batch),
        "fisher": fisher.to_dense(),
        "fisher times v": fisher @ given.v,
        "ngd direction": gr.natural_direction(B, g, damping=DAMPING),
        "ring direction": gr.ring_direction(
            B, g, rho=RHO, damping=DAMPING, coefficients=problem.score_coefficients(theta, *batch)
        ),
        "reng direction": gr.reng_direction(
            B, g, lambda w: problem.hvp(theta, *batch, w), rho=RHO, damping=DAMPING
        ),
    }
    optimizers = {
        "ngd": gr.ngd(problem, lr=LR, damping=DAMPING),
        "ring": gr.ring(problem, lr=LR, damping=DAMPING, rho=RHO),
        "reng": gr.reng(problem, lr=LR, damping=DAMPING, rho=RHO),
    } | {
        f"{kind} rkalman": gr.rkalman(problem, prior_variance=PRIOR_VARIANCE, rho=RHO, regularization=kind)
        for kind in ("implicit", "explicit")
    }
    for name, optimizer in optimizers.items():
        delta, state, _ = optimizer.update(theta, optimizer.init(theta), *batch)
        found[f"{name} step"] = delta
        if "rkalman" in name:
            found[f"{name} information"] = state.information()
    return found
