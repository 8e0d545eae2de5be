"""The study: equal tuning for every entry, then paired seeds; one JSON object from which it can be redone."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..arrays import check_integer, check_real
from ..environment import environment_stamp
from .analysis import analyse
from .audit import audit
from .entries import TWIN, Entry, default_entries
from .identity import describe
from .intervals import check_confidence
from .journals import Journal
from .runs import DataPlan, Place, prepare, run_once
from .search import choose, draw_trials

SCHEMA = 3
STRUCTURED = tuple(
    f"{name} {belief}"
    for name in ("Kalman", "R-Kalman")
    for belief in ("block-diagonal", "diagonal", "low rank")
)
FULL = (
    DataPlan("breast_cancer", (8,), None, 32, 6),
    DataPlan("diabetes", (8,), None, 32, 6),
    DataPlan("digits", (6,), 600, 40, 5),
    DataPlan("prose", (4,), 800, 40, 5, STRUCTURED),
    DataPlan("markov", (8,), 1000, 40, 5),
)
QUICK = (
    DataPlan("breast_cancer", (4,), None, 32, 4),
    DataPlan("digits", (4,), 300, 20, 2),
)

HOST = Place()
TUNING, FINAL = "tuning", "final runs"
Progress = Callable[[int, int, str], None]
Task = tuple[DataPlan, Entry, dict[str, float], int]  # with settings and seed


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a study is done; docs/study.md gives the reasons."""

    plans: tuple[DataPlan, ...] = FULL
    trials: int = 4  #: of the random search, for every entry
    seeds: int = 8  #: runs with the chosen settings, for every entry; the fewest that decide a ratio of costs
    seed: int = 0  #: of splits, search and tuning runs; the final runs have seed + 1, seed + 2, ...
    confidence: float = 0.95
    points: int = 100  #: records an epoch, at most one a step; the resolution of "reached the target"
    align: float = 1e-2  #: damping of the exact natural direction that steps are compared with
    place: Place = HOST

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("seeds", 2), ("points", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), minimum=least)
        check_confidence(self.confidence)
        check_real("align", self.align, minimum=0.0, exclusive=True)
        if not isinstance(self.plans, tuple) or not all(isinstance(plan, DataPlan) for plan in self.plans):
            raise TypeError(f"plans must be a tuple of DataPlan, got {self.plans!r}")
        names = [plan.name for plan in self.plans]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"plans must be of different data sets, at least one, got {names}")
        if not isinstance(self.place, Place):
            raise TypeError(f"place must be a Place, got {type(self.place).__name__}")

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


QUICK_PROTOCOL = Protocol(QUICK, trials=2)


