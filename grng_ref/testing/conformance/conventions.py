"""The vocabulary in which an adapter declares its conventions, as changes of the replay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .knobs import combined, scoped
from .layouts import LAYOUTS
from .names import unknown

_LOSS = ("loss.scale", "gradient.scale", "hessian.scale")


def _loss(factor: str, **more: Any) -> dict[str, Any]:
    return {**dict.fromkeys(_LOSS, factor), **more}


# convention -> value -> changes of the replay; the first value is this package's
VOCABULARY: dict[str, dict[str, dict[str, Any]]] = {
    "loss": {"mean": {}, "sum": _loss("N"), "mean over outputs": _loss("1/K")},
    "squared error": {
        "half": {},
        "whole": _loss("2", only="Gaussian"),
        "whole, mean over outputs": _loss("2/K", only="Gaussian"),
    },
    "fisher": {
        "mean": {},
        "sum": {"fisher.scale": "N"},
        "1/N": {"fisher.scale": "1/N"},
        "mean over outputs": {"fisher.scale": "1/K"},
        "2/K": {"fisher.scale": "2/K", "only": "Gaussian"},
        "doubled": {"fisher.scale": "2", "only": "Gaussian"},
    },
    "scores": {
        "as the Fisher": {},
        "mean over outputs": {"rows.scale": "1/K"},
        "2/K": {"rows.scale": "2/K", "only": "Gaussian"},
        "doubled": {"rows.scale": "2", "only": "Gaussian"},
    },
    "fisher kind": {
        "of the case": {},
        "expected": {"kind": "expected"},
        "empirical": {"kind": "empirical"},
        "monte_carlo": {"kind": "monte_carlo"},
    },
    "layout": {"[W|b]": {}, **{name: {"layout": name} for name in LAYOUTS}},
    "factor order": {"AG": {}, "GA": {"pair": "swapped"}},
    "damping": {
        "of the case": {},
        "factored": {"damping_place": "factored"},
        "exact": {"damping_place": "exact"},
        "factored without pi": {"damping_place": "factored without pi"},
    },
}

# The order of a layer's entries and the place of its bias, each by itself: together they are a layout.
_ORDERS = ("row", "column")
_BIASES = ("last", "first", "separate", "none")
_TOGETHER = {
    ("row", "last"): "[W|b]",
    ("row", "first"): "bias first",
    ("row", "separate"): "separate",
    ("row", "none"): "no bias",
    ("column", "last"): "column-major",
    ("column", "first"): "transposed, bias first",
    ("column", "separate"): "transposed, separate",
}
NAMES = (*VOCABULARY, "order", "bias")


def declared_knobs(conventions: Mapping[str, str]) -> dict[str, Any]:
    """The changes that an adapter's ``conventions`` stand for; scales of one quantity are multiplied.

    Raises
    ------
    ValueError
        A name or a value that is not of the vocabulary; an ``order`` and a ``bias`` beside a ``layout``, or
        two of them for which there is no layout.
    """
    chosen = _layout_of(conventions)
    parts = []
    for name, value in chosen.items():
        if name not in VOCABULARY:
            raise ValueError(unknown("conventions has", name, NAMES))
        if value not in tuple(VOCABULARY[name]):
            raise ValueError(unknown(f"conventions[{name!r}] is", value, VOCABULARY[name]))
        parts.append(VOCABULARY[name][value])
    return combined(*parts)


def _layout_of(conventions: Mapping[str, str]) -> dict[str, str]:
    """The conventions with ``order`` and ``bias`` as the layout that they are together."""
    rest = {name: value for name, value in conventions.items() if name not in ("order", "bias")}
    if len(rest) == len(conventions):
        return rest
    order, bias = conventions.get("order", "row"), conventions.get("bias", "last")
    for name, value, known in (("order", order, _ORDERS), ("bias", bias, _BIASES)):
        if value not in known:
            raise ValueError(unknown(f"conventions[{name!r}] is", value, known))
    if "layout" in rest:
        raise ValueError(
            "conventions has a 'layout', which says order and bias too: leave out 'order', 'bias'"
        )
    if (order, bias) not in _TOGETHER:
        raise ValueError(f"conventions has order {order!r} with bias {bias!r}: there is no such layout")
    return {**rest, "layout": _TOGETHER[order, bias]}


def declaration(parts: Iterable[Mapping[str, Any]], declared: Mapping[str, str]) -> dict[str, str] | None:
    """What to declare, beside what is declared, for changes of the replay; None where that cannot be said.

    The inverse of `declared_knobs`: every change must be found in the vocabulary, under one name only.
    """
    out = dict(declared)
    for changes in parts:
        rest = scoped(changes)
        for name, values in VOCABULARY.items():
            for value, said in values.items():
                own = scoped(said)
                if own and own.items() <= rest.items():
                    rest = {key: change for key, change in rest.items() if key not in own}
                    taken = out.get(name) not in (None, next(iter(values)), value)
                    if taken and any(key.partition("@")[0].endswith(".scale") for key in own):
                        return None
                    out[name] = value
        if rest:
            return None
    if "layout" in out:
        out = {name: value for name, value in out.items() if name not in ("order", "bias")}
    return out
