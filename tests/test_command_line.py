"""``grng-ref``: what `info` prints, and what it says where its packages are missing."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import grng_ref as gr
from grng_ref import environment
from grng_ref.cli.info import backend_status
from grng_ref.conventions import CONVENTIONS


def run(*arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; ``before`` is code that runs first."""
    code = f"""
import sys
{before}
sys.argv = ["grng-ref", *{arguments!r}]
from grng_ref.cli import main
main()
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_info_prints_version_backends_and_conventions():
    done = run("info")
    assert done.returncode == 0, done.stderr
    assert f"grng_ref {gr.__version__}" in done.stdout
    assert np.__version__ in done.stdout
    for name in ("numpy", "cupy", "torch", "jax", "array_api_strict"):
        assert f"  {name} " in done.stdout
    assert "kalman_information" in done.stdout


def test_info_json_is_one_object_that_agrees_with_this_process():
    done = run("info", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["environment"]["packages"]["numpy"] == np.__version__
    assert report["conventions"]["damping"] == CONVENTIONS.damping
    backends = {record["name"]: record for record in report["backends"]}
    assert backends["numpy"]["usable"]
    assert backends["array_api_strict"]["devices"] == ["CPU_DEVICE", "device1", "device2"]


@pytest.mark.parametrize("arguments", [["no-such-command"], ["info", "--no-such-option"], []])
def test_wrong_use_ends_with_status_2(arguments):
    assert run(*arguments).returncode == 2


@pytest.mark.parametrize("module", ["typer", "rich"])
def test_missing_extra_says_what_to_install(module):
    done = run("info", before=f"sys.modules[{module!r}] = None")  # None makes an import fail
    assert done.returncode == 2
    assert done.stdout == ""
    assert "pip install 'grng-ref[verify]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_stamp_is_plain_data_and_names_no_path():
    stamp = environment.environment_stamp()
    text = json.dumps(stamp)
    assert stamp["grng_ref"] == gr.__version__
    assert {blas["owner"] for blas in stamp["blas"]} <= {"numpy", "scipy", "system"}
    assert sys.prefix not in text


def test_stamp_falls_back_to_the_build_configuration(monkeypatch):
    installed = environment._version
    monkeypatch.setattr(
        environment, "_version", lambda name: None if name == "threadpoolctl" else installed(name)
    )
    blas = environment.environment_stamp()["blas"]
    assert [entry["owner"] for entry in blas] == ["numpy", "scipy"]
    assert all(entry["threads"] is None for entry in blas)


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ({"name": "torch", "installed": False, "usable": False}, "not installed"),
        ({"name": "jax", "installed": True, "usable": True}, "found"),
        ({"name": "cupy", "installed": True, "usable": False}, "installed, no usable GPU"),
    ],
)
def test_states_of_a_backend(record, status):
    assert backend_status(record) == status
