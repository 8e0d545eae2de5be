"""A tiny study: what it stores, that it can be redone, that planted breaches of the protocol are found."""

from __future__ import annotations

import copy
import dataclasses
import json
import re

import pytest
import threadpoolctl

import grng_ref as gr
from grng_ref.reports import study_markdown
from grng_ref.reports.study import settings_table
from grng_ref.training import (
    DataPlan,
    Entry,
    Place,
    Protocol,
    analyse,
    audit,
    default_entries,
    read_study,
    runs,
    study,
)
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


def with_failing():
    return [*some_entries(), Entry("fails", fails)]


@pytest.fixture(scope="module")
def result():
    return json.loads(json.dumps(study(PROTOCOL, entries=with_failing()), allow_nan=False))


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
    again = study(protocol, entries=with_failing())
    assert differences(result, again) == []
    for change in (
        lambda run: run["curve"]["loss"].append(run["curve"]["loss"].pop() * (1.0 + 1e-15)),
        lambda run: run["curve"]["cosine"].append(run["curve"]["cosine"].pop() / 2.0),
        lambda run: run["flatness"].update(top=run["flatness"]["top"] * (1.0 + 1e-15)),
    ):
        other = copy.deepcopy(result)
        change(other["runs"][0])
        assert len(differences(result, other)) == 1


def test_worker_processes_change_no_loss(result):
    parallel = study(PROTOCOL, entries=some_entries(), jobs=2)
    kept = copy.deepcopy(result)
    kept["tuning"] = [trial for trial in kept["tuning"] if trial["entry"] != "fails"]
    assert differences(kept, parallel) == []


@pytest.mark.slow
def test_blas_threads_change_no_run(monkeypatch):
    """A worker has one thread and the caller may have more: with the digits the last digits differ then."""
    protocol = Protocol((DataPlan("digits", (4,), 300, 20, 1),), trials=1, seeds=2)
    entries = [entry for entry in default_entries() if entry.name in ("SGD", "NGD")]
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        here = study(protocol, entries=entries)
    assert here["jobs"] == 1
    assert differences(here, study(protocol, entries=entries, jobs=2)) == []


def test_analysis_is_a_function_of_the_stored_runs(result):
    assert json.loads(json.dumps(analyse(result))) == result["analysis"]


def test_a_run_whose_end_overflows_is_a_failed_run(monkeypatch):
    """The study goes on, where an error would have lost all that was done."""

    def overflows(*arguments):
        raise gr.NumericalError("planted")

    monkeypatch.setattr(runs, "evaluate", overflows)
    seen = study(PROTOCOL, entries=some_entries()[:1])
    assert {run["status"] for run in seen["runs"]} == {"failed: planted"}
    assert seen["audit"] == []


# --- a study that was interrupted -------------------------------------------------------------------------


def test_an_interrupted_study_goes_on_where_it_was(result, tmp_path, monkeypatch):
    path, done = tmp_path / "study.runs", []
    real = runs.run_once

    def counted(*arguments, **options):
        if len(done) == 12:
            raise KeyboardInterrupt
        done.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr("grng_ref.training.studies.run_once", counted)
    with pytest.raises(KeyboardInterrupt):
        study(PROTOCOL, entries=with_failing(), journal=path)
    with path.open("ab") as file:
        file.write(b'{"key": ["fin')  # what a kill may leave
    monkeypatch.setattr("grng_ref.training.studies.run_once", real)
    steps = []
    again = study(PROTOCOL, entries=with_failing(), journal=path, progress=lambda *step: steps.append(step))
    assert differences(result, again) == []
    assert again["audit"] == []
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + len(again["tuning"]) + len(again["runs"])
    kept = study(PROTOCOL, entries=with_failing(), journal=path)  # nothing left to do: the times are the same
    assert [run["curve"]["seconds"] for run in kept["runs"]] == [
        run["curve"]["seconds"] for run in again["runs"]
    ]


