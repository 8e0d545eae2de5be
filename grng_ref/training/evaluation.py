"""What a record says besides the step itself: losses, accuracies, the alignment with the exact direction."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..arrays import Array, NumericalError, check_real, check_shape, namespace, namespace_of_mixed
from ..arrays.linalg import quiet
from ..curvature import curvature
from ..likelihoods import Bernoulli, Categorical
from ..optimizers import Comparison, compare
from ..optimizers.base import check_problem
from ..problem import Problem


class Evaluation(NamedTuple):
    """Mean loss on a set of examples, and the fraction of labels that the network's mode hits."""

    loss: float
    accuracy: float | None  #: None unless the labels are classes


def evaluate(problem: Problem, theta: Array, x: Array, y: Array) -> Evaluation:
    """Mean loss and accuracy by one forward pass.

    Parameters
    ----------
    problem : Problem
    theta : array (P,)
    x, y : arrays

    Returns
    -------
    Evaluation
        The accuracy counts ``argmax f = y`` for `Categorical` and ``(f > 0) = (y > 1/2)`` for `Bernoulli`
        (over all outputs), and is None for other likelihoods.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.
    NumericalError
        The outputs or the loss overflowed.
    """
    check_problem(problem)
    outputs = problem.outputs(theta, x)
    problem.likelihood.check_targets(outputs, y)
    xp = namespace_of_mixed(outputs=outputs, y=y)
    with quiet():
        loss = float(xp.mean(problem.likelihood.loss(outputs, y)))
    if not math.isfinite(loss):
        raise NumericalError(f"loss overflowed: {loss} from finite outputs")
    if isinstance(problem.likelihood, Categorical):
        hits = xp.astype(xp.argmax(outputs, axis=1), y.dtype) == y
    elif isinstance(problem.likelihood, Bernoulli):
        hits = (outputs > 0.0) == (y > 0.5)
    else:
        return Evaluation(loss, None)
    return Evaluation(loss, int(xp.count_nonzero(hits)) / math.prod(hits.shape))


def alignment(
    problem: Problem, theta: Array, x: Array, y: Array, delta: Array, *, damping: float
) -> Comparison:
    """The step compared with ``-(F + damping I)^{-1} g``, F the exact expected Fisher on the same batch.

    Parameters
    ----------
    problem : Problem
    theta : array (P,)
        Where the step starts.
    x, y : arrays
        The batch that the step saw.
    delta : array (P,)
    damping : float
        > 0; the same for every optimizer, so that their alignments can be compared.

    Raises
    ------
    TypeError, ValueError
        Bad arguments; a zero gradient, which has no direction.
    NumericalError
        The solve failed.
    """
    check_problem(problem)
    check_real("damping", damping, minimum=0.0, exclusive=True)
    namespace(theta=theta, delta=delta)
    check_shape("delta", delta, tuple(theta.shape), "that of theta")
    at = problem.linearize(theta, x, y)
    exact = curvature(at.activations, at.signals, structure="full")
    direction = exact.solve(at.gradient, damping=damping, coefficients=at.coefficients)
    return compare(delta, -direction)


def is_zero(array: Array) -> bool:
    """Whether every entry is zero."""
    xp = namespace(array=array)
    return not bool(xp.any(array != 0.0))
