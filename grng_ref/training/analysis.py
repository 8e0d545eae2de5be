"""From the stored runs of a study to its answers, by the rules of docs/study.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .intervals import Interval, bonferroni, paired_interval, paired_ratio, word
from .search import choose

COSTS = {"epochs": "epoch", "gradient evaluations": "gradient_evaluations", "wall time": "seconds"}
DROP = 0.9  # of the fall in validation loss that the weakest tuned baseline made
EFFECTS = ("test loss", "gap", "trace", "top")

Run = dict[str, Any]


def analyse(result: dict[str, Any]) -> dict[str, Any]:
    """Targets, a summary of each entry, the answers, and the effect of gradient regularization.

    ``targets``: a validation loss for each data set. ``summary``: one row for each data set and entry.
    ``answers``: a word for each data set, family and question, with its intervals. ``effects``: each
    regularized entry against itself with ``rho = 0`` and against its plain method, tuned by itself.

    Parameters
    ----------
    result : dict
        What `study` returns; ``protocol``, ``entries``, ``data``, ``tuning`` and ``runs`` of it are read.

    Notes
    -----
    Rules: docs/study.md. Plain numbers in and out; a failed run is counted, and supports nothing.
    """
    view = _View(result)
    data = list(result["data"])
    return {
        "targets": {name: view.target(name) for name in data},
        "summary": [row for name in data for row in view.summary(name)],
        "answers": [row for name in data for row in view.answers(name)],
        "effects": [row for name in data for row in view.effects(name)],
    }


class _View:
    """The runs of a result, looked up."""

    def __init__(self, result: dict[str, Any]) -> None:
        self.result = result
        self.entries = {entry["name"]: entry for entry in result["entries"]}
        self.confidence = float(result["protocol"]["confidence"])
        self.runs: dict[tuple[str, str], list[Run]] = {}
        for run in result["runs"]:
            self.runs.setdefault((run["data"], run["entry"]), []).append(run)

    def group(self, data: str, group: str) -> list[str]:
        """Names of the entries of a group that ran on a data set."""
        return [n for n, e in self.entries.items() if e["group"] == group and (data, n) in self.runs]

    def rivals(self, data: str) -> list[str]:
        """The baselines that should have run: one that failed in tuning has no runs, and is not left out."""
        plans = [plan for plan in self.result["protocol"].get("plans", ()) if plan["name"] == data]
        without = {name for plan in plans for name in plan["without"]}
        return [n for n, e in self.entries.items() if e["group"] == "baseline" and n not in without]

    def tuned(self, data: str, name: str) -> Run | None:
        """The chosen trial."""
        tried = [t for t in self.result["tuning"] if t["data"] == data and t["entry"] == name]
        best = choose(tried)
        return None if best is None else tried[best]

    def target(self, data: str) -> float | None:
        """``b - DROP (b - w)``: b the loss before training, w that of the weakest tuned baseline."""
        chosen = [self.tuned(data, name) for name in self.group(data, "baseline")]
        good = [trial for trial in chosen if trial is not None]
        if not good:
            return None
        before = float(good[0]["curve"]["validation_loss"][0])
        weakest = max(float(trial["validation_loss"]) for trial in good)
        return before - DROP * (before - weakest)

    def cost(self, run: Run, target: float, measure: str) -> tuple[float, bool]:
        """What a run had spent when it reached the target, else all that it spent, a lower bound."""
        spent, losses = run["curve"][measure], run["curve"]["validation_loss"]
        for paid, loss in zip(spent, losses, strict=True):
            if loss is not None and loss <= target:
                return float(paid), True
        return float(spent[-1]), False

    # --- the claims ------------------------------------------------------------------------------------

    def answers(self, data: str) -> list[dict[str, Any]]:
        """A word for each family and question."""
        rivals = self.rivals(data)
        families = dict.fromkeys(self.entries[n]["family"] for n in self.group(data, "regularized"))
        found = []
        for family in families:
            names = [n for n in self.group(data, "regularized") if self.entries[n]["family"] == family]
            trials = {n: t for n in names if (t := self.tuned(data, n)) is not None}
            if family is None or not trials or not rivals:
                continue
            champion = min(trials, key=lambda n: float(trials[n]["validation_loss"]))
            asked = [*((f"faster in {m}", self._speed(data, k)) for m, k in COSTS.items())]
            asked.append(("generalizes better", self._test_loss(data)))
            for question, measure in asked:
                row = self._answer(data, champion, rivals, measure, ratio=question.startswith("faster"))
                found.append({"data": data, "family": family, "entry": champion, "question": question, **row})
        return found

    def _speed(self, data: str, key: str) -> Callable[[Run], tuple[float | None, bool]]:
        target = self.target(data)

        def measure(run: Run) -> tuple[float | None, bool]:
            if target is None or None in run["curve"][key]:
                return None, False
            paid, reached = self.cost(run, target, key)
            return (paid if paid > 0.0 else None), reached

        return measure

    def _test_loss(self, data: str) -> Callable[[Run], tuple[float | None, bool]]:
        return lambda run: (run.get("test_loss"), "test_loss" in run)

    def _answer(
        self,
        data: str,
        champion: str,
        rivals: Sequence[str],
        measure: Callable[[Run], tuple[float | None, bool]],
        *,
        ratio: bool,
    ) -> dict[str, Any]:
        confidence = bonferroni(self.confidence, len(rivals))
        own = [measure(run) for run in self.runs[data, champion]]
        intervals, against, complete = [], [], []
        for rival in rivals:
            other = [measure(run) for run in self.runs.get((data, rival), [])]
            interval = _paired(own, other, confidence, ratio=ratio) if other else None
            if interval is not None:
                intervals.append(interval)
                complete.append(all(good for _, good in other))
                against.append({"rival": rival, **interval._asdict(), "complete": complete[-1]})
        all_good = all(good for _, good in own) and len(intervals) == len(rivals)
        return {
            "word": word(intervals, null=1.0 if ratio else 0.0, complete=all_good, rivals_complete=complete),
            "scale": "ratio" if ratio else "difference",
            "confidence": confidence,
            "complete": all(good for _, good in own),
            "against": against,
        }

    # --- gradient regularization by itself ---------------------------------------------------------------

    def effects(self, data: str) -> list[dict[str, Any]]:
        """Differences on - off, each for the seeds on which both finished."""
        regularized = self.group(data, "regularized")
        confidence = bonferroni(self.confidence, len(regularized))
        found = []
        for name in regularized:
            for kind, other in (
                ("same settings", f"{name}, rho = 0"),
                ("tuned", self.entries[name]["plain"]),
            ):
                if (data, other) not in self.runs:
                    continue
                for what in EFFECTS:
                    on = [_value(run, what) for run in self.runs[data, name]]
                    off = [_value(run, what) for run in self.runs[data, other]]
                    interval = _paired(on, off, confidence, ratio=False)
                    if interval is None:
                        continue
                    verdict = word(
                        [interval],
                        null=0.0,
                        complete=all(good for _, good in on),
                        rivals_complete=[all(good for _, good in off)],
                    )
                    row = {"data": data, "entry": name, "against": other, "kind": kind, "what": what}
                    found.append({**row, **interval._asdict(), "confidence": confidence, "word": verdict})
        return found

    # --- the table of entries ----------------------------------------------------------------------------

    def summary(self, data: str) -> list[dict[str, Any]]:
        """Means over the finished runs of each entry."""
        target = self.target(data)
        return [
            {"data": data, "entry": name, **self._row(runs, target)}
            for (where, name), runs in self.runs.items()
            if where == data
        ]

    def _row(self, runs: list[Run], target: float | None) -> dict[str, Any]:
        good = [run for run in runs if run["status"] == "finished"]
        row: dict[str, Any] = {
            "runs": len(runs),
            "failed": len(runs) - len(good),
            "test_loss": _interval([run["test_loss"] for run in good], self.confidence),
            "test_error": _mean([run["test_error"] for run in good]),
            "train_loss": _mean([run["train_loss"] for run in good]),
            "gap": _interval([run["gap"] for run in good], self.confidence),
            "trace": _mean([run["flatness"]["trace"] for run in good]),
            "top": _mean([run["flatness"]["top"] for run in good]),
            "ms_per_step": _mean([1e3 * _last(run, "seconds") / run["steps"] for run in good]),
            "evaluations_per_step": _mean(
                [
                    None if (e := _last(run, "gradient_evaluations")) is None else e / run["steps"]
                    for run in good
                ]
            ),
        }
        for name in ("gradient_norm", "cosine", "pearson"):
            row[name] = _mean([_mean(run["curve"][name]) for run in runs])
        if target is not None:
            row["reached"] = sum(self.cost(run, target, "epoch")[1] for run in runs)
            for measure, key in COSTS.items():
                costs = [
                    None if None in run["curve"][key] else self.cost(run, target, key)[0] for run in runs
                ]
                row[f"{measure} to target"] = _mean(costs)
        return row


def _value(run: Run, what: str) -> tuple[float | None, bool]:
    if "test_loss" not in run:
        return None, False
    value = {
        "test loss": run["test_loss"],
        "gap": run["gap"],
        "trace": run["flatness"]["trace"],
        "top": run["flatness"]["top"],
    }[what]
    return value, value is not None


def _paired(
    first: Sequence[tuple[float | None, bool]],
    second: Sequence[tuple[float | None, bool]],
    confidence: float,
    *,
    ratio: bool,
) -> Interval | None:
    """The interval over the pairs of which both numbers are there; None without such a pair."""
    pairs = [(a, b) for (a, _), (b, _) in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    method = paired_ratio if ratio else paired_interval
    return method([a for a, _ in pairs], [b for _, b in pairs], confidence=confidence)


def _last(run: Run, key: str) -> Any:
    return run["curve"][key][-1]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _interval(values: Sequence[float], confidence: float) -> list[float] | None:
    if not values:
        return None
    return list(paired_interval(values, [0.0] * len(values), confidence=confidence)[:3])
