"""Whether a study's result kept the protocol, read off the stored runs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from .search import choose


def audit(result: dict[str, Any]) -> list[str]:
    """What is wrong with a result, in words; empty if nothing is.

    Every entry has the same number of trials and of epochs (one for online entries); every final run the
    settings of the trial with the least validation loss (twins: with ``rho = 0``); the seeds are those of the
    protocol, and none is that of the tuning; runs of one seed began at the same parameters with the same
    batch (fingerprints tell); the runs are all there, failed ones too.

    Parameters
    ----------
    result : dict
        What `study` returns.

    Notes
    -----
    It reads the stored runs only: a study that lied in them consistently is not found out.
    """
    return [*_budgets(result), *_choices(result), *_pairs(result)]


def _budgets(result: dict[str, Any]) -> list[str]:
    protocol, found = result["protocol"], []
    one_pass = {entry["name"] for entry in result["entries"] if entry["one_pass"]}
    epochs = {plan["name"]: plan["epochs"] for plan in protocol["plans"]}
    for (data, name), tried in _groups(result["tuning"]).items():
        if len(tried) != protocol["trials"]:
            found.append(f"{data}, {name}: {len(tried)} trials, the protocol has {protocol['trials']}")
    for run in [*result["tuning"], *result["runs"]]:
        allowed = 1 if _owner(run["entry"]) in one_pass else epochs[run["data"]]
        spent = max(run["curve"]["epoch"], default=0.0)
        if run["epochs"] != allowed or spent > allowed:
            who = f"{run['data']}, {run['entry']}, seed {run['seed']}"
            found.append(f"{who}: {spent:g} epochs, the protocol has {allowed}")
    return found


def _choices(result: dict[str, Any]) -> list[str]:
    found = []
    tuned = _groups(result["tuning"])
    for (data, name), runs in _groups(result["runs"]).items():
        owner = _owner(name)
        tried = tuned.get((data, owner), [])
        best = choose(tried)
        wanted = None if best is None else dict(tried[best]["settings"])
        if wanted is not None and owner != name:
            wanted["rho"] = 0.0
        if any(run["settings"] != wanted for run in runs):
            found.append(f"{data}, {name}: not the settings of the trial with the least validation loss")
    if any("test_loss" in trial for trial in result["tuning"]):
        found.append("tuning looked at the test part")
    return found


def _pairs(result: dict[str, Any]) -> list[str]:
    protocol, found = result["protocol"], []
    seeds = list(range(protocol["seed"] + 1, protocol["seed"] + 1 + protocol["seeds"]))
    for (data, name), runs in _groups(result["runs"]).items():
        if [run["seed"] for run in runs] != seeds:
            found.append(f"{data}, {name}: seeds {[run['seed'] for run in runs]}, the protocol has {seeds}")
    by_seed = defaultdict(list)
    for run in result["runs"]:
        by_seed[run["data"], run["seed"]].append(run)
    for (data, seed), runs in by_seed.items():
        for what, words in (("start", "at different parameters"), ("first_batch", "with different batches")):
            if len({run[what] for run in runs}) > 1:
                found.append(f"{data}, seed {seed}: runs began {words}")
    return found


def _groups(runs: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    groups = defaultdict(list)
    for run in runs:
        groups[run["data"], run["entry"]].append(run)
    return dict(groups)


def _owner(name: str) -> str:
    return name.removesuffix(", rho = 0")
