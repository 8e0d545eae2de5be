"""The vocabulary in which an adapter declares its conventions, as changes of the replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .layouts import LAYOUTS

# convention -> value -> changes of the replay; the first value is this package's
VOCABULARY: dict[str, dict[str, dict[str, Any]]] = {
    "loss": {
        "mean": {},
        "sum": {"loss.scale": "N", "gradient.scale": "N", "hessian.scale": "N"},
        "mean over outputs": {"loss.scale": "1/K", "gradient.scale": "1/K", "hessian.scale": "1/K"},
    },
    "squared error": {
        "half": {},
        "whole": {"loss.scale": "2", "gradient.scale": "2", "hessian.scale": "2", "only": "Gaussian"},
    },
    "fisher": {
        "mean": {},
        "sum": {"fisher.scale": "N"},
        "1/N": {"fisher.scale": "1/N"},
        "mean over outputs": {"fisher.scale": "1/K"},
        "2/K": {"fisher.scale": "2/K"},
    },
    "fisher kind": {
        "of the case": {},
        "expected": {"kind": "expected"},
        "empirical": {"kind": "empirical"},
        "monte_carlo": {"kind": "monte_carlo"},
    },
    "order": {"row": {}, "column": {"layout": "column-major"}},
    "bias": {
        "last": {},
        "first": {"layout": "bias first"},
        "separate": {"layout": "separate"},
        "none": {"layout": "no bias"},
    },
    "layout": {"[W|b]": {}, **{name: {"layout": name} for name in LAYOUTS}},
    "factor order": {"AG": {}, "GA": {"pair": "swapped"}},
    "damping": {
        "exact or factored, as the case says": {},
        "factored": {"damping_place": "factored"},
        "exact": {"damping_place": "exact"},
        "factored without pi": {"damping_place": "factored without pi"},
    },
}


def declared_knobs(conventions: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that an adapter's ``conventions`` stand for."""
    knobs: dict[str, Any] = {}
    for name, value in conventions.items():
        if name not in VOCABULARY:
            raise ValueError(f"conventions must be among {', '.join(VOCABULARY)}, got {name!r}")
        if value not in VOCABULARY[name]:
            known = ", ".join(map(repr, VOCABULARY[name]))
            raise ValueError(f"conventions[{name!r}] must be one of {known}, got {value!r}")
        for knob, change in VOCABULARY[name][value].items():
            # Scales are multiplied: PyTorch's MSELoss has no half, and is a mean over outputs.
            both = knob in knobs and knob.endswith(".scale")
            knobs[knob] = f"{knobs[knob]} * {change}" if both else change
    return knobs
