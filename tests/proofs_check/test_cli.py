"""The command ``proofs-check``: exit codes, streams, options, and what it prints where."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

import grng_ref as gr
from proofs_check import RESULT_SCHEMA, cli, terminal, to_record
from proofs_check.report.tables import COLUMNS

ROOT = Path(cli.__file__).parents[1]

GOOD = '''
from proofs_check import claim, identity

print("chatter while loading")


@claim("ring-twice", statement="2 x = x + x", source="arithmetic", kind="identity", params={"size": 3})
def twice(run, size):
    """Fails if doubling is not exact."""
    x = run.asarray(run.rng(1).normal(size=size))
    print("chatter while running")

    def finding(factor):
        return identity(factor * x, x + x, tolerance=run.eps, reason="exact", detail=f"{size} numbers")

    return finding(2).with_control(finding(2.5))


@claim("not-commutative", statement="a - b = b - a", source="a planted falsehood", kind="identity",
       expected="refuted")
def commutes(run):
    """Would hold if a = b."""

    def finding(a, b):
        return identity(a - b, b - a, tolerance=run.eps, reason="exact", detail="1 pair", scale=1.0)

    return finding(3.0, 1.0).with_control(finding(2.0, 2.0))
'''
BAD = (
    GOOD
    + """

@claim("ring-broken", statement="raises", source="a planted error", kind="inequality")
def broken(run):
    raise RuntimeError("what went wrong")
"""
)

STOP = """

@claim("stopped", statement="s", source="x", kind="identity")
def stopped(run):
    raise KeyboardInterrupt
