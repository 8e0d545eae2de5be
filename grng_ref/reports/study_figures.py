"""The figures of a study's report, as SVG text (matplotlib)."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

# Okabe and Ito: told apart with any colour vision.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "x")
COLUMNS = 6  # panels side by side

Result = dict[str, Any]


def curves(result: Result, data: str, key: str, label: str) -> str:
    """Validation loss against epochs or seconds: small panels, mean and range over the seeds."""
    groups = panels(result, data)
    columns, rows = min(COLUMNS, len(groups)), math.ceil(len(groups) / COLUMNS)
    figure, axes = _axes(rows, columns, 2.55 * columns, 2.7 * rows, sharey=True)
    for axis in axes[len(groups) :]:
        axis.set_axis_off()
    for axis, (title, names) in zip(axes, groups, strict=False):  # the rest is off
        for i, (name, colour) in enumerate(zip(names, COLOURS[: len(names)], strict=True)):
            runs = [r for r in result["runs"] if r["data"] == data and r["entry"] == name]
            spent, low, mean, high = _band(runs, key)
            shown = name if spent else f"{name} (no record)"
            # thinner on top: where lines coincide, all of them can be seen
            axis.plot(spent, mean, color=colour, linewidth=2.8 - 0.4 * i, label=shown)
            axis.fill_between(spent, low, high, color=colour, alpha=0.12, linewidth=0)
        target = result["analysis"]["targets"][data]["loss"]
        if target is not None:
            axis.axhline(target, color="0.5", linewidth=0.8, linestyle=":")
        if key == "seconds" and math.isfinite(axis.xaxis.get_minpos()):
            _log_scale(axis)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel(label, fontsize=8)
        axis.legend(fontsize=7, frameon=False, loc="upper right")
        axis.tick_params(labelsize=7)
    starts = [r["curve"]["validation_loss"][:1] for r in result["runs"] if r["data"] == data]
    axes[0].set_ylim(top=1.15 * max((loss for start in starts for loss in start), default=1.0))
    for axis in axes[::columns]:
        axis.set_ylabel("validation loss", fontsize=8)
    return _svg(figure)


def dots(result: Result, columns: Sequence[tuple[str, str, str]]) -> str:
    """One panel a measure ``(key of the summary, title, scale)``: entries down, a mark for each data set.

    Marks of entries that are trained for fewer epochs than the others are hollow.
    """
    rows = result["analysis"]["summary"]
    epochs = {plan["name"]: plan["epochs"] for plan in result["protocol"]["plans"]}
    names = list(dict.fromkeys(row["entry"] for row in rows))
    figure, axes = _axes(1, len(columns), 12.0, 1.3 + 0.21 * len(names), sharey=True)
    for axis, (key, title, scale) in zip(axes, columns, strict=True):
        marks = zip(COLOURS[: len(result["data"])], MARKERS, strict=False)
        for data, (colour, marker) in zip(result["data"], marks, strict=True):
            for whole in (True, False):
                points = [
                    (value, names.index(row["entry"]))
                    for row in rows
                    if row["data"] == data and (row["epochs"] == epochs[data]) == whole
                    if (value := _scalar(row[key])) is not None
                ]
                values, places = zip(*points, strict=True) if points else ((), ())
                style = {"label": data} if whole else {"markerfacecolor": "none"}
                axis.plot(values, places, marker, color=colour, markersize=5, **style)
        axis.set_title(title, fontsize=9)
        axis.set_xscale(scale)
        axis.grid(axis="y", color="0.9", linewidth=0.6)
        axis.tick_params(labelsize=7)
    axes[0].set_yticks(range(len(names)), names, fontsize=7)
    axes[0].invert_yaxis()
    axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return _svg(figure)


def panels(result: Result, data: str) -> list[tuple[str, list[str]]]:
    """Title and entries of each panel, as many as there are colours at most, and every entry that ran.

    Baselines; then each plain method with its regularized ones; then what is left.
    """
    there = {run["entry"] for run in result["runs"] if run["data"] == data}
    entries = [entry for entry in result["entries"] if entry["name"] in there]
    found = [("baselines", [e["name"] for e in entries if e["group"] == "baseline"])]
    for plain in (e["name"] for e in entries if e["group"] == "plain"):
        names = [plain, *(e["name"] for e in entries if e["plain"] == plain)]
        if len(names) == 2 and len(found[-1][1]) == 2 and len(found) > 1:
            title, before = found.pop()
            found.append((f"{title}; {plain}", before + names))
        else:
            found.append((plain, names))
    shown = {name for _, names in found for name in names}
    found.append(("others", [e["name"] for e in entries if e["name"] not in shown]))
    n = len(COLOURS)
    return [
        (title if i == 0 else f"{title}, more", names[i : i + n])
        for title, names in found
        for i in range(0, len(names), n)
    ]


def _band(runs: list[dict[str, Any]], key: str) -> tuple[list[float], list[float], list[float], list[float]]:
    """Cost, least, mean and largest loss at each record of the finished runs, without one of all runs."""
    runs = [run for run in runs if run["status"] == "finished"] or runs
    if not runs:
        return [], [], [], []
    shortest = min(len(run["curve"]["step"]) for run in runs)
    begin = 1 if key == "seconds" else 0
    spent, low, mean, high = [], [], [], []
    for i in range(begin, shortest):
        losses = [run["curve"]["validation_loss"][i] for run in runs]
        spent.append(sum(run["curve"][key][i] for run in runs) / len(runs))
        low.append(min(losses))
        mean.append(sum(losses) / len(losses))
        high.append(max(losses))
    return spent, low, mean, high


def _scalar(value: Any) -> float | None:
    value = value[0] if isinstance(value, list) else value
    return value if value is not None and math.isfinite(value) else None


def _axes(rows: int, columns: int, width: float, height: float, *, sharey: bool) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=sharey, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def _log_scale(axis: Any) -> None:
    """Labels at 1 and 3, in a short range at 1, 2 and 5 times powers of ten: few, and two at least."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_xscale("log")
    low, high = axis.get_xlim()
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if high > 20.0 * low else (1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
