"""RING and RENG: where they are the natural gradient, how long a step may be, what invariance remains."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.damping import damped_matrix
from proofs_check.data import Instance, digits, on_host, synthetic
from proofs_check.tolerance import as_slack, roundoff

STRUCTURES = ("full", "block_diagonal", "unitwise", "diagonal", "kfac", "ekfac", "kronecker_optimal")
"""Those with exact damping."""


# --- rho = 0, and the damping of RING ------------------------------------------------------------------


@claim(
    "ring-and-reng-at-rho-zero-are-ngd",
    statement="At rho = 0 the steps of RING and RENG are those of NGD, bit by bit, for every structure, "
    "and so are the directions on arrays.",
    source="paper (both join a gradient regularization of weight rho to the natural gradient)",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 8, 10], "damping": 0.01, "lr": 0.5, "planted_rho": 1e-3},
)
def rho_zero(
    run: Run, num_examples: int, sizes: list[int], damping: float, lr: float, planted_rho: float
) -> Finding:
    """Fails if the regularized optimizers add anything at rho = 0. Control of each step: rho = 0.001."""
    instance = digits(run, sizes, num_examples=num_examples, key=(51,))
    problem, theta, x, y = instance.problem, instance.theta, instance.x, instance.y
    g, rows = instance.gradient(), problem.score_rows(theta, x)
    options: list[dict[str, Any]] = [
        {"lr": lr, "damping": damping, "structure": structure}
        for structure in (*STRUCTURES, "tridiagonal_kfac")
    ]
    ngd = [instance.step(gr.ngd(problem, **one)) for one in options]
    direction = gr.natural_direction(rows, g, damping=damping)

    def hvp(v: Any) -> Any:
        return problem.hvp(theta, x, y, v)

    def made(rho: float) -> list[np.ndarray]:
        steps = [
            instance.step(make(problem, rho=rho, **one)) for make in (gr.ring, gr.reng) for one in options
        ]
        directions = [
            gr.ring_direction(rows, g, rho=rho, damping=damping),
            gr.reng_direction(rows, g, hvp, rho=rho, damping=damping),
        ]
        return [on_host(one) for one in (*steps, *directions)]

    expected = [on_host(one) for one in (*ngd, *ngd, direction, direction)]
    detail = f"{instance.name}, N = {num_examples}, {', '.join(STRUCTURES)} and the array functions"

    def finding(step: np.ndarray, reference: np.ndarray) -> Finding:
        reason = "the same operations on the same numbers"
        return identity(step, reference, tolerance=0.0, reason=reason, detail=detail)

    triples = zip(made(0.0), made(planted_rho), expected, strict=True)
    return combine(finding(step, ngd).with_control(finding(off, ngd)) for step, off, ngd in triples)


@claim(
    "ring-damps-by-the-squared-gradient-norm",
    statement="RING's step is -eta (F + (lam + rho |g|^2) I)^{-1} g; with factored damping the whole of "
    "lam + rho |g|^2 is factored.",
    source="paper (quadratic model with curvature F + rho |grad L|^2 I)",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 8, 10], "dampings": [0.0, 0.01], "rhos": [0.1, 1.0, 10.0]},
)
def ring_damping(
    run: Run, num_examples: int, sizes: list[int], dampings: list[float], rhos: list[float]
) -> Finding:
    """Fails if the norm is not squared, is of another gradient, or is not added to the mean curvature.

    Reference: LU of the dense damped matrix in float64, factored damping (of K-FAC, the optimal Kronecker
    product and block-tridiagonal K-FAC) with the structure's own factors. Control of each: rho |g| in place
    of rho |g|^2.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(52,))
    dense, g = instance.dense_fisher(), on_host(instance.gradient())
    length = float(np.linalg.norm(g))

    def check(damping: float, rho: float) -> Finding:
        condition = float(np.linalg.norm(dense)) / (damping + rho * length**2) + 1
        step = instance.step(gr.ring(instance.problem, lr=0.5, damping=damping, rho=rho))

        def finding(regularization: float) -> Finding:
            total = dense + (damping + regularization) * np.eye(len(g))
            return identity(
                step,
                -0.5 * np.linalg.solve(total, g),
                **roundoff(run, condition=condition),
                detail=f"{instance.name}, N = {num_examples}, damping {damping:g}, rho {rho:g}",
            )

        return finding(rho * length**2).with_control(finding(rho * length))

    def factored(structure: str, damping: float, rho: float) -> Finding:
        ring = gr.ring(
            instance.problem, lr=0.5, damping=damping, rho=rho, structure=structure, damping_kind="factored"
        )
        step, curvature = instance.step(ring), instance.fisher(structure)

        def finding(regularization: float) -> Finding:
            matrix = damped_matrix(curvature, damping + regularization, "factored")
            return identity(
                step,
                -0.5 * np.linalg.solve(matrix, g),
                **roundoff(run, condition=float(np.linalg.cond(matrix))),
                detail=f"{instance.name}, N = {num_examples}, damping {damping:g}, rho {rho:g}, factored, "
                f"{structure}",
            )

        return finding(rho * length**2).with_control(finding(rho * length))

    exact = [check(damping, rho) for damping in dampings for rho in rhos]
    names = ("kfac", "kronecker_optimal", "tridiagonal_kfac")
    return combine([*exact, *(factored(name, dampings[-1], rhos[1]) for name in names)])


