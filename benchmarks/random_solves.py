"""Every structure's solves on random problems, judged again: ``python benchmarks/random_solves.py``.

A problem is a batch of layer factors. In every layer the K-FAC factors have a product of condition
numbers up to 1e12 in float64 and 1e6 in float32 (on their ranges; about half of the problems have
fewer score rows than parameters). The damping is 0 to 1 times ``|C|_F``. The right-hand side is
inside the row space (with or without its coefficients), nearly inside, or anywhere. Every structure
solves by every damping kind and method it has. For an answer with the status "converged" the scaled
residual is computed again in extended precision, from a dense operator that is put together here,
by the definition of `grng_ref.solvers.SolveResult`. Above 30 the answer is *dishonest*. So is one
to a right-hand side clearly outside the range at zero damping.

First, on a few problems, solvers that lie: the answers of one are off by a scaled residual of about 100, and
what is outside the range the other one calls converged. The first must always be flagged, the second mostly.

Prints a table in Markdown. Exit status: 0 no answer is dishonest, 1 one is (each is printed with
the number of its problem) or a lie was missed, 2 wrong use.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import threadpoolctl

from grng_ref.curvature import STRUCTURES, Curvature, curvature, solve
from grng_ref.solvers import ACCEPTED_RESIDUAL, SolveResult

Host = np.ndarray
Wide = np.longdouble
DECADES = {"float64": 12.0, "float32": 6.0}  # of condition numbers
FAILURES = ("inaccurate", "stagnated", "not_positive_definite", "outside_range", "not_finite")
Place = tuple[str, str, str, str]
"""Structure, damping kind, method, dtype."""
CHUNK = 50  # problems that a worker takes at a time
LIES = 10  # problems in each dtype on which a solver lies


# --- problems -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Layer inputs (N, d_in) and score signals (N, K', d_out), rounded to the dtype; the other draws."""

    activations: tuple[Host, ...]
    signals: tuple[Host, ...]
    v: Host
    coefficients: Host | None
    relative_damping: float


