"""Whether a study's result kept the protocol, read off the stored runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from .entries import TWIN
from .search import choose, draw_trials

Run = dict[str, Any]


def audit(result: dict[str, Any]) -> list[str]:
    """What is wrong with a result, in words; empty if nothing is.

    The runs that the protocol asks for are all there, failed ones too, and no other ones: every entry on
    every data set that does not leave it out, so many trials with the settings that the search draws, then
    every seed, with the settings of the trial of least validation loss (twins: with ``rho = 0``), unless
    every trial failed. A finished run has the records, epochs and numbers that it should have. Runs of one
    seed began at the same parameters with the same batch (fingerprints tell).

    Parameters
    ----------
    result : dict
        What `study` returns.

    Notes
    -----
    It reads the stored runs only: a study that lied in them consistently is not found out.
    """
    return [*_data(result), *_tuning(result), *_final(result), *_runs(result), *_pairs(result)]


# --- which runs there must be --------------------------------------------------------------------------


def _data(result: dict[str, Any]) -> list[str]:
    wanted = {plan["name"] for plan in result["protocol"]["plans"]}
    return _compare("data", wanted, result["data"])


def _tuning(result: dict[str, Any]) -> list[str]:
    protocol, tuned = result["protocol"], _groups(result["tuning"])
    wanted = {(plan["name"], entry["name"]): entry for plan, entry in _present(result)}
    found = _compare("tuning", wanted, tuned)
    for (data, name), entry in wanted.items():
        tried = tuned.get((data, name), [])
        if len(tried) != protocol["trials"]:
            found.append(f"{data}, {name}: {len(tried)} trials, the protocol has {protocol['trials']}")
        if any(trial["seed"] != protocol["seed"] for trial in tried):
            found.append(f"{data}, {name}: a trial has another seed than {protocol['seed']}")
        drawn = draw_trials(entry["space"], len(tried), seed=protocol["seed"]) if tried else []
        if not all(_same(trial["settings"], draw) for trial, draw in zip(tried, drawn, strict=True)):
            found.append(f"{data}, {name}: a trial has other settings than the search draws")
    if any("test_loss" in trial for trial in result["tuning"]):
        found.append("tuning looked at the test part")
    return found


def _final(result: dict[str, Any]) -> list[str]:
    protocol, found = result["protocol"], []
    tuned, final = _groups(result["tuning"]), _groups(result["runs"])
    seeds = list(range(protocol["seed"] + 1, protocol["seed"] + 1 + protocol["seeds"]))
    wanted: dict[tuple[str, str], Any] = {}
    for plan, entry in _present(result):
        data, name = plan["name"], entry["name"]
        tried = tuned.get((data, name), [])
        best = choose(tried)
        settings = None if best is None else tried[best]["settings"]
        if result["chosen"].get(data, {}).get(name) != settings:
            found.append(f"{data}, {name}: chosen is not the trial with the least validation loss")
        if settings is None:
            continue
        wanted[data, name] = settings
        if entry["group"] == "regularized":
            wanted[data, name + TWIN] = {**settings, "rho": 0.0}
    found += _compare("final", wanted, final)
    for (data, name), settings in wanted.items():
        runs = final.get((data, name), [])
        if (had := [run["seed"] for run in runs]) != seeds:
            found.append(f"{data}, {name}: seeds {had}, the protocol has {seeds}")
        if any(run["settings"] != settings for run in runs):
            found.append(f"{data}, {name}: not the settings of the trial with the least validation loss")
    return found


def _present(result: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each data set with each entry that it does not leave out."""
    return [
        (plan, entry)
        for plan in result["protocol"]["plans"]
        for entry in result["entries"]
        if entry["name"] not in plan["without"]
    ]


def _compare(what: str, wanted: Iterable[Any], there: Iterable[Any]) -> list[str]:
    wanted, there = set(wanted), set(there)
    missing = [f"{what}: no runs of {_words(key)}" for key in sorted(wanted - there)]
    return missing + [f"{what}: {_words(key)} is not in the protocol" for key in sorted(there - wanted)]


def _words(key: str | tuple[str, str]) -> str:
    return key if isinstance(key, str) else f"{key[1]} on {key[0]}"


# --- what each run must hold ---------------------------------------------------------------------------


def _runs(result: dict[str, Any]) -> list[str]:
    one_pass = {entry["name"] for entry in result["entries"] if entry["one_pass"]}
    plans = {plan["name"]: plan for plan in result["protocol"]["plans"]}
    found = []
    for run in [*result["tuning"], *result["runs"]]:
        plan, about = plans.get(run["data"]), result["data"].get(run["data"])
        if plan is None or about is None:
            continue  # said already
        epochs = 1 if run["entry"].removesuffix(TWIN) in one_pass else plan["epochs"]
        per_epoch = math.ceil(about["examples"][0] / plan["batch_size"])
        wrong = _wrong(run, epochs, per_epoch, max(1, per_epoch // result["protocol"]["points"]))
        found += [f"{run['data']}, {run['entry']}, seed {run['seed']}: {text}" for text in wrong]
    for run in result["runs"]:
        if run["status"] == "finished" and not {"test_loss", "gap", "train_loss", "flatness"} <= set(run):
            found.append(f"{run['data']}, {run['entry']}, seed {run['seed']}: finished without a test loss")
    return found


def _wrong(run: Run, epochs: int, per_epoch: int, every: int) -> list[str]:
    curve, total, finished = run["curve"], epochs * per_epoch, run["status"] == "finished"
    spent = max(curve["epoch"], default=0.0)
    if run["epochs"] != epochs or spent > epochs:
        return [f"{spent:g} epochs, the protocol has {epochs}"]
    steps = sorted({*range(0, total + 1, every), total})
    if not finished:  # it ends where it failed
        steps = steps[: len(curve["step"])]
    found = []
    if curve["step"] != steps or (finished and run["steps"] != total):
        found.append(f"records of steps {curve['step']}, the protocol has {steps}")
    elif not all(math.isclose(e, s / per_epoch) for e, s in zip(curve["epoch"], steps, strict=True)):
        found.append("epochs that are not those of its steps")
    last = curve["validation_loss"][-1] if finished and curve["validation_loss"] else None
    if run["validation_loss"] != last:
        found.append(f"validation loss {run['validation_loss']}, its last record has {last}")
    return found


def _pairs(result: dict[str, Any]) -> list[str]:
    by_seed, found = defaultdict(list), []
    for run in [*result["tuning"], *result["runs"]]:
        by_seed[run["data"], run["seed"]].append(run)
    for (data, seed), runs in by_seed.items():
        for what, words in (("start", "at different parameters"), ("first_batch", "with different batches")):
            if len({run[what] for run in runs}) > 1:
                found.append(f"{data}, seed {seed}: runs began {words}")
    return found


def _same(settings: dict[str, float], drawn: dict[str, float]) -> bool:
    """Up to the last digits, in which a power may differ between machines."""
    return settings.keys() == drawn.keys() and all(
        math.isclose(settings[name], value, rel_tol=1e-12) for name, value in drawn.items()
    )


def _groups(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    groups = defaultdict(list)
    for run in runs:
        groups[run["data"], run["entry"]].append(run)
    return dict(groups)