@claim(
    "ring-step-bounds",
    statement="For the squared loss and lam = 0, RING's step obeys |delta| <= eta min(1/(rho |g|), "
    "|r|/s_min, |r|/(2 sqrt(N rho) |g|)), r the residual, s_min the least singular value of the stacked "
    "Jacobian. A residual along a singular vector of s_min attains all three: in the limits of large and "
    "small rho, and at rho = s_min^2 / (N |g|^2).",
    source="our reconstruction (from the singular values of J)",
    kind="inequality",
    params={
        "num_examples": 4,
        "sizes": [64, 8, 10],
        "rhos": [1e-6, 1e-4, 1e-2, 1.0, 1e2, 1e4],
        "scales": [1, 10],
        "planted": 2.0,
    },
)
def ring_bounds(
    run: Run, num_examples: int, sizes: list[int], rhos: list[float], scales: list[int], planted: float
) -> Finding:
    """Fails if RING's damping is smaller than rho |g|^2 or its step is longer than -eta F^{-1} g.

    A regression on one-hot vectors, also with tenfold targets, so that |g| > 1, and with the residual for
    which the bounds are sharp; fewer outputs than parameters, so that J has full row rank. Control of each
    bound: the step twice too long, which the sharp instance shows. Control of the first and the last
    besides: rho |g| in place of rho |g|^2.
    """
    plain = [
        digits(run, sizes, num_examples=num_examples, key=(53,), likelihood="gaussian", target_scale=scale)
        for scale in map(float, scales)
    ]
    cases = [(one, rho) for one in plain for rho in rhos]
    sharp = _with_sharp_residual(plain[0])
    turn = _least_singular(sharp)[0] ** 2 / (num_examples * _length(sharp.gradient()) ** 2)
    cases += [(sharp, factor * turn) for factor in (1e-6, 1.0, 1e6)]
    bounds = np.stack([_ring_bounds(*case) for case in cases], axis=-1)
    steps = np.array([_length(one.step(gr.ring(one.problem, lr=1.0, rho=rho))) for one, rho in cases])
    without_square = np.array([_length(_ring_step_without_square(*case)) for case in cases])

    limit = roundoff(run, condition=max(map(_gram_condition, plain)))

    def finding(bound: int, lengths: np.ndarray) -> Finding:
        return inequality(
            lengths,
            bounds[bound],
            **as_slack(limit, "the bounds are attained up to the rounding of J J^T and its solve"),
            detail=f"bound {bound + 1} of 3, {plain[0].name}, N = {num_examples}, {len(cases)} steps",
        )

    controls = [(0, planted * steps), (1, planted * steps), (2, planted * steps)]
    controls += [(0, without_square), (2, without_square)]
    return combine(finding(bound, steps).with_control(finding(bound, lengths)) for bound, lengths in controls)


