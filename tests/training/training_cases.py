"""A small problem, every optimizer on it, and how two runs are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import grng_ref as gr
from grng_ref import data, training

DIGITS = data.load("digits", size=60)
X, Y = DIGITS.x_train[:, 20:44:3], DIGITS.y_train  # 36 examples, 8 pixels of the middle
VALIDATION = (DIGITS.x_validation[:, 20:44:3], DIGITS.y_validation)
PROBLEM = gr.Problem(gr.MLP((8, 4, 10)), gr.Categorical())
THETA = PROBLEM.init(rng=0)
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 15, "validation": VALIDATION, "align": 0.1, "every": 2}
STEPS = 9  # three batches an epoch

OPTIMIZERS = {
    "ngd": lambda p: gr.ngd(p, lr=0.5, damping=0.1, kind="monte_carlo", momentum=0.5, ema=0.9),
    "ring": lambda p: gr.ring(p, lr=training.schedule("cosine", 0.5, steps=STEPS), damping=0.1, rho=0.1),
    "reng": lambda p: gr.reng(p, lr=0.3, damping=0.1, rho=0.1, structure="ekfac", refresh=2),
    "kfac": lambda p: gr.kfac(p, lr=0.1, damping=0.1),
    "sgd": lambda p: gr.sgd(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: gr.adamw(p, lr=0.02),
    "sophia": lambda p: gr.sophia(p, lr=0.01, refresh=2),
    "rkalman": lambda p: gr.rkalman(p, rho=0.1, forgetting=0.98),
}


def run(folder: Path | None = None, name: str = "kfac", **changes: Any) -> training.Fit:
    """A run on the small problem; with a folder it writes both files there."""
    files = {} if folder is None else {"records": folder / "r.jsonl", "checkpoint": folder / "c.npz"}
    options = OPTIONS | files | changes
    if "steps" in changes:
        del options["epochs"]
    return training.fit(PROBLEM, OPTIMIZERS[name](PROBLEM), THETA, X, Y, **options)


def without_seconds(records: tuple[training.Record, ...]) -> list[training.Record]:
    return [record._replace(seconds=0.0) for record in records]


def differences(a: training.Fit, b: training.Fit, folder: Path) -> list[str]:
    """What two results do not have bit for bit in common; states are compared as they are saved."""
    saved = []
    for i, one in enumerate((a, b)):
        gr.save(folder / f"state{i}", (one.theta, one.state, one.step))
        with np.load(folder / f"state{i}") as file:
            saved.append({name: file[name].tobytes() for name in file.files})
    found = [] if saved[0] == saved[1] else ["theta, state or step"]
    return found if without_seconds(a.records) == without_seconds(b.records) else [*found, "records"]