def study(
    protocol: Protocol | None = None,
    *,
    entries: Sequence[Entry] | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    journal: str | os.PathLike[str] | None = None,
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
    journal : path, optional
        A file for the runs as they finish, JSON lines. A study that was interrupted and is begun again with
        the same journal takes them as done; it must be the same study in the same environment.

    Returns
    -------
    dict
        Plain data for JSON: ``protocol``, ``entries``, ``data``, ``tuning`` (every trial), ``chosen``,
        ``runs`` (every final run, failed ones too), ``analysis`` (see `analyse`), ``audit`` (see `audit`;
        empty if the protocol was kept), ``seconds``, ``jobs``, ``environment``. Runs use one BLAS thread, so
        that they do not depend on ``jobs``.

    Raises
    ------
    TypeError, ValueError
        Bad arguments, entries with equal names among them; a journal of another study.
    ModuleNotFoundError, BackendError
        A data set or the backend is not installed; before anything runs.
    KeyboardInterrupt
        Ctrl-C; what finished before is in the journal.
    """
    protocol = Protocol() if protocol is None else protocol
    if not isinstance(protocol, Protocol):
        raise TypeError(f"protocol must be a Protocol, got {type(protocol).__name__}")
    if entries is not None and not isinstance(entries, list | tuple):
        raise TypeError(f"entries must be a list of Entry, got {type(entries).__name__}")
    entries = tuple(default_entries() if entries is None else entries)
    _check(protocol, entries)
    check_integer("jobs", jobs, minimum=1)
    data = {plan.name: _describe_data(plan, protocol) for plan in protocol.plans}
    started = time.perf_counter()
    header = {} if journal is None else _header(protocol, entries)
    with _Runner(protocol, jobs, progress, Journal(journal, header)) as runner:
        tuning, chosen, runs = _both_halves(protocol, entries, runner)
    result: dict[str, Any] = {
        "kind": "study",
        "schema": SCHEMA,
        "protocol": _plain(protocol),
        "entries": [describe_entry(entry) for entry in entries],
        "data": data,
        "tuning": tuning,
        "chosen": chosen,
        "runs": runs,
        "seconds": time.perf_counter() - started,
        "jobs": jobs,
        "environment": environment_stamp(),
    }
    result["analysis"] = analyse(result)
    result["audit"] = audit(result)
    return result


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Which runs of two studies are not bit-identical; times are not compared."""
    found = []
    for part in ("tuning", "runs"):
        if len(first[part]) != len(second[part]):
            return [f"{part}: {len(first[part])} runs against {len(second[part])}"]
        for a, b in zip(first[part], second[part], strict=True):
            if _timeless(a) != _timeless(b):
                found.append(f"{part}: {a['data']}, {a['entry']}, seed {a['seed']}")
    return found


def entries_of(stored: dict[str, Any]) -> tuple[Entry, ...]:
    """The built-in entries of a stored study, or a ValueError that names those which are none."""
    known = {entry.name: entry for entry in default_entries()}
    foreign = [
        entry["name"]
        for entry in stored["entries"]
        if entry["name"] not in known or describe_entry(known[entry["name"]]) != entry
    ]
    if foreign:
        raise ValueError(
            f"the study has entries that are not built in, {', '.join(map(repr, foreign))}: redo it from "
            "Python, study(Protocol.of(stored['protocol']), entries=...)"
        )
    return tuple(known[entry["name"]] for entry in stored["entries"])


def describe_entry(entry: Entry) -> dict[str, Any]:
    """An entry as plain data, without its function."""
    return {
        "name": entry.name,
        "space": {name: list(bounds) for name, bounds in entry.space.items()},
        "group": entry.group,
        "plain": entry.plain,
        "family": entry.family,
        "one_pass": entry.one_pass,
    }


# --- the two halves ----------------------------------------------------------------------------------------


class _Runner:
    """Runs tasks, in processes or not, unless the journal has them."""

    def __init__(self, protocol: Protocol, jobs: int, progress: Progress | None, journal: Journal) -> None:
        self.protocol, self.jobs, self.progress, self.journal = protocol, jobs, progress, journal

    def __enter__(self) -> _Runner:
        return self

    def __exit__(self, *error: object) -> None:
        self.journal.close()

    def __call__(self, what: str, tasks: list[Task]) -> list[dict[str, Any]]:
        """The runs of all tasks, in their order."""
        keys = [[what, plan.name, entry.name, dict(s), seed] for plan, entry, s, seed in tasks]
        fresh = self._start(
            what, [task for task, key in zip(tasks, keys, strict=True) if key not in self.journal]
        )
        found = []
        for done, key in enumerate(keys, 1):
            found.append(self.journal[key] if key in self.journal else self.journal.keep(key, next(fresh)))
            if self.progress is not None:
                self.progress(done, len(tasks), what)
        return found

    def _start(self, what: str, tasks: list[Task]) -> Iterator[dict[str, Any]]:
        final = what == FINAL
        if self.jobs == 1 or not tasks:
            return (_task(self.protocol, *task, final) for task in tasks)
        import joblib

        work = (joblib.delayed(_task)(self.protocol, *task, final) for task in tasks)
        return iter(joblib.Parallel(n_jobs=self.jobs, return_as="generator", batch_size=1)(work))


def _both_halves(
    protocol: Protocol, entries: Sequence[Entry], run: _Runner
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Tuning runs, chosen settings, final runs.

    Seeds are the outer loop of the final runs, so that what slows the machine for a while slows all entries.
    """
    trials: list[Task] = [
        (plan, entry, settings, protocol.seed)
        for plan in protocol.plans
        for entry in _present(entries, plan)
        for settings in draw_trials(entry.space, protocol.trials, seed=protocol.seed)
    ]
    tuning = run(TUNING, trials)
    chosen: dict[str, dict[str, Any]] = {plan.name: {} for plan in protocol.plans}
    tasks: list[Task] = []
    for plan in protocol.plans:
        for entry in _present(entries, plan):
            tried = [t for t in tuning if t["data"] == plan.name and t["entry"] == entry.name]
            best = choose(tried)
            chosen[plan.name][entry.name] = None if best is None else tried[best]["settings"]
        for seed in range(protocol.seed + 1, protocol.seed + 1 + protocol.seeds):
            for entry in _present(entries, plan):
                settings = chosen[plan.name][entry.name]
                if settings is not None:
                    tasks += [(plan, e, s, seed) for e, s in _with_twin(entry, settings)]
    return tuning, chosen, run(FINAL, tasks)


def _with_twin(entry: Entry, settings: dict[str, float]) -> list[tuple[Entry, dict[str, float]]]:
    """An entry and, if it is regularized, itself with ``rho = 0``."""
    if entry.group != "regularized":
        return [(entry, settings)]
    twin = dataclasses.replace(entry, name=entry.name + TWIN, group="other")
    return [(entry, settings), (twin, {**settings, "rho": 0.0})]


def _task(
    protocol: Protocol, plan: DataPlan, entry: Entry, settings: Any, seed: int, final: bool
) -> dict[str, Any]:
    import threadpoolctl  # of the extra "verify", as joblib

    with threadpoolctl.threadpool_limits(1, user_api="blas"):  # another number gives other last digits
        return run_once(
            plan,
            entry,
            settings,
            seed=seed,
            split_seed=protocol.seed,
            place=protocol.place,
            points=protocol.points,
            align=protocol.align if final else None,
            final=final,
        )


def _present(entries: Iterable[Entry], plan: DataPlan) -> list[Entry]:
    return [entry for entry in entries if entry.name not in plan.without]


# --- checks and descriptions ----------------------------------------------------------------------------


def _check(protocol: Protocol, entries: Sequence[Entry]) -> None:
    """Raise for what would make a study senseless, before anything runs."""
    if strange := [entry for entry in entries if not isinstance(entry, Entry)]:
        raise TypeError(f"entries must be of the class Entry, got {strange[0]!r}")
    names = [entry.name for entry in entries]
    if len(set(names)) != len(names):
        raise ValueError(f"entries must have different names, got {names}")
    if twins := [name for name in names if name.endswith(TWIN)]:
        raise ValueError(f"entries must not have names that end with {TWIN!r}, which twins have, got {twins}")
    known = {*names, *(entry.name for entry in default_entries())}
    for plan in protocol.plans:
        if unknown := sorted(set(plan.without) - known):
            raise ValueError(f"without must name entries, got {unknown} for {plan.name}")
        if wrong := sorted({e.plain for e in entries if e.plain is not None} - known):
            raise ValueError(f"plain must name an entry, got {wrong}")
        if not _present(entries, plan):
            raise ValueError(f"entries must have one that runs on {plan.name}, got {names}")


def _plain(protocol: Protocol) -> dict[str, Any]:
    """A protocol as `Protocol.of` takes it."""
    return dataclasses.asdict(protocol) | {"place": protocol.place._asdict()}


def _header(protocol: Protocol, entries: Sequence[Entry]) -> dict[str, Any]:
    """What a journal must agree in, to be gone on with."""
    return {
        "kind": "journal of a study",
        "schema": SCHEMA,
        "protocol": _plain(protocol),
        "entries": [describe_entry(entry) | {"make": describe(entry.make)} for entry in entries],
        "environment": environment_stamp(),
    }


def _timeless(run: dict[str, Any]) -> dict[str, Any]:
    return {**run, "curve": {name: values for name, values in run["curve"].items() if name != "seconds"}}


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
