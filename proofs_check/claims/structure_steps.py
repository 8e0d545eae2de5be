"""Steps by structures and inexact inverses: what every one of them keeps, and what an error may cost."""

from __future__ import annotations

from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.data import Instance, digits, on_host, synthetic
from proofs_check.tolerance import roundoff

EXACT_ROUTES = {
    "full": ("gram", "cholesky", "cg", "eigh", "newton_schulz"),
    "block_diagonal": ("cholesky", "cg", "eigh", "newton_schulz"),
    "unitwise": ("cholesky", "cg", "eigh", "newton_schulz"),
    "kfac": ("eigh", "cg"),
    "ekfac": ("eigh",),
    "kronecker_optimal": ("eigh", "cg"),
    "diagonal": ("eigh",),
}
"""Structure -> methods with exact damping."""


@claim(
    "damped-inverse-keeps-what-the-curvature-does-not-see",
    statement="(C + a I)^{-1} v has the part v_perp / a in the null space of C, for every structure and "
    "every solver with exact damping, up to the roundoff eps |C| / a: for dampings a well above n eps |C|. "
    "(Nearer to it a backward stable solver may return another part there, and say converged.)",
    source="our reconstruction (the null-space part of a damped step)",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 8, 10], "dampings": [0.1, 0.01]},
)
def null_space(run: Run, num_examples: int, sizes: list[int], dampings: list[float]) -> Finding:
    """Fails if a solve drops, truncates or rescales what C maps to zero.

    The whole null space: for the full Fisher P - N (K - 1) directions at least, the weights from pixels that
    are black in all images among them. v is the gradient plus normal entries everywhere. Control: K-FAC with
    factored damping, which divides the null space by something else.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(85,))
    size = instance.problem.num_parameters
    v = instance.gradient() + run.asarray(run.rng(85, 1).normal(size=size))
    bases = {structure: _null_space(instance, structure) for structure in EXACT_ROUTES}

    def check(structure: str, method: str, damping: float) -> Finding:
        curvature, null = instance.fisher(structure), bases[structure]
        condition = float(np.linalg.norm(on_host(curvature.to_dense()))) / damping + 1
        # cg stops at a scaled residual of one, where n eps |M| |x| is left
        limit = roundoff(run, condition=condition, terms=size if method == "cg" else 1)
        detail = (
            f"{instance.name}, N = {num_examples}, {null.shape[1]} of {size} dimensions, damping {damping:g}"
        )

        def finding(name: str, step: Any) -> Finding:
            found, expected = null.T @ on_host(step), null.T @ on_host(v) / damping
            return identity(found, expected, **limit, detail=f"{detail}, {name}")

        right = finding(f"{structure} by {method}", curvature.solve(v, damping=damping, method=method))
        factored = instance.fisher("kfac").solve(v, damping=damping, damping_kind="factored")
        return right.with_control(finding("kfac, factored damping", factored))

    routes = [(name, method) for name, methods in EXACT_ROUTES.items() for method in methods]
    return combine(check(*route, damping) for route in routes for damping in dampings)


def _null_space(instance: Instance, structure: str) -> np.ndarray:
    """An orthonormal basis (P, dimension) of a structure's null space, of the run's numbers in float64."""
    problem, (theta, x, _) = instance.problem, instance.host
    matrix = gr.fisher(problem, theta, x, structure=structure).to_dense()
    values, vectors = np.linalg.eigh(matrix)
    return vectors[:, values <= len(values) * np.finfo(np.float64).eps * values[-1]]


@claim(
    "what-a-residual-of-the-inverse-costs-the-step",
    statement="If X is symmetric and |I - (F + a I) X|_2 = q < 1, then in the energy norm of F + a I the "
    "step X g errs by at most q of the exact step, and loses at most q^2 of its predicted decrease.",
    source="our reconstruction (X between (1 - q) and (1 + q) times the inverse)",
    kind="inequality",
    params={"num_examples": 48, "sizes": [64, 4, 10], "damping": 0.1, "steps": [4, 6, 8]},
)
def inexact_inverse(
    run: Run, num_examples: int, sizes: list[int], damping: float, steps: list[int]
) -> Finding:
    """Fails if an unfinished Newton-Schulz inverse does more harm than its residual says.

    X: `newton_schulz_inverse` in the run's arrays, stopped after so many steps. Control: an X that is not
    symmetric, of the same q, whose error the energy norm does not bound.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(86,))
    fisher, g = instance.fisher(), instance.gradient()
    matrix = on_host(fisher.to_dense()) + damping * np.eye(instance.problem.num_parameters)
    values, vectors = np.linalg.eigh(matrix)
    reference = fisher.solve(g, damping=damping)
    step, gradient = on_host(reference), on_host(g)
    limit = roundoff(run, condition=float(values[-1] / values[0]))

    def costs(x: np.ndarray) -> tuple[float, float]:
        """Energy-norm error and lost decrease, both as fractions."""
        moved = run.asarray(x) @ g
        error = on_host(moved) - step
        compared = gr.compare(-moved, -reference, gradient=g, curvature=fisher, damping=damping)
        assert compared.decrease_ratio is not None  # g is not zero
        relative = float(np.sqrt(error @ matrix @ error / (step @ matrix @ step)))
        return relative, 1.0 - compared.decrease_ratio

    def check(count: int) -> Finding:
        x = on_host(gr.solvers.newton_schulz_inverse(run.asarray(matrix), max_iterations=count).inverse)
        q = float(np.linalg.norm(np.eye(len(matrix)) - matrix @ x, 2))
        # an inverse with residual q along the gradient, all of it in the flattest direction
        towards = gradient / np.linalg.norm(gradient)
        skew = np.linalg.inv(matrix) @ (np.eye(len(matrix)) - q * np.outer(vectors[:, 0], towards))

        def finding(inverse: np.ndarray, name: str) -> Finding:
            error, lost = costs(inverse)
            return inequality(
                np.array([error, lost]),
                np.array([q, q**2]),
                slack=limit["tolerance"],
                reason=limit["reason"],
                scale=1.0,
                detail=f"{instance.name}, N = {num_examples}, {name}, q = {q:.3g}: error {error:.3g} of "
                f"the step, {lost:.3g} of the decrease",
            )

        return finding(x, f"{count} steps").with_control(finding(skew, "not symmetric"))

    return combine(check(count) for count in steps)


