"""Every solver on matrices with prescribed spectra: an answer is right, or it is not called one.

The scaled residual of each answer is computed again in 60 digits from the stored floats, by code that shares
nothing with the solvers.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace

import mpmath
import numpy as np
import pytest

import grng_ref as gr
from grng_ref.curvature import DenseRows, raise_on_failure
from grng_ref.solvers import (
    ACCEPTED_RESIDUAL,
    SolveResult,
    solve_cholesky,
    solve_eigenbasis,
    solve_gram,
    solve_newton_schulz,
)

DIGITS = 60
SIZE = 6
# The solver forms its remainder in working precision: (m + P) eps |B|_F^2 |x| of rounding for B^T (B x), with
# |B|_F^2 = tr F <= sqrt(P) |F|_F and at most as many rows as columns, is 2 sqrt(P) = 5 scaled units.
ROUNDING_OF_THE_REMAINDER = 5.0
METHODS = ("cholesky", "eigh", "newton_schulz", "gram", "gram with coefficients")
FAILURES = {"inaccurate", "not_positive_definite", "outside_range", "stagnated", "not_finite"}
SPECTRA = {
    **{f"geometric 1e{k}": np.logspace(0, -k, SIZE) for k in (0, 2, 4, 6, 8, 10, 12, 14)},
    "one small 1e-8": np.array([1, 1, 1, 1, 1, 1e-8]),
    "one small 1e-15": np.array([1, 1, 1, 1, 1, 1e-15]),
    "one large 1e12": np.array([1, 1e-12, 1e-12, 1e-12, 1e-12, 1e-12]),
    "rank 3": np.array([1, 0.5, 0.1, 0, 0, 0]),
    "rank 1": np.array([1.0, 0, 0, 0, 0, 0]),
    "rank 4, small 1e-9": np.array([1, 1, 1e-9, 1e-9, 0, 0]),
}
SIDES = ("in range", "nearly in range", "random", "smallest eigenvector")
DAMPINGS = (0.0, 1e-16, 1e-14, 1e-12, 1e-8, 1e-4, 1.0)  # relative to |F|


@dataclass(frozen=True)
class System:
    """One row of the table: score rows B, the dense F = fl(B^T B), a right-hand side, a damping."""

    rows: np.ndarray
    matrix: np.ndarray
    v: np.ndarray
    coefficients: np.ndarray | None
    damping: float


def systems(spectrum: np.ndarray, scale: float, dtype: str):
    """Systems with the spectrum times ``scale``; right-hand sides with solutions of any size."""
    rng = np.random.default_rng(0)
    left = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    right = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    rows = ((left * np.sqrt(scale * spectrum)) @ right.T).astype(dtype)
    matrix = rows.T @ rows
    c = rng.standard_normal(SIZE).astype(dtype)
    inside = rows.T @ c
    noise = rng.standard_normal(SIZE) * np.linalg.norm(inside.astype(float)) / SIZE**0.5
    sides = {
        "in range": (inside, c),
        "nearly in range": ((inside + 1e-6 * noise).astype(dtype), None),
        "random": (noise.astype(dtype), None),
        "smallest eigenvector": (right[:, -1].astype(dtype), None),
    }
    size = float(np.linalg.norm((scale * spectrum).astype(float)))
    for (v, coefficients), relative in itertools.product(sides.values(), DAMPINGS):
        yield System(rows, matrix, v, coefficients, relative * size)


def answer(method: str, system: System) -> SolveResult:
    if method.startswith("gram"):
        c = system.coefficients if method == "gram with coefficients" else None
        return solve_gram(DenseRows(system.rows), system.v, damping=system.damping, coefficients=c)
    solver = {"cholesky": solve_cholesky, "eigh": solve_eigenbasis, "newton_schulz": solve_newton_schulz}
    return solver[method](system.matrix, system.v, damping=system.damping)


def exact_residual(method: str, system: System, x: np.ndarray) -> float:
    """``|v - (F + a I) x| / (((|F|_F + a) |x| + |B|_F |c|) n eps)`` from the stored floats.

    F = B^T B for the Gram form; the term with c where the method is given c.
    """
    with mpmath.workdps(DIGITS):
        point = [mpmath.mpf(float(value)) for value in x]
        source = system.rows if method.startswith("gram") else system.matrix
        table = [[mpmath.mpf(float(value)) for value in row] for row in source]
        if method.startswith("gram"):
            columns = list(zip(*table, strict=True))
            table = [[mpmath.fdot(a, b) for b in columns] for a in columns]
        a = mpmath.mpf(system.damping)
        images = [mpmath.fdot(row, point) + a * value for row, value in zip(table, point, strict=True)]
        remainder = [mpmath.mpf(float(want)) - got for want, got in zip(system.v, images, strict=True)]
        top = mpmath.norm(remainder)
        matrix_norm = mpmath.norm([entry for row in table for entry in row])
        eps = float(np.finfo(system.v.dtype).eps)
        bottom = (matrix_norm + a) * mpmath.norm(point)
        if method == "gram with coefficients":
            bottom += mpmath.norm([float(b) for b in system.rows.ravel()]) * mpmath.norm(
                [float(c) for c in system.coefficients]
            )
        bottom *= len(point) * eps
        return 0.0 if top == 0 else float(top / bottom) if bottom else float("inf")


def check(method: str, system: System, result: SolveResult) -> str:
    """The status, after the check that it is honest."""
    if result.status == "converged":
        residual = exact_residual(method, system, result.x)
        assert residual <= ACCEPTED_RESIDUAL + ROUNDING_OF_THE_REMAINDER, (method, system, residual)
        assert abs(residual - result.residual) <= ROUNDING_OF_THE_REMAINDER, (method, residual, result)
    else:
        assert result.status in FAILURES
        assert not result.success
        with pytest.raises(gr.NumericalError, match=result.status) as error:
            raise_on_failure(result, system.damping)
        assert error.value.result is result
    return result.status


def must_converge(method: str, name: str, side: str, relative: float, dtype: str) -> bool:
    """Where the promise of the method holds, with room for the sizes of these systems."""
    eps, least = float(np.finfo(dtype).eps), float(SPECTRA[name].min())
    clear = least == 0.0 or least > 1e3 * eps  # the rank is beyond doubt
    if relative == 0.0:
        minimum_norm = method in ("eigh", "gram with coefficients") and side == "in range"
        regular = least > 0.0 and method in ("eigh", "cholesky")
        return clear and (minimum_norm or regular)
    if method.startswith("gram"):
        # A damping below the roundoff n eps |F| of B B^T leaves Cholesky no digit of a damped small
        # eigenvalue; the eigenbasis then answers if it is clear which eigenvalues are zero. One in doubt is
        # kept or dropped, and wrong by its own size: which, and whether three refinements mend it, depends
        # on the order in which the BLAS at hand sums. Failing there is honest.
        return relative >= SIZE * eps or (clear and relative >= 0.4 * eps)
    condition = (1.0 + relative) / (least + relative)
    if method == "newton_schulz":  # a symmetric X, spread-out eigenvalues: up to about 1/sqrt(eps)
        return condition < 0.05 / eps**0.5
    return condition < 0.05 / eps


def expected_failure(method: str, name: str, side: str, relative: float) -> set[str]:
    """Systems without an answer: a singular matrix at zero damping."""
    singular = float(SPECTRA[name].min()) == 0.0
    if relative == 0.0 and singular and method == "cholesky":
        return {"not_positive_definite"}
    if relative == 0.0 and singular and side == "random" and method in ("eigh", "gram"):
        return {"outside_range"}
    return set()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "dtype, scale",
    [
        ("float64", 1e-30),
        ("float64", 1.0),
        ("float64", 1e30),
        ("float32", 1e-12),
        ("float32", 1.0),
        ("float32", 1000000000000.0),
    ],
)
def test_an_answer_is_right_or_not_called_one(method: str, dtype: str, scale: float):
    counts: Counter[str] = Counter()
    for name, spectrum in SPECTRA.items():
        labels = itertools.product(SIDES, DAMPINGS)
        for (side, relative), system in zip(labels, systems(spectrum, scale, dtype), strict=True):
            if method == "gram with coefficients" and system.coefficients is None:
                continue
            # a division by a tiny damping may overflow float32; what counts is that the status says so
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                status = check(method, system, answer(method, system))
            counts[status] += 1
            place = (name, side, relative, status)
            wanted = expected_failure(method, name, side, relative)
            if wanted:
                assert status in wanted, place
            elif must_converge(method, name, side, relative, dtype):
                assert status == "converged", place
    assert counts["converged"] > 0
    if method != "gram with coefficients":  # given c, the Gram form solves nearly everything
        assert sum(counts.values()) > counts["converged"]  # the table is adversarial indeed


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_answer_that_claims_to_have_converged_is_caught(method: str):
    """Negative control: one entry off by a relative 1e-12; and an answer for twice the damping."""
    system = list(systems(SPECTRA["geometric 1e2"], 1.0, "float64"))[DAMPINGS.index(1e-4)]
    good = answer(method, system)
    assert check(method, system, good) == "converged"
    wrong = good.x.copy()
    wrong[0] *= 1.0 + 1e-12
    doubled = answer(method, replace(system, damping=2.0 * system.damping))
    for bad in (replace(good, x=wrong), doubled):
        with pytest.raises(AssertionError):
            check(method, system, bad)


def test_a_judge_that_accepts_too_much_is_caught(monkeypatch: pytest.MonkeyPatch):
    """Negative control of the table: the same solvers with a threshold of 1e12 for the scaled residual."""
    monkeypatch.setattr("grng_ref.solvers.result.ACCEPTED_RESIDUAL", 1e12)
    table = list(systems(SPECTRA["geometric 1e14"], 1.0, "float64"))
    results = [answer("newton_schulz", system) for system in table]
    wrong = [(s, r) for s, r in zip(table, results, strict=True) if r.success and r.residual > 1e3]
    assert wrong
    for system, result in wrong:
        with pytest.raises(AssertionError):
            check("newton_schulz", system, result)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_extreme_scales_of_matrix_and_side(scale: float):
    """No overflow or underflow in the judgement: |F| |x| may overflow where the residual does not."""
    spectrum = SPECTRA["geometric 1e4"]
    for system in systems(spectrum, scale, "float64"):
        big = replace(system, v=system.v * (1e140 if scale > 1 else 1e-140), coefficients=None)
        for method in METHODS[:4]:
            with np.errstate(all="ignore"):
                check(method, big, answer(method, big))
