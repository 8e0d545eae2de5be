"""The figures of docs/theory, and the numbers that its pages quote.

    python benchmarks/theory_figures.py                      # all, to docs/theory/figures; four minutes
    python benchmarks/theory_figures.py --only order,kernel --out DIR --quick

Every figure is computed by the package from fixed seeds, so the files do not change from run to run on one
machine. ``--quick`` takes fewer trials and narrower networks. Needs the extra "verify" and matplotlib.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.stats import linregress
from scipy.stats import t as student

import grng_ref as gr
from proofs_check import Run
from proofs_check.bounds import jacobian_lipschitz
from proofs_check.certificates import kantorovich
from proofs_check.convergence import path, point, two_layer, with_residual
from proofs_check.data import Instance, on_host
from proofs_check.filtering import linear_gaussian
from proofs_check.filters import random_trials, step_limit
from proofs_check.threads import one_blas_thread

# Okabe and Ito: for all colour visions
BLACK, BLUE, RED, GREEN, ORANGE = "#000000", "#0072B2", "#D55E00", "#009E73", "#E69F00"
STYLE = {"svg.hashsalt": "grng_ref", "font.size": 10, "axes.grid": True, "grid.color": "0.9"}
RUN = Run()


def _figure(height: float = 3.6) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, height), layout="constrained")
    return figure, figure.subplots()


def _exponent(sizes: Any, values: Any) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def sharpness(quick: bool) -> Figure:
    """What a step gains, over the eta q that is guaranteed: NGD and random filters."""
    trials = random_trials(np.random.default_rng(0), 2000 if quick else 40000, 3)
    ratio = (1 - trials.worst**2) / (trials.eta * trials.q)
    edges = np.linspace(0, 0.5, 26)
    middles, inside = (edges[1:] + edges[:-1]) / 2, np.digitize(trials.C, edges) - 1
    least, medians = (
        [float(f(ratio[inside == k])) for k in range(len(middles))] for f in (np.min, np.median)
    )
    C = np.linspace(0.01, 0.49, 49)
    eta = step_limit(C)
    attained = (1 - (1 - eta * (1 - C)) ** 2) / eta
    print(f"sharpness: least of {len(ratio)} random steps {min(least):.6f}, median {np.median(ratio):.3f}")
    print(f"sharpness: NGD along the least eigenvector, 1 up to {np.max(np.abs(attained - 1)):.0e}")
    figure, axes = _figure()
    axes.plot(middles, medians, "s", color=ORANGE, fillstyle="none", label="random filters: median")
    axes.plot(middles, least, "o", color=BLUE, fillstyle="none", label="the least of them")
    axes.plot(C, attained, color=BLACK, label="NGD, least eigenvector, largest step")
    axes.set(xlabel="C, change of the Jacobian", ylabel="measured / guaranteed decrease of |r|²")
    axes.set(ylim=(0.9, max(medians) + 0.1))
    axes.legend()
    return figure


def divergence(quick: bool) -> Figure:
    """One tanh unit from w = 1.2 at eta = 0.99: NGD swings outwards, RING at rho* descends."""
    given = two_layer(RUN, num_examples=1, inputs=1, width=1, activation="tanh", key=(124,))
    start = dataclasses.replace(given, theta=np.array([1.2]), x=np.ones((1, 1)), y=np.zeros((1, 1)))
    star = jacobian_lipschitz(start.problem, start.x).upper ** 2 / (4 * point(start).least ** 2)
    figure, axes = _figure()
    styles = ((0.0, 3, RED, "x"), (0.01, 3, ORANGE, "s"), (0.1, 4, GREEN, "^"), (1.0, 12, BLUE, "o"))
    for share, steps, colour, marker in styles:
        optimizer = gr.ring(start.problem, lr=0.99, rho=share * star)
        sizes = [one.size for one in path(start, optimizer, min(steps, 10) if quick else steps)]
        label = f"RING, ρ = {share:g} ρ*" if share else "NGD"
        axes.plot(sizes, marker=marker, color=colour, fillstyle="none", markersize=4, label=label)
        print(f"divergence: {label}: |r| from {sizes[0]:.3f} to {sizes[-1]:.3g} in {len(sizes) - 1} steps")
    axes.set(xlabel="step", ylabel="|r|")
    axes.legend()
    return figure


def reng_threshold(quick: bool) -> Figure:
    """|r+|/|r| of RENG along the top eigenvector, against eta over its threshold."""
    wide = two_layer(RUN, num_examples=4, inputs=8, width=64, activation="relu", key=(161,))
    values, basis = np.linalg.eigh(point(wide).gram)
    near = with_residual(wide, 1e-6 * basis[:, -1])  # no neuron flips
    shares = np.linspace(0.1, 1.4, 8 if quick else 27)
    figure, axes = _figure()
    for rho, colour, marker in ((0.0, BLACK, "o"), (1.0, BLUE, "s"), (10.0, RED, "x")):
        threshold = 2 / (1 + rho * values[-1] / 4)
        ratios = []
        for share in shares:
            sizes = [one.size for one in path(near, gr.reng(near.problem, lr=share * threshold, rho=rho), 1)]
            ratios.append(sizes[1] / sizes[0])
        label = f"ρ = {rho:g}, threshold η = {threshold:.3f}"
        axes.plot(shares, ratios, marker, color=colour, fillstyle="none", label=label)
        crossing = float(np.interp(1.0, ratios[len(shares) // 2 :], shares[len(shares) // 2 :]))
        print(f"reng: rho {rho:g}: threshold {threshold:.4f}, |r+| = |r| at {crossing:.4f} of it")
    axes.plot(shares, np.abs(1 - 2 * shares), color="0.6", zorder=0, label="|1 − 2 η/threshold|")
    axes.axhline(1, color="0.6", linestyle=":")
    axes.set(xlabel="η / (2/(1 + ρ top/n))", ylabel="|r+| / |r|")
    axes.legend()
    return figure


def wind_up(quick: bool) -> Figure:
    """The largest variance of R-Kalman on a repeated batch at phi = 0.7, and its cures."""
    instance = linear_gaussian(RUN, (4, 1), num_examples=3, key=77)
    cases: list[tuple[str, dict[str, Any], str, str]] = [
        ("no cure", {}, BLACK, "-"),
        ("gradient regularization, ρ = 1", {"rho": 1.0}, RED, "--"),
        ("information increment 0.1 a batch", {"information_increment": 0.1}, BLUE, "-"),
        ("prior-preserving forgetting", {"forgetting_kind": "prior"}, GREEN, "-."),
    ]
    figure, axes = _figure()
    for label, options, colour, line in cases:
        optimizer = gr.rkalman(instance.problem, prior_variance=1.0, forgetting=0.7, **options)
        theta, state, largest = instance.theta, optimizer.init(instance.theta), []
        for _ in range(10 if quick else 60):
            theta, state, _ = optimizer.step(theta, state, instance.x, instance.y)
            largest.append(float(np.linalg.eigvalsh(on_host(state.covariance()))[-1]))
        axes.semilogy(range(1, len(largest) + 1), largest, line, color=colour, label=label)
        print(f"wind-up: {label}: lmax(P) = {largest[-1]:.4g} after {len(largest)} batches")
    axes.set(xlabel="batches", ylabel="largest variance, prior 1")
    axes.legend()
    return figure


def _near_a_solution(starts: np.ndarray) -> list[Instance]:
    given = two_layer(RUN, num_examples=3, inputs=6, width=32, activation="tanh", key=(114,))
    fitted = dataclasses.replace(given, y=given.outputs())
    at = point(fitted)
    direction = np.linalg.svd(at.jacobian, full_matrices=False)[2][-1]
    across = np.random.default_rng(1).normal(size=direction.shape)
    direction = direction + across / np.linalg.norm(across)
    return [dataclasses.replace(fitted, theta=at.theta + h * direction) for h in starts]


def order(quick: bool) -> Figure:
    """|r| after a step at eta = 1 against |r| before it, near a solution."""
    instances = _near_a_solution(np.geomspace(1e-4, 1e-2, 5 if quick else 9))
    figure, axes = _figure()
    for label, rho, lam, colour, marker in (
        ("NGD", 0.0, 0.0, BLACK, "o"),
        ("RING, ρ = 10", 10.0, 0.0, BLUE, "s"),
        ("constant λ = 0.1", 0.0, 0.1, RED, "x"),
    ):
        pairs = []
        for one in instances:
            optimizer = gr.ring(one.problem, lr=1.0, rho=rho, damping=lam)
            pairs.append([at.size for at in path(one, optimizer, 1)])
        before, after = np.array(pairs).T
        slope = _exponent(before, after)
        text = f"{label}: exponent {slope:.2f}"
        axes.loglog(before, after, marker=marker, color=colour, fillstyle="none", label=text)
        print(f"order: {label}: exponent {slope:.3f}")
    axes.set(xlabel="|r| before the step", ylabel="|r| after it")
    axes.legend()
    return figure


def _start(activation: str, n: int, width: int, seed: int) -> Instance:
    run = Run(seed=seed)  # the same data at every width
    return two_layer(run, num_examples=n, width=width, activation=activation, key=(162,))


def _seems_certified(activation: str, n: int, width: int, seed: int) -> bool:
    at = _start(activation, n, width, seed)
    lipschitz, start = jacobian_lipschitz(at.problem, at.x).upper, point(at)
    return lipschitz * start.size <= 0.5 * start.least


def required_width(activation: str, n: int, seed: int) -> int | None:
    """A width that Kantorovich's majorant certifies where a narrower one by sqrt 2 is not certified.

    Bisection over powers of sqrt 2 in floats; the certificates decide, and None says that they disagree.
    """
    low, high = 4, 34  # of 2^(k/2)
    while high - low > 1:
        middle = (low + high) // 2
        good = _seems_certified(activation, n, round(2 ** (middle / 2)), seed)
        low, high = (low, middle) if good else (middle, high)
    verdicts = [
        kantorovich(at.problem, at.theta, at.x, at.y).verdict
        for at in (_start(activation, n, round(2 ** (k / 2)), seed) for k in (low, high))
    ]
    return round(2 ** (high / 2)) if verdicts[0] != "certified" == verdicts[1] else None


def _interval(sizes: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """The exponent of a fit with independent errors of one size in the logarithms, and its 95 % interval."""
    found = linregress(np.log(sizes), np.log(values))
    half = float(student.ppf(0.975, len(sizes) - 2) * found.stderr)
    return float(found.slope), float(found.slope) - half, float(found.slope) + half


def width(quick: bool) -> Figure:
    """Widths at which Kantorovich's majorant first certifies convergence from initialisation."""
    sizes = (4, 8) if quick else (4, 8, 16, 32)
    figure, axes = _figure()
    for activation, colour, marker in (("tanh", BLUE, "o"), ("softplus", RED, "s")):
        points = []
        for n in sizes:
            seeds = range(2 if quick else 12)
            points += [(n, found) for seed in seeds if (found := required_width(activation, n, seed))]
        n, found = np.array(points, dtype=float).T
        slope, low, high = _interval(n, found)
        print(f"width: {activation}: {[(int(a), int(b)) for a, b in points]}")
        print(f"width: {activation}: exponent {slope:.2f}, 95 % in [{low:.2f}, {high:.2f}]")
        text = f"{activation}: exponent {slope:.1f} [{low:.1f}, {high:.1f}]"
        axes.loglog(n, found, marker, color=colour, fillstyle="none", label=text)
        line = np.exp(np.polyval(np.polyfit(np.log(n), np.log(found), 1), np.log(sizes)))
        axes.loglog(sizes, line, color=colour, linewidth=0.8)
    axes.set(xlabel="examples n, inputs of dimension 2n", ylabel="width that is certified")
    axes.set_xticks(sizes, [str(n) for n in sizes])
    axes.minorticks_off()
    axes.legend()
    return figure


