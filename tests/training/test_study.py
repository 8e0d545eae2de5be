"""A tiny study: what it stores, that it can be redone, that planted breaches of the protocol are found."""

from __future__ import annotations

import copy
import json
import re

import pytest

import grng_ref as gr
from grng_ref.reports import study_markdown
from grng_ref.reports.study import settings_table
from grng_ref.training import DataPlan, Entry, Protocol, analyse, audit, default_entries, study
from grng_ref.training.studies import differences

NAMES = ("SGD", "AdamW", "NGD", "RING")
PROTOCOL = Protocol((DataPlan("diabetes", (2,), 60, 12, 2),), trials=2, seeds=2, points=2)


class Failing:
    """An optimizer whose first step fails."""

    def init(self, theta):
        return 0

    def step(self, theta, state, x, y):
        raise gr.NumericalError("planted")


def fails(problem, settings, seed):
    return Failing()


def some_entries():
    return [entry for entry in default_entries() if entry.name in NAMES]


@pytest.fixture(scope="module")
def result():
    entries = [*some_entries(), Entry("fails", fails)]
    return json.loads(json.dumps(study(PROTOCOL, entries=entries), allow_nan=False))


def test_result_has_every_run_and_keeps_the_protocol(result):
    assert audit(result) == []
    assert len(result["tuning"]) == 2 * 5
    finals = {(run["entry"], run["seed"]) for run in result["runs"]}
    assert finals == {(name, seed) for name in (*NAMES, "RING, rho = 0") for seed in (1, 2)}


def test_failed_trials_are_stored_and_shown(result):
    failed = [trial for trial in result["tuning"] if trial["entry"] == "fails"]
    assert len(failed) == 2
    assert all(trial["status"].startswith("failed: ") for trial in failed)
    assert result["chosen"]["diabetes"]["fails"] is None
    assert ["diabetes", "fails", "2", "2", "every trial failed"] in settings_table(result)[1]
    assert "failed: 2 of 10 trials" in study_markdown(result)


def test_twin_differs_from_its_entry_in_rho_only(result):
    runs = {(run["entry"], run["seed"]): run for run in result["runs"]}
    on, off = runs["RING", 1], runs["RING, rho = 0", 1]
    assert {**on["settings"], "rho": 0.0} == off["settings"]
    assert on["curve"]["loss"][0] == off["curve"]["loss"][0]
    assert on["curve"]["loss"][-1] != off["curve"]["loss"][-1]


def test_redone_from_its_json_the_losses_are_bit_identical(result):
    protocol = Protocol.of(result["protocol"])
    assert protocol == PROTOCOL
    again = study(protocol, entries=[*some_entries(), Entry("fails", fails)])
    assert differences(result, again) == []
    other = copy.deepcopy(result)
    other["runs"][0]["curve"]["loss"][-1] *= 1.0 + 1e-15
    assert len(differences(result, other)) == 1


def test_worker_processes_change_no_loss(result):
    parallel = study(PROTOCOL, entries=some_entries(), jobs=2)
    kept = copy.deepcopy(result)
    kept["tuning"] = [trial for trial in kept["tuning"] if trial["entry"] != "fails"]
    assert differences(kept, parallel) == []


def test_analysis_is_a_function_of_the_stored_runs(result):
    assert json.loads(json.dumps(analyse(result))) == result["analysis"]


# --- planted breaches -----------------------------------------------------------------------------------


def more_trials(result):
    result["tuning"].append(copy.deepcopy(result["tuning"][0]))


def more_epochs(result):
    result["runs"][0]["curve"]["epoch"].append(3.0)


def chosen_by_another_loss(result):
    """The settings of the other trial, as if they had been chosen on the test part."""
    used = next(run["settings"] for run in result["runs"] if run["entry"] == "SGD")
    tried = [t["settings"] for t in result["tuning"] if t["entry"] == "SGD"]
    (other,) = [settings for settings in tried if settings != used]
    for run in result["runs"]:
        if run["entry"] == "SGD":
            run["settings"] = other


def tuning_saw_the_test_part(result):
    result["tuning"][0]["test_loss"] = 1.0


def other_seeds(result):
    for run in result["runs"]:
        if run["entry"] == "AdamW":
            run["seed"] += 10


def other_start(result):
    result["runs"][0]["start"] = "0" * 16


def other_batches(result):
    result["runs"][0]["first_batch"] = "0" * 16


