"""Properties of a curvature's solves and log determinants, and what it must refuse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import NumericalError
from ..curvature import Curvature, solve
from ..solvers import ACCEPTED_RESIDUAL, SolveResult
from .common import (
    Host,
    fail,
    host,
    norm,
    require,
    require_close,
    require_identical,
    require_raises,
    require_solves,
)
from .curvature_case import Batch, CurvatureCase, solver_options, typical_eigenvalue

# --- solves ----------------------------------------------------------------------------------------------


def _solve(
    built: Curvature, case: CurvatureCase, v: Host, damping: float, kind: str, method: str
) -> SolveResult:
    return solve(built, case.place.put(v), damping=damping, damping_kind=kind, method=method)


def _inverse(built: Curvature, case: CurvatureCase, damping: float, kind: str) -> Host:
    """The inverse of the damped operator, by solves with unit vectors."""
    columns = [_solve(built, case, e, damping, kind, "auto").x for e in np.eye(built.shape[0])]
    return np.stack([host(x) for x in columns], axis=1)


def solves_invert_the_damped_matrix(case: CurvatureCase) -> None:
    """Every method: scaled residual <= 30, status and fields."""
    for name, built, dense in case.matrices():
        for a in (0.03 * typical_eigenvalue(dense), 3.0 * typical_eigenvalue(dense)):
            for kind, method in solver_options(built):
                what = f"solve by {kind}, {method}, damping {a:.3g} ({name})"
                result = _solve(built, case, case.v, a, kind, method)
                named = result.method in built.solvers[kind] if method == "auto" else result.method == method
                require(named, f"{what} says that it ran {result.method!r}")
                require(result.status == "converged", f"{what} has status {result.status!r}")
                good = 0.0 <= result.residual <= ACCEPTED_RESIDUAL and result.iterations >= 0
                require(good, f"{what} states residual {result.residual:.3g}, {result.iterations} iterations")
                x = built.solve(case.place.put(case.v), damping=a, damping_kind=kind, method=method)
                require_identical(f"C.solve and solve(C) by {kind}, {method}", x, result.x)
                if kind == "exact":
                    require_solves(what, dense + a * np.eye(len(dense)), x, case.v, case.place)


def damping_is_added_once(case: CurvatureCase) -> None:
    """Two dampings a: ``C + a I`` is what solves invert."""
    for name, built, dense in case.matrices():
        if "exact" not in built.solvers:
            return
        for a in (0.3 * typical_eigenvalue(dense), 1.2 * typical_eigenvalue(dense)):
            operator = np.linalg.inv(_inverse(built, case, a, "exact"))
            added = float(np.trace(operator - dense)) / len(dense)
            condition = 1.0 + norm(dense) / a
            size = norm(dense) + a
            bound = case.place.rounding(size, terms=len(dense), condition=condition)
            require_close(
                f"solves with damping {a:.3g} add {added / a:.3g} times the damping ({name}): it",
                added,
                a,
                bound,
            )
            v = case.place.put(case.v)
            size_of_product = norm(dense) * norm(case.v)
            bound = case.place.rounding(size_of_product, terms=len(dense))
            require_close(f"C @ v after solves ({name})", host(built @ v), dense @ case.v, bound)


def null_space_is_kept(case: CurvatureCase) -> None:
    """``v / a`` for v in the null space."""
    # One example with a zero input: even a diagonal structure has a null space then.
    activations = tuple(np.concatenate([0.0 * a[:1, :1], a[:1, 1:]], axis=1) for a in case.small.activations)
    single = Batch(activations, tuple(d[:1] for d in case.small.signals))
    for name, batch in (("small batch", case.small), ("one example", single)):
        built, dense = case.build(batch), case.dense(batch)
        null = _null_vector(case, dense)
        if null is None or "exact" not in built.solvers:
            continue
        a = 0.1 * norm(dense)
        for method in ("auto", *built.solvers["exact"]):
            x = host(_solve(built, case, null, a, "exact", method).x)
            # null is one for C up to rounding; C is 10 a
            bound = case.place.rounding(1.0 / a, terms=len(dense), condition=11.0)
            kept = float(null @ x) * a
            require_close(
                f"solve by {method} of a null vector keeps {kept:.3g} of v / a ({name}): it",
                x,
                null / a,
                bound,
            )


def _null_vector(case: CurvatureCase, dense: Host) -> Host | None:
    values, vectors = np.linalg.eigh(dense)
    return vectors[:, 0] if values[0] <= case.place.rounding(values[-1]) else None


def factored_damping_is_that_of_the_factors(case: CurvatureCase) -> None:
    """``(G + sqrt(a)/pi I) kron (A + pi sqrt(a) I)``."""
    for name, built, dense in case.matrices():
        factors = getattr(built, "factors", None)
        # A structure with factored damping alone may couple its layers; its operator is its own.
        if factors is None or not {"exact", "factored"} <= set(built.solvers):
            return
        a = 0.3 * typical_eigenvalue(dense)
        damped = np.zeros_like(dense)
        start = 0
        for A, G in ((host(A), host(G)) for A, G in factors):
            pi = math.sqrt(np.trace(A) / len(A) / (np.trace(G) / len(G)))
            left = G + math.sqrt(a) / pi * np.eye(len(G))
            block = np.kron(left, A + pi * math.sqrt(a) * np.eye(len(A)))
            damped[start : start + len(block), start : start + len(block)] = block
            start += len(block)
        for method in ("auto", *built.solvers["factored"]):
            x = _solve(built, case, case.v, a, "factored", method).x
            require_solves(
                f"solve by factored, {method}, damping {a:.3g} ({name})", damped, x, case.v, case.place
            )


def methods_agree(case: CurvatureCase) -> None:
    """All methods of one damping kind."""
    for name, built, dense in case.matrices():
        a = 0.1 * typical_eigenvalue(dense)
        condition = 1.0 + norm(dense) / a
        for kind, methods in built.solvers.items():
            solutions = {m: host(_solve(built, case, case.v, a, kind, m).x) for m in methods}
            first = solutions[methods[0]]
            # both have a scaled residual of at most 30: n eps times it is their backward error
            error = 2 * ACCEPTED_RESIDUAL * len(dense) * case.place.eps * condition * norm(first)
            for method, x in solutions.items():
                require_close(f"solve by {kind}, {method} against {methods[0]} ({name})", x, first, error)


def coefficients_do_not_change_the_solution(case: CurvatureCase) -> None:
    """C with ``v = B^T c`` given; a structure of rows other than the batch's may refuse it (ValueError)."""
    for batch in (case.small, case.large):
        built, dense, B = case.build(batch), case.dense(batch), batch.rows()
        if "exact" not in built.solvers:
            return
        c = np.cos(np.arange(len(B)))
        v, a = B.T @ c, 0.1 * typical_eigenvalue(dense)
        damped = dense + a * np.eye(len(dense))
        for method in ("auto", *built.solvers["exact"]):
            try:
                x = built.solve(case.place.put(v), damping=a, method=method, coefficients=case.place.put(c))
            except ValueError:
                continue
            require_solves(f"solve by {method} with coefficients", damped, x, v, case.place)


