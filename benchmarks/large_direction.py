"""The exact natural-gradient direction of a large network: ``python benchmarks/large_direction.py``.

784-1000-200-10, about 10^6 parameters, 100 examples, float64, through the Gram form; the dense Fisher would
need 8 TB. Time and peak memory above the import; the scaled residual by a product with F that shares no code
with the solver's (``jvp``, the output Fisher, ``vjp``). Exit status: 0 within the targets, 1 not.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

import grng_ref as gr

SIZES, EXAMPLES, DAMPING = (784, 1000, 200, 10), 100, 1e-2
SECONDS, GIBIBYTES, RESIDUAL = 1.0, 0.5, 30.0


def peak() -> float:
    """Peak memory of this process in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> int:
    """Solve, check, print."""
    before = peak()
    rng = np.random.default_rng(0)
    problem = gr.Problem(gr.MLP(SIZES, activation="tanh"), gr.Categorical())
    theta = problem.init(rng)
    x, y = rng.standard_normal((EXAMPLES, SIZES[0])), rng.integers(0, SIZES[-1], EXAMPLES)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        at = problem.linearize(theta, x, y)
        F = gr.curvature(at.activations, at.signals)
        result = gr.solve(F, at.gradient, damping=DAMPING, coefficients=at.coefficients)
        times.append(time.perf_counter() - start)
    used = peak() - before

    d = result.x
    moved = problem.jvp(theta, x, d)  # J d
    Om = problem.likelihood.fisher(problem.outputs(theta, x))
    product = problem.vjp(theta, x, (Om @ moved[:, :, None])[:, :, 0]) / EXAMPLES
    size = np.linalg.norm(F.rows.gram()) + DAMPING  # |F|_F, that of the Gram matrix
    remainder = np.linalg.norm(at.gradient - product - DAMPING * d)
    relative = remainder / np.linalg.norm(at.gradient)
    scaled = remainder / (size * np.linalg.norm(d) * d.size * np.finfo(d.dtype).eps)
    print(f"P = {d.size}, N = {EXAMPLES}, method {result.method}")
    print(f"first and least of {len(times)} runs: {times[0]:.2f} s, {min(times):.2f} s")
    print(f"peak memory above the import: {used:.2f} GiB")
    print(f"|g - (F + a I) d| / |g| = {relative:.1e}, scaled residual {scaled:.1e}")
    met = result.success and times[0] < SECONDS and used < GIBIBYTES and scaled <= RESIDUAL
    print(f"targets: under {SECONDS} s and {GIBIBYTES} GiB: {'met' if met else 'NOT MET'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
