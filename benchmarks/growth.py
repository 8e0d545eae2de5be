"""Growth of time and memory with N, K, width and depth: ``python benchmarks/growth.py``.

Fitted exponents (least squares of the logarithms, minimum of five runs) beside those of the numbers of
operations and of entries held, fitted at the same sizes. The counts leave out the fixed cost of a call
and the higher speed of larger products, which both lower the exponents of the time.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import grng_ref as gr

# what grows -> the values, and (N, inputs, width, hidden layers, K) for a value
SWEEPS: dict[str, tuple[tuple[int, ...], Callable[[int], tuple[int, int, int, int, int]]]] = {
    "N": ((128, 256, 512), lambda v: (v, 20, 24, 1, 4)),
    "K": ((4, 8, 16), lambda v: (64, 20, 24, 1, v)),
    "width": ((24, 40, 64), lambda v: (64, v, v, 1, 4)),
    "depth": ((2, 4, 8), lambda v: (64, 16, 16, v, 4)),
}


def counts(n: int, inputs: int, width: int, depth: int, k: int) -> dict[str, tuple[float, float]]:
    """Leading operations and entries of each task."""
    sizes = (inputs, *[width] * depth, k)
    layers = [(a + 1, d) for a, d in pairwise(sizes)]
    parameters, rows = sum(a * d for a, d in layers), n * k
    signals = n * sum(a + k * d for a, d in layers)
    gram = sum(2 * rows**2 * (d + 1) + 2 * n**2 * a for a, d in layers) + rows**3 / 3
    kfac = sum(2 * n * a**2 + 2 * rows * d**2 for a, d in layers)
    return {
        "exact Fisher": (n * parameters**2, parameters**2),
        "Gram direction": (gram, rows**2),
        "K-FAC factors": (kfac, signals + sum(a**2 + d**2 for a, d in layers)),
    }


def calls(n: int, inputs: int, width: int, depth: int, k: int) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    problem = gr.Problem(gr.MLP((inputs, *[width] * depth, k), activation="tanh"), gr.Categorical())
    theta, x, y = problem.init(rng), rng.standard_normal((n, inputs)), rng.integers(0, k, n)

    def direction() -> Any:
        at = problem.linearize(theta, x, y)
        F = gr.curvature(at.activations, at.signals)
        return F.solve(at.gradient, damping=1e-2, method="gram", coefficients=at.coefficients)

    return {
        "exact Fisher": lambda: gr.fisher(problem, theta, x).to_dense(),
        "Gram direction": direction,
        "K-FAC factors": lambda: gr.fisher(problem, theta, x, structure="kfac"),
    }


def cost(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds (minimum of five), and bytes at the peak."""
    call()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    call()
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(times), float(memory)


def exponent(values: tuple[int, ...], costs: list[float]) -> float:
    """The slope of log cost over log value."""
    return float(np.polyfit(np.log(values), np.log(costs), 1)[0])


def main() -> None:
    """Measure and print the table."""
    print(f"{'':16s}{'':22s}{'time':>18s}{'memory':>18s}")
    print(f"{'task':16s}{'grows':22s}{'fitted':>9s}{'predict':>9s}{'fitted':>9s}{'predict':>9s}")
    for sweep, (values, case) in SWEEPS.items():
        costs = [{task: cost(call) for task, call in calls(*case(v)).items()} for v in values]
        expected = [counts(*case(v)) for v in values]
        for task in expected[0]:
            fits = [exponent(values, [c[task][i] for c in costs]) for i in (0, 1)]
            predicted = [exponent(values, [c[task][i] for c in expected]) for i in (0, 1)]
            shown = "".join(f"{fit:9.2f}{p:9.2f}" for fit, p in zip(fits, predicted, strict=True))
            print(f"{task:16s}{sweep + ' ' + str(values):22s}{shown}")


if __name__ == "__main__":
    main()
