"""``grng-ref check`` used wrongly: one message, status 2, and the traceback of the user's own code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conformance_adapters import written
from typer.testing import CliRunner

from grng_ref.cli import build_app


def command(folder, text, *arguments):
    """``grng-ref check`` in a process of its own, in a directory with ``mine.py``."""
    (folder / "mine.py").write_text(text, encoding="utf-8")
    code = "from grng_ref.cli import main; main()"
    line = [sys.executable, "-c", code, "check", *(arguments or ("mine:Mine",)), "--cases", "one-layer"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


@pytest.mark.parametrize(
    ("text", "last", "users"),
    [
        ("x = 1\nx / 0", "mine could not be imported: ZeroDivisionError: division by zero", True),
        ("import sys\nsys.exit('stop')", "mine could not be imported: SystemExit: stop", True),
        ("class Mine:\n  def __init__(self):\n    raise KeyError(3)", "Mine() raised KeyError: 3", True),
        ("class Mine:\n  def __init__(self, n):\n    pass", "Mine() raised TypeError", False),
        (
            "class Mine:\n  @property\n  def dtype(self):\n    raise OSError('no')",
            "the adapter's dtype raised",
            True,
        ),
        ("import no_such_thing", "mine could not be imported: ModuleNotFoundError", True),
        (
            "class Mien: pass",
            "mine has no 'Mine', which is not known; the nearest known name is 'Mien'",
            False,
        ),
        ("class Mine:\n  library = 'cupy'\n  def loss(self, case): pass", "cupy", False),
        ("class Mine:\n  library = 'torhc'", "the nearest known name is 'torch'", False),
        ("class Mine:\n  conventions = ['loss']", "mapping of text to text", False),
        ("class Mine:\n  expected_failures = {'los': 'x'}", "nearest known name is 'loss'", False),
    ],
)
def test_an_error_of_the_user_is_one_message_and_status_2(tmp_path, text, last, users):
    """The traceback of the user's own code is shown, as pytest would; ours is not."""
    status, said = command(tmp_path, text)
    assert status == 2, said
    assert said.splitlines()[-1].startswith("grng-ref check: ")
    assert last in said.splitlines()[-1]
    assert ('mine.py", line' in said) == users
    assert "grng_ref/" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mine.py:Mine",), "mine:MyOptimizer for mine.py"),
        (("mine",), "must be module:object"),
        (("other:Mine",), "no module 'other'"),
        (("mine:Mine", "--out", "absent/r.html"), "no such directory for the report"),
        (("mine:Mine", "--out", "folder.html"), "folder.html"),
        (("--results", "absent"), "no such directory of results"),
        (("--results", "folder.html", "--vectors", "absent"), "not a directory of test vectors"),
    ],
)
def test_wrong_use_is_one_message_and_status_2(tmp_path, arguments, message):
    """Before the run: the adapter would say so if it were called."""
    (tmp_path / "folder.html").mkdir()
    text = "class Mine:\n  def loss(self, case):\n    print('called')"
    status, said = command(tmp_path, text, *arguments)
    assert status == 2
    assert message in said
    assert len(said.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == [
        "folder.html",
        "mine.py",
    ]


def test_a_directory_whose_name_is_no_text(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"r\xff")
    folder.mkdir()
    written(folder)
    monkeypatch.chdir(tmp_path)
    line = ["check", "--results", str(folder), "--cases", "one-layer", "--out", "r.html"]
    assert CliRunner().invoke(build_app(), line).exit_code == 0
    assert "udcff" in (tmp_path / "r.html").read_text(encoding="utf-8")
