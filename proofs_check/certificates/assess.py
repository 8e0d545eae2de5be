"""Every theorem of the package at once, for a user's own network and optimizer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from grng_ref import NumericalError, Optimizer, Problem
from grng_ref.arrays import Array

from .certificate import Certificate
from .runs import a_posteriori, read_optimizer
from .theorems import kantorovich, linear, unified
from .zhang import zhang_condition_1, zhang_condition_2

_STEPS = 30


class Assessment(tuple[Certificate, ...]):
    """Certificates, as a tuple; as text a table with a line each."""

    def __str__(self) -> str:
        head = ("theorem", "verdict", "margin", "because")
        lines = [
            (one.theorem + (f" after {one.step}" if one.step else ""), one.verdict, _margin(one), _why(one))
            for one in self
        ]
        widths = [max(len(row[k]) for row in [head, *lines]) for k in range(3)]
        rows = [head, (*("-" * width for width in widths), "-" * len(head[3])), *lines]
        return "\n".join(
            "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]])
            for row in rows
        )


def _margin(one: Certificate) -> str:
    return f"{one.margin:.3g}" if one.assumptions else ""


def _why(one: Certificate) -> str:
    worst = one.worst
    if worst is None:
        return one.detail
    return f"{worst.name}: [{worst.bound.lower:.3g}, {worst.bound.upper:.3g}]; {one.detail}"


def assess(
    problem: Problem, theta: Array, x: Array, y: Array, optimizer: Optimizer, *, steps: int = _STEPS
) -> Assessment:
    """What the convergence theorems say of a network, its data and an optimizer.

    Parameters
    ----------
    problem : gr.Problem
        Any; where no bound or theorem applies the verdict is undecided, with the reason.
    theta : array (P,)
    x, y : arrays
        The whole training set: the theorems are about full batches.
    optimizer : gr.Optimizer
    steps : int
        How many steps the certificate after a run may take.

    Returns
    -------
    Assessment
        A tuple of `Certificate`: both conditions of Zhang, Martens and Grosse, Kantorovich's majorant, the
        unified and the linear rate from this point, and the first certificate of a run. ``print`` shows a
        table.

    Raises
    ------
    TypeError, ValueError, BackendError
        As `kantorovich`.

    Notes
    -----
    A failure of the arithmetic (numbers out of range, a run that breaks down) is undecided.
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a gr.Problem, got {type(problem).__name__}")
    settings = read_optimizer(optimizer)
    found = [
        _tried("zhang-condition-1", lambda: zhang_condition_1(problem, theta, x, y)),
        _tried("zhang-condition-2", lambda: zhang_condition_2(problem, theta, x, y)),
    ]
    if isinstance(settings, str):
        found += [Certificate(name, (), settings) for name in ("kantorovich", "unified", "linear")]
        return Assessment(found)
    for theorem in (kantorovich, unified, linear):
        found.append(_tried(theorem.__name__, partial(theorem, problem, theta, x, y, *settings)))
    found.append(_tried("linear", lambda: a_posteriori(problem, optimizer, theta, x, y, steps=steps)))
    return Assessment(found)


def _tried(theorem: str, make: Callable[[], Certificate]) -> Certificate:
    try:
        return make()
    except NumericalError as error:
        return Certificate(theorem, (), f"the arithmetic failed: {error}")
