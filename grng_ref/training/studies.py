"""The study: equal tuning for every entry, then paired seeds; one JSON object from which it can be redone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..arrays import check_integer, check_real
from ..environment import environment_stamp
from .analysis import analyse
from .audit import audit
from .entries import Entry, default_entries
from .runs import DataPlan, Place, prepare, run_once
from .search import choose, draw_trials

SCHEMA = 1
OVER_EPOCHS = ("Kalman full", "Kalman diagonal", "R-Kalman full", "R-Kalman diagonal")
FULL = (
    DataPlan("breast_cancer", (8,), None, 32, 6),
    DataPlan("diabetes", (8,), None, 32, 6),
    DataPlan("digits", (6,), 600, 40, 5),
    DataPlan("prose", (4,), 800, 40, 5, OVER_EPOCHS),
    DataPlan("markov", (8,), 1000, 40, 5),
)
QUICK = (
    DataPlan("breast_cancer", (4,), None, 32, 4),
    DataPlan("digits", (4,), 300, 30, 3),
)

HOST = Place()
Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a study is done; docs/study.md gives the reasons."""

    plans: tuple[DataPlan, ...] = FULL
    trials: int = 4  #: of the random search, for every entry
    seeds: int = 6  #: runs with the chosen settings, for every entry
    seed: int = (
        0  #: of the splits, the search and the tuning runs; the final runs have seed + 1, seed + 2, ...
    )
    confidence: float = 0.95
    points: int = 4  #: records an epoch; the resolution of "reached the target"
    align: float = 1e-2  #: damping of the exact natural direction that steps are compared with
    place: Place = HOST

    def __post_init__(self) -> None:
        for name in ("trials", "seeds", "points"):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("seed", self.seed, minimum=0)
        check_real("align", self.align, minimum=0.0, exclusive=True)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Protocol:
        """From what `dataclasses.asdict` made, through JSON."""
        plans = tuple(
            DataPlan(**{**plan, "hidden": tuple(plan["hidden"]), "without": tuple(plan["without"])})
            for plan in stored["plans"]
        )
        place = stored["place"]
        kept = Place(**place) if isinstance(place, dict) else Place(*place)
        return cls(**{**stored, "plans": plans, "place": kept})


QUICK_PROTOCOL = Protocol(QUICK, trials=2, seeds=3)