def kernel(quick: bool) -> Figure:
    """The distance of relu's Gram matrix from its infinite-width mean."""
    widths = [2**k for k in range(4, 8 if quick else 14)]
    networks, distances = 10 if quick else 60, []
    for m in widths:
        squares = []
        for number in range(networks):
            one = two_layer(RUN, num_examples=5, inputs=4, width=m, activation="relu", key=(152, m, number))
            cosines = np.clip(one.host[1] @ one.host[1].T, -1.0, 1.0)
            limit = cosines * (math.pi - np.arccos(cosines)) / (2 * math.pi)
            squares.append(np.sum((point(one).gram - limit) ** 2))
        distances.append(float(np.mean(squares)) ** 0.5)
    slope = _exponent(widths, distances)
    print(f"kernel: exponent {slope:.3f} over widths {widths[0]} to {widths[-1]}, {networks} networks each")
    figure, axes = _figure()
    axes.loglog(widths, distances, "o", color=BLUE, fillstyle="none", label=f"measured: exponent {slope:.3f}")
    line = distances[0] * (np.array(widths) / widths[0]) ** -0.5
    axes.loglog(widths, line, color="0.5", label="exponent −1/2")
    axes.set(xlabel="width m", ylabel="root mean square of |JJᵀ − limit|")
    axes.legend()
    return figure


FIGURES: dict[str, Callable[[bool], Figure]] = {
    "sharpness": sharpness,
    "divergence": divergence,
    "reng_threshold": reng_threshold,
    "wind_up": wind_up,
    "order": order,
    "width": width,
    "kernel": kernel,
}


def main(arguments: list[str] | None = None) -> int:
    """Make the figures, print their numbers, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path(__file__).parents[1] / "docs" / "theory" / "figures"
    parser.add_argument("--out", type=Path, default=folder)
    parser.add_argument("--only", default=",".join(FIGURES), help="names with commas between")
    parser.add_argument("--format", default="svg", choices=("svg", "png"))
    parser.add_argument("--quick", action="store_true", help="fewer trials, narrower networks")
    options = parser.parse_args(arguments)
    names = options.only.split(",")
    if unknown := set(names) - set(FIGURES):
        parser.error(f"--only must be among {', '.join(FIGURES)}; got {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None} if options.format == "svg" else None
    with one_blas_thread(), rc_context(STYLE):
        for name in names:
            figure = FIGURES[name](options.quick)
            figure.savefig(options.out / f"{name}.{options.format}", dpi=110, metadata=metadata)
    return 0


if __name__ == "__main__":
    sys.exit(main())
