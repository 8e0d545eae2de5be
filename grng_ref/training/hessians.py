"""How flat the loss is where a run ended: trace and top eigenvalue of the exact Hessian."""

from __future__ import annotations

from typing import NamedTuple

from scipy import sparse

from ..arrays import Array, NumericalError, from_host, host_generator, namespace, to_numpy
from ..problem import Problem

DENSE = 2500  # parameters up to which the Hessian is formed


class Flatness(NamedTuple):
    """Of the Hessian of the mean loss."""

    trace: float
    top: float  #: the largest eigenvalue (not the largest in magnitude)
    method: str  #: ``"dense"``, or ``"products"``


def flatness(problem: Problem, theta: Array, x: Array, y: Array, *, dense: int = DENSE) -> Flatness:
    """Trace and largest eigenvalue of the exact Hessian of the mean loss.

    Parameters
    ----------
    problem : Problem
    theta : array (P,)
    x, y : arrays
    dense : int
        Parameters up to which the Hessian is formed.

    Up to ``dense`` parameters the Hessian is formed and decomposed. Beyond that the trace is the sum of P
    Hessian-vector products with unit vectors, exact too, and the eigenvalue comes from a Lanczos iteration on
    such products, to sqrt(eps) relative.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.
    NumericalError
        The Hessian overflowed; the Lanczos iteration did not converge.
    """
    if problem.num_parameters <= dense:
        H, xp = problem.hessian(theta, x, y), namespace(theta=theta)
        symmetric = (H + xp.matrix_transpose(H)) / 2.0
        values = xp.linalg.eigvalsh(symmetric)
        return Flatness(float(xp.linalg.trace(H)), float(values[-1]), "dense")
    p = problem.num_parameters
    trace = 0.0
    for i in range(p):
        trace += float(problem.hvp(theta, x, y, _unit(i, theta))[i])

    def product(v: Array) -> Array:
        return to_numpy(problem.hvp(theta, x, y, from_host(v.reshape(-1), theta)))

    start = host_generator(0).standard_normal(p)
    operator = sparse.linalg.LinearOperator((p, p), matvec=product, dtype=start.dtype)
    try:
        (top,) = sparse.linalg.eigsh(operator, k=1, which="LA", v0=start, return_eigenvectors=False, tol=1e-8)
    except sparse.linalg.ArpackError as error:
        raise NumericalError(f"the largest eigenvalue of the Hessian was not found: {error}") from error
    return Flatness(trace, float(top), "products")


def _unit(i: int, theta: Array) -> Array:
    unit = to_numpy(theta) * 0.0
    unit[i] = 1.0
    return from_host(unit, theta)
