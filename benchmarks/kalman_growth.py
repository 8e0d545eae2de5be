"""How the cost of a Kalman step grows with the number of parameters, and what a belief holds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import grng_ref as gr

ROWS = 10
# name -> (parameters, the prior belief, options of the update)
SWEEPS: dict[str, tuple[tuple[int, ...], Callable[[np.ndarray], Any], dict[str, float]]] = {
    "diagonal, covariance": (
        (10**4, 10**5, 10**6),
        lambda mean: gr.diagonal_belief(mean, prior_variance=1.0),
        {},
    ),
    "diagonal, precision": (
        (10**4, 10**5, 10**6),
        lambda mean: gr.diagonal_belief(mean, prior_variance=1.0, projection="precision"),
        {},
    ),
    "low rank, 16": (
        (10**4, 10**5, 10**6),
        lambda mean: gr.low_rank_belief(mean, prior_variance=1.0, rank=16),
        {},
    ),
    "full, rho = 0": ((600, 1200, 2400), lambda mean: gr.full_belief(mean, prior_variance=1.0), {}),
    "full, rho > 0": (
        (600, 1200, 2400),
        lambda mean: gr.full_belief(mean, prior_variance=1.0),
        {"rho": 1.0},
    ),
}


def held(belief: Any) -> int:
    """Bytes that a belief keeps alive: of its arrays, or of the larger ones that they are views of."""
    owners = {}
    for field in dataclasses.fields(belief):
        array = getattr(belief, field.name)
        while isinstance(getattr(array, "base", None), np.ndarray):
            array = array.base
        if isinstance(array, np.ndarray):
            owners[id(array)] = array.nbytes
    return sum(owners.values())


def print_growth() -> None:
    """Milliseconds (minimum of five) of one update with 10 rows, fitted exponents, and the arrays held."""
    print(f"one update with {ROWS} rows; minimum of five, in ms; held: in arrays of P (or P x P) float64\n")
    for name, (sizes, prior, options) in SWEEPS.items():
        times, kept = [], 0.0
        for size in sizes:
            rng = np.random.default_rng(0)
            mean, B = np.zeros(size), rng.standard_normal((ROWS, size)) / size**0.5
            c = rng.standard_normal(ROWS)
            arguments: dict[str, Any] = {"num_examples": 1, "coefficients": c, **options}
            before = gr.kalman_update(mean, prior(mean), B, B.T @ c, num_examples=1, coefficients=c).belief
            runs = []
            for _ in range(5):
                start = time.perf_counter()
                after = gr.kalman_update(mean, before, B, B.T @ c, **arguments).belief
                runs.append(1e3 * (time.perf_counter() - start))
            times.append(min(runs))
            kept = held(after) / 8 / (size * size if name.startswith("full") else size)
        exponent = np.polyfit(np.log(sizes), np.log(times), 1)[0]
        shown = ", ".join(f"P = {size}: {t:.2f}" for size, t in zip(sizes, times, strict=True))
        print(f"{name:22s}{shown}; exponent {exponent:.2f}; held {kept:.2f}")
    for form in ("square_root_information", "square_root_covariance", "covariance", "information", "joseph"):
        belief = gr.full_belief(np.zeros(300), prior_variance=1.0, form=form)
        moved = belief.predict(noise=0.1)
        told = moved.update(np.ones((ROWS, 300)), np.ones(300))[0]
        sizes_held = [held(one) / 8 / 300**2 for one in (belief, moved, told)]
        print(f"{form:26s}held: prior {sizes_held[0]:.2f}, with noise {sizes_held[1]:.2f}, ", end="")
        print(f"updated {sizes_held[2]:.2f} arrays of P x P")