@pytest.mark.parametrize("other", [dataclasses.replace(PROTOCOL, seeds=3), None])
def test_a_journal_of_another_study_is_refused(other, tmp_path):
    path = tmp_path / "study.runs"
    study(PROTOCOL, entries=some_entries()[:1], journal=path)
    before = path.read_bytes()
    entries = some_entries()[:1] if other else some_entries()[1:2]
    with pytest.raises(ValueError, match="journal must be a new file or that of this same study"):
        study(other or PROTOCOL, entries=entries, journal=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", [b"{broken\n", b'{"kex": 1}\n', b"[]\n"])
def test_a_damaged_journal_is_named(line, tmp_path):
    path = tmp_path / "study.runs"
    study(PROTOCOL, entries=some_entries()[:1], journal=path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], line, *lines[1:]]))
    with pytest.raises(ValueError, match=r"journal must hold one finished run a line, got .*study\.runs"):
        study(PROTOCOL, entries=some_entries()[:1], journal=path)


# --- planted breaches -----------------------------------------------------------------------------------


def more_trials(result):
    result["tuning"].append(copy.deepcopy(result["tuning"][0]))


def more_epochs(result):
    result["runs"][0]["curve"]["epoch"].append(3.0)


def fewer_records(result):
    """Coarser records, by which the target would seem to be reached later."""
    for values in result["runs"][0]["curve"].values():
        del values[1]


def stopped_early(result):
    for values in result["runs"][0]["curve"].values():
        del values[-1]


def chosen_by_another_loss(result):
    """The settings of the other trial, as if they had been chosen on the test part."""
    used = next(run["settings"] for run in result["runs"] if run["entry"] == "SGD")
    tried = [t["settings"] for t in result["tuning"] if t["entry"] == "SGD"]
    (other,) = [settings for settings in tried if settings != used]
    for run in result["runs"]:
        if run["entry"] == "SGD":
            run["settings"] = other


def chosen_is_another(result):
    result["chosen"]["diabetes"]["SGD"] = {"lr": 0.5}


def another_loss_of_a_trial(result):
    """The loss that the choice looks at is not that of the run."""
    result["tuning"][0]["validation_loss"] /= 2.0


def hand_picked_settings(result):
    for run in [*result["tuning"], *result["runs"]]:
        if run["entry"] == "SGD":
            run["settings"] = {"lr": 0.5}
    result["chosen"]["diabetes"]["SGD"] = {"lr": 0.5}


def tuning_saw_the_test_part(result):
    result["tuning"][0]["test_loss"] = 1.0


def other_seeds(result):
    for run in result["runs"]:
        if run["entry"] == "AdamW":
            run["seed"] += 10


def tuned_on_another_seed(result):
    result["tuning"][0]["seed"] = 1


def other_start(result):
    result["runs"][0]["start"] = "0" * 16


def other_start_of_a_trial(result):
    result["tuning"][0]["start"] = "0" * 16


def other_batches(result):
    result["runs"][0]["first_batch"] = "0" * 16


def dropped_run(result):
    del result["runs"][0]


def without(result, part, name):
    result[part] = [run for run in result[part] if run["entry"] != name]


def dropped_entry(result):
    without(result, "tuning", "AdamW")
    without(result, "runs", "AdamW")
    del result["chosen"]["diabetes"]["AdamW"]


def dropped_twin(result):
    without(result, "runs", "RING, rho = 0")


def dropped_finals(result):
    without(result, "runs", "SGD")


def added_entry(result):
    extra = [{**run, "entry": "mine"} for run in result["runs"] if run["entry"] == "SGD"]
    result["runs"] += extra


def added_data(result):
    result["data"]["digits"] = result["data"]["diabetes"]


def dropped_data(result):
    result["data"], result["tuning"], result["runs"], result["chosen"] = {}, [], [], {}