def _length(vector: Any) -> float:
    return float(np.linalg.norm(on_host(vector)))


def _least_singular(instance: Instance) -> tuple[float, np.ndarray]:
    """``s_min`` of the stacked Jacobian (N K, P), and its left singular vector as outputs (N, K)."""
    jacobian = on_host(instance.problem.jacobian(instance.theta, instance.x))
    left, values, _ = np.linalg.svd(jacobian.reshape(-1, jacobian.shape[-1]), full_matrices=False)
    return float(values[-1]), left[:, -1].reshape(jacobian.shape[:2])


def _gram_condition(instance: Instance) -> float:
    """Condition number of ``J J^T``, the squared one of J."""
    jacobian = on_host(instance.problem.jacobian(instance.theta, instance.x))
    return float(np.linalg.cond(jacobian.reshape(-1, jacobian.shape[-1]))) ** 2


def _with_sharp_residual(instance: Instance) -> Instance:
    """The same problem with targets whose residual is a left singular vector of s_min."""
    targets = instance.run.asarray(instance.outputs() - _least_singular(instance)[1])
    return dataclasses.replace(instance, name=f"{instance.name}, sharp residual", y=targets)


def _ring_bounds(instance: Instance, rho: float) -> np.ndarray:
    """The three bounds (3,) at eta = 1."""
    residual = float(np.linalg.norm(instance.outputs() - on_host(instance.y)))
    length = _length(instance.gradient())
    least, _ = _least_singular(instance)
    return np.array(
        [
            1 / (rho * length),
            residual / least,
            residual / (2 * np.sqrt(instance.num_examples * rho) * length),
        ]
    )


def _ring_step_without_square(instance: Instance, rho: float) -> Any:
    """Planted error: damping rho |g|."""
    damping = rho * _length(instance.gradient())
    return instance.step(gr.ngd(instance.problem, lr=1.0, damping=damping))


# --- RENG on a linear model ----------------------------------------------------------------------------


@claim(
    "reng-newton-step-is-ngd-where-h-is-f",
    statement="Where H = F (a linear model), the Newton step of RENG's objective L + (rho/2) |grad L|^2, "
    "whose curvature is (I + rho F) F, is NGD's step; with damping, for the curvature (I + rho F)(F + lam "
    "I).",
    source="our reconstruction",
    kind="identity",
    params={"num_examples": 40, "sizes": [3, 2], "dampings": [0.0, 0.1], "rho": 0.5},
)
def reng_on_linear_models(
    run: Run, num_examples: int, sizes: list[int], dampings: list[float], rho: float
) -> Finding:
    """Fails if RENG's gradient is not (I + rho H) g, or H and F differ on a linear model.

    Control: RENG with the curvature F + lam I alone, which steps too far by rho g.
    """
    instance = synthetic(run, "gaussian", sizes, num_examples=num_examples, key=(54,))
    problem, theta, x, y = instance.problem, instance.theta, instance.x, instance.y
    dense, g = instance.dense_fisher(), instance.gradient()
    regularized = on_host(g + rho * problem.hvp(theta, x, y, g))
    identity_matrix = np.eye(len(dense))

    def check(damping: float) -> Finding:
        ngd = instance.step(gr.ngd(problem, lr=1.0, damping=damping))
        damped = dense + damping * identity_matrix
        consistent = (identity_matrix + rho * dense) @ damped

        def finding(curvature: np.ndarray) -> Finding:
            return identity(
                ngd,
                -np.linalg.solve(curvature, regularized),
                **roundoff(run, condition=float(np.linalg.cond(consistent)), terms=num_examples),
                detail=f"{instance.name}, N = {num_examples}, rho {rho:g}, damping {damping:g}",
            )

        return finding(consistent).with_control(finding(damped))

    return combine(check(damping) for damping in dampings)


