"""Block-tridiagonal K-FAC: what it agrees with, what its inverse looks like, and where its damping goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from proofs_check import Finding, Run, claim, combine, identity
from proofs_check.data import Instance, digits, on_host, synthetic
from proofs_check.tolerance import Tolerance, roundoff

STRUCTURE = "tridiagonal_kfac"


def _instances(run: Run, num_examples: int, sizes: list[int], key: int) -> tuple[Instance, ...]:
    """Digits through three layers, and small networks of four."""
    small = [
        synthetic(run, likelihood, (3, 4, 3, 4, 2), num_examples=20, key=(key, i), activation=activation)
        for i, (likelihood, activation) in enumerate(
            (("gaussian", "tanh"), ("bernoulli", "softplus"), ("categorical", "gelu"), ("poisson", "sigmoid"))
        )
    ]
    return (digits(run, sizes, num_examples=num_examples, key=(key,)), *small)


def _damped_factors(A: np.ndarray, G: np.ndarray, damping: float) -> tuple[np.ndarray, np.ndarray]:
    """Factored damping by its definition."""
    pi = np.sqrt((A.trace() / len(A)) / (G.trace() / len(G)))
    root = np.sqrt(damping)
    return A + pi * root * np.eye(len(A)), G + root / pi * np.eye(len(G))


def _kronecker_fisher(instance: Instance, damping: float) -> np.ndarray:
    """Blocks ``G_ij kron A_ij`` between all layers (not the neighbours alone), the diagonal ones damped."""
    problem, theta, x = instance.problem, instance.theta, instance.x
    inputs = [on_host(a) for a in problem.activations(theta, x)]
    signals = [on_host(d).reshape(-1, d.shape[2]) for d in problem.score_signals(theta, x)]
    layers, n = range(len(inputs)), instance.num_examples
    rows = []
    for i in layers:
        row = []
        for j in layers:
            A, G = inputs[i].T @ inputs[j] / n, signals[i].T @ signals[j] / n
            row.append(np.kron(*_damped_factors(A, G, damping)[::-1]) if i == j else np.kron(G, A))
        rows.append(row)
    return np.block(rows)


def _recursion(instance: Instance, full: np.ndarray) -> np.ndarray:
    """``Xi^{-1} Sigma Xi^{-T}`` of a matrix of layer blocks, dense, from the last layer to the first."""
    parts = instance.layer_slices
    xi, sigma = np.eye(len(full)), np.zeros_like(full)
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        sigma[part, part] = full[part, part]
        if after is not None:
            psi = np.linalg.solve(full[after, after], full[after, part]).T
            xi[part, after] = -psi
            sigma[part, part] -= psi @ full[after, part]
    inverse = np.linalg.inv(xi)
    return inverse @ sigma @ inverse.T


def _distance(instance: Instance) -> np.ndarray:
    """|i - j| of the layers of every entry of a matrix (P, P)."""
    layer = np.concatenate([np.full(p.stop - p.start, i) for i, p in enumerate(instance.layer_slices)])
    return np.abs(layer[:, None] - layer[None, :])


def _limit(run: Run, instance: Instance, full: np.ndarray) -> Tolerance:
    """Roundoff for the recursion: each link divides by the factors of one layer."""
    conditions = [np.linalg.cond(block) for block in instance.layer_blocks(full)]
    return roundoff(run, condition=float(max(conditions)), terms=instance.num_examples)


def _dense(curvature: Any, damping: float) -> np.ndarray:
    """The damped operator as a matrix."""
    return on_host(curvature.damped(damping).to_dense())


def _relative_errors(instance: Instance, names: Sequence[str]) -> str:
    """Measured, not claimed: the distance of whole structures from the exact Fisher."""
    fisher = instance.dense_fisher()
    size = np.linalg.norm(fisher)
    errors = {name: np.linalg.norm(instance.dense_fisher(name) - fisher) / size for name in names}
    return ", ".join(f"{name} {error:.3f}" for name, error in errors.items())


@claim(
    "tridiagonal-kfac-agrees-on-the-tridiagonal-blocks",
    statement="Block-tridiagonal K-FAC agrees with the Kronecker-approximated Fisher (blocks G_ij kron A_ij, "
    "damped on the diagonal) on the blocks of each layer with itself and with its neighbours.",
    source="classical result (Martens and Grosse 2015, section 4.3)",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 8, 6, 10], "damping": 0.1},
)
def tridiagonal_blocks(run: Run, num_examples: int, sizes: list[int], damping: float) -> Finding:
    """Fails if a link is transposed, of the wrong pair of layers, or the explained part is not put back.

    The detail gives what is measured and not claimed: how far the undamped structures are from the exact
    Fisher. Control: K-FAC, which has zeros between neighbours.
    """

    def check(instance: Instance) -> Finding:
        full = _kronecker_fisher(instance, damping)
        near = _distance(instance) <= 1
        measured = _relative_errors(instance, ("kfac", STRUCTURE))
        limit = _limit(run, instance, full)

        def finding(computed: np.ndarray) -> Finding:
            return identity(
                computed[near],
                full[near],
                **limit,
                detail=f"{instance.name}, N = {instance.num_examples}, damping {damping:g}; undamped error "
                f"to the exact Fisher: {measured}",
            )

        without_neighbours = np.where(_distance(instance) == 0, full, 0.0)
        tridiagonal = _dense(instance.fisher(STRUCTURE), damping)
        return finding(tridiagonal).with_control(finding(without_neighbours))

    return combine(check(one) for one in _instances(run, num_examples, sizes, 91))


@claim(
    "tridiagonal-kfac-has-a-block-tridiagonal-inverse",
    statement="The inverse of block-tridiagonal K-FAC has no entries between layers that are not neighbours.",
    source="classical result (Martens and Grosse 2015, section 4.3)",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 8, 6, 10], "damping": 0.1},
)
def tridiagonal_inverse(run: Run, num_examples: int, sizes: list[int], damping: float) -> Finding:
    """Fails if layers are not a Markov chain: a solve would carry a gradient past its neighbours.

    Columns of the inverse by solves, for the last layer's parameters. Control: the inverse of the
    Kronecker-approximated Fisher itself, which is full.
    """

    def check(instance: Instance) -> Finding:
        full = _kronecker_fisher(instance, damping)
        curvature = instance.fisher(STRUCTURE)
        last = instance.layer_slices[-1]
        units = run.asarray(np.eye(len(full))[last])
        solved = [curvature.solve(units[i, :], damping=damping) for i in range(last.stop - last.start)]
        columns = np.stack([on_host(x) for x in solved], axis=1)
        far = _distance(instance)[:, last] > 1
        limit = _limit(run, instance, full)

        def finding(inverse: np.ndarray) -> Finding:
            return identity(
                inverse[far],
                np.zeros(np.count_nonzero(far)),
                **limit,
                scale=float(np.linalg.norm(inverse)),
                detail=f"{instance.name}, N = {instance.num_examples}, damping {damping:g}, "
                f"{columns.shape[1]} columns",
            )

        return finding(columns).with_control(finding(np.linalg.inv(full)[:, last]))

    return combine(check(one) for one in _instances(run, num_examples, sizes, 92))


@claim(
    "tridiagonal-kfac-is-damped-before-the-recursion",
    statement="A damped solve of block-tridiagonal K-FAC is one with the recursion on the Kronecker-"
    "approximated Fisher whose diagonal blocks have factored damping.",
    source="classical result (Martens and Grosse 2015, sections 4.3 and 6.3)",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 8, 6, 10], "dampings": [0.3, 0.03]},
)
def damped_recursion(run: Run, num_examples: int, sizes: list[int], dampings: list[float]) -> Finding:
    """Fails if the damping is put anywhere else. Reference: the dense recursion and LU in float64.

    Control: the same damping on the diagonal blocks *after* the recursion with a tenth of it.
    """

    def check(instance: Instance, damping: float) -> Finding:
        g = instance.gradient()
        full = _kronecker_fisher(instance, damping)
        before = _recursion(instance, full)
        little = _kronecker_fisher(instance, 0.1 * damping)
        after = _recursion(instance, little) + full - little
        step = instance.fisher(STRUCTURE).solve(g, damping=damping)
        limit = roundoff(run, condition=float(np.linalg.cond(before)))

        def finding(matrix: np.ndarray) -> Finding:
            return identity(
                step,
                np.linalg.solve(matrix, on_host(g)),
                **limit,
                detail=f"{instance.name}, N = {instance.num_examples}, damping {damping:g}",
            )

        return finding(before).with_control(finding(after))

    instances = _instances(run, num_examples, sizes, 93)
    return combine(check(one, damping) for one in instances for damping in dampings)