def zero_damping_is_minimum_norm_or_an_error(case: CurvatureCase) -> None:
    """Never a wrong answer."""
    for name, built, dense in case.matrices():
        if "exact" not in built.solvers:
            return
        values, vectors = np.linalg.eigh(dense)
        kept = values > len(dense) * case.place.rounding(values[-1])
        condition = values[-1] / values[kept][0]
        inside = vectors[:, kept] @ (vectors[:, kept].T @ case.v)
        best = vectors[:, kept] @ ((vectors[:, kept].T @ case.v) / values[kept])
        for kind, method in solver_options(built):  # at 0 every kind of damping is none
            what = f"solve by {kind}, {method} at damping 0 ({name})"
            answer = _answer_or_refusal(what, built, case, inside, kind, method)
            if answer is not None:
                error = ACCEPTED_RESIDUAL * len(dense) * case.place.eps * condition * norm(best)
                require_close(f"{what}, against the minimum-norm solution,", answer, best, error)
            outside = norm(case.v - inside) > 1e-3 * norm(case.v)
            if outside and _answer_or_refusal(what, built, case, case.v, kind, method) is not None:
                fail(f"{what} gives an answer for a v outside the range, which has none")


def _answer_or_refusal(
    what: str, built: Curvature, case: CurvatureCase, v: Host, kind: str, method: str
) -> Host | None:
    """The solution; None for a NumericalError, which must carry the unsuccessful result."""
    try:
        return host(built.solve(case.place.put(v), damping=0.0, damping_kind=kind, method=method))
    except NumericalError as error:
        carried = isinstance(error.result, SolveResult) and not error.result.success
        require(carried, f"the NumericalError of {what} carries {error.result!r}, not the failed SolveResult")
        return None