def study(
    protocol: Protocol | None = None,
    *,
    entries: Sequence[Entry] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Tune every entry equally, run the chosen settings on paired seeds, and answer the questions.

    Parameters
    ----------
    protocol : Protocol, optional
    entries : sequence of Entry, optional
        `default_entries` unless given.
    jobs : int
        Processes (joblib). More than the cores spoil the times.
    progress : callable, optional
        ``progress(done, all, what)``.

    Returns
    -------
    dict
        Plain data for JSON: ``protocol``, ``entries``, ``data``, ``tuning`` (every trial), ``chosen``,
        ``runs`` (every final run, failed ones too), ``analysis`` (see `analyse`), ``audit`` (see `audit`;
        empty if the protocol was kept), ``environment``.

    Raises
    ------
    TypeError, ValueError
        Bad arguments, entries with equal names among them.
    KeyboardInterrupt
        Ctrl-C; nothing of an interrupted study is kept.
    """
    protocol = Protocol() if protocol is None else protocol
    entries = tuple(default_entries() if entries is None else entries)
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ValueError(f"entries must have different names, got {names}")
    started = time.perf_counter()
    tuning = _tune(protocol, entries, jobs, progress)
    chosen: dict[str, dict[str, Any]] = {}
    for plan in protocol.plans:
        chosen[plan.name] = {}
        for entry in _present(entries, plan):
            tried = [t for t in tuning if t["data"] == plan.name and t["entry"] == entry.name]
            best = choose(tried)
            chosen[plan.name][entry.name] = None if best is None else tried[best]["settings"]
    runs = _final(protocol, entries, chosen, jobs, progress)
    result: dict[str, Any] = {
        "kind": "study",
        "schema": SCHEMA,
        "protocol": dataclasses.asdict(protocol) | {"place": protocol.place._asdict()},
        "entries": [_describe(entry) for entry in entries],
        "data": {plan.name: _describe_data(plan, protocol) for plan in protocol.plans},
        "tuning": tuning,
        "chosen": chosen,
        "runs": runs,
        "seconds": time.perf_counter() - started,
        "environment": environment_stamp(),
    }
    result["analysis"] = analyse(result)
    result["audit"] = audit(result)
    return result


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Where two studies' losses are not bit-identical; times are not compared."""
    found = []
    for part in ("tuning", "runs"):
        if len(first[part]) != len(second[part]):
            return [f"{part}: {len(first[part])} runs against {len(second[part])}"]
        for a, b in zip(first[part], second[part], strict=True):
            where = f"{part}: {a['data']}, {a['entry']}, seed {a['seed']}"
            same = all(a[k] == b[k] for k in ("data", "entry", "seed", "settings", "status"))
            curves = all(a["curve"][k] == b["curve"][k] for k in ("step", "loss", "validation_loss"))
            if not (same and curves and a.get("test_loss") == b.get("test_loss")):
                found.append(where)
    return found


# --- the two halves ----------------------------------------------------------------------------------------


def _present(entries: Iterable[Entry], plan: DataPlan) -> list[Entry]:
    return [entry for entry in entries if entry.name not in plan.without]


def _tune(
    protocol: Protocol, entries: Sequence[Entry], jobs: int, progress: Progress | None
) -> list[dict[str, Any]]:
    tasks = [
        (plan, entry, settings, protocol.seed, None, False)
        for plan in protocol.plans
        for entry in _present(entries, plan)
        for settings in draw_trials(entry.space, protocol.trials, seed=protocol.seed)
    ]
    return _run_all(protocol, tasks, jobs, progress, "tuning")


def _final(
    protocol: Protocol,
    entries: Sequence[Entry],
    chosen: dict[str, dict[str, Any]],
    jobs: int,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Chosen settings on every seed; regularized entries with ``rho = 0`` too.

    Seeds are the outer loop, so that what slows the machine for a while slows all entries.
    """
    tasks = []
    for plan in protocol.plans:
        for seed in range(protocol.seed + 1, protocol.seed + 1 + protocol.seeds):
            for entry in _present(entries, plan):
                settings = chosen[plan.name][entry.name]
                if settings is None:
                    continue
                tasks.append((plan, entry, settings, seed, protocol.align, True))
                if entry.group == "regularized":
                    off = dataclasses.replace(entry, name=without_rho(entry.name), group="other")
                    tasks.append((plan, off, {**settings, "rho": 0.0}, seed, protocol.align, True))
    return _run_all(protocol, tasks, jobs, progress, "final runs")


def without_rho(name: str) -> str:
    """The name of an entry's twin."""
    return f"{name}, rho = 0"


def _run_all(
    protocol: Protocol, tasks: list[Any], jobs: int, progress: Progress | None, what: str
) -> list[dict[str, Any]]:
    def note(done: int) -> None:
        if progress is not None:
            progress(done, len(tasks), what)

    found: list[dict[str, Any]] = []
    if jobs == 1:
        results: Iterable[dict[str, Any]] = (_task(protocol, *task) for task in tasks)
    else:
        import joblib

        work = (joblib.delayed(_task)(protocol, *task) for task in tasks)
        results = joblib.Parallel(n_jobs=jobs, return_as="generator", batch_size=1)(work)
    for done, run in enumerate(results, 1):
        found.append(run)
        note(done)
    return found


def _task(
    protocol: Protocol,
    plan: DataPlan,
    entry: Entry,
    settings: Any,
    seed: int,
    align: float | None,
    final: bool,
) -> dict[str, Any]:
    return run_once(
        plan,
        entry,
        settings,
        seed=seed,
        split_seed=protocol.seed,
        place=protocol.place,
        points=protocol.points,
        align=align,
        final=final,
    )


def _describe(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "space": {name: list(bounds) for name, bounds in entry.space.items()},
        "group": entry.group,
        "plain": entry.plain,
        "family": entry.family,
        "one_pass": entry.one_pass,
    }


def _describe_data(plan: DataPlan, protocol: Protocol) -> dict[str, Any]:
    problem, data, _ = prepare(plan, protocol.seed, protocol.place)
    return {
        "sizes": list(problem.model.sizes),
        "parameters": problem.num_parameters,
        "examples": [len(data.x_train), len(data.x_validation), len(data.x_test)],
        "source": data.source,
        "note": data.note,
        "optimum": data.optimum,
    }