"""


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.py"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(BAD)
    return path


@pytest.fixture
def default(monkeypatch, bad):
    """The default suite, replaced by the file with one broken claim."""
    monkeypatch.setattr(cli, "DEFAULT_SUITE", str(bad))


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("GRNG_BACKEND", raising=False)


def call(*arguments, **options):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments], **options)


def test_a_users_file_as_expected_is_0(good):
    result = call("run", good)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert " ".join(lines[0].split()) == "claim verdict expected measured threshold margin control seconds"
    assert lines[1].startswith("ring-twice")
    assert "holds on the sample" in lines[1]
    assert "caught" in lines[1]
    assert lines[-1].startswith(
        "as expected: 2 of 2 claims (1 holds on the sample, 1 refuted); numpy float64, seed 0; "
    )
    assert "chatter" not in result.stdout
    assert result.stderr.splitlines() == ["chatter while loading", "chatter while running"]


def test_something_not_as_expected_is_1_and_says_why(bad):
    result = call("run", bad)
    assert result.exit_code == 1
    assert "FAILED: error" in result.stdout
    assert "ring-broken: raises\n  error: RuntimeError: what went wrong\n" in result.stdout
    assert "in broken" in result.stdout  # the traceback's line
    assert result.stdout.splitlines()[-1].startswith("NOT AS EXPECTED: 2 of 3 claims")


def test_without_a_command_the_default_suite_runs_with_options(default):
    assert call().exit_code == 1
    result = call("--only", "ring-t*,not-commutative", "--json")
    assert result.exit_code == 0
    assert [c["id"] for c in json.loads(result.stdout)["claims"]] == ["ring-twice", "not-commutative"]
    repeated = call("--only", "not-*", "--only", "ring-twice", "--json")
    assert len(json.loads(repeated.stdout)["claims"]) == 2


def test_json_alone_is_on_standard_output_and_valid(bad):
    result = call("run", bad, "--json", "--dtype", "float32", "--seed", 5, "--full")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    jsonschema.validate(record, RESULT_SCHEMA)
    assert record["settings"] == {
        "backend": "numpy",
        "dtype": "float32",
        "device": None,
        "full": True,
        "seed": 5,
    }
    assert record["ok"] is False
    assert [c["verdict"] for c in record["claims"]] == ["holds", "refuted", "error"]
    assert "what went wrong" in record["claims"][2]["error"]
    assert record["claims"][0]["params"] == {"size": 3}


def test_jobs_change_nothing_but_the_time(bad):
    def essence(*options):
        record = json.loads(call("run", bad, "--json", *options).stdout)
        return [{k: v for k, v in c.items() if k not in ("seconds", "error")} for c in record["claims"]]

    assert essence("--jobs", 2) == essence()


@pytest.mark.parametrize("suffix", ["json", "md", "html", "tex"])
def test_out_writes_by_suffix_and_still_prints_the_table(good, tmp_path, suffix):
    target = tmp_path / f"report.{suffix}"
    result = call("run", good, "--out", target)
    assert result.exit_code == 0
    assert "as expected: 2 of 2" in result.stdout
    assert "ring-twice" in target.read_text()


def test_out_may_be_repeated(good, tmp_path):
    targets = [tmp_path / "report.json", tmp_path / "report.html"]
    assert call("run", good, *(part for target in targets for part in ("--out", target))).exit_code == 0
    assert all("ring-twice" in target.read_text() for target in targets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "absent-*"), "no claim matches 'absent-*'; the claims are: ring-twice, not-commutative"),
        (("--only", ","), "only must name ids or patterns, got ','"),
        (("--backend", "fortran"), "backend must be one of 'numpy', "),
        (("--dtype", "float16"), "dtype must be one of float64, float32; got 'float16'"),
        (("--device", "gpu:7"), "backend 'numpy' has no device 'gpu:7'"),
        (("--seed", -1), "seed must be an integer of at least 0, got -1"),
        (("--jobs", 0), "jobs must be at least 1, got 0"),
        (("--jobs", "many"), "--jobs"),
        (("--out", "report.pdf"), "one of .json, .md, .html, .tex; got report.pdf"),
        (("--out", "absent/report.md"), "no such directory for the report: absent"),
        (("--unknown",), "--unknown"),
        (
            ("show", "ring-twise"),
            "no claim 'ring-twise'; proofs-check list names them all; similar: ring-twice",
        ),
        (("run", "absent.py"), "no such file: absent.py"),
        (("run", "broken.py"), "broken.py cannot be loaded: ZeroDivisionError: division by zero"),
        (("run", "empty.py"), "empty.py holds no claims"),
        (("run",), "Missing argument"),
        (("--seed", 1, "list"), "--seed: options go after the command 'list'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_2_with_a_message_and_nothing_on_standard_output(
    default, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    Path("broken.py").write_text("1 / 0\n")
    Path("empty.py").write_text("x = 1\n")
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_wrong_use_is_found_before_any_claim_runs(default):
    assert "chatter while running" not in call("--out", "report.pdf").stderr


@pytest.mark.parametrize("name", ["folder.json", "locked/report.json"])
def test_a_report_that_cannot_be_written_is_wrong_use_before_any_claim_runs(
    tmp_path, good, name, monkeypatch
):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "locked").mkdir()
    real = Path.open

    def refuse(self, *arguments, **options):  # as a directory without permission does to all but root
        if "locked" in str(self):
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    result = call("run", good, "--out", tmp_path / name)
    assert result.exit_code == 2
    assert str(tmp_path / name) in result.stderr
    assert "chatter while running" not in result.stderr
    assert result.stdout == ""


def test_the_probe_leaves_a_report_alone_until_the_new_one_is_there(tmp_path, bad):
    old, new = tmp_path / "old.md", tmp_path / "new.md"
    old.write_text("old")
    for path in (old, new):
        cli._check_writable(path)
    assert old.read_text() == "old"
    assert not new.exists()


def test_the_table_is_printed_even_if_the_disk_is_full_at_the_end(tmp_path, good, monkeypatch):
    def full(result, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(cli, "write_report", full)
    result = call("run", good, "--out", tmp_path / "report.md")
    assert result.exit_code == 2
    assert "as expected: 2 of 2 claims" in result.stdout
    assert "No space left on device" in result.stderr


def test_an_interrupt_prints_what_had_finished(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(GOOD + STOP)
    result = call("run", path)
    assert result.exit_code == 130
    assert "ring-twice" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("INTERRUPTED, NOT AS EXPECTED: 2 of 2 claims")


def test_version():
    result = call("--version")
    assert (result.exit_code, result.stdout) == (0, f"proofs-check {gr.__version__}\n")


def test_list_and_show_read_a_users_file(good):
    assert [line.split()[0] for line in call("list", "--file", good).stdout.splitlines()][1:] == [
        "ring-twice",
        "not-commutative",
    ]
    assert "statement: 2 x = x + x" in call("show", "ring-twice", "--file", good).stdout
    wrong = call("show", "ring-twise", "--file", good)
    assert wrong.exit_code == 2
    assert f"proofs-check list --file {good} names them all; similar: ring-twice" in wrong.stderr


def test_a_narrow_list_cuts_no_id(monkeypatch, good):
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    name = "a-claim-with-a-long-name-that-takes-half-of-the-line"
    terminal.print_claims([(name, "word " * 40)], ("claim", "statement"), stream)
    assert name in stream.getvalue()
    assert "…" not in stream.getvalue()


def test_the_backend_may_come_from_the_environment(good):
    named = call("run", good, "--json", env={"GRNG_BACKEND": "array_api_strict"})
    assert named.exit_code == 0
    assert json.loads(named.stdout)["settings"]["backend"] == "array_api_strict"
    option = call("run", good, "--json", "--backend", "numpy", env={"GRNG_BACKEND": "array_api_strict"})
    assert json.loads(option.stdout)["settings"]["backend"] == "numpy"
    wrong = call("run", good, env={"GRNG_BACKEND": "fortran"})
    assert wrong.exit_code == 2
    assert "'fortran'" in wrong.stderr


def test_a_backend_that_is_not_there_is_wrong_use(monkeypatch, good):
    def refuse(self):
        raise gr.BackendError(f"backend {self.backend!r} is not installed: install it")

    monkeypatch.setattr(cli.Run, "check_available", refuse)
    monkeypatch.setenv("JAX_ENABLE_X64", "")  # restored afterwards
    del os.environ["JAX_ENABLE_X64"]
    result = call("run", good, "--backend", "jax", "--dtype", "float32")
    assert result.exit_code == 2
    assert result.stderr == "proofs-check: backend 'jax' is not installed: install it\n"
    assert "JAX_ENABLE_X64" not in os.environ
    call("run", good, "--backend", "jax")  # float64 is the default, and JAX must be told before it loads
    assert os.environ["JAX_ENABLE_X64"] == "1"


def test_the_variable_is_no_option_before_a_command(default):
    assert call("list", env={"GRNG_BACKEND": "numpy"}).exit_code == 0


def test_another_device_reaches_the_claims(good):
    result = call("run", good, "--json", "--backend", "array_api_strict", "--device", "device1")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["settings"]["device"] == "device1"


def test_list_and_show(default):
    listed = call("list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "claim",
        "ring-twice",
        "not-commutative",
        "ring-broken",
    ]
    shown = call("show", "ring-twice")
    assert shown.exit_code == 0
    assert shown.stdout.splitlines() == [
        "ring-twice",
        "  statement: 2 x = x + x",
        "  source: arithmetic",
        "  kind: identity",
        "  expected: holds",
        '  params: {"size": 3}',
        "  how it could fail:",
        "    Fails if doubling is not exact.",
    ]
    assert "its docstring does not say" in call("show", "ring-broken").stdout


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_for_terminals_only(monkeypatch, good):
    suite = cli.load_suite(good)
    for stream, decorated in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with terminal.progress(2) as bar:
            cli.run_suite(suite, on_result=bar.finish, on_start=bar.start)
        assert ("\x1b[" in stream.getvalue()) == decorated
        for text in ("2/2", "ring-twice", "not-commutative"):  # what runs is named
            assert (text in stream.getvalue()) == decorated


@pytest.mark.parametrize(
    ("width", "dropped"), [(120, []), (100, ["margin"]), (80, ["margin", "expected"]), (60, "fewer")]
)
def test_a_narrow_terminal_drops_columns_and_cuts_nothing_short(monkeypatch, good, width, dropped):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    terminal.print_result(to_record(cli.run_suite(cli.load_suite(good))), stream)
    text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    head, first, second = text.splitlines()[:3]
    assert "…" not in text
    assert max(map(len, (head, first, second))) <= width
    assert second.split()[0] == "not-commutative"
    if dropped != "fewer":
        assert head.split() == [name for name in COLUMNS if name not in dropped]


def python(*arguments, first="", **variables):
    """Run Python with the project (after ``first``) on its path, its output going into pipes."""
    path = os.pathsep.join(filter(None, [str(first), str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )


def command(*arguments, **options):
    return python("-m", "proofs_check", *arguments, **options)


# what colour-hungry environments set: rich and typer would decorate a pipe
FORCED = {
    "FORCE_COLOR": "1",
    "TTY_COMPATIBLE": "1",
    "GITHUB_ACTIONS": "1",
    "TERM": "xterm-256color",
    "COLUMNS": "40",
}


def test_piped_output_has_no_control_characters_and_whole_rows(bad):
    runs = [command("run", bad, **FORCED), command("--help", **FORCED), command("--wrong", **FORCED)]
    assert [run.returncode for run in runs] == [1, 0, 2]
    for run in runs:
        for text in (run.stdout, run.stderr):
            assert not any(ord(c) < 32 and c != "\n" for c in text)
    assert any(
        line.startswith("ring-twice") and "holds on the sample" in line
        for line in runs[0].stdout.splitlines()
    )


def test_the_module_is_the_command(good):
    run = command("run", good, "--json")
    assert run.returncode == 0
    assert json.loads(run.stdout)["ok"] is True


def test_without_the_extra_it_says_what_to_install(tmp_path):
    missing = "raise ModuleNotFoundError('no typer', name='typer')\n"
    (tmp_path / "typer.py").write_text(missing)
    run = command("list", first=tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    assert "pip install 'grng-ref[verify]'" in run.stderr
    assert "Traceback" not in run.stderr


def test_the_package_imports_without_the_extra():
    code = (
        "import sys\n"
        "for name in ('typer', 'rich', 'joblib', 'matplotlib', 'sklearn'): sys.modules[name] = None\n"
        "import proofs_check, proofs_check.oracles, proofs_check.__main__\n"
    )
    assert python("-c", code).returncode == 0
