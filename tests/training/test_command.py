"""``grng-ref train``: results, files, exit statuses, what it prints to whom."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", [n for n in data.NAMES if n != "mnist"])
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
        (["--data", "iris"], "got 'iris'"),
        (["--optimizer", "lion"], "got 'lion'"),
        (["--lr", "fast"], "--lr must be VALUE or SCHEDULE:VALUE, got 'fast'"),
        (["--lr", "step:1"], "got 'step'"),
        (["--lr", "-1"], "got -1.0"),
        (["--optimizer", "sgd", "--rho", "1"], "got 'rho'"),
        (["--set", "ema"], "--set must be NAME=VALUE, got 'ema'"),
        (["--set", "structure=dense"], "got 'dense'"),
        (["--hidden", "a"], "--hidden must be widths"),
        (["--activation", "sin"], "got 'sin'"),
        (["--steps", "3"], "one of the two"),
        (["--batch-size", "-1"], "got -1"),
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


def test_an_interrupted_command_resumes(tmp_path):
    """SIGINT to a process; status 130, then the same numbers as without it."""
    files = ["--records", str(tmp_path / "r"), "--checkpoint", str(tmp_path / "c"), "--resume", "--json"]
    options = ["--size", "60", "--hidden", "3", "--steps", "300", "--every", "1", "--optimizer", "adamw"]
    command = [sys.executable, "-m", "grng_ref", "train", *options, *files, "--checkpoint-every", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ)
    while not (tmp_path / "c").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert json.loads(out)["status"] == "interrupted"
    status, resumed, _ = train(*options, *files, small=False)
    _, whole, _ = train(*options, "--json", small=False)
    assert status == 0
    first, second = json.loads(resumed), json.loads(whole)
    for result in (first, second):
        del result["last_record"]["seconds"]
    assert first == second
    assert [r.step for r in training.read_records(tmp_path / "r").records] == list(range(301))
