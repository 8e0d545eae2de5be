"""Solves without an inverse: one direction by every route, judged by its residual."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, at_most, claim, combine, identity, inequality
from proofs_check.damping import damped_matrix, plus_identity
from proofs_check.data import Instance, digits, on_host
from proofs_check.tolerance import as_slack, roundoff

ROUTES = {
    ("full", "exact"): ("gram", "cholesky", "cg", "eigh", "newton_schulz"),
    ("block_diagonal", "exact"): ("cholesky", "cg", "eigh", "newton_schulz"),
    ("kfac", "exact"): ("eigh", "cg"),
    ("kfac", "factored"): ("cholesky", "eigh", "newton_schulz"),
    ("ekfac", "exact"): ("eigh",),
    ("kronecker_optimal", "exact"): ("eigh", "cg"),
    ("kronecker_optimal", "factored"): ("cholesky", "eigh", "newton_schulz"),
    ("tridiagonal_kfac", "factored"): ("cholesky",),
    ("unitwise", "exact"): ("cholesky", "cg", "eigh", "newton_schulz"),
    ("diagonal", "exact"): ("eigh",),
}


def _regularized_gradient(instance: Instance, rho: float) -> Any:
    """RENG's right-hand side ``g + rho H g``, which need not lie in the row space of B."""
    g = instance.gradient()
    return g + rho * instance.problem.hvp(instance.theta, instance.x, instance.y, g)


@claim(
    "every-route-gives-one-direction",
    statement="Cholesky, the Gram form (with and without coefficients), conjugate gradients, Newton-Schulz "
    "and the eigenbasis give the same direction (F + a I)^{-1} v, for v = g and for RENG's v = g + rho H g.",
    source="classical result (Woodbury's identity; Schulz 1933); Newton's iteration is the paper's route",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 4, 10], "dampings": [0.1, 0.01], "rho": 0.1},
)
def every_route(run: Run, num_examples: int, sizes: list[int], dampings: list[float], rho: float) -> Finding:
    """Fails if a route solves another system, or a worse one than its condition number allows.

    Reference: LU of the dense damped matrix in float64. Control of every route: the damping added twice.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(41,))
    fisher = instance.fisher()
    dense = on_host(fisher.to_dense())
    coefficients = instance.problem.score_coefficients(instance.theta, instance.x, instance.y)
    sides = ((instance.gradient(), coefficients), (_regularized_gradient(instance, rho), None))
    routes = [(v, c, m) for v, c in sides for m in (*ROUTES["full", "exact"], "gram without coefficients")]

    def check(damping: float, v: Any, given: Any, method: str) -> Finding:
        exact = np.linalg.solve(plus_identity(dense, damping), on_host(v))
        condition = float(np.linalg.norm(dense)) / damping + 1

        def finding(factor: float) -> Finding:
            found = fisher.solve(
                v,
                damping=factor * damping,
                method=method.split()[0],
                coefficients=None if "without" in method else given,
            )
            return identity(
                found,
                exact,
                # cg stops at a scaled residual of one, where n eps |M| |x| is left
                **roundoff(run, condition=condition, terms=len(dense) if method == "cg" else 1),
                detail=f"{instance.name}, N = {num_examples}, damping {damping:g}, {method}",
            )

        return finding(1.0).with_control(finding(2.0))

    return combine(check(damping, *route) for damping in dampings for route in routes)


@claim(
    "scaled-residual-of-every-route",
    statement="Every solver of every structure leaves |v - M x| <= 30 |M|_F |x| n eps, M the damped matrix.",
    source="classical result (the threshold of LAPACK's tests)",
    kind="inequality",
    params={"num_examples": 48, "sizes": [64, 4, 10], "damping": 0.1},
)
def scaled_residual(run: Run, num_examples: int, sizes: list[int], damping: float) -> Finding:
    """Fails if a solver is not backward stable, or solves another system than the structure's.

    The residual is taken in float64 with the dense damped matrix, not by the code that reports it. Control
    of every route: the damping added twice.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(42,))
    v = instance.gradient()
    cases = [(structure, kind, method) for (structure, kind), methods in ROUTES.items() for method in methods]
    matrices = {(name, kind): damped_matrix(instance.fisher(name), damping, kind) for name, kind in ROUTES}

    def residual(structure: str, kind: str, method: str, factor: float) -> float:
        matrix = matrices[structure, kind]
        curvature = instance.fisher(structure)
        result = gr.solve(curvature, v, damping=factor * damping, damping_kind=kind, method=method)
        x = on_host(result.x)
        unit = float(np.linalg.norm(matrix) * np.linalg.norm(x)) * len(x) * run.eps
        return float(np.linalg.norm(on_host(v) - matrix @ x)) / unit

    def finding(case: tuple[str, str, str], factor: float) -> Finding:
        return at_most(
            residual(*case, factor),
            30.0,
            reason="LAPACK's threshold for the scaled residual",
            detail=f"{instance.name}, N = {num_examples}, damping {damping:g}; {', '.join(case)}",
        )

    return combine(finding(case, 1.0).with_control(finding(case, 2.0)) for case in cases)


