"""Random small cases for the tests of the checker and its benchmark: any network, likelihood, optimizer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from grng_ref.testing.vectors.case import SETTINGS, Case
from grng_ref.testing.vectors.stages import reference

OPTIMIZERS = tuple(SETTINGS)


def _short(array: Any) -> Any:
    """Rounded to float32, so that both dtypes start from the same numbers."""
    return np.asarray(array).astype(np.float32).astype(np.float64)


def random_case(
    seed: int,
    optimizer: str | None = None,
    likelihood: str | None = None,
    *,
    more: bool = False,
    schedule: bool = False,
    **settings: Any,
) -> Case:
    """A case of that seed, with expected values by grng_ref; with ``more``, rarer settings in some."""
    rng = np.random.default_rng([2026, seed])
    optimizer = optimizer or OPTIMIZERS[seed % len(OPTIMIZERS)]
    likelihood = likelihood or ("gaussian", "categorical", "bernoulli", "poisson")[rng.integers(4)]
    K = int(rng.integers(2, 4))
    depth = int(rng.integers(1, 3))
    sizes = (int(rng.integers(2, 4)), *(int(rng.integers(2, 4)) for _ in range(depth)), K)
    N, steps = int(rng.integers(5, 9)), int(rng.integers(2, 4))
    chosen = {"name": optimizer, **SETTINGS[optimizer]}
    if optimizer in ("ngd", "ring", "reng"):
        structure = ("full", "block_diagonal", "diagonal", "kfac", "full")[rng.integers(5)]
        chosen["damping_kind"] = "exact" if structure != "kfac" else ("exact", "factored")[rng.integers(2)]
        if rng.integers(2):
            chosen |= {"ema": 0.75, "momentum": 0.5, "weight_decay": 0.0625}
        chosen["lr"] = 0.5
    elif optimizer == "kfac":
        structure = "kfac"
        chosen |= {"lr": 0.25, "refresh": int(rng.integers(1, 3)), "weight_decay": 0.0625}
    else:
        structure = "full"
    if optimizer == "rkalman":
        chosen["belief"] = ("full", "full", "block_diagonal", "diagonal")[rng.integers(4)]
        chosen["projection"] = (
            ("covariance", "precision")[rng.integers(2)] if chosen["belief"] == "diagonal" else None
        )
        chosen |= {"forgetting": 0.875, "process_noise": 0.0625, "rho": 0.25, "prior_variance": 0.5}
    if optimizer == "sgd":
        chosen |= {"momentum": 0.5, "weight_decay": 0.0625}
    if optimizer == "sophia":
        chosen |= {"refresh": int(rng.integers(1, 3)), "weight_decay": 0.0625}
        chosen["estimator"] = ("gauss_newton_bartlett", "hutchinson")[rng.integers(2)]
    kind = (
        ("expected", "expected", "empirical", "monte_carlo")[rng.integers(4)]
        if optimizer not in ("sgd", "adamw", "sophia")
        else "expected"
    )
    rare = np.random.default_rng([2026, seed, 1]) if more else None  # a stream of its own
    if rare is not None and optimizer == "rkalman":
        chosen["iterations"] = int(rare.integers(1, 4))
        if rare.integers(3) == 0:
            chosen |= {"belief": "low_rank", "projection": None, "rank": 3, "process_noise": 0.0}
    schedule = schedule or (rare is not None and bool(rare.integers(2)))
    chosen |= {k: v for k, v in settings.items() if k in chosen}
    kind = settings.get("kind", kind)
    structure = settings.get("structure", structure)
    network = {
        "sizes": sizes,
        "activation": ("tanh", "relu", "softplus", "sigmoid")[rng.integers(4)],
        "bias": bool(rng.integers(4)) or optimizer == "kfac",
        "parameterization": ("standard", "ntk")[rng.integers(2)],
        "scales": None,
        "frozen": (),
    }
    like = {"name": likelihood} | ({"variance": 0.25} if likelihood == "gaussian" else {})
    bare = Case(
        f"random-{seed}",
        "random",
        (),
        "",
        "",
        network,
        like,
        {"structure": structure, "kind": kind},
        chosen,
        steps,
        {},
        schedules={
            name: [chosen[name] * factor for factor in (1.0, 0.5, 2.0)[:steps]]
            for name in ("lr", "damping", "rho")
            if schedule and name in chosen
        },
    )
    problem = bare.problem()
    P = problem.num_parameters
    theta = _short(problem.init(rng) + 0.3 * rng.standard_normal(P))
    xs = _short(rng.standard_normal((steps, N, sizes[0])))
    draw = [np.asarray(problem.sample(theta, x, num_samples=1, rng=rng))[0] for x in xs]
    ys = np.stack([d if np.issubdtype(d.dtype, np.integer) else _short(d) for d in draw])
    if likelihood == "gaussian":
        ys = _short(ys + 0.5)
    inputs = {"theta": theta, "x": xs[0], "y": ys[0], "v": _short(rng.standard_normal(P))}
    if steps > 1:
        inputs |= {"batches.x": xs, "batches.y": ys}
    bartlett = optimizer == "sophia" and chosen["estimator"] == "gauss_newton_bartlett"
    if kind == "monte_carlo" or bartlett:
        s = np.stack([np.asarray(problem.sample(theta, x, num_samples=2 + seed % 3, rng=rng)) for x in xs])
        s = s if np.issubdtype(s.dtype, np.integer) else _short(s)
        inputs |= {"samples": s[0], "batches.samples": s}
    if optimizer == "sophia" and not bartlett:
        u = _short(rng.standard_normal((steps, 1, P)))
        inputs |= {"probes": u[0], "batches.probes": u}
    case = dataclasses.replace(bare, inputs=inputs)
    expected = {k: np.array(v) for k, v in reference(case).items()}
    return dataclasses.replace(case, expected=expected, radii=dict.fromkeys(expected))