@claim(
    "kfac-is-invariant-under-affine-maps-of-activations",
    statement="Undamped K-FAC with nonsingular factors: if a layer's inputs are mapped affinely, abar -> "
    "T abar, and its pre-activations linearly, s -> U s, with its parameters and its gradient mapped along "
    "with them, then its step is mapped along too, so that the step of the network is the same.",
    source="classical result (Martens and Grosse 2015)",
    kind="identity",
    params={"num_examples": 100, "planted_damping": 0.1},
)
def kfac_invariance(run: Run, num_examples: int, planted_damping: float) -> Finding:
    """Fails if a factor is not the second moment of what it stands for, or the solve adds something.

    The parameters become W' = U W T^{-1} and the signals D' = D U^{-1}. Control: a damped step, which
    depends on the scales.
    """

    def check(instance: Instance) -> Finding:
        problem, theta, x = instance.problem, instance.theta, instance.x
        inputs, signals = problem.activations(theta, x), problem.score_signals(theta, x)
        layers = list(zip(inputs, signals, strict=True))
        maps = [_random_maps(run, a.shape[1], d.shape[2], i) for i, (a, d) in enumerate(layers)]
        placed = [run.asarray((t, np.linalg.inv(t), u, np.linalg.inv(u))) for t, u in maps]
        pieces = list(zip(layers, placed, strict=True))
        moved = gr.curvature(
            tuple(a @ t.T for (a, _), (t, _, _, _) in pieces),
            tuple(d @ u_inverse for (_, d), (_, _, _, u_inverse) in pieces),
            structure="kfac",
        )
        curvature: Any = instance.fisher("kfac")
        products = [np.linalg.cond(on_host(A)) * np.linalg.cond(on_host(G)) for A, G in curvature.factors]
        turns = [(np.linalg.cond(t) * np.linalg.cond(u)) ** 2 for t, u in maps]
        condition = float(max(p * t for p, t in zip(products, turns, strict=True)))
        g = instance.gradient()
        gradients = problem.unpack(g)
        moved_g = problem.pack(
            [u_inv.T @ v @ t.T for v, (t, _, _, u_inv) in zip(gradients, placed, strict=True)]
        )

        def finding(damping: float) -> Finding:
            step = curvature.solve(g, damping=damping)
            expected = [
                u @ v @ t_inv for v, (_, t_inv, u, _) in zip(problem.unpack(step), placed, strict=True)
            ]
            return identity(
                moved.solve(moved_g, damping=damping),
                problem.pack(expected),
                **roundoff(run, condition=condition),
                detail=f"{instance.name}, N = {num_examples}",
            )

        return finding(0.0).with_control(finding(planted_damping))

    # hidden layers narrower than the outputs, many examples: factors far from singular
    cases = [("gaussian", (2, 2)), ("gaussian", (3, 2, 4)), ("bernoulli", (3, 2, 4)), ("poisson", (3, 2, 4))]
    instances = [
        synthetic(run, name, sizes, num_examples=num_examples, key=(87, i))
        for i, (name, sizes) in enumerate(cases)
    ]
    return combine(check(one) for one in instances)


def _random_maps(run: Run, inputs: int, outputs: int, key: int) -> tuple[np.ndarray, np.ndarray]:
    """An affine map T of abar, whose last row keeps the 1, and a linear map U of s; both well-conditioned."""
    rng = run.rng(87, 50, key)
    t = np.eye(inputs) + 0.3 * rng.normal(size=(inputs, inputs)) / np.sqrt(inputs)
    t[-1] = np.eye(inputs)[-1]
    return t, np.eye(outputs) + 0.3 * rng.normal(size=(outputs, outputs)) / np.sqrt(outputs)