@claim(
    "reng-step-is-its-definition",
    statement="RENG's step is -eta (C + lam I)^{-1} (g + rho H g), C the full Fisher or a structure.",
    source="paper (objective L + (rho/2) |grad L|^2, by double backpropagation)",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 8, 10], "damping": 0.05, "rhos": [0.1, 1.0]},
)
def reng_step(run: Run, num_examples: int, sizes: list[int], damping: float, rhos: list[float]) -> Finding:
    """Fails if the regularizer's gradient has another sign or weight, or enters after the solve.

    Reference: LU in float64 with dense C and the dense Hessian. Control: the sign of H g.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(55,))
    problem, theta, x, y = instance.problem, instance.theta, instance.x, instance.y
    g, hessian = on_host(instance.gradient()), on_host(problem.hessian(theta, x, y))

    def check(structure: str, rho: float) -> Finding:
        dense = instance.dense_fisher(structure)
        step = instance.step(gr.reng(problem, lr=0.5, rho=rho, damping=damping, structure=structure))
        damped = dense + damping * np.eye(len(g))

        def finding(sign: float) -> Finding:
            return identity(
                step,
                -0.5 * np.linalg.solve(damped, g + sign * rho * hessian @ g),
                **roundoff(run, condition=float(np.linalg.norm(dense)) / damping + 1),
                detail=f"{instance.name}, N = {num_examples}, {structure}, rho {rho:g}, damping {damping:g}",
            )

        return finding(1.0).with_control(finding(-1.0))

    return combine(check(structure, rho) for structure in STRUCTURES for rho in rhos)


# --- invariance ----------------------------------------------------------------------------------------


@claim(
    "ngd-is-invariant-under-linear-reparameterization",
    statement="Undamped, in parameters phi with theta = T phi the natural gradient makes the same step of "
    "the network, J T delta_phi = J delta_theta, and for a nonsingular F the same step of theta.",
    source="classical result (Amari 1998)",
    kind="identity",
    params={"examples_regular": 60, "examples_singular": 3, "planted_damping": 0.1},
)
def invariance(run: Run, examples_regular: int, examples_singular: int, planted_damping: float) -> Finding:
    """Fails if the undamped step is not the least-squares one, or depends on the parameters' scales.

    Regular: one layer, more score rows than parameters. Singular: a hidden layer, fewer. Control: a damped
    step, which is not invariant.
    """
    regular = [
        synthetic(run, name, (2, 2), num_examples=examples_regular, key=(56, i))
        for i, name in enumerate(("gaussian", "bernoulli", "poisson"))
    ]
    singular = synthetic(run, "gaussian", (3, 4, 2), num_examples=examples_singular, key=(57,))
    cases = [(one, True) for one in regular] + [(singular, False)]
    return combine(_is_invariant(run, one, whole, planted_damping) for one, whole in cases)


def _is_invariant(run: Run, instance: Instance, whole: bool, planted_damping: float) -> Finding:
    """``whole``: the step of theta itself, else what J makes of it."""
    rows, g = instance.problem.score_rows(instance.theta, instance.x), instance.gradient()
    size = instance.problem.num_parameters
    transform = np.eye(size) + 0.3 * run.rng(57, 1).normal(size=(size, size)) / np.sqrt(size)
    T, transposed = run.asarray((transform, transform.T.copy()))
    moved_rows, moved_g = rows @ T, transposed @ g
    singular = np.linalg.svd(on_host(moved_rows), compute_uv=False)
    rank = min(rows.shape)
    # the direction solves the normal equations: condition number squared
    condition = float(singular[0] / singular[rank - 1]) ** 2 * float(np.linalg.cond(transform))

    def finding(damping: float) -> Finding:
        step = gr.natural_direction(rows, g, damping=damping)
        moved = T @ gr.natural_direction(moved_rows, moved_g, damping=damping)
        seen = (moved, step) if whole else (rows @ moved, rows @ step)
        return identity(
            *seen,
            **roundoff(run, condition=condition, terms=size),
            detail=f"{instance.name}, N = {instance.num_examples}, {'delta' if whole else 'J delta'}",
        )

    return finding(0.0).with_control(finding(planted_damping))