def dropped_run(result):
    del result["runs"][0]


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (more_trials, "3 trials, the protocol has 2"),
        (more_epochs, "3 epochs, the protocol has 2"),
        (chosen_by_another_loss, "not the settings of the trial with the least validation loss"),
        (tuning_saw_the_test_part, "tuning looked at the test part"),
        (other_seeds, r"seeds \[11, 12\], the protocol has \[1, 2\]"),
        (other_start, "began at different parameters"),
        (other_batches, "began with different batches"),
        (dropped_run, r"seeds \[2\], the protocol has"),
    ],
)
def test_planted_breach_is_found(result, plant, message):
    broken = copy.deepcopy(result)
    plant(broken)
    assert any(re.search(message, line) for line in audit(broken))


# --- answers from made-up runs --------------------------------------------------------------------------


def made_up(gains, *, failed=()):
    """A (baseline) and G (regularized): G's test losses are A's minus a gain, its costs half of A's."""
    common = {"plain": None, "one_pass": False}
    entries = [
        {"name": "A", "space": {}, "group": "baseline", "family": None, **common},
        {"name": "G", "space": {"rho": [0.1, 1.0]}, "group": "regularized", "family": "F", **common},
    ]

    def run(entry, seed, gain):
        half = 0.5 if entry == "G" else 1.0
        costs = [0.0, half * (10.0 + seed), 30.0]
        curve = {"validation_loss": [1.0, 0.1, 0.1], "step": [0, 1, 2], "loss": [1.0, 0.1, 0.1]}
        curve |= {key: list(costs) for key in ("epoch", "seconds", "gradient_evaluations")}
        curve |= {key: [None, 1.0, 1.0] for key in ("gradient_norm", "cosine", "pearson")}
        flat = {"trace": 1.0 - gain, "top": 1.0, "method": "dense"}
        made = {"data": "d", "entry": entry, "seed": seed, "settings": {}, "steps": 2, "curve": curve}
        made |= {"status": "finished", "validation_loss": 0.1, "test_error": None, "train_loss": 0.0}
        if (entry, seed) in failed:
            return made | {"status": "failed: planted", "validation_loss": None}
        return made | {"test_loss": 1.0 + seed - gain, "gap": 1.0, "flatness": flat}

    runs = [run(e, s, g if e == "G" else 0.0) for s, g in enumerate(gains, 1) for e in ("A", "G")]
    made = {"protocol": {"confidence": 0.95}, "entries": entries, "data": {"d": {}}, "runs": runs}
    return made | {"tuning": [run(e, 0, 0.0) for e in ("A", "G")]}


def answers(result):
    return {row["question"]: row for row in analyse(result)["answers"]}


def test_answers_of_made_up_runs():
    seen = answers(made_up([0.5, 0.6, 0.4]))
    assert seen["generalizes better"]["word"] == "supported"
    (interval,) = seen["generalizes better"]["against"]
    assert interval["estimate"] == pytest.approx(-0.5)
    for measure in ("epochs", "gradient evaluations", "wall time"):
        assert seen[f"faster in {measure}"]["word"] == "supported"
        assert seen[f"faster in {measure}"]["against"][0]["estimate"] == pytest.approx(0.5)
    assert answers(made_up([-0.5, -0.6, -0.4]))["generalizes better"]["word"] == "not supported"
    assert answers(made_up([5.0, -4.0, 0.1]))["generalizes better"]["word"] == "undecided"


def test_a_run_that_never_reached_the_target_supports_nothing():
    slow = made_up([0.5, 0.6, 0.4])
    last = [run for run in slow["runs"] if run["entry"] == "G"][-1]
    last["curve"]["validation_loss"] = [1.0, 1.0, 1.0]
    last["curve"]["epoch"] = [0.0, 0.1, 0.2]  # spent little, and would look fast
    seen = answers(slow)["faster in epochs"]
    assert seen["against"][0]["estimate"] < 0.5
    assert seen["word"] == "undecided"


def test_a_baseline_without_any_run_is_not_beaten():
    """Its trials failed: nothing is known of it, and "every baseline" includes it."""
    made = made_up([0.5, 0.6, 0.4])
    made["entries"].append({**made["entries"][0], "name": "B"})
    seen = answers(made)
    assert {row["word"] for row in seen.values()} == {"undecided"}
    made["protocol"]["plans"] = [{"name": "d", "without": ["B"]}]
    assert answers(made)["generalizes better"]["word"] == "supported"


def test_a_failed_run_supports_nothing_and_is_counted():
    gains = [0.5, 0.6, 0.4, 0.5]
    broken = made_up(gains, failed=[("G", 2)])
    seen = answers(broken)["generalizes better"]
    assert seen["word"] == "undecided"
    assert seen["against"][0]["pairs"] == 3
    summary = {row["entry"]: row for row in analyse(broken)["summary"]}
    assert (summary["G"]["failed"], summary["G"]["runs"]) == (1, 4)
    harmed = answers(made_up([-gain for gain in gains], failed=[("A", 2)]))["generalizes better"]
    assert harmed["word"] == "undecided"
