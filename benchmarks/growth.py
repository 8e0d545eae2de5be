"""Growth of time and memory with N, K, width and depth: ``python benchmarks/growth.py``.

Fitted exponents (least squares of the logarithms, minimum of five runs) beside those of the numbers of
operations and of entries held, fitted at the same sizes. Every task has sizes of its own, at which its
large products take most of the time. The counts leave out the fixed cost of a call and the higher speed of
larger products, which both lower the exponents of the time, and elementwise passes, slower than they count.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import grng_ref as gr

Sizes = tuple[int, int, int, int, int]
"""N, inputs, width, hidden layers, K."""

# task -> what grows -> the values, and the sizes for a value
SWEEPS: dict[str, dict[str, tuple[tuple[int, ...], Callable[[int], Sizes]]]] = {
    "exact Fisher": {
        "N": ((2048, 4096, 8192), lambda v: (v, 20, 24, 1, 4)),
        "K": ((16, 32, 64), lambda v: (1024, 20, 24, 1, v)),
        "width": ((32, 48, 72), lambda v: (512, v, v, 1, 4)),
        "depth": ((2, 4, 8), lambda v: (512, 24, 24, v, 4)),
    },
    "Gram direction": {
        "N": ((512, 1024, 2048), lambda v: (v, 20, 24, 1, 4)),
        "K": ((32, 64, 128), lambda v: (64, 20, 24, 1, v)),
        "width": ((256, 512, 1024), lambda v: (256, v, v, 1, 4)),
        "depth": ((2, 4, 8), lambda v: (256, 256, 256, v, 4)),
    },
    "K-FAC factors": {
        "N": ((8192, 16384, 32768), lambda v: (v, 64, 64, 1, 4)),
        "K": ((16, 32, 64), lambda v: (1024, 64, 64, 1, v)),
        "width": ((512, 1024, 2048), lambda v: (512, v, v, 1, 4)),
        "depth": ((2, 4, 8), lambda v: (1024, 128, 128, v, 4)),
    },
}


def counts(n: int, inputs: int, width: int, depth: int, k: int) -> dict[str, tuple[float, float]]:
    """Operations and entries of each task: leading terms in every one of the sizes."""
    sizes = (inputs, *[width] * depth, k)
    layers = [(a + 1, d) for a, d in pairwise(sizes)]
    parameters, rows = sum(a * d for a, d in layers), n * k
    forward = 2 * n * parameters
    backward = 2 * rows * sum(a * d for a, d in layers[1:])
    held = n * sum(a + k * d for a, d in layers) + rows * k
    outer = n * max(a**2 + d**2 for a, d in layers)
    independent = n * (k - 1)  # rows: those of a softmax, turned
    gram = sum(independent**2 * (d + 1) + n**2 * a for a, d in layers) + independent**3 / 3
    turned = rows * sum(d for _, d in layers)
    kfac = sum(2 * n * a**2 + 2 * rows * d**2 for a, d in layers)
    return {
        "exact Fisher": (n * parameters**2 + backward, parameters**2 + outer + held),
        # the gradient, the direction, and two products for its residual each pass once through the layers
        "Gram direction": (gram + backward + 5 * forward, independent**2 + held + turned + parameters),
        "K-FAC factors": (kfac + backward + forward, held + sum(a**2 + d**2 for a, d in layers)),
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
    print(f"{'':16s}{'':26s}{'time':>18s}{'memory':>18s}")
    print(f"{'task':16s}{'grows':26s}{'fitted':>9s}{'predict':>9s}{'fitted':>9s}{'predict':>9s}")
    for task, sweeps in SWEEPS.items():
        for sweep, (values, case) in sweeps.items():
            costs = [cost(calls(*case(v))[task]) for v in values]
            expected = [counts(*case(v))[task] for v in values]
            pairs = zip(zip(*costs, strict=True), zip(*expected, strict=True), strict=True)
            fits = [(exponent(values, list(found)), exponent(values, list(told))) for found, told in pairs]
            shown = "".join(f"{fit:9.2f}{predicted:9.2f}" for fit, predicted in fits)
            print(f"{task:16s}{sweep + ' ' + str(values):26s}{shown}", flush=True)


if __name__ == "__main__":
    main()
