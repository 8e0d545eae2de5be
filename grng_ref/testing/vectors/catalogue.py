"""The shipped cases: a table, and the inputs that a seed makes of each row."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .case import NATURAL, SETTINGS, Case
from .stages import reference

SEED = 6  # of the default set


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
    draws: int = 2  # labels an example, or probes, where they are used
    theta_scale: float = 1.0
    x_scale: float = 1.0
    change: str = ""  # a name in CHANGES, applied to the inputs
    flags: tuple[str, ...] = ()
    notes: str = ""
    source: str = "grng_ref: formulas of the stages"


def _saturate(row: Row, inputs: dict[str, Any]) -> None:
    """Outputs far apart: the bias of the first output is large."""
    last = row.sizes[-2] + 1
    inputs["theta"][-last * row.sizes[-1] + last - 1] += 40.0


def _kill(row: Row, inputs: dict[str, Any]) -> None:
    """The first unit of the first hidden layer is never active."""
    inputs["theta"][row.sizes[0]] = -64.0


def _repeat(row: Row, inputs: dict[str, Any]) -> None:
    """All examples have the inputs of the first."""
    for name in ("x", "batches.x"):
        if name in inputs:
            inputs[name][...] = inputs[name][..., :1, :]


CHANGES: dict[str, Callable[[Row, dict[str, Any]], None]] = {
    "saturate": _saturate,
    "kill": _kill,
    "repeat": _repeat,
}


def _rows() -> list[Row]:
    found: list[Row] = []
    # Every activation, with likelihoods, optimizers and Fisher kinds in turn.
    likelihoods = ("gaussian", "categorical", "bernoulli", "poisson")
    activations = ("identity", "relu", "tanh", "sigmoid", "softplus", "gelu", "silu")
    for i, activation in enumerate(activations):
        for j in (0, 1):
            likelihood = likelihoods[(i + 2 * j) % 4]
            method = ("ngd", "ring", "reng")[(i + j) % 3]
            found.append(
                Row(
                    f"{method}-{activation}-{likelihood}",
                    f"{method.upper()}, {activation} network, {likelihood} likelihood",
                    (2, 3, 2),
                    likelihood,
                    method,
                    activation=activation,
                )
            )
    # Every structure with every kind of Fisher; structures with both kinds of damping in both.
    structures = {
        "full": ("exact",),
        "block_diagonal": ("exact",),
        "diagonal": ("exact",),
        "unitwise": ("exact",),
        "kfac": ("exact", "factored"),
        "kronecker_optimal": ("exact", "factored"),
        "ekfac": ("exact",),
        "tridiagonal_kfac": ("factored",),
    }
    for i, (structure, dampings) in enumerate(structures.items()):
        for kind in ("expected", "monte_carlo", "empirical"):
            for damping_kind in dampings:
                tail = f"-{damping_kind}" if len(dampings) > 1 else ""
                found.append(
                    Row(
                        f"{structure}-{kind}{tail}".replace("_", "-"),
                        f"NGD with the structure {structure}, {kind} Fisher, {damping_kind} damping",
                        (3, 3, 2),
                        likelihoods[i % 4] if kind == "expected" else "categorical",
                        "ngd",
                        structure=structure,
                        kind=kind,
                        examples=5,
                        settings={"damping_kind": damping_kind},
                    )
                )
    # RING and RENG over structures.
    for structure, method in (
        ("block_diagonal", "ring"),
        ("diagonal", "reng"),
        ("unitwise", "ring"),
        ("kfac", "ring"),
        ("kfac", "reng"),
        ("tridiagonal_kfac", "ring"),
        ("tridiagonal_kfac", "reng"),
    ):
        damping_kind = "factored" if structure == "tridiagonal_kfac" else "exact"
        found.append(
            Row(
                f"{method}-{structure}".replace("_", "-"),
                f"{method.upper()} with the structure {structure}, two steps",
                (2, 3, 2),
                "categorical",
                method,
                structure=structure,
                steps=2,
                settings={"damping_kind": damping_kind},
            )
        )
    found += [
        # Options of the natural-gradient optimizers.
        Row("ngd-momentum-decay", "NGD with momentum and weight decay", (2, 3, 2), "gaussian", "ngd", steps=3,
            settings={"lr": 0.5, "momentum": 0.75, "weight_decay": 0.125}),
        Row("ngd-moving-average", "NGD, bias-corrected moving average of the full Fisher", (2, 3, 2),
            "bernoulli",
            "ngd", steps=3, settings={"ema": 0.75}),
        Row("ring-kfac-refresh", "RING with K-FAC built anew every second step", (2, 3, 2), "poisson", "ring",
            structure="kfac", steps=3, settings={"refresh": 2, "lr": 0.5}),
        Row("kfac-baseline", "K-FAC: factored damping, averaged factors, momentum", (2, 3, 2), "categorical",
            "kfac", structure="kfac", steps=3),
        Row("kfac-baseline-monte-carlo", "K-FAC with drawn labels, decay", (2, 3, 2), "categorical", "kfac",
            structure="kfac", kind="monte_carlo", steps=3, settings={"weight_decay": 0.125}),
        Row("kfac-deep", "K-FAC, three hidden layers", (2, 2, 2, 2, 2), "categorical", "kfac",
            structure="kfac",
            steps=2),
        Row("tridiagonal-deep", "Block-tridiagonal K-FAC, four layers", (2, 2, 2, 2, 2), "bernoulli", "ngd",
            structure="tridiagonal_kfac", examples=8, settings={"damping_kind": "factored"}),
        Row("reng-full-three-steps", "RENG, three steps", (2, 3, 2), "categorical", "reng", steps=3,
            settings={"lr": 0.5}),
        Row("ring-full-three-steps", "RING, three steps", (2, 3, 2), "gaussian", "ring", steps=3,
            variance=0.25, settings={"rho": 2.0}),
        # First-order baselines.
        Row("sgd-plain", "Gradient descent", (2, 3, 2), "gaussian", "sgd", steps=3),
        Row("sgd-momentum", "SGD with momentum and L2", (2, 3, 2), "categorical", "sgd", steps=4,
            settings={"momentum": 0.875, "weight_decay": 0.0625}),
        Row("sgd-nesterov", "SGD with Nesterov's momentum", (2, 3, 2), "bernoulli", "sgd", steps=4,
            settings={"momentum": 0.875, "nesterov": True}),
        Row("adamw-four-steps", "AdamW", (2, 3, 2), "poisson", "adamw", steps=4),
        Row("sophia-g", "Sophia-G with given labels", (2, 3, 2), "categorical", "sophia", steps=4,
            settings={"weight_decay": 0.0625}),
        Row("sophia-h", "Sophia-H with given probes, refreshed every second step", (2, 3, 2), "bernoulli",
            "sophia", steps=4, settings={"estimator": "hutchinson", "refresh": 2}),
        # Kalman.
        *[
            Row(f"rkalman-{likelihood}", f"R-Kalman, full belief, {likelihood} likelihood", (2, 3, 2),
                likelihood,
                "rkalman", steps=3)
            for likelihood in likelihoods
        ],
        Row("rkalman-implicit", "R-Kalman, implicit regularization", (2, 3, 2), "categorical", "rkalman",
            steps=2,
            settings={"rho": 0.5}),
        Row("rkalman-explicit", "R-Kalman, explicit regularization", (2, 3, 2), "gaussian", "rkalman",
            steps=2,
            settings={"rho": 0.25, "regularization": "explicit"}),
        Row("rkalman-forgetting-noise", "R-Kalman, forgetting and process noise", (2, 3, 2), "bernoulli",
            "rkalman", steps=3, settings={"forgetting": 0.875, "process_noise": 0.0625}),
        Row("rkalman-prior-forgetting", "R-Kalman, prior-preserving forgetting", (2, 3, 2), "gaussian",
            "rkalman", steps=3, settings={"forgetting": 0.75, "forgetting_kind": "prior",
                "prior_variance": 2.0}),
        Row("rkalman-increment", "R-Kalman, constant information increment", (2, 3, 2), "gaussian", "rkalman",
            steps=2, settings={"information_increment": 0.5, "forgetting": 0.875}),
        Row("rkalman-block-diagonal", "R-Kalman, one block a layer", (2, 3, 2), "categorical", "rkalman",
            steps=3,
            settings={"belief": "block_diagonal", "rho": 0.25}),
        Row("rkalman-diagonal-covariance", "R-Kalman, diagonal belief, covariance projection", (2, 3, 2),
            "categorical", "rkalman", steps=3, settings={"belief": "diagonal", "projection": "covariance"}),
        Row("rkalman-diagonal-precision", "R-Kalman, diagonal belief, precision projection", (2, 3, 2),
            "categorical", "rkalman", steps=3,
            settings={"belief": "diagonal", "projection": "precision", "rho": 0.25}),
        Row("rkalman-low-rank", "R-Kalman, low-rank belief that is truncated", (2, 3, 2), "gaussian",
            "rkalman",
            steps=3, settings={"belief": "low_rank", "rank": 4}),
        Row("rkalman-low-rank-exact", "R-Kalman, low-rank belief with room for all rows", (2, 3, 2),
            "gaussian",
            "rkalman", examples=1, steps=3, settings={"belief": "low_rank", "rank": 8}),
        # Edges.
        Row("one-example", "A single example: every block of the Fisher is a Kronecker product", (2, 3, 2),
            "categorical", "ngd", structure="kfac", examples=1, flags=("one-example", "rank-deficient")),
        Row("one-output", "K = 1", (3, 3, 1), "bernoulli", "ngd", flags=("one-output",)),
        Row("one-output-kfac", "K = 1, one hidden unit", (1, 1, 1), "gaussian", "kfac", structure="kfac",
            steps=2, flags=("one-output",)),
        Row("saturated-categorical", "One class is nearly certain", (2, 3, 3), "categorical", "ngd",
            change="saturate", flags=("saturated",)),
        Row("saturated-bernoulli", "One output is nearly certain", (2, 3, 2), "bernoulli", "ring",
            change="saturate", flags=("saturated",)),
        Row("saturated-rkalman", "A nearly certain class in the filter", (2, 3, 3), "categorical", "rkalman",
            change="saturate", steps=2, flags=("saturated",)),
        Row("dead-relu", "A unit that is never active", (2, 3, 2), "categorical", "ngd", activation="relu",
            change="kill", flags=("dead-relu", "rank-deficient")),
        Row("dead-relu-kfac", "A unit that is never active, K-FAC", (2, 3, 2), "gaussian", "ngd",
            structure="kfac", activation="relu", change="kill", flags=("dead-relu", "rank-deficient")),
        Row("rank-deficient", "Equal examples, so the Fisher has the rank of one", (2, 3, 2), "gaussian",
            "ngd",
            change="repeat", flags=("rank-deficient",)),
        Row("near-zero-damping", "Damping 2^-30 on a singular Fisher", (2, 3, 2), "categorical", "ngd",
            settings={"damping": 2.0**-30}, flags=("near-zero-damping", "rank-deficient")),
        Row("minimum-norm", "Damping 0: the step of least norm", (2, 3, 1), "gaussian", "ngd",
            settings={"damping": 0.0}, flags=("zero-damping", "rank-deficient")),
        Row("tiny-scale", "Inputs of size 2^-40", (2, 3, 2), "gaussian", "ngd", x_scale=2.0**-40,
            flags=("tiny-scale",)),
        Row("huge-scale", "Inputs of size 2^20", (2, 3, 2), "gaussian", "ngd", activation="relu",
            x_scale=2.0**20, settings={"damping": 2.0**36}, flags=("huge-scale",)),
        Row("float64-scale", "Inputs of size 2^100, squares beyond float32", (2, 2, 1), "gaussian", "ngd",
            activation="identity", x_scale=2.0**100, settings={"damping": 2.0**196},
            flags=("huge-scale", "float64-only")),
        Row("small-variance", "A Gaussian with variance 2^-10", (2, 3, 2), "gaussian", "ring",
            variance=2.0**-10,
            settings={"rho": 2.0**-10}, flags=("small-variance",)),
        Row("no-bias", "A network without biases", (3, 3, 2), "categorical", "ngd", structure="kfac",
            network={"bias": False}, flags=("no-bias",)),
        Row("no-bias-full", "A network without biases, full Fisher", (3, 3, 2), "poisson", "reng",
            network={"bias": False}, flags=("no-bias",)),
        Row("ntk", "NTK parameterization", (3, 4, 2), "gaussian", "ngd",
            network={"parameterization": "ntk"}, flags=("ntk",)),
        Row("ntk-kfac", "NTK parameterization, K-FAC", (3, 4, 2), "categorical", "kfac", structure="kfac",
            network={"parameterization": "ntk"}, steps=2, flags=("ntk",)),
        Row("scales-given", "Scales of one's own", (2, 3, 2), "bernoulli", "ngd",
            network={"scales": (0.5, 2.0)}, flags=("scales",)),
        Row("frozen-first", "The first layer is frozen", (2, 3, 2), "categorical", "ngd", structure="kfac",
            frozen=(0,), flags=("frozen",)),
        Row("frozen-last", "The last layer is frozen", (2, 3, 2), "gaussian", "rkalman", frozen=(1,), steps=2,
            flags=("frozen",)),
        Row("one-layer", "A linear model: the K-FAC block is exact for a Gaussian", (3, 2), "gaussian", "ngd",
            structure="kfac", flags=("exact-kfac",)),
        Row("wide-kfac", "K-FAC with some hundred parameters", (12, 16, 12, 4), "categorical", "kfac",
            structure="kfac", examples=16, steps=2, flags=("medium",)),
        Row("wide-adamw", "AdamW with some hundred parameters", (12, 16, 12, 4), "categorical", "adamw",
            examples=16, steps=2, flags=("medium",)),
        # The tutorial's tests.
        Row("tutorial-batch-size-one", "KFAC from scratch: batch size one", (3, 3, 2), "gaussian", "ngd",
            structure="kfac", activation="relu", examples=1, flags=("one-example", "exact-kfac"),
            source="KFAC from scratch (arXiv 2507.05127): blocks of one example are Kronecker products"),
        Row("tutorial-deep-linear-regression", "KFAC from scratch: deep linear regression", (3, 3, 3, 2),
            "gaussian", "ngd", structure="kfac", activation="identity", examples=6, flags=("exact-kfac",),
            source="KFAC from scratch (arXiv 2507.05127): K-FAC is exact in linear networks, squared loss"),
        Row("tutorial-batch-size-one-empirical", "KFAC from scratch: batch size one, empirical", (3, 3, 2),
            "categorical", "ngd", structure="kfac", kind="empirical", examples=1, flags=("one-example",),
            source="KFAC from scratch (arXiv 2507.05127)"),
    ]  # fmt: skip
    return found


CATALOGUE: tuple[Row, ...] = tuple(_rows())


def build_case(row: Row, *, seed: int = SEED) -> Case:
    """The case of a row: inputs from a seed, expected arrays by this package, no radii yet.

    Every floating input is a float64 that float32 holds exactly.
    """
    case = Case(
        id=row.id,
        title=row.title,
        flags=row.flags,
        notes=row.notes,
        source=row.source,
        network={
            "sizes": list(row.sizes),
            "activation": row.activation,
            "bias": True,
            "parameterization": "standard",
            "scales": None,
            "frozen": list(row.frozen),
        }
        | {k: list(v) if isinstance(v, tuple) else v for k, v in row.network.items()},
        likelihood={"name": row.likelihood}
        | ({"variance": row.variance} if row.likelihood == "gaussian" else {}),
        curvature={"structure": row.structure, "kind": row.kind},
        optimizer={"name": row.optimizer, **_settings(row)},
        steps=row.steps,
        inputs=_inputs(row, seed),
    )
    return _with_expected(case)


def build_cases(*, seed: int = SEED, ids: tuple[str, ...] | None = None) -> tuple[Case, ...]:
    """All cases of the table, or those of the given ids, without radii.

    Raises
    ------
    ValueError
        An unknown id.
    """
    unknown = set(ids or ()) - {row.id for row in CATALOGUE}
    if unknown:
        raise ValueError(f"ids must be of the catalogue, got {', '.join(sorted(unknown))}")
    return tuple(build_case(row, seed=seed) for row in CATALOGUE if ids is None or row.id in ids)


def _with_expected(case: Case) -> Case:
    expected = {name: np.array(array, order="C") for name, array in reference(case).items()}
    return replace(case, expected=expected)


def _settings(row: Row) -> dict[str, Any]:
    unknown = set(row.settings) - set(SETTINGS[row.optimizer])
    if unknown:
        raise ValueError(f"{row.id}: {row.optimizer} has no settings {sorted(unknown)}")
    return SETTINGS[row.optimizer] | dict(row.settings)


def _inputs(row: Row, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, zlib.crc32(row.id.encode())])
    bias = row.network.get("bias", True)
    ntk = row.network.get("parameterization") == "ntk"
    shapes = [(out, into + int(bias)) for into, out in zip(row.sizes[:-1], row.sizes[1:], strict=True)]
    layers = [
        rng.normal(size=s) * (1.0 if ntk else 0.75 * s[1] ** -0.5 + 0.25) * row.theta_scale for s in shapes
    ]
    theta = np.concatenate([w.ravel() for i, w in enumerate(layers) if i not in row.frozen])
    n, steps = row.examples, row.steps
    xs = rng.normal(size=(steps, n, row.sizes[0])) * row.x_scale
    ys = np.stack([_labels(row, rng, n) for _ in range(steps)])
    found: dict[str, Any] = {"theta": theta, "x": xs[0], "y": ys[0], "v": rng.normal(size=theta.shape)}
    found |= {f"frozen.{i}": layers[i] for i in row.frozen}
    stacked: dict[str, Any] = {"x": xs, "y": ys}
    bartlett = row.optimizer == "sophia" and row.settings.get("estimator") != "hutchinson"
    if (row.kind == "monte_carlo" and row.optimizer in (*NATURAL, "rkalman")) or bartlett:
        stacked["samples"] = np.stack(
            [np.stack([_labels(row, rng, n) for _ in range(row.draws)]) for _ in range(steps)]
        )
    elif row.optimizer == "sophia":
        stacked["probes"] = rng.normal(size=(steps, row.draws, len(theta)))
    found |= {name: value[0] for name, value in stacked.items()}
    if steps > 1:
        found |= {f"batches.{name}": value for name, value in stacked.items()}
    if row.change:
        found = {name: value.copy() for name, value in found.items()}
        CHANGES[row.change](row, found)
    return {name: np.ascontiguousarray(_representable(value)) for name, value in found.items()}


def _labels(row: Row, rng: np.random.Generator, n: int) -> np.ndarray:
    k = row.sizes[-1]
    if row.likelihood == "categorical":
        return rng.integers(0, k, size=n)
    draw = {
        "gaussian": lambda: rng.normal(size=(n, k)),
        "bernoulli": lambda: rng.integers(0, 2, size=(n, k)).astype(np.float64),
        "poisson": lambda: rng.poisson(1.5, size=(n, k)).astype(np.float64),
    }
    return draw[row.likelihood]()


def _representable(value: np.ndarray) -> np.ndarray:
    """Rounded once to float32, kept in float64; integers as they are."""
    return value.astype(np.float32).astype(np.float64) if value.dtype.kind == "f" else value