def left_out(result):
    """An entry that the protocol leaves out has run all the same."""
    result["protocol"]["plans"][0]["without"] = ["AdamW"]


def without_its_end(result):
    for name in ("test_loss", "gap"):
        del result["runs"][0][name]


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (more_trials, "3 trials, the protocol has 2"),
        (more_epochs, "3 epochs, the protocol has 2"),
        (fewer_records, r"SGD, seed 1: records of steps \[0, 2, 3, 4, 5, 6\], the protocol has \[0, 1, 2"),
        (stopped_early, "SGD, seed 1: records of steps"),
        (chosen_by_another_loss, "not the settings of the trial with the least validation loss"),
        (chosen_is_another, "SGD: chosen is not the trial with the least"),
        (another_loss_of_a_trial, "SGD, seed 0: validation loss"),
        (hand_picked_settings, "SGD: a trial has other settings than the search draws"),
        (tuning_saw_the_test_part, "tuning looked at the test part"),
        (other_seeds, r"seeds \[11, 12\], the protocol has \[1, 2\]"),
        (tuned_on_another_seed, "SGD: a trial has another seed than 0"),
        (other_start, "began at different parameters"),
        (other_start_of_a_trial, "seed 0: runs began at different parameters"),
        (other_batches, "began with different batches"),
        (dropped_run, r"seeds \[2\], the protocol has"),
        (dropped_entry, "tuning: no runs of AdamW on diabetes"),
        (dropped_twin, "final: no runs of RING, rho = 0 on diabetes"),
        (dropped_finals, "final: no runs of SGD on diabetes"),
        (added_entry, "final: mine on diabetes is not in the protocol"),
        (added_data, "data: digits is not in the protocol"),
        (dropped_data, "data: no runs of diabetes"),
        (left_out, "tuning: AdamW on diabetes is not in the protocol"),
        (without_its_end, "SGD, seed 1: finished without a test loss"),
    ],
)
def test_planted_breach_is_found(result, plant, message):
    broken = copy.deepcopy(result)
    plant(broken)
    assert any(re.search(message, line) for line in audit(broken)), audit(broken)


# --- stored studies -----------------------------------------------------------------------------------------


def write(path, result):
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def test_a_stored_study_is_read_with_what_follows_from_its_runs(result, tmp_path):
    assert read_study(write(tmp_path / "study.json", result)) == result


def better_word(result):
    result["analysis"]["answers"][0]["word"] = "supported"


def better_number(result):
    result["analysis"]["summary"][0]["test_loss"][0] *= 0.999


def clean_audit(result):
    dropped_run(result)
    result["analysis"] = analyse(result)


def better_run(result):
    result["runs"][0]["test_loss"] *= 0.5


def no_runs(result):
    del result["runs"]


def no_curve(result):
    del result["runs"][0]["curve"]


def bad_protocol(result):
    result["protocol"]["confidence"] = 95.0


def older(result):
    result["schema"] = 2


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (better_word, r"analysis\.answers\[0\]\.word is \"supported\", the runs give \"undecided\""),
        (better_number, r"analysis\.summary\[0\]\.test_loss\[0\] is"),
        (clean_audit, r"audit is \[\], the runs give"),
        (better_run, "stores what does not follow from its runs: analysis"),
        (no_runs, "must be a whole study, it lacks runs"),
        (no_curve, "must be a whole study: KeyError: 'curve'"),
        (bad_protocol, "must be a whole study: ValueError: confidence must lie"),
        (older, "must be the JSON of a study, schema 3"),
    ],
)
def test_a_stored_study_that_its_runs_do_not_bear_out_is_refused(result, plant, message, tmp_path):
    broken = copy.deepcopy(result)
    plant(broken)
    with pytest.raises(ValueError, match=message):
        read_study(write(tmp_path / "study.json", broken))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "study", "schema": NaN}', "\udcff"])
