"""From the stored runs of a study to its answers, by the rules of docs/study.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from .entries import GROUPS, TWIN
from .intervals import (
    UNKNOWN,
    Bounds,
    Interval,
    bonferroni,
    median_ratio,
    paired_interval,
    pairs_needed,
    word,
)
from .search import choose

COSTS = {"epochs": "epoch", "gradient evaluations": "gradient_evaluations", "wall time": "seconds"}
QUESTIONS = (*(f"faster in {measure}" for measure in COSTS), "generalizes better")
DROP = 0.9  # of the fall in validation loss that the weakest tuned baseline made
EFFECTS = ("test loss", "gap", "trace", "top")
CLAIMANTS = ("regularized", "other")  # groups whose entries are held against the baselines

Run = dict[str, Any]


def analyse(result: dict[str, Any]) -> dict[str, Any]:
    """Targets, a summary of each entry, the answers, and the effect of gradient regularization.

    ``targets``: a validation loss for each data set, or the reason why there is none. ``summary``: one row
    for each data set and entry. ``answers``: a word for each data set, family and question, and one against
    each baseline, with intervals and with reasons where something is not known; an entry of no family is one
    by itself. ``effects``: each regularized entry against itself with ``rho = 0`` and against its plain
    method, tuned by itself.

    Parameters
    ----------
    result : dict
        What `study` returns; ``protocol``, ``entries``, ``data``, ``tuning`` and ``runs`` of it are read.

    Notes
    -----
    Rules: docs/study.md. Plain numbers in and out, None for what is not known; a failed or missing run is
    counted, and decides nothing.
    """
    view = _View(result)
    data = list(result["data"])
    return {
        "targets": {name: dict(zip(("loss", "reason"), view.target(name), strict=True)) for name in data},
        "summary": [row for name in data for row in view.summary(name)],
        "answers": [row for name in data for row in view.answers(name)],
        "effects": [row for name in data for row in view.effects(name)],
    }


class _View:
    """The runs of a result, looked up."""

    def __init__(self, result: dict[str, Any]) -> None:
        protocol = result["protocol"]
        self.tuning = result["tuning"]
        self.entries = {entry["name"]: entry for entry in result["entries"]}
        self.without = {plan["name"]: set(plan["without"]) for plan in protocol["plans"]}
        self.confidence = float(protocol["confidence"])
        self.seeds = range(protocol["seed"] + 1, protocol["seed"] + 1 + protocol["seeds"])
        self.runs: dict[tuple[str, str], dict[int, Run]] = {}
        for run in result["runs"]:
            self.runs.setdefault((run["data"], run["entry"]), {})[run["seed"]] = run

    def group(self, data: str, *groups: str) -> list[str]:
        """The entries of these groups that should have run on a data set, also if they failed."""
        left_out = self.without.get(data, set())
        return [n for n, e in self.entries.items() if e["group"] in groups and n not in left_out]

    def tuned(self, data: str, name: str) -> Run | None:
        """The chosen trial."""
        tried = [t for t in self.tuning if t["data"] == data and t["entry"] == name]
        best = choose(tried)
        return None if best is None else tried[best]

    def tuned_losses(self, data: str, names: Sequence[str]) -> dict[str, float]:
        """The validation losses of the chosen trials, where a trial finished."""
        trials = {name: self.tuned(data, name) for name in names}
        return {n: float(trial["validation_loss"]) for n, trial in trials.items() if trial is not None}

    def target(self, data: str) -> tuple[float | None, str]:
        """``b - DROP (b - w)``, b the loss before training, w the weakest tuned baseline's; or why not."""
        losses = self.tuned_losses(data, self.group(data, "baseline"))
        if not losses:
            return None, "no target: no trial of a baseline finished"
        weakest = max(losses, key=lambda name: losses[name])
        trial = self.tuned(data, weakest)
        before = math.inf if trial is None else float(trial["curve"]["validation_loss"][0])
        if not losses[weakest] < before:
            return None, f"no target: {weakest} at its best did not lower the validation loss"
        target = before - DROP * (before - losses[weakest])
        for (where, _), runs in self.runs.items():
            for seed, run in runs.items():
                if where == data and any(loss <= target for loss in run["curve"]["validation_loss"][:1]):
                    return None, f"no target: seed {seed} begins at or below {target:.4g}"
        return target, ""

    # --- the claims ------------------------------------------------------------------------------------

    def answers(self, data: str) -> list[dict[str, Any]]:
        """A word for each family and question."""
        families: dict[str, list[str]] = {}
        for name in self.group(data, *CLAIMANTS):
            families.setdefault(self.entries[name]["family"] or name, []).append(name)
        found = []
        for family, names in families.items():
            losses = self.tuned_losses(data, names)
            champion = min(losses, key=lambda name: losses[name]) if losses else names[0]
            tried = sum(t["data"] == data and t["entry"] in names for t in self.tuning)
            for question in QUESTIONS:
                row = self._answer(data, champion, question)
                found.append({"data": data, "family": family, "entry": champion, "trials": tried, **row})
        return found

    def _answer(self, data: str, champion: str, question: str) -> dict[str, Any]:
        """Against every baseline; the intervals hold together with the study's confidence."""
        rivals = self.group(data, "baseline")
        confidence = bonferroni(self.confidence, len(rivals))
        null = 0.0 if question == QUESTIONS[-1] else 1.0
        seen = {rival: self._compare(data, champion, rival, question, confidence) for rival in rivals}
        verdict = word([interval for interval, _ in seen.values()], null=null)
        whys = dict.fromkeys(why for _, why in seen.values() if why) if rivals else ["no baseline"]
        return {
            "question": question,
            "word": verdict,
            "reason": "; ".join(whys) if verdict == "undecided" else "",
            "scale": "ratio" if null else "difference",
            "confidence": confidence,
            "against": [
                {"rival": rival, "word": word([i], null=null), "reason": why, **_plain(i)}
                for rival, (i, why) in seen.items()
            ],
        }

    def _compare(
        self, data: str, own: str, rival: str, question: str, confidence: float
    ) -> tuple[Interval, str]:
        """The interval of own against rival, and what is not known of it."""
        if question == QUESTIONS[-1]:
            return self._difference(data, own, rival, "test loss", confidence)
        key = COSTS[question.removeprefix("faster in ")]
        target, why = self.target(data)
        if target is None:
            return Interval(math.nan, *UNKNOWN, 0), why
        costs = [[self.cost(data, name, seed, key, target) for seed in self.seeds] for name in (own, rival)]
        whys = [self._lost(data, name, seen) for name, seen in zip((own, rival), costs, strict=True)]
        if len(self.seeds) < (needed := pairs_needed(confidence)):
            whys.append(f"{len(self.seeds)} seeds, a ratio at {100.0 * confidence:.4g} % needs {needed}")
        first, second = ([UNKNOWN if c is None else c for c in seen] for seen in costs)
        return median_ratio(first, second, confidence=confidence), "; ".join(filter(None, whys))

    def cost(self, data: str, name: str, seed: int, key: str, target: float) -> Bounds | None:
        """Bounds of what a run had spent when it reached the target; None if it failed or does not say.

        It was between two records, or is known where they are one step apart; of a run that did not reach it,
        all that it spent is a lower bound.
        """
        run = self.runs.get((data, name), {}).get(seed)
        if run is None or run["status"] != "finished" or None in run["curve"][key]:
            return None
        spent, losses, steps = run["curve"][key], run["curve"]["validation_loss"], run["curve"]["step"]
        for i in range(1, len(losses)):
            if losses[i] <= target:
                before = spent[i] if steps[i] - steps[i - 1] == 1 else spent[i - 1]
                return float(before), float(spent[i])
        return float(spent[-1]), math.inf

    def _difference(
        self, data: str, own: str, rival: str, what: str, confidence: float
    ) -> tuple[Interval, str]:
        """Of what is measured at the end of training; unknown unless it is there for every seed."""
        ends = [[self._end(data, name, seed, what) for seed in self.seeds] for name in (own, rival)]
        why = "; ".join(
            filter(None, (self._lost(data, n, seen) for n, seen in zip((own, rival), ends, strict=True)))
        )
        if why:
            return Interval(math.nan, -math.inf, math.inf, 0), why
        first, second = ([float(value) for value in seen if value is not None] for seen in ends)
        return paired_interval(first, second, confidence=confidence), ""

    def _end(self, data: str, name: str, seed: int, what: str) -> float | None:
        run = self.runs.get((data, name), {}).get(seed)
        if run is None or run["status"] != "finished":
            return None
        value = run["flatness"][what] if what in ("trace", "top") else run[what.replace(" ", "_")]
        return None if value is None else float(value)

    def _lost(self, data: str, name: str, values: Sequence[object]) -> str:
        """Why some of an entry's numbers are not known, if so."""
        lost = sum(value is None for value in values)
        runs = self.runs.get((data, name), {}).values()
        finished = sum(run["status"] == "finished" for run in runs)
        if not runs or not lost:
            return f"no run of {name}" if lost else ""
        if finished == len(values):
            return f"{name} does not say it in {lost} of {len(values)} runs"
        return f"{len(values) - finished} of {len(values)} runs of {name} failed"

    # --- gradient regularization by itself ---------------------------------------------------------------

    def effects(self, data: str) -> list[dict[str, Any]]:
        """Differences on - off; ``twice`` marks a comparison with the plain method that is the twin's."""
        regularized = self.group(data, "regularized")
        confidence = bonferroni(self.confidence, len(regularized))
        found = []
        for name in regularized:
            for kind, other in (
                ("same settings", name + TWIN),
                ("tuned", self.entries[name]["plain"]),
            ):
                if kind == "tuned" and other not in self.group(data, *GROUPS):
                    continue  # the plain method is no entry here, or left out for its cost
                for what in EFFECTS:
                    interval, why = self._difference(data, name, other, what, confidence)
                    row = {"data": data, "entry": name, "against": other, "kind": kind, "what": what}
                    row["twice"] = kind == "tuned" and self._same_but_rho(data, name, other)
                    row |= {"word": word([interval], null=0.0), "reason": why, "confidence": confidence}
                    found.append(row | _plain(interval))
        return found

    def _same_but_rho(self, data: str, name: str, plain: str) -> bool:
        """Whether tuning chose for the plain method what the twin runs with: then both rows are one."""
        on, off = self.tuned(data, name), self.tuned(data, plain)
        if on is None or off is None:
            return False
        return {**off["settings"], "rho": None} == {**on["settings"], "rho": None}

    # --- the table of entries ----------------------------------------------------------------------------

    def summary(self, data: str) -> list[dict[str, Any]]:
        """Means over the finished runs of each entry; medians over all runs of what the target cost."""
        target, _ = self.target(data)
        return [
            {
                "data": data,
                "entry": name,
                **self._row(list(runs.values())),
                **self._costs(data, name, target),
            }
            for (where, name), runs in self.runs.items()
            if where == data
        ]

    def _row(self, runs: list[Run]) -> dict[str, Any]:
        good = [run for run in runs if run["status"] == "finished"]
        row: dict[str, Any] = {
            "runs": len(runs),
            "failed": len(runs) - len(good),
            "epochs": runs[0]["epochs"],
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
            row[name] = _mean([_mean(run["curve"][name]) for run in good])
        return row

    def _costs(self, data: str, name: str, target: float | None) -> dict[str, Any]:
        """Medians of the records at which the target was reached; None where too few runs reached it."""
        if target is None:
            return {}
        row: dict[str, Any] = {}
        for measure, key in COSTS.items():
            bounds = [self.cost(data, name, seed, key, target) for seed in self.seeds]
            reached = [math.inf if b is None else b[1] for b in bounds]
            if measure == "epochs":
                row["reached"] = sum(map(math.isfinite, reached))
            row[f"{measure} to target"] = _finite(statistics.median(reached))
        return row


def _plain(interval: Interval) -> dict[str, Any]:
    """For JSON, which has neither NaN nor infinity: None stands for them."""
    return {name: value if name == "pairs" else _finite(value) for name, value in interval._asdict().items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _last(run: Run, key: str) -> Any:
    return run["curve"][key][-1]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _interval(values: Sequence[float], confidence: float) -> list[float | None] | None:
    if not values:
        return None
    return [_finite(v) for v in paired_interval(values, [0.0] * len(values), confidence=confidence)[:3]]
