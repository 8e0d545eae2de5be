"""Certificates over widths: from initialisation, after some steps of a run, and Zhang's Condition 2 for relu.

    python benchmarks/certificates.py --widths 64:8192 --refuted 64:65536
    python benchmarks/certificates.py --seeds 3 --etas 1,0.5 --rhos 0,1,10 --widths 64:1024

Inputs of dimension 2n and labels of length one. Every line of the three tables is a verdict with the number
that decided it; after a certificate the run goes on for five steps, whose largest measured / guaranteed
residual is the last column (residuals below 1e-12 are rounding and left out). Exit status 1 if a width of the
first table is not certified, a run is never certified or exceeds its guarantee, or a witness is missing.
Needs the extra "verify".
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Run
from proofs_check.certificates import Certificate, a_posteriori, kantorovich, zhang_condition_2
from proofs_check.convergence import two_layer
from proofs_check.data import Instance
from proofs_check.threads import one_blas_thread

INITIAL = (("tanh", 8, 4096), ("tanh", 16, 8192), ("softplus", 8, 1024), ("softplus", 16, 4096))


def main() -> int:
    """Run, print the tables, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", default="64:8192", help="of the runs; powers of two, first:last")
    parser.add_argument("--refuted", default="64:65536", help="of Condition 2")
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--etas", default="1")
    parser.add_argument("--rhos", default="0,1,10")
    parser.add_argument("--steps", type=int, default=60, help="at most so many before a certificate")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    good = True
    with one_blas_thread():
        for seed in range(options.seeds):
            print(f"seed {seed}")
            good &= _initial(seed)
            good &= _runs(seed, options)
            good &= _refuted(seed, options)
    return 0 if good else 1


def _start(seed: int, activation: str, num_examples: int, width: int) -> Instance:
    return two_layer(
        Run(seed=seed),
        num_examples=num_examples,
        width=width,
        activation=activation,
        key=(141, width),
    )


def _arguments(instance: Instance) -> tuple[Any, Any, Any, Any]:
    return instance.problem, instance.theta, instance.x, instance.y


def _widths(text: str) -> list[int]:
    first, last = (int(part) for part in text.split(":"))
    return [2**k for k in range(first.bit_length() - 1, last.bit_length()) if first <= 2**k <= last]


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _initial(seed: int) -> bool:
    print(f"{'from initialisation':22}{'n':>4}{'width':>8}{'verdict':>12}{'LJ|r|/s0^2':>22}{'seconds':>9}")
    good = True
    for activation, n, width in INITIAL:
        start = time.perf_counter()
        found = kantorovich(*_arguments(_start(seed, activation, n, width)))
        low, high = found.assumptions[0].bound.lower, found.assumptions[0].bound.upper
        sides = f"[{low:.4f}, {high:.4f}]"
        seconds = time.perf_counter() - start
        print(f"{activation:22}{n:4}{width:8}{found.verdict:>12}{sides:>22}{seconds:9.1f}", flush=True)
        good &= found.verdict == "certified"
    return good


def _runs(seed: int, options: argparse.Namespace) -> bool:
    head = ("activation", "width", "eta", "rho", "verdict", "theorem", "steps", "|r_k|", "ratio", "seconds")
    print("".join(f"{text:>12}" for text in head))
    good = True
    for activation in ("tanh", "softplus", "relu"):
        for width in _widths(options.widths):
            instance = _start(seed, activation, options.examples, width)
            for eta in _numbers(options.etas):
                for rho in _numbers(options.rhos):
                    row, kept = _run(instance, eta, rho, options.steps)
                    print("".join(f"{text:>12}" for text in (activation, width, eta, rho, *row)), flush=True)
                    good &= kept
    return good


def _run(instance: Instance, eta: float, rho: float, steps: int) -> tuple[list[str], bool]:
    start = time.perf_counter()
    optimizer = gr.ring(instance.problem, lr=eta, rho=rho)
    found = a_posteriori(instance.problem, optimizer, *_arguments(instance)[1:], steps=steps)
    seconds = time.perf_counter() - start
    if found.verdict != "certified":
        return [found.verdict, "", "", "", "", f"{seconds:.1f}"], False
    ratio = max(_ratios(instance, optimizer, found), default=math.nan)
    size = found.numbers["h"]
    row = [found.verdict, found.theorem, str(found.step), f"{size:.1e}", f"{ratio:.3f}", f"{seconds:.1f}"]
    return row, not ratio > 1.0 + 1e-3


def _ratios(instance: Instance, optimizer: gr.Optimizer, found: Certificate) -> Iterator[float]:
    """Measured over guaranteed residuals of five steps, where they are more than rounding."""
    theta, state = instance.run.asarray(found.theta), optimizer.init(instance.theta)
    for promised in found.guarantee(5)[1:]:
        theta, state, _ = optimizer.step(theta, state, instance.x, instance.y)
        r = instance.problem.outputs(theta, instance.x) - instance.y
        size = float(np.linalg.norm(gr.to_numpy(r)))
        if size > 1e-12:
            yield size / promised


def _refuted(seed: int, options: argparse.Namespace) -> bool:
    print(f"{'Condition 2, relu':22}{'width':>8}{'verdict':>12}{'C at least':>12}{'flips':>8}{'seconds':>9}")
    good = True
    for width in _widths(options.refuted):
        start = time.perf_counter()
        found = zhang_condition_2(*_arguments(_start(seed, "relu", options.examples, width)))
        witness = found.evidence[-1].bound.witness or {}
        moved, seconds = len(witness.get("neurons", ())), time.perf_counter() - start
        least = found.assumptions[0].bound.lower
        print(f"{'':22}{width:8}{found.verdict:>12}{least:12.3f}{moved:8}{seconds:9.1f}", flush=True)
        good &= found.verdict == "refuted"
    return good


if __name__ == "__main__":
    sys.exit(main())
