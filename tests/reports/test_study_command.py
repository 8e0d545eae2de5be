"""``grng-ref study``: reports and redoes a stored study, and refuses what it cannot do."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from grng_ref.cli import build_app
from grng_ref.training import DataPlan, Protocol, study


def run(*arguments):
    done = CliRunner().invoke(build_app(), ["study", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A study of all default entries, as small as it can be."""
    path = tmp_path_factory.mktemp("study") / "study.json"
    protocol = Protocol((DataPlan("diabetes", (2,), 40, 12, 1),), trials=1, seeds=2, points=1)
    path.write_text(json.dumps(study(protocol)), encoding="utf-8")
    return path


def test_report_is_made_again_without_a_run(stored, tmp_path):
    page, tables = tmp_path / "x.html", tmp_path / "x.md"
    code, output = run("--report", stored, "--out", page, "--out", tables)
    assert code == 0, output
    assert "faster in epochs" in output
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert tables.read_text(encoding="utf-8").count("### ") == 4


def test_redone_study_has_the_same_losses_and_a_changed_one_is_noticed(stored, tmp_path):
    code, output = run("--from", stored)
    assert (code, "bit-identical" in output, ": yes" in output) == (0, True, True)
    changed = json.loads(stored.read_text(encoding="utf-8"))
    changed["runs"][0]["test_loss"] *= 1.0 + 1e-12
    other = tmp_path / "changed.json"
    other.write_text(json.dumps(changed), encoding="utf-8")
    code, output = run("--from", other)
    assert (code, "no, 1 runs differ" in output) == (1, True)


def test_a_broken_protocol_ends_with_status_1(stored, tmp_path):
    broken = json.loads(stored.read_text(encoding="utf-8")) | {"audit": ["planted"]}
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(broken), encoding="utf-8")
    code, output = run("--report", path)
    assert (code, "PROTOCOL BROKEN: planted" in output) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data", "no-such-data"),
        ("--out", "study.pdf"),
        ("--report", "no-such-file.json"),
        ("--from", "a.json", "--trials", "3"),
        ("--trials", "0"),
    ],
)
def test_wrong_use_ends_with_status_2(arguments):
    assert run(*arguments)[0] == 2
