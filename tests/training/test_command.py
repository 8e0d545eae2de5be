"""``grng-ref train``: results, files, exit statuses, what it prints to whom."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from grng_ref import data, training
from grng_ref.cli import build_app
from grng_ref.cli.train import DEFAULTS

SMALL = ["--size", "60", "--hidden", "3", "--batch-size", "20", "--epochs", "2"]


def train(*arguments: str, small: bool = True) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command, in this process."""
    done = CliRunner().invoke(build_app(), ["train", *(SMALL if small else []), *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("optimizer", DEFAULTS)
def test_defaults_of_every_optimizer_train(optimizer):
    status, out, errors = train("--optimizer", optimizer, "--json")
    result = json.loads(out)
    assert (status, errors, result["status"], result["step"]) == (0, "", "finished", 4)
    assert result["last_record"]["validation_accuracy"] is not None


@pytest.mark.parametrize("name", data.NAMES)
def test_every_data_set_trains(name):
    status, out, _ = train("--data", name, "--optimizer", "adamw", "--json")
    assert status == 0
    assert json.loads(out)["data"] == name


def test_another_array_library_gives_the_same_numbers():
    losses = [
        json.loads(train("--backend", backend, "--json")[1])["test_loss"]
        for backend in ("numpy", "array_api_strict")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


def test_what_is_printed_without_json():
    status, out, errors = train("--align", "0.1")
    assert (status, errors) == (0, "")
    assert "test_accuracy" in out
    assert "pearson" in out


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of the system")
def test_progress_is_shown_on_a_terminal():
    """Standard error is a terminal, standard output a pipe."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "grng_ref", "train", *SMALL, "--optimizer", "adamw"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    ) as process:
        os.close(theirs)
        out = process.stdout.read()
        shown = os.read(ours, 2**16)
    os.close(ours)
    assert process.returncode == 0
    assert b"validation" in shown  # and the last record beside the bar
    assert b"4/4" in shown
    assert b"test_accuracy" in out
    assert b"\x1b" not in out


def test_settings_reach_the_optimizer(tmp_path):
    path = tmp_path / "r.jsonl"
    assert (
        train("--optimizer", "kfac", "--set", "ema=0.5", "--lr", "linear:0.2", "--records", str(path))[0] == 0
    )
    run = training.read_records(path).run
    assert run["optimizer"]["curvature"]["ema"] == 0.5
    assert run["optimizer"]["lr"] == {"class": "NamedSchedule", "name": "linear", "value": 0.2, "steps": 4}


def test_a_failed_step_has_status_1():
    singular = ["--set", "structure=kfac", "--set", "damping_kind=factored", "--set", "method=cholesky"]
    status, out, _ = train("--optimizer", "ngd", "--damping", "0", *singular, "--json")
    assert status == 1
    assert json.loads(out)["status"].startswith("failed: step 0: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "iris"], "--data must be one of 'digits'"),
        (["--optimizer", "lion"], "--optimizer must be one of 'ngd'"),
        (["--lr", "fast"], "--lr must be VALUE or SCHEDULE:VALUE, got 'fast'"),
        (
            ["--lr", "step:1"],
            "--lr must be VALUE or SCHEDULE:VALUE, got 'step:1': name must be one of 'const",
        ),
        (["--lr", "cosine:-1"], "got 'cosine:-1': value must be a finite number >= 0, got -1.0"),
        (["--lr", "cosine:"], "--lr must be VALUE or SCHEDULE:VALUE, got 'cosine:'"),
        (["--lr", ":1"], "--lr must be VALUE or SCHEDULE:VALUE, got ':1'"),
        (["--lr", "-1"], "got -1.0"),
        (["--optimizer", "sgd", "--rho", "1"], "got 'rho'"),
        (["--set", "ema"], "--set must be NAME=VALUE, got 'ema'"),
        (["--set", "structure=dense"], "got 'dense'"),
        (["--hidden", "a"], "--hidden must be widths"),
        (["--activation", "sin"], "got 'sin'"),
        (["--steps", "3"], "one of the two"),
        (["--batch-size", "-1"], "got -1"),
        (["--size", "-5"], "size must be an integer >= 10, got -5"),
        (["--epochs", "0"], "epochs must be an integer >= 1, got 0"),
        (["--every", "0"], "every must be an integer >= 1, got 0"),
        (["--seed", "-1"], "seed must be an integer >= 0, got -1"),
        (["--data-seed", "-1"], "--data-seed must be an integer >= 0, got -1"),
        (["--hidden", "4,-2"], "--hidden must be widths such as 32,16, got '4,-2'"),
        (["--backend", "keras"], "got 'keras'"),
        (["--dtype", "float16"], "got 'float16'"),
        (["--resume"], "checkpoint must be given"),
        (["--records", "no-such-directory/r"], "an existing directory"),
    ],
)
def test_wrong_use_has_status_2_and_one_line(arguments, message):
    status, out, errors = train(*arguments)
    assert (status, out) == (2, "")
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_no_steps_are_refused():
    status, out, errors = train("--size", "60", "--steps", "0", small=False)
    assert (status, out) == (2, "")
    assert errors == "grng-ref train: steps must be an integer >= 1, got 0\n"


@pytest.mark.parametrize("output", [["--json"], []])
def test_an_overflow_on_the_test_part_has_status_1(output, monkeypatch):
    """Training and validation parts are finite; the test part is not."""
    load = data.load

    def far(name, **options):
        found = load(name, **options)
        return dataclasses.replace(found, x_test=found.x_test + 1e200, y_test=found.y_test)

    monkeypatch.setattr(data, "load", far)
    options = ["--data", "diabetes", "--activation", "identity", "--optimizer", "sgd", *output]
    status, out, errors = train(*options)
    assert (status, errors) == (1, "")
    assert "failed: test part: " in out
    if output:
        assert json.loads(out)["test_loss"] is None
        assert json.loads(out)["last_record"]["step"] == 4


def files(folder, *more: str) -> list[str]:
    return ["--records", str(folder / "r"), "--checkpoint", str(folder / "c"), "--json", *more]


def test_where_a_run_starts_is_told(tmp_path):
    assert train(*files(tmp_path))[2] == ""
    begun = f"grng-ref train: starts at step 4 of 4, from {tmp_path / 'c'}\n"
    assert train(*files(tmp_path, "--resume"))[2] == begun
    (tmp_path / "new").mkdir()
    new = "grng-ref train: starts at step 0 of 4, there is no checkpoint yet\n"
    assert train(*files(tmp_path / "new", "--resume"))[2] == new


def spoil_truncated(folder):
    content = (folder / "c").read_bytes()
    (folder / "c").write_bytes(content[: len(content) // 2])


def spoil_line(folder):
    lines = (folder / "r").read_bytes().splitlines(keepends=True)
    (folder / "r").write_bytes(lines[0] + lines[1][:-9] + b"\n" + b"".join(lines[2:]))


SPOILT = {
    "truncated checkpoint": (spoil_truncated, [], "checkpoint must be a whole file that fit wrote"),
    "no checkpoint": (
        lambda folder: (folder / "c").write_bytes(b""),
        [],
        "must be a whole file that fit wrote",
    ),
    "another optimizer": (lambda folder: None, ["--optimizer", "sgd"], "another one: optimizer.class: "),
    "another seed": (lambda folder: None, ["--seed", "1"], "another one: batches.seed: 0, now 1"),
    "corrupt line": (spoil_line, [], "line 2 must be a line of schema 1, got b'"),
    "no records": (lambda folder: (folder / "r").unlink(), [], "which is not there"),
    "both are one": (lambda folder: None, ["--records"], "must be two files"),
    "a directory": (lambda folder: ((folder / "c").unlink(), (folder / "c").mkdir()), [], "irectory"),
}


@pytest.mark.parametrize("defect", SPOILT)
def test_what_cannot_be_resumed_has_status_2_one_line_and_changes_nothing(defect, tmp_path):
    spoil, more, message = SPOILT[defect]
    assert train(*files(tmp_path))[0] == 0
    spoil(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    more = [*more, str(tmp_path / "c")] if more == ["--records"] else more
    status, out, errors = train(*files(tmp_path, "--resume", *more))
    assert (status, out) == (2, "")
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_file_that_is_there_is_not_overwritten(tmp_path):
    assert train(*files(tmp_path))[0] == 0
    status, _, errors = train(*files(tmp_path))
    assert status == 2
    assert "--resume" in errors


def test_an_interrupted_command_resumes(tmp_path):
    """SIGINT to a process; status 130, then the same numbers as without it."""
    kept = files(tmp_path, "--resume")
    options = ["--size", "60", "--hidden", "3", "--steps", "300", "--every", "1", "--optimizer", "adamw"]
    command = [sys.executable, "-m", "grng_ref", "train", *options, *kept, "--checkpoint-every", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)
    while not (tmp_path / "c").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
    status, resumed, _ = train(*options, *kept, small=False)
    _, whole, _ = train(*options, "--json", small=False)
    assert status == 0
    first, second = json.loads(resumed), json.loads(whole)
    for result in (first, second):
        del result["last_record"]["seconds"]
    assert first == second
    assert [r.step for r in training.read_records(tmp_path / "r").records] == list(range(301))
