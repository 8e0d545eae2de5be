"""The shipped cases: a table, and the inputs that a seed makes of each row."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .case import NATURAL, SETTINGS, Case
from .rows import Row, activation_rows, regularized_rows, structure_rows
from .rows_of_edges import edge_rows, network_rows
from .rows_of_methods import first_order_rows, kalman_rows, kfac_rows, natural_rows
from .stages import reference

SEED = 6  # of the default set


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


CATALOGUE: tuple[Row, ...] = (
    *activation_rows(),
    *structure_rows(),
    *regularized_rows(),
    *natural_rows(),
    *kfac_rows(),
    *first_order_rows(),
    *kalman_rows(),
    *edge_rows(),
    *network_rows(),
)


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
        schedules={name: list(values) for name, values in row.schedules.items()},
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
    given = {**row.settings, **{name: values[0] for name, values in row.schedules.items()}}
    unknown = set(given) - set(SETTINGS[row.optimizer])
    if unknown:
        raise ValueError(f"{row.id}: {row.optimizer} has no settings {sorted(unknown)}")
    return SETTINGS[row.optimizer] | given


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