def test_what_is_no_study_is_refused(text, tmp_path):
    path = tmp_path / "study.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"study\.json' must be"):
        read_study(path)


# --- protocols that are refused before anything runs ----------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Protocol(confidence=95), ValueError, r"confidence must lie in \(0, 1\), got 95"),
        (lambda: Protocol(seeds=1), ValueError, "seeds must be an integer >= 2, got 1"),
        (lambda: Protocol(trials=0), ValueError, "trials must be an integer >= 1, got 0"),
        (lambda: Protocol(points=0), ValueError, "points must be an integer >= 1, got 0"),
        (lambda: Protocol(align=0.0), ValueError, "align must be a finite number > 0"),
        (lambda: Protocol(()), ValueError, "plans must be of different data sets, at least one"),
        (
            lambda: Protocol((DataPlan("digits"), DataPlan("digits"))),
            ValueError,
            "plans must be of different",
        ),
        (lambda: Protocol([DataPlan("digits")]), TypeError, "plans must be a tuple of DataPlan"),
        (lambda: Protocol(place="numpy"), TypeError, "place must be a Place, got str"),
        (lambda: DataPlan("iris"), ValueError, "name must be one of .*'digits'.*got 'iris'"),
        (lambda: DataPlan("digits", (0,)), ValueError, "hidden must be an integer >= 1, got 0"),
        (lambda: DataPlan("digits", [4]), TypeError, "hidden must be a tuple, got list"),
        (lambda: DataPlan("digits", size=5), ValueError, "size must be an integer >= 10, got 5"),
        (lambda: DataPlan("digits", without="SGD"), TypeError, "without must be a tuple, got str"),
        (lambda: Entry("", fails), TypeError, "name must be a string, not an empty one, got ''"),
        (lambda: Entry("mine", None), TypeError, "make must be a function, got NoneType"),
        (lambda: study(entries="SGD"), TypeError, "entries must be a list of Entry, got str"),
        (lambda: study(entries=5), TypeError, "entries must be a list of Entry, got int"),
        (lambda: study(on(), journal=5), TypeError, "journal must be a string or a path, got int"),
        (lambda: Entry("mine", fails, group="best"), ValueError, "group must be one of"),
        (lambda: Entry("mine", fails, {"lr": (1.0, float("inf"))}), ValueError, "two numbers 0 < low < high"),
        (lambda: Entry("mine", fails, {"lr": 0.1}), ValueError, "two numbers 0 < low < high"),
    ],
)
def test_bad_protocols_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def on(**changes):
    return Protocol((DataPlan("diabetes", (2,), 60, 12, 2, **changes),), trials=1, seeds=2)


@pytest.mark.parametrize(
    ("protocol", "entries", "error", "message"),
    [
        (on(without=("SGDD",)), some_entries, ValueError, r"without must name entries, got \['SGDD'\]"),
        (on(without=NAMES), some_entries, ValueError, "entries must have one that runs on diabetes"),
        (PROTOCOL, lambda: 2 * some_entries(), ValueError, "entries must have different names"),
        ("quick", some_entries, TypeError, "protocol must be a Protocol, got str"),
        (PROTOCOL, lambda: ["SGD"], TypeError, "entries must be of the class Entry, got 'SGD'"),
        (PROTOCOL, lambda: [Entry("a, rho = 0", fails)], ValueError, "names that end with ', rho = 0'"),
        (
            dataclasses.replace(PROTOCOL, place=Place("no-such-library")),
            some_entries,
            (ValueError, gr.BackendError),
            "no-such-library",
        ),
    ],
)
def test_a_senseless_study_is_refused_before_anything_runs(protocol, entries, error, message, monkeypatch):
    def runs_all_the_same(*arguments, **options):
        pytest.fail("a run was started")

    monkeypatch.setattr("grng_ref.training.studies.run_once", runs_all_the_same)
    with pytest.raises(error, match=message):
        study(protocol, entries=entries())
