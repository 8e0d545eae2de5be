"""What a step costs in gradient evaluations, by the passes through the network that its formulas need.

One forward pass is the unit, and a backward pass counts two of them, so that a gradient counts three:

- loss without a gradient (a line search): 1;
- a gradient: 3, its loss included;
- a backward pass more at the same point, such as one column of the score signals: 2;
- a Hessian-vector product: 6, a forward and a backward pass with their tangents.

Solves, averages and products with matrices are not counted: time shows them. Nor is what a step evaluates for
its record only (SGD's loss, R-Kalman's log marginal likelihood).
"""

from __future__ import annotations

from typing import Any

from ..arrays import check_integer
from ..optimizers import SGD, AdamW, NaturalGradient, Optimizer, RKalman, Sophia
from ..optimizers.base import value_at

FORWARD, BACKWARD = 1, 2
GRADIENT = FORWARD + BACKWARD
HESSIAN_PRODUCT = 2 * GRADIENT


def gradient_evaluations(passes: int | None) -> float | None:
    """Passes as a number of gradient evaluations: a third; None stays None.

    Parameters
    ----------
    passes : int, optional

    Notes
    -----
    A gradient takes a forward pass (1) and a backward pass (2).
    """
    return None if passes is None else passes / GRADIENT


def passes_of_step(optimizer: Optimizer, step: int, outputs: int) -> int | None:
    """Passes through the network that the optimizer's step number ``step`` needs; a forward pass is the unit.

    Parameters
    ----------
    optimizer : Optimizer
        A built-in one; of another class: what its method ``passes(step, outputs)`` says, or None without one.
    step : int
        From 0: some steps draw labels or refresh a curvature, others do not.
    outputs : int
        K of the network: the expected Fisher takes K backward passes.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.

    Notes
    -----
    A loss alone counts 1, a gradient 3, a backward pass more at the same point 2, a Hessian-vector product 6.
    Solves and products of matrices are not counted, nor what is evaluated for a record only.
    """
    check_optimizer(optimizer)
    check_integer("step", step, minimum=0)
    check_integer("outputs", outputs, minimum=1)
    if isinstance(optimizer, SGD | AdamW):
        return GRADIENT
    if isinstance(optimizer, NaturalGradient):
        return _natural(optimizer, step, outputs)
    if isinstance(optimizer, Sophia):
        return _sophia(optimizer, step)
    if isinstance(optimizer, RKalman):
        return _rkalman(optimizer, step, outputs)
    method = getattr(optimizer, "passes", None)
    return None if method is None else int(method(step, outputs))


def check_optimizer(optimizer: Any) -> None:
    """Raise a TypeError unless it has the two methods that training calls."""
    methods = (getattr(optimizer, name, None) for name in ("init", "step"))
    if isinstance(optimizer, type) or not all(callable(method) for method in methods):
        raise TypeError(
            f"optimizer must be an object with methods init and step, got {type(optimizer).__name__}"
        )


def _signals(kind: str, outputs: int, samples: int = 1) -> int:
    """Backward passes for score signals: a column of the output Fisher's factor, or a label, each."""
    columns = {"expected": outputs, "monte_carlo": samples, "empirical": 1}[kind]
    return columns * BACKWARD


def _natural(optimizer: NaturalGradient, step: int, outputs: int) -> int:
    options, regularization = optimizer.curvature, optimizer.regularization
    passes = GRADIENT
    if step % options.refresh == 0:
        passes += _signals(options.kind, outputs, options.num_samples)
    if regularization.kind == "explicit" and value_at("rho", regularization.rho, step) > 0.0:
        passes += HESSIAN_PRODUCT if regularization.hvp == "exact" else GRADIENT
    return passes


def _sophia(optimizer: Sophia, step: int) -> int:
    if step % optimizer.refresh != 0:
        return GRADIENT
    if optimizer.estimator == "hutchinson":
        return GRADIENT + HESSIAN_PRODUCT
    return GRADIENT + BACKWARD  # at the same theta, with drawn labels


def _rkalman(optimizer: RKalman, step: int, outputs: int) -> int:
    each = GRADIENT + _signals(optimizer.kind, outputs)
    if optimizer.regularization == "explicit" and value_at("rho", optimizer.rho, step) > 0.0:
        each += optimizer.problem.num_parameters * HESSIAN_PRODUCT
    return optimizer.iterations * each