def logdet_is_that_of_the_damped_matrix(case: CurvatureCase) -> None:
    """Every damping kind; a singular matrix is an error."""
    for name, built, dense in case.matrices():
        for kind in built.solvers:
            a = 0.3 * typical_eigenvalue(dense)
            if kind == "exact":
                expected = np.linalg.slogdet(dense + a * np.eye(len(dense)))[1]
            else:
                expected = -np.linalg.slogdet(_inverse(built, case, a, kind))[1]
            condition = 1.0 + norm(dense) / a  # of every eigenvalue, relative
            bound = case.place.rounding(float(len(dense)), terms=len(dense), condition=condition)
            value = built.logdet(damping=a, damping_kind=kind)
            require_close(f"logdet, {kind}, damping {a:.3g} ({name})", value, expected, bound)
            singular = np.linalg.eigvalsh(dense)[0] < case.place.rounding(typical_eigenvalue(dense))
            if singular and "exact" in built.solvers:  # factored damping of 0 is none, too
                what = f"logdet, {kind}, of a singular matrix at damping 0 ({name})"
                require_raises(what, NumericalError, built.logdet, damping=0.0, damping_kind=kind)


# --- bad arguments ---------------------------------------------------------------------------------------


def bad_arguments_are_refused(case: CurvatureCase) -> None:
    """Names, damping, shapes, dtypes, NaN."""
    built, v = case.build(case.large), case.place.put(case.v)
    kind, methods = next(iter(built.solvers.items()))

    def bad_solve(
        what: str, kinds: Any, mention: tuple[str, ...] = (), vector: Any = v, **options: Any
    ) -> None:
        options = {"damping": 1.0} | options
        require_raises(f"solve with {what}", kinds, built.solve, vector, mention=mention, **options)

    bad_solve("an unknown method", ValueError, methods, method="nonsense", damping_kind=kind)
    bad_solve("an unknown damping kind", ValueError, tuple(built.solvers), damping_kind="nonsense")
    for value in (-1.0, math.nan, math.inf):
        bad_solve(f"damping {value:g}", ValueError, ("damping",), damping=value)
        require_raises(f"logdet with damping {value:g}", ValueError, built.logdet, damping=value)
    broken = case.v.copy()
    broken[0] = math.nan
    bad_solve("a NaN in v", ValueError, ("v",), vector=case.place.put(broken))
    bad_solve("a short v", ValueError, ("v",), vector=v[1:])
    bad_solve("v as a list", TypeError, ("v",), vector=case.v.tolist())
    require_raises("C @ v with a short v", ValueError, built.__matmul__, v[1:])
    for wrong in case.place.wrong_dtypes(case.v):
        bad_solve(f"v of dtype {wrong.dtype}", TypeError, ("v",), vector=wrong)
        require_raises(f"C @ v with v of dtype {wrong.dtype}", TypeError, built.__matmul__, wrong)
    activations, signals = case.place.put((case.large.activations, case.large.signals))
    shorter = (signals[0], signals[1][1:, :, :])
    for what, pair in (("fewer examples in one layer", shorter), ("no signals of one layer", signals[:1])):
        require_raises(f"build with {what}", ValueError, case.structure.build, activations, pair)
