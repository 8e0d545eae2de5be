"""Inexact inverses in function space: symmetric ones cost a factor, others may not; K-FAC's operator."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, inequality
from proofs_check.convergence import point, two_layer
from proofs_check.data import on_host, synthetic
from proofs_check.filters import random_trials
from proofs_check.tolerance import Slack, as_slack, roundoff

SOURCE = "our reconstruction (theory of inexact inverses)"


@dataclasses.dataclass(frozen=True)
class _Damped:
    """``A = F + a I`` of a network, J, and the exact operator ``k = J A^-1 J^T/n``."""

    name: str
    jacobian: np.ndarray
    matrix: np.ndarray

    @property
    def num_examples(self) -> int:
        return len(self.jacobian)

    @property
    def exact(self) -> np.ndarray:
        return self.operator(np.linalg.inv(self.matrix))

    def operator(self, inverse: np.ndarray) -> np.ndarray:
        """``J X J^T/n``."""
        return self.jacobian @ inverse @ self.jacobian.T / self.num_examples

    def error(self, inverse: np.ndarray) -> float:
        """``|I - A X|``."""
        return float(np.linalg.norm(np.eye(len(inverse)) - self.matrix @ inverse, 2))

    def relative_change(self, inverse: np.ndarray) -> float:
        """``|k^(-1/2) (J X J^T/n - k) k^(-1/2)|``: at most q iff (1-q) k <= J X J^T/n <= (1+q) k."""
        values, basis = np.linalg.eigh(self.exact)
        root = basis / np.sqrt(values)
        return float(np.linalg.norm(root.T @ (self.operator(inverse) - self.exact) @ root, 2))


def _damped(run: Run, num_examples: int, damping: float, key: int) -> _Damped:
    instance = two_layer(run, num_examples=num_examples, inputs=5, width=10, activation="tanh", key=(key,))
    matrix = instance.dense_fisher() + damping * np.eye(instance.problem.num_parameters)
    return _Damped(f"{instance.name}, damping {damping:g}", point(instance).jacobian, matrix)


def _with_error(matrix: np.ndarray, change: np.ndarray, q: float) -> np.ndarray:
    """``A^-1 + S`` with S a multiple of ``change`` and ``|I - A X| = |A S| = q``."""
    return np.linalg.inv(matrix) + change * q / float(np.linalg.norm(matrix @ change, 2))


@claim(
    "symmetric-inexact-inverses-keep-the-operator",
    statement="If X is symmetric and |I - A X| <= q < 1, A = F + aI, then (1-q) k(GG) <= J X J^T/n <= "
    "(1+q) k(GG), k = s/(s + n a).",
    source=SOURCE,
    kind="inequality",
    params={"num_examples": 4, "damping": 0.05, "errors": [0.1, 0.5, 0.9], "count": 5, "steps": [1, 3, 5]},
)
def symmetric_inverse(
    run: Run, num_examples: int, damping: float, errors: list[float], count: int, steps: list[int]
) -> Finding:
    """Fails if a symmetric error could weigh more than q in some direction.

    Truncated Newton-Schulz iterations of the package; random symmetric changes of the inverse; one along an
    eigenvector of F, which attains the bound. Control of each kind: X times 1 + a change that is not
    symmetric, of the same q; of the last, 0.99 q.
    """
    damped = _damped(run, num_examples, damping, 141)
    A, rng = damped.matrix, run.rng(141, 1)
    _, vectors = np.linalg.eigh(damped.exact)
    right = damped.jacobian.T @ vectors
    right /= np.linalg.norm(right, axis=0)
    shape = A.shape
    limit = roundoff(run, condition=float(np.linalg.cond(A)), terms=num_examples)
    slack = as_slack(limit, "J and A in the run's dtype")

    def skewed(q: float) -> np.ndarray:
        return _with_error(A, np.linalg.solve(A, np.outer(right[:, 0], right[:, -1])), q)

    def finding(inverses: list[np.ndarray], text: str, part: float = 1.0) -> Finding:
        measured = [damped.relative_change(one) for one in inverses]
        allowed = [part * damped.error(one) for one in inverses]
        return inequality(
            np.array(measured), np.array(allowed), scale=1.0, **slack, detail=f"{text}, {damped.name}"
        )

    given = run.asarray(A)
    truncated = [
        on_host(gr.solvers.newton_schulz_inverse(given, max_iterations=step).inverse) for step in steps
    ]
    drawn = [rng.normal(size=shape) for _ in range(count)]
    random = [_with_error(A, one + one.T, q) for one in drawn for q in errors]
    sharp = [_with_error(A, np.outer(right[:, 0], right[:, 0]), q) for q in errors]
    planted = finding([skewed(q) for q in errors], "not symmetric")
    return combine(
        [
            finding(truncated, f"Newton-Schulz, {steps} steps").with_control(planted),
            finding(random, "random symmetric").with_control(planted),
            finding(sharp, "along an eigenvector").with_control(finding(sharp, "0.99 q", part=0.99)),
        ]
    )


@claim(
    "inexact-inverses-need-no-symmetry",
    statement="|I - A X| <= q implies |J X J^T/n - k(GG)| <= q also where X is not symmetric, so that no "
    "step at eta = 1 and small damping makes the linearised residual grow.",
    source="to be refuted (the error is up to q sqrt(cond GG))",
    kind="inequality",
    expected="refuted",
    params={"num_examples": 4, "damping": 1e-3, "q": 0.5},
)
def not_symmetric(run: Run, num_examples: int, damping: float, q: float) -> Finding:
    """Would hold if an error that mixes a steep direction into a flat one stayed of its own size.

    Both halves: the operator, and a step on the residual along the steepest direction, which grows.
    Control of both: a symmetric X with the same q.
    """
    damped = _damped(run, num_examples, damping, 142)
    _, vectors = np.linalg.eigh(damped.exact)
    right = damped.jacobian.T @ vectors
    right /= np.linalg.norm(right, axis=0)
    mixed = np.outer(right[:, 0], right[:, -1])
    slack = as_slack(roundoff(run, terms=num_examples), "rounding")
    exact = damped.exact

    def findings(change: np.ndarray) -> list[Finding]:
        inverse = _with_error(damped.matrix, change, q)
        operator = damped.operator(inverse)
        moved = float(np.linalg.norm(operator - exact, 2))
        after = float(np.linalg.norm(vectors[:, -1] - operator @ vectors[:, -1]))
        text = f"q = {damped.error(inverse):.3g}, {damped.name}"
        return [
            inequality(moved, q, **slack, detail=f"operator, {text}"),
            inequality(after, 1.0, **slack, detail=f"|r+|/|r|, {text}"),
        ]

    wrong = findings(np.linalg.solve(damped.matrix, mixed))
    right_ones = findings(np.outer(right[:, -1], right[:, -1]))
    return combine(one.with_control(other) for one, other in zip(wrong, right_ones, strict=True))


@claim(
    "an-inexact-inverse-costs-at-most-the-root-of-the-condition",
    statement="|J X J^T/n - k(GG)| <= q sqrt(top) max_s sqrt(s)/(s + n a) <= q sqrt(cond GG) for any X "
    "with |I - A X| <= q.",
    source=SOURCE,
    kind="inequality",
    params={"num_examples": 4, "dampings": [1e-3, 0.1], "count": 10, "q": 0.5},
)
def any_inverse(run: Run, num_examples: int, dampings: list[float], count: int, q: float) -> Finding:
    """Fails if an error can do more. The mixing error attains the first bound. Control: 0.99 of it."""

    def check(damping: float) -> Finding:
        damped = _damped(run, num_examples, damping, 143)
        A, rng = damped.matrix, run.rng(143, 1)
        s = np.linalg.svd(damped.jacobian, compute_uv=False) ** 2
        worst = int(np.argmax(np.sqrt(s) / (s + num_examples * damping)))
        right = np.linalg.svd(damped.jacobian, full_matrices=False)[2]
        changes = [np.linalg.solve(A, rng.normal(size=A.shape)) for _ in range(count)]
        changes.append(np.linalg.solve(A, np.outer(right[worst], right[0])))
        moved = [
            float(np.linalg.norm(damped.operator(_with_error(A, one, q)) - damped.exact, 2))
            for one in changes
        ]
        bound = q * math.sqrt(s[0] * s[worst]) / (s[worst] + num_examples * damping)
        slack = as_slack(roundoff(run, condition=float(np.linalg.cond(A)) ** 0.5, terms=len(A)), "rounding")

        def finding(part: float) -> Finding:
            text = f"{len(moved)} inverses with q = {q:g}, {damped.name}"
            return inequality(
                np.array([*moved, bound]),
                np.array([*len(moved) * [part * bound], q * math.sqrt(s[0] / s[-1])]),
                **slack,
                detail=text,
            )

        return finding(1.0).with_control(finding(0.99))

    return combine(check(damping) for damping in dampings)


@claim(
    "inexact-inverses-keep-the-unified-rate",
    statement="X symmetric, |I - A X| <= q, C'' = C(1+q)/(1-q) < 1/2, eta (1+q)(1 + C''^2) <= 1 - 2C'': "
    "|r+|^2 <= (1 - eta (1-q) r^T k(GG) r/|r|^2)|r|^2.",
    source=SOURCE,
    kind="inequality",
    params={"count": 2000, "sizes": [1, 2, 4], "unseen": 2},
)
def inexact_rate(run: Run, count: int, sizes: list[int], unseen: int) -> Finding:
    """Fails if a symmetric error of the inverse undoes more than its share.

    Random spectra, dampings, residuals and symmetric X, which mix directions that no data reach into the
    step; the worst E. Controls: eta tripled; the rate cubed.
    """
    total = count * (10 if run.full else 1)
    common: Slack = {"slack": 1e-9, "reason": "float64; X by an inverse of condition up to 1e4"}

    def sides(size: int, factor: float, power: int) -> tuple[np.ndarray, np.ndarray]:
        rng = run.rng(144, size)
        drawn = random_trials(rng, total, size)
        s = drawn.s**0.5  # up to four decades
        a = 10.0 ** rng.uniform(-3, 3, size=total)
        full = np.concatenate([s / size, np.zeros((total, unseen))], axis=1) + a[:, None]
        raw = rng.normal(size=(total, size + unseen, size + unseen))
        change = (raw + raw.transpose(0, 2, 1)) / np.sqrt(full[:, :, None] * full[:, None, :])
        q = rng.random(total) ** 2 * 0.95
        change *= (q / np.linalg.norm(full[:, :, None] * change, 2, axis=(1, 2)))[:, None, None]
        slope = np.concatenate([np.sqrt(s) * drawn.c, np.zeros((total, unseen))], axis=1) / size
        spread = (1 + q) / (1 - q)
        bent = 0.5 * rng.random(total)  # C''
        eta = factor * (1 - 2 * bent) / (1 + q) / (1 + bent**2)
        delta = -eta[:, None] * (slope / full + (change @ slope[:, :, None])[:, :, 0])
        contracted = np.linalg.norm(drawn.c + np.sqrt(s) * delta[:, :size], axis=1)
        after = contracted + bent / spread * np.sqrt(s[:, 0]) * np.linalg.norm(delta, axis=1)
        exact = np.sum(drawn.c**2 * s / (s + size * a[:, None]), axis=1)
        return after**2, (1 - np.minimum(eta, 1.0) * (1 - q) * exact) ** power

    def finding(text: str, factor: float = 1.0, power: int = 1) -> Finding:
        made = [sides(size, factor, power) for size in sizes]
        left, right = (np.concatenate(side) for side in zip(*made, strict=True))
        return inequality(left, right, scale=1.0, **common, detail=f"{total * len(sizes)} steps, {text}")

    held = finding("n = " + ", ".join(map(str, sizes)))
    return combine(held.with_control(one) for one in (finding("eta tripled", 3.0), finding("cubed", power=3)))


@claim(
    "newton-schulz-needs-a-known-number-of-steps",
    statement="From I/t, t = |A|_inf, K = ceil(log2(ln(1/q)/(-ln(1 - amin/t)))) steps are the fewest with "
    "|I - A X| <= q.",
    source=SOURCE,
    kind="inequality",
    params={"num_examples": 4, "dampings": [0.05, 0.01], "errors": [0.5, 0.1, 0.01]},
)
def number_of_steps(run: Run, num_examples: int, dampings: list[float], errors: list[float]) -> Finding:
    """Fails if the iteration starts elsewhere or squares otherwise. Controls: one step fewer, and as many.

    The first half: after K steps the error is at most q. The second: after K - 1 it is not.
    """

    def check(damping: float, q: float) -> list[Finding]:
        damped = _damped(run, num_examples, damping, 145)
        given = run.asarray(damped.matrix)
        t = float(np.abs(damped.matrix).sum(axis=1).max())
        least = float(np.linalg.eigvalsh(damped.matrix)[0])
        K = math.ceil(math.log2(math.log(1 / q) / -math.log1p(-least / t)))

        def error(steps: int) -> float:
            found = gr.solvers.newton_schulz_inverse(given, max_iterations=steps)
            return damped.error(on_host(found.inverse))

        errors = error(K - 1), error(K)
        condition = float(np.linalg.cond(damped.matrix))
        slack = as_slack(roundoff(run, condition=condition, terms=len(damped.matrix)), "rounding")
        text = f"K = {K}, q = {q:g}, {damped.name}"

        def enough(value: float) -> Finding:
            return inequality(value, q, scale=1.0, **slack, detail=text)

        def too_few(value: float) -> Finding:
            return inequality(q, value, scale=1.0, **slack, detail=f"one step fewer, {text}")

        return [
            enough(errors[1]).with_control(enough(errors[0])),
            too_few(errors[0]).with_control(too_few(errors[1])),
        ]

    return combine(one for damping in dampings for q in errors for one in check(damping, q))


# --- Kronecker factors ---------------------------------------------------------------------------------


def _projector(rows: np.ndarray) -> np.ndarray:
    """Onto the column space of a matrix (n, .), whose rank is the largest it can be."""
    basis, _ = np.linalg.qr(rows) if rows.shape[1] < len(rows) else (np.eye(len(rows)), None)
    return basis @ basis.T


@claim(
    "kfac-in-function-space",
    statement="On a hidden layer with inputs X (n, d) and signals D (n, m), undamped K-FAC has J delta = "
    "-eta n (P_X o P_D) r, P the projectors onto the column spaces: n diag(leverages of X) if rank D = n, "
    "n I if rank X = n too, so that eta = O(1/n).",
    source="our reconstruction; classical result (Karakida and Osawa 2020, on the step size)",
    kind="identity",
    params={"num_examples": 5, "shapes": [[3, 4], [3, 12], [7, 12]]},
)
def kfac_operator(run: Run, num_examples: int, shapes: list[list[int]]) -> Finding:
    """Fails if a factor is not averaged over the examples, or K-FAC pairs other rows. Control: no n."""

    def check(inputs: int, width: int) -> Finding:
        instance = two_layer(
            run,
            num_examples=num_examples,
            inputs=inputs,
            width=width,
            activation="tanh",
            key=(146, inputs, width),
        )
        at = point(instance)
        signals = on_host(instance.problem.score_signals(instance.theta, instance.x)[0])[:, 0, :]
        step = on_host(instance.step(gr.ngd(instance.problem, lr=1.0, structure="kfac", damping=0.0)))
        operator = _projector(instance.host[1]) * _projector(signals)
        factors = gr.kfac_factors(instance.host[1], signals[:, None, :])
        spectra = [np.linalg.eigvalsh(on_host(one)) for one in factors]
        conditions = [float(one[-1] / one[-min(len(one), num_examples)]) for one in spectra]

        def finding(count: int) -> Finding:
            return identity(
                at.jacobian @ step,
                -count * operator @ at.residual,
                **roundoff(run, condition=max(conditions), terms=width),
                detail=f"{instance.name}, {inputs} inputs",
            )

        return finding(num_examples).with_control(finding(1))

    return combine(check(*shape) for shape in shapes)


@claim(
    "layerwise-steps-add-up-in-function-space",
    statement="For L layers that each fit the labels alone, J delta = -eta r for the exact Fisher, -eta L "
    "r for the block-diagonal one, and -eta (n(L-1) + 1) r for K-FAC with one output: its last layer is "
    "exact.",
    source="our reconstruction; classical result (Karakida and Osawa 2020: step sizes 1, 1/L and 1/(nL))",
    kind="identity",
    params={"num_examples": 4, "sizes": [6, 8, 8, 1]},
)
def layers_add_up(run: Run, num_examples: int, sizes: list[int]) -> Finding:
    """Fails if a layer's step is not the least-squares one. Controls: L + 1 layers; of K-FAC, n L.

    Undamped; every layer has at least n inputs and, but the last, n units.
    """
    instance = synthetic(run, "gaussian", sizes, num_examples=num_examples, key=(147,), variance=1.0)
    at = point(instance)
    L, n = len(sizes) - 1, num_examples
    blocks = [at.jacobian[:, part] for part in instance.layer_slices]
    condition = max(float(np.linalg.cond(block)) ** 2 for block in blocks)
    signals = instance.problem.score_signals(instance.theta, instance.x)
    inputs = instance.problem.activations(instance.theta, instance.x)
    pairs = [
        float(np.linalg.cond(on_host(rows).reshape(n, -1))) ** 2
        for rows in (*inputs, *(one for one in signals[:-1]))
    ]

    def check(structure: str, factor: int, planted: int, cond: float) -> Finding:
        step = on_host(instance.step(gr.ngd(instance.problem, lr=1.0, structure=structure, damping=0.0)))

        def finding(count: int) -> Finding:
            return identity(
                at.jacobian @ step,
                -count * at.residual,
                **roundoff(run, condition=cond, terms=n),
                detail=f"{instance.name}, {structure}",
            )

        return finding(factor).with_control(finding(planted))

    return combine(
        [
            check("full", 1, 2, condition),
            check("block_diagonal", L, L + 1, condition),
            check("kfac", n * (L - 1) + 1, n * L, max(pairs)),
        ]
    )