def random_problem(number: int, dtype: str) -> Problem:
    """The problem of this number: layers, conditions, damping and right-hand side at random."""
    rng = np.random.default_rng([number, int(dtype[5:])])
    columns, layers = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    widths = [(int(rng.integers(1, 6)), int(rng.integers(1, 5))) for _ in range(layers)]
    size = sum(inputs * outputs for inputs, outputs in widths)
    rows = int(size * rng.uniform(0.2, 2.0))
    n = max(1, rows // columns)
    activations, signals = [], []
    for inputs, outputs in widths:
        # Decades of the condition number of G kron A; its factors are squares.
        decades, share = rng.uniform(0.0, DECADES[dtype]), rng.uniform()
        activations.append(_conditioned(rng, n, inputs, 0.5 * decades * share))
        flat = _conditioned(rng, n * columns, outputs, 0.5 * decades * (1.0 - share))
        signals.append(flat.reshape(n, columns, outputs))
    activations, signals = [a.astype(dtype) for a in activations], [d.astype(dtype) for d in signals]
    B = score_rows(activations, signals).astype(dtype)
    c = rng.standard_normal(len(B)).astype(dtype)
    v, noise = B.T @ c, rng.standard_normal(size).astype(dtype)
    kind = rng.choice(["coefficients given", "inside", "nearly inside", "anywhere"])
    if kind == "nearly inside":
        v = v + np.asarray(1e-6 * np.linalg.norm(v), dtype) * noise
    elif kind == "anywhere":
        v = noise
    least = -16.0 if dtype == "float64" else -8.0
    relative = (0.0, 1.0, float(10.0 ** rng.uniform(least, 0.0)))[int(rng.choice(3, p=[0.15, 0.05, 0.8]))]
    given = c if kind == "coefficients given" else None
    return Problem(tuple(activations), tuple(signals), v, given, relative)


def _conditioned(rng: np.random.Generator, rows: int, columns: int, decades: float) -> Host:
    """A random matrix with singular values over so many decades, the largest 1 times ``sqrt(rows)``."""
    left, _, right = np.linalg.svd(rng.standard_normal((rows, columns)), full_matrices=False)
    values = 10.0 ** -(decades * np.sort(rng.uniform(0.0, 1.0, left.shape[1])))
    values[0], values[-1] = 1.0, 10.0**-decades
    return math.sqrt(rows) * (left * rng.permutation(values)) @ right


# --- the operators, dense, from their definitions -----------------------------------------------------------


def score_rows(activations: list[Host] | tuple[Host, ...], signals: list[Host] | tuple[Host, ...]) -> Host:
    """B (N K', P): the row of (n, k) is ``D_nk kron abar_n / sqrt(N)``, layer after layer."""
    n, columns = signals[0].shape[:2]
    blocks = [
        (d.astype(Wide)[:, :, :, None] * a.astype(Wide)[:, None, None, :]).reshape(n * columns, -1)
        for a, d in zip(activations, signals, strict=True)
    ]
    return np.concatenate(blocks, axis=1) / np.sqrt(Wide(n))


def dense_operator(name: str, built: Curvature, problem: Problem, kind: str, damping: float) -> Host:
    """The damped operator (P, P)."""
    if name == "tridiagonal_kfac":
        return _tridiagonal(built, damping)
    if kind == "factored":
        return _diagonal_blocks([np.kron(G, A) for A, G in _damped(built.factors, damping)])
    undamped = _diagonal_blocks([functools.reduce(np.kron, one) for one in blocks(name, built, problem)])
    return undamped + Wide(damping) * np.eye(built.shape[0], dtype=Wide)


def blocks(name: str, built: Curvature, problem: Problem) -> list[tuple[Host, ...]]:
    """The diagonal blocks of the undamped operator, each as the factors of a Kronecker product."""
    if name in ("kfac", "kronecker_optimal"):  # of the factors as stored
        return [(G.astype(Wide), A.astype(Wide)) for A, G in built.factors]
    if name == "ekfac":
        return [(_in_basis(one),) for one in built.layers]
    B = score_rows(problem.activations, problem.signals)
    sizes = [(a.shape[1], d.shape[2]) for a, d in zip(problem.activations, problem.signals, strict=True)]
    counts = {
        "full": [B.shape[1]],
        "block_diagonal": [inputs * outputs for inputs, outputs in sizes],
        "unitwise": [inputs for inputs, outputs in sizes for _ in range(outputs)],
        "diagonal": [1] * B.shape[1],
    }[name]
    stops = list(itertools.accumulate(counts))
    parts = [B[:, stop - size : stop] for size, stop in zip(counts, stops, strict=True)]
    return [(part.T @ part,) for part in parts]


def _in_basis(layer) -> Host:
    basis = np.kron(layer.g_basis.astype(Wide), layer.a_basis.astype(Wide))
    return (basis * layer.moments.astype(Wide).ravel()) @ basis.T


def _damped(factors, damping: float) -> list[tuple[Host, Host]]:
    """``A + pi sqrt(a) I`` and ``G + sqrt(a)/pi I``, ``pi^2 = (tr A/dim A)/(tr G/dim G)``."""
    pairs = []
    for A, G in ((A.astype(Wide), G.astype(Wide)) for A, G in factors):
        mean_a, mean_g = np.trace(A) / len(A), np.trace(G) / len(G)
        pi, root = np.sqrt(mean_a / mean_g), np.sqrt(Wide(damping))
        pairs.append((A + pi * root * np.eye(len(A)), G + root / pi * np.eye(len(G))))
    return pairs


def _diagonal_blocks(blocks: list[Host]) -> Host:
    matrix = np.zeros((sum(map(len, blocks)),) * 2, dtype=Wide)
    start = 0
    for block in blocks:
        stop = start + len(block)
        matrix[start:stop, start:stop] = block
        start = stop
    return matrix


def _tridiagonal(built: Curvature, damping: float) -> Host:
    """Blocks ``F_ll``, ``F_{l,l+1}`` as they are; beyond them ``F_ij = Psi_i F_{i+1,j}`` (a Markov chain).

    Exact from the damped factors on: the inverses may have condition numbers beyond extended precision.
    """
    factors = [(_exact(A), _exact(G)) for A, G in _damped(built.factors, damping)]
    cross = [(_exact(A), _exact(G)) for A, G in built.neighbours]
    count = len(factors)
    pairs = {(i, i): factors[i] for i in range(count)} | {(i, i + 1): cross[i] for i in range(count - 1)}
    for gap in range(2, count):
        for i in range(count - gap):
            transitions = (X @ _inverse(M) for X, M in zip(cross[i], factors[i + 1], strict=True))
            following = pairs[i + 1, i + gap]
            pairs[i, i + gap] = tuple(T @ F for T, F in zip(transitions, following, strict=True))
    blocks = {place: np.kron(_rounded(G), _rounded(A)) for place, (A, G) in pairs.items()}
    rows = [[blocks[i, j] if i <= j else blocks[j, i].T for j in range(count)] for i in range(count)]
    return np.block(rows)


def _exact(matrix: Host) -> Host:
    """The entries as fractions."""
    return np.array([[Fraction(*entry.as_integer_ratio()) for entry in row] for row in matrix], dtype=object)


def _rounded(matrix: Host) -> Host:
    """Fractions in extended precision, from two doubles each."""
    high = matrix.astype(np.float64)
    return high.astype(Wide) + (matrix - _exact(high)).astype(np.float64).astype(Wide)


def _inverse(matrix: Host) -> Host:
    """The inverse by Gauss-Jordan elimination, of a positive definite matrix of fractions."""
    unit = np.array([[Fraction(int(i == j)) for j in range(len(matrix))] for i in range(len(matrix))])
    work = np.concatenate([matrix, unit], axis=1)
    for k in range(len(matrix)):
        work[k] = work[k] / work[k, k]
        others = np.arange(len(matrix)) != k
        work[others] = work[others] - work[others, k, None] * work[k]
    return work[:, len(matrix) :]


# --- judgement ----------------------------------------------------------------------------------------------


def length(array: Host) -> Wide:
    return np.sqrt(np.sum(array.astype(Wide) ** 2))


def independent_residual(operator: Host, operator_norm: Wide, problem: Problem, x: Host) -> float:
    """``|v - M x| / ((operator_norm |x| + |B|_F |c|) n eps)``."""
    remainder = problem.v.astype(Wide) - operator @ x.astype(Wide)
    bottom = operator_norm * length(x)
    if problem.coefficients is not None:
        B = score_rows(problem.activations, problem.signals)
        bottom += length(B) * length(problem.coefficients)
    top = length(remainder)
    return 0.0 if top == 0.0 else float(top / (bottom * x.size * np.finfo(x.dtype).eps))


def clearly_outside(parts: list[tuple[Host, ...]], v: Host) -> bool:
    """Whether v has a thousandth of its length in the null space of blocks whose rank is beyond doubt.

    Each factor of a block has eigenvalues of its own size: small products of them are not zero.
    """
    null, start = 0.0, 0
    for factors in parts:
        spectra = [np.linalg.eigh(factor.astype(np.float64)) for factor in factors]
        relative = [values / (values[-1] or 1.0) for values, _ in spectra]
        if any(np.any((one >= 3e-15) & (one < 1e-13)) for one in relative):
            return False
        inside = functools.reduce(np.kron, [one >= 3e-15 for one in relative])
        basis = functools.reduce(np.kron, [vectors for _, vectors in spectra])
        part = v[start : start + len(basis)].astype(np.float64)
        null += float(np.sum((basis[:, ~inside].T @ part) ** 2))
        start += len(basis)
    return bool(np.sqrt(null) > 1e-3 * length(v))


Solver = Callable[..., SolveResult]


def lie_about_answer(built: Curvature, v: Host, **options) -> SolveResult:
    """Answers that are off by about 100 in the scaled residual."""
    result = solve(built, v, **options)
    top = np.ones_like(v)
    for _ in range(20):  # towards the eigenvector of the largest eigenvalue
        top = built @ (top / np.linalg.norm(top))
    size = np.linalg.norm(top)
    whole = np.linalg.norm(result.x) + np.linalg.norm(v) / size
    error = 100.0 * math.sqrt(v.size) * v.size * np.finfo(v.dtype).eps * whole
    return replace(result, x=result.x + np.asarray(error / size, v.dtype) * top)


def lie_about_range(built: Curvature, v: Host, **options) -> SolveResult:
    """What is outside the range called converged, and nothing else."""
    result = solve(built, v, **options)
    return replace(result, status="converged" if result.status == "outside_range" else "inaccurate")


def missed_lies() -> list[Verdict]:
    """The lies of a few problems that were not flagged.

    Most of those about the range must be; some solves refuse a right-hand side that is only doubtful.
    """
    answers = itertools.product(DECADES, range(LIES))
    told = [one for dtype, number in answers for one in verdicts(number, dtype, lie_about_answer)]
    missed = [one for one in told if one.status == "converged"]
    undamped = [
        (dtype, number)
        for dtype, number in itertools.product(DECADES, range(10 * LIES))
        if random_problem(number, dtype).relative_damping == 0.0
    ]
    told = [one for dtype, number in undamped for one in verdicts(number, dtype, lie_about_range)]
    told = [one for one in told if one.status in ("converged", "dishonest")]
    passed = [one for one in told if one.status == "converged"]
    return missed + (passed if 2 * len(passed) >= len(told) else [])


@dataclass(frozen=True)
class Verdict:
    """What became of one solve."""

    place: Place
    status: str
    residual: float
    number: int
    note: str = ""


def verdicts(number: int, dtype: str, solver: Solver = solve) -> Iterator[Verdict]:
    """All solves of one problem."""
    problem = random_problem(number, dtype)
    preconditioner = curvature(problem.activations, problem.signals, structure="kfac")
    for name in STRUCTURES:
        built = curvature(problem.activations, problem.signals, structure=name)
        size = float(length(built.to_dense()))
        damping = problem.relative_damping * size
        for kind, methods in built.solvers.items():
            operator = dense_operator(name, built, problem, kind, damping)
            operator_norm = length(operator)  # of factored damping; |C|_F + a of exact damping
            if kind == "exact":
                operator_norm = length(dense_operator(name, built, problem, kind, 0.0)) + Wide(damping)
            outside = damping == 0.0 and kind == "exact"
            outside = outside and clearly_outside(blocks(name, built, problem), problem.v)
            for method in ("auto", *methods, "cg with K-FAC"):
                helped = method == "cg with K-FAC"
                if helped and ("cg" not in methods or damping == 0.0):
                    continue
                result = solver(
                    built,
                    problem.v,
                    damping=damping,
                    damping_kind=kind,
                    method="cg" if helped else method,
                    coefficients=problem.coefficients,
                    preconditioner=preconditioner if helped else None,
                )
                place = (name, kind, method, dtype)
                if result.status != "converged":
                    yield Verdict(place, result.status, math.nan, number)
                    continue
                residual = independent_residual(operator, operator_norm, problem, result.x)
                right = residual <= ACCEPTED_RESIDUAL and bool(np.all(np.isfinite(result.x))) and not outside
                note = f"stated {result.residual:.3g}, relative damping {problem.relative_damping:.3g}"
                yield Verdict(place, "converged" if right else "dishonest", residual, number, note)


def chunk(start: int, stop: int, dtype: str) -> list[Verdict]:
    with threadpoolctl.threadpool_limits(1), np.errstate(all="ignore"):
        return [verdict for number in range(start, stop) for verdict in verdicts(number, dtype)]


def print_table(counts: dict[Place, Counter[str]], worst: dict[Place, float]) -> None:
    """One row for every structure, damping kind and method; both dtypes beside each other."""
    columns = ("converged", "worst", "failed", "dishonest")
    titles = [f"{dtype}: {columns[0]}" if i == 0 else columns[i] for dtype in DECADES for i in range(4)]
    print("| structure | damping | method | " + " | ".join(titles) + " |")
    print("|---" * 3 + "|---:|---:|---|---:" * 2 + "|")
    for kind in dict.fromkeys(place[:3] for place in counts):
        cells = list(kind)
        for dtype in DECADES:
            row = counts[(*kind, dtype)]
            failed = [f"{row[status]} {status}" for status in FAILURES if row[status]]
            residual = f"{worst.get((*kind, dtype), math.nan):.2g}"
            cells += [str(row["converged"]), residual, ", ".join(failed) or "0", str(row["dishonest"])]
        print("| " + " | ".join(cells) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problems", type=int, default=10_000, help="in all, half of them in each dtype")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with np.errstate(all="ignore"):
        missed = missed_lies()
    if missed:
        print(f"{len(missed)} lies were not flagged, the first: {missed[0]}")
        return 1
    each, started = options.problems // 2, time.perf_counter()
    tasks = [(start, min(start + CHUNK, each), dtype) for dtype in DECADES for start in range(0, each, CHUNK)]
    counts: dict[Place, Counter[str]] = {}
    worst: dict[Place, float] = {}
    with ProcessPoolExecutor(options.workers) as pool:
        for found in pool.map(chunk, *zip(*tasks, strict=True)):
            for one in found:
                counts.setdefault(one.place, Counter())[one.status] += 1
                if one.status in ("converged", "dishonest"):
                    worst[one.place] = max(worst.get(one.place, 0.0), one.residual)
                if one.status == "dishonest":
                    residual = f"residual {one.residual:.3g}, {one.note}"
                    print(f"dishonest: problem {one.number}, {one.place}: {residual}", flush=True)
    print_table(counts, worst)
    total = sum(counts.values(), Counter())
    print(f"\n{sum(total.values())} solves of {2 * each} problems in {time.perf_counter() - started:.0f} s:")
    print(", ".join(f"{total[status]} {status}" for status in ("converged", *FAILURES, "dishonest")))
    return 1 if total["dishonest"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
