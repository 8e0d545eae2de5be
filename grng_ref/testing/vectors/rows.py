"""A row of the table of cases, and the rows that go through activations and structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LIKELIHOODS = ("gaussian", "categorical", "bernoulli", "poisson")


@dataclass(frozen=True)
class Row:
    """One row of the table: what a case computes and how its inputs are made."""

    id: str
    title: str
    sizes: tuple[int, ...]
    likelihood: str
    optimizer: str
    structure: str = "full"
    kind: str = "expected"
    activation: str = "tanh"
    examples: int = 4
    steps: int = 1
    network: Mapping[str, Any] = field(default_factory=dict)  # bias, parameterization, scales
    frozen: tuple[int, ...] = ()
    variance: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    schedules: Mapping[str, Sequence[float]] = field(default_factory=dict)
    draws: int = 2  # labels an example, or probes, where they are used
    theta_scale: float = 1.0
    x_scale: float = 1.0
    change: str = ""  # a name in CHANGES, applied to the inputs
    flags: tuple[str, ...] = ()
    notes: str = ""
    source: str = "grng_ref: formulas of the stages"


ACTIVATIONS = {
    "identity": "a linear network: nothing of an activation can be wrong",
    "relu": "a second derivative that is zero, and a first one that jumps",
    "tanh": "first and second derivative from the value",
    "sigmoid": "first and second derivative from the value",
    "softplus": "a derivative that is another activation",
    "gelu": "the erf form, not its tanh approximation",
    "silu": "a product, whose second derivative has two terms",
}
STRUCTURES = {
    "full": (("exact",), "cross terms between the layers"),
    "block_diagonal": (("exact",), "layers without their cross terms"),
    "diagonal": (("exact",), "the diagonal of the Fisher, not the squares of a mean gradient"),
    "unitwise": (("exact",), "units without their cross terms"),
    "kfac": (("exact", "factored"), "the order of the factors, and where 1/N stands"),
    "kronecker_optimal": (("exact", "factored"), "the nearest Kronecker product, which K-FAC is not"),
    "ekfac": (("exact",), "moments refitted in the eigenbasis of K-FAC, which is not K-FAC"),
    "tridiagonal_kfac": (("factored",), "cross terms between neighbours, damped before the recursion"),
}
KINDS = {
    "expected": "rows from a factor of the output Fisher",
    "monte_carlo": "rows from the given labels, not from the observed ones",
    "empirical": "rows from the observed labels, which give another matrix than the Fisher",
}


def activation_rows() -> list[Row]:
    """Every activation, with likelihoods and optimizers in turn."""
    found = []
    for i, (activation, what) in enumerate(ACTIVATIONS.items()):
        for j in (0, 1):
            likelihood = LIKELIHOODS[(i + 2 * j) % 4]
            method = ("ngd", "ring", "reng")[(i + j) % 3]
            found.append(
                Row(
                    f"{method}-{activation}-{likelihood}",
                    f"{method.upper()}, {activation} network, {likelihood} likelihood",
                    (2, 3, 2),
                    likelihood,
                    method,
                    activation=activation,
                    notes=f"Derivatives of {activation}: {what}.",
                )
            )
    return found


def structure_rows() -> list[Row]:
    """Every structure with every kind of Fisher; structures with both kinds of damping in both."""
    found = []
    for i, (structure, (dampings, what)) in enumerate(STRUCTURES.items()):
        for kind, rows in KINDS.items():
            for damping_kind in dampings:
                tail = f"-{damping_kind}" if len(dampings) > 1 else ""
                found.append(
                    Row(
                        f"{structure}-{kind}{tail}".replace("_", "-"),
                        f"NGD with the structure {structure}, {kind} Fisher, {damping_kind} damping",
                        (3, 3, 2),
                        LIKELIHOODS[i % 4] if kind == "expected" else "categorical",
                        "ngd",
                        structure=structure,
                        kind=kind,
                        examples=5,
                        settings={"damping_kind": damping_kind},
                        notes=f"Separates {what}; {rows}.",
                    )
                )
    return found


def regularized_rows() -> list[Row]:
    """RING and RENG over structures."""
    found = []
    for structure, method in (
        ("block_diagonal", "ring"),
        ("diagonal", "reng"),
        ("unitwise", "ring"),
        ("kfac", "ring"),
        ("kfac", "reng"),
        ("tridiagonal_kfac", "ring"),
        ("tridiagonal_kfac", "reng"),
    ):
        what = {
            "ring": "The norm of the whole gradient is added to the damping of every block",
            "reng": "H g is that of the whole network, before a structure solves by blocks",
        }
        found.append(
            Row(
                f"{method}-{structure}".replace("_", "-"),
                f"{method.upper()} with the structure {structure}, two steps",
                (2, 3, 2),
                "categorical",
                method,
                structure=structure,
                steps=2,
                settings={"damping_kind": "factored" if structure == "tridiagonal_kfac" else "exact"},
                notes=f"{what[method]}.",
            )
        )
    return found