@claim(
    "newton-schulz-squares-its-residual",
    statement="Newton-Schulz X <- X (2 I - M X) squares I - M X: from I / |M|_inf the residual after k "
    "steps is (sum_i (1 - lambda_i / |M|_inf)^(2^(k+1)))^(1/2), and it needs as many steps as that takes "
    "to reach n eps.",
    source="classical result (Schulz 1933); the paper's route to the factors' inverses",
    kind="inequality",
    params={"num_examples": 48, "sizes": [64, 4, 10], "dampings": [1.0, 0.3, 0.1]},
)
def newton_schulz(run: Run, num_examples: int, sizes: list[int], dampings: list[float]) -> Finding:
    """Fails if the iteration converges at another order, starts elsewhere, stops early or late, or reports
    another residual than it has.

    The residual of every step, as reported and as measured on the host with the X returned, against the
    formula; and the reported number of steps against the number predicted from the eigenvalues, at
    condition numbers below n, where roundoff (condition x eps) stays below the target n eps; one step of
    difference is roundoff's all the same. Control of both: the prediction for linear convergence, the
    residual multiplied by I - M / |M|_inf in each step.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(43,))
    fisher, g = instance.fisher(), instance.gradient()
    dense = on_host(fisher.to_dense())
    eigenvalues = np.linalg.eigvalsh(dense)
    target = len(dense) * run.eps

    def residuals(damping: float) -> Finding:
        matrix = plus_identity(dense, damping)
        factors = 1 - (eigenvalues + damping) / float(np.abs(matrix).sum(axis=1).max())
        condition = float(np.linalg.norm(matrix)) / damping
        steps = range(_steps_until(0.1, factors, _squared))  # below it roundoff shows in the logarithm
        given = run.asarray(matrix)
        found = [gr.solvers.newton_schulz_inverse(given, max_iterations=step) for step in steps]
        unit = np.eye(len(matrix))
        measured = [float(np.linalg.norm(unit - matrix @ on_host(one.inverse))) for one in found]
        reported = [one.residual for one in found]

        def finding(exponent_after: Callable[[int], int]) -> Finding:
            predicted = [float(np.linalg.norm(factors ** exponent_after(step))) for step in steps]
            return identity(
                np.log([*reported, *measured]),
                np.log([*predicted, *predicted]),
                **roundoff(run, condition=condition, terms=len(matrix)),
                scale=1.0,
                detail=f"{instance.name}, N = {num_examples}, damping {damping:g}; logarithm of the residual "
                f"after 0 to {steps[-1]} steps",
            )

        return finding(_squared).with_control(finding(_linear))

    def check(damping: float) -> Finding:
        bound = float(np.abs(plus_identity(dense, damping)).sum(axis=1).max())
        reported = gr.solve(fisher, g, damping=damping, method="newton_schulz").iterations

        def finding(exponent_after: Callable[[int], int]) -> Finding:
            predicted = _steps_until(target, 1 - (eigenvalues + damping) / bound, exponent_after)
            return at_most(
                abs(reported - predicted),
                1.0,
                reason="the last step meets the rounding of M X, which may end the iteration one step off",
                detail=f"{instance.name}, N = {num_examples}, damping {damping:g}; {reported} steps, "
                f"{predicted} predicted",
            )

        return finding(_squared).with_control(finding(_linear))

    return combine(part(damping) for damping in dampings for part in (check, residuals))


def _squared(step: int) -> int:
    return 2**step


def _linear(step: int) -> int:
    """Planted error: convergence of order one."""
    return step + 1


def _steps_until(target: float, factors: np.ndarray, exponent_after: Callable[[int], int]) -> int:
    """The first step whose residual ``|factors^exponent|_2`` is at most the target."""
    limit = 10**5
    return next(k for k in range(limit) if np.linalg.norm(factors ** exponent_after(k)) <= target)


@claim(
    "coupled-newton-gives-the-inverse-root",
    statement="Coupled Newton iteration gives the inverse p-th root: M X^p = I, M the damped Kronecker "
    "factors of a layer, for p = 1, 2, 3, 4, 8.",
    source="classical result (Guo and Higham 2006)",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 4, 10], "damping": 0.01, "orders": [1, 2, 3, 4, 8]},
)
def inverse_roots(
    run: Run, num_examples: int, sizes: list[int], damping: float, orders: list[int]
) -> Finding:
    """Fails if the iteration ends elsewhere, or before the root is accurate.

    The power is taken in float64 from the root. Control of every root: the root of the next order.
    """

    def check(name: str, matrix: np.ndarray, order: int) -> Finding:
        def finding(asked: int) -> Finding:
            root = gr.inverse_root(run.asarray(matrix), order=asked)
            return identity(
                matrix @ np.linalg.matrix_power(on_host(root.inverse), order),
                np.eye(len(matrix)),
                **roundoff(run, condition=float(np.linalg.cond(matrix)), terms=len(matrix)),
                detail=f"{name}, N = {num_examples}, damping {damping:g}, p = {order}; {root.status} after "
                f"{root.iterations} steps",
            )

        return finding(order).with_control(finding(order + 1))

    factors = _damped_factors(run, num_examples, sizes, damping)
    return combine(check(name, matrix, order) for name, matrix in factors for order in orders)


@claim(
    "coupled-newton-squares-its-error",
    statement="Every step of the coupled Newton iteration for the inverse p-th root, from M / |M|_inf, at "
    "least squares the error: |I - M X^p|_2 falls from e to at most e^2.",
    source="classical result (Guo and Higham 2006; Iannazzo 2006)",
    kind="inequality",
    params={"num_examples": 48, "sizes": [64, 4, 10], "damping": 0.01, "orders": [1, 2, 3, 4, 8]},
)
def squared_error(
    run: Run, num_examples: int, sizes: list[int], damping: float, orders: list[int]
) -> Finding:
    """Fails if the iteration converges at a lower order, or if N loses its coupling to X.

    Every step from the first to the last, its error in float64 from the root that so many steps return.
    Control: the errors of steps half as long, T = I + (I - N) / (2 p), from the eigenvalues of M; near
    the end each of them halves the error.
    """

    def check(name: str, matrix: np.ndarray, order: int) -> Finding:
        placed, unit = run.asarray(matrix), np.eye(len(matrix))
        limit = roundoff(run, condition=float(np.linalg.cond(matrix)), terms=len(matrix))
        steps = gr.inverse_root(placed, order=order).iterations

        def error(count: int) -> float:
            root = on_host(gr.inverse_root(placed, order=order, max_iterations=count).inverse)
            return float(np.linalg.norm(unit - matrix @ np.linalg.matrix_power(root, order), 2))

        def finding(errors: list[float], text: str) -> Finding:
            return inequality(
                np.array(errors[1:]),
                np.array(errors[:-1]) ** 2,
                **as_slack(limit, "the rounding of M X^p"),
                scale=1.0,
                detail=f"{name}, N = {num_examples}, damping {damping:g}, p = {order}, {text}",
            )

        values = np.linalg.eigvalsh(matrix) / np.abs(matrix).sum(axis=1).max()
        slow = []
        for _ in range(3 * steps):
            slow.append(float(np.max(1 - values)))
            values = values * (1 + (1 - values) / (2 * order)) ** order
        right = finding([error(count) for count in range(steps + 1)], f"{steps} steps")
        return right.with_control(finding(slow, "steps half as long"))

    factors = _damped_factors(run, num_examples, sizes, damping)
    return combine(check(name, matrix, order) for name, matrix in factors for order in orders)


def _damped_factors(
    run: Run, num_examples: int, sizes: list[int], damping: float
) -> list[tuple[str, np.ndarray]]:
    """The damped factors of the first layer of a network on digits, as the run's dtype holds them."""
    instance = digits(run, sizes, num_examples=num_examples, key=(44,))
    problem, theta, x = instance.problem, instance.theta, instance.x
    A, G = gr.kfac_factors(problem.activations(theta, x)[0], problem.score_signals(theta, x)[0])
    damped = [("A", plus_identity(on_host(A), damping)), ("G", plus_identity(on_host(G), damping))]
    return [(f"{instance.name}, factor {name}", on_host(run.asarray(matrix))) for name, matrix in damped]
