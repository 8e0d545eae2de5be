"""``grng-ref study``: reports and redoes a stored study, and refuses what it cannot do."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from grng_ref.cli import build_app
from grng_ref.training import DataPlan, Entry, Protocol, analyse, audit, default_entries, study
from grng_ref.training import runs as runs_module

TINY = Protocol((DataPlan("diabetes", (2,), 40, 12, 1),), trials=1, seeds=2, points=1)


def run(*arguments):
    done = CliRunner().invoke(build_app(), ["study", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A study of all default entries, as small as it can be."""
    path = tmp_path_factory.mktemp("study") / "study.json"
    path.write_text(json.dumps(study(TINY), allow_nan=False), encoding="utf-8")
    return path


def test_report_is_made_again_without_a_run(stored, tmp_path):
    page, tables = tmp_path / "x.html", tmp_path / "x.md"
    code, output = run("--report", stored, "--out", page, "--out", tables)
    assert code == 0, output
    assert "faster in epochs" in output
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert tables.read_text(encoding="utf-8").count("\n## ") == 5


def test_redone_study_has_the_same_losses_and_a_changed_one_is_noticed(stored, tmp_path):
    code, output = run("--from", stored)
    assert (code, "bit-identical" in output, ": yes" in output) == (0, True, True)
    changed = json.loads(stored.read_text(encoding="utf-8"))
    changed["runs"][0]["test_loss"] *= 1.0 + 1e-12
    code, output = run("--from", write(tmp_path, changed))
    assert (code, "no, 1 runs differ" in output) == (1, True)


def write(folder, result, **changes):
    """A stored study whose answers and audit follow from its runs, unless changed."""
    path = folder / "changed.json"
    again = {**result, "analysis": analyse(result), "audit": audit(result)} | changes
    path.write_text(json.dumps(again), encoding="utf-8")
    return path


def test_a_broken_protocol_ends_with_status_1_and_a_hidden_breach_with_2(stored, tmp_path):
    broken = json.loads(stored.read_text(encoding="utf-8"))
    broken["runs"] = [run for run in broken["runs"] if run["entry"] != "K-FAC"]
    code, output = run("--report", write(tmp_path, broken))
    assert (code, "PROTOCOL BROKEN: final: no runs of K-FAC on diabetes" in output) == (1, True)
    code, output = run("--report", write(tmp_path, broken, audit=[]))
    assert code == 2
    assert "stores what does not follow from its runs: audit is []" in output


@pytest.fixture
def nothing_runs(monkeypatch):
    def started(*arguments, **options):
        pytest.fail("a run was started")

    monkeypatch.setattr("grng_ref.training.studies.run_once", started)


def make(problem, settings, seed):
    raise AssertionError


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (Entry("mine", make), "entries that are not built in, 'mine'"),
        (Entry("SGD", make, {"lr": (1e-9, 1.0)}, "baseline"), "entries that are not built in, 'SGD'"),
    ],
)
def test_a_study_with_entries_of_ones_own_is_not_redone(own, said, tmp_path, monkeypatch, nothing_runs):
    kept = [entry for entry in default_entries() if entry.name in ("AdamW", "NGD")]
    with monkeypatch.context() as patch:
        patch.setattr("grng_ref.training.studies.run_once", fake_run)
        result = study(TINY, entries=[*kept, own])
    code, output = run("--from", write(tmp_path, result))
    assert code == 2
    assert said in output


def fake_run(plan, entry, settings, *, seed, **options):
    """A run that failed before its first record."""
    curve = {name: [] for name in runs_module.CURVE}
    run = {"data": plan.name, "entry": entry.name, "settings": dict(settings), "seed": seed, "curve": curve}
    return run | {
        "epochs": 1,
        "start": "0",
        "first_batch": "0",
        "status": "failed: ",
        "validation_loss": None,
    }


# --- outputs ------------------------------------------------------------------------------------------------

ARGUMENTS = ("--quick", "--data", "breast_cancer", "--trials", "1", "--seeds", "2")


@pytest.mark.parametrize("name", ["there.json", "there.html"])
def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(name, tmp_path, nothing_runs):
    (tmp_path / name).mkdir()
    code, output = run(*ARGUMENTS, "--out", tmp_path / name)
    assert (code, "out must be a file that can be written" in output) == (2, True)
    code, output = run(*ARGUMENTS, "--out", f"/proc/{name}")
    assert (code, "out must be a file that can be written" in output) == (2, True)


def test_a_probe_leaves_nothing_and_an_output_stays_whole_if_its_writing_fails(stored, tmp_path, monkeypatch):
    page = tmp_path / "x.html"
    page.write_text("before", encoding="utf-8")

    def fails(result):
        raise RuntimeError("planted")

    monkeypatch.setattr("grng_ref.reports.study_html", fails)
    code, _ = run("--report", stored, "--out", page, "--out", tmp_path / "x.json")
    assert code == 1
    assert page.read_text(encoding="utf-8") == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"x.html", "x.json"}  # the JSON came first, whole
    assert run("--report", tmp_path / "x.json")[0] == 0


def test_an_interrupted_command_goes_on_when_it_is_given_again(tmp_path, monkeypatch):
    real, done = runs_module.run_once, []

    def counted(*arguments, **options):
        if len(done) == 20:
            raise KeyboardInterrupt
        done.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr("grng_ref.training.studies.run_once", counted)
    monkeypatch.setattr("grng_ref.training.studies.QUICK_PROTOCOL", TINY)
    code, output = run("--quick", "--out", tmp_path / "s.json")
    assert (code, "finished runs are in" in output) == (130, True)
    assert [path.name for path in tmp_path.iterdir()] == ["s.json.runs"]
    done.clear()
    monkeypatch.setattr("grng_ref.training.studies.run_once", lambda *a, **o: done.append(a) or real(*a, **o))
    assert run("--quick", "--out", tmp_path / "s.json")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]
    result = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    assert len(done) == len(result["tuning"]) + len(result["runs"]) - 20


def test_the_study_that_is_redone_is_not_replaced(stored, nothing_runs):
    """Were its runs different, nothing would be left to look into."""
    before = stored.read_bytes()
    code, output = run("--from", stored, "--out", stored.parent / "." / stored.name)
    assert (code, "out must be another file than that of --from" in output) == (2, True)
    assert stored.read_bytes() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data", "no-such-data"),
        ("--out", "study.pdf"),
        ("--report", "no-such-file.json"),
        ("--from", "a.json", "--trials", "3"),
        ("--trials", "0"),
        ("--seeds", "1"),
        ("--jobs", "0"),
    ],
)
def test_wrong_use_ends_with_status_2(arguments):
    assert run(*arguments)[0] == 2
