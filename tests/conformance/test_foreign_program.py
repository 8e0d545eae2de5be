"""The C program of the examples: compiled, run on every vector that it covers, compared, and broken."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

import grng_ref.testing.vectors
from grng_ref.testing.conformance import ResultFiles, check

EXAMPLE = Path(__file__).parents[2] / "examples" / "adapters" / "c"
VECTORS = Path(grng_ref.testing.vectors.__file__).parent / "data"
COMPILER = shutil.which("cc") or shutil.which("gcc")
STAGES = ("outputs", "loss", "gradient")


@pytest.fixture
def run(tmp_path):
    """Compile the program, a text of it replaced, and run the driver: the directory of results."""
    if COMPILER is None:
        pytest.skip("no C compiler (cc or gcc) was found")

    def compiled(before: str = "", after: str = "") -> tuple[Path, int]:
        source = (EXAMPLE / "mlp.c").read_text(encoding="utf-8")
        assert not before or source.count(before) == 1
        (tmp_path / "mlp.c").write_text(source.replace(before, after) if before else source, encoding="utf-8")
        program = tmp_path / "mlp"
        flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror"]
        subprocess.run([COMPILER, *flags, "-o", program, tmp_path / "mlp.c", "-lm"], check=True)
        driver = runpy.run_path(str(EXAMPLE / "run.py"))
        return tmp_path / "results", driver["main"](program, VECTORS, tmp_path / "results")

    return compiled


def test_results_of_the_c_program_are_right(run):
    directory, count = run()
    report = check(ResultFiles(directory), stages=STAGES)
    assert report.ok
    assert report.run == 3 * count
    assert count >= 60
    assert report.counts["right"] == report.run


@pytest.mark.parametrize(
    ("before", "after", "stages", "cause"),
    [
        ("mean = 1.0 / (double)n", "mean = n > 0", ("loss", "gradient"), {"loss-sum", "reduction-sum"}),
        ("f = memory(n * k, sizeof(double))", "f = memory(n * k + 1, sizeof(double))", (), None),
        ("1.0 - a[l][c] * a[l][c]", "1.0 - a[l][c]", ("gradient",), None),
        (
            "g[place + size[l]] += mean * delta[r]",
            "g[place + size[l]] += 0.0 * delta[r]",
            ("gradient",),
            None,
        ),
        ("tanh(sum) : sum", "(double)(float)tanh(sum) : sum", STAGES, None),
    ],
)
def test_what_is_planted_in_the_c_program_is_seen(run, before, after, stages, cause):
    directory, _ = run(before, after)
    report = check(ResultFiles(directory), stages=STAGES, diagnose=cause is not None)
    assert {c.stage for c in report.checks if not c.ok} == set(stages)  # none where nothing is wrong
    if cause is not None:
        # without a Fisher nothing says whether that is a sum too
        assert {one for (one,) in report.diagnosis.causes} == cause
        assert report.diagnosis.convention


@pytest.mark.parametrize("what", ["cut short", "renamed"])
def test_the_c_program_refuses_a_damaged_file(run, tmp_path, what):
    run()
    whole = (VECTORS / "sgd-plain.safetensors").read_bytes()
    damaged = (
        whole[: len(whole) // 2] if what == "cut short" else whole.replace(b"input.theta", b"input.thetA")
    )
    (tmp_path / "bad.safetensors").write_bytes(damaged)
    command = [
        tmp_path / "mlp",
        tmp_path / "bad.safetensors",
        tmp_path / "out",
        "gaussian",
        "1",
        "2",
        "3",
        "2",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("mlp: ")
    assert not (tmp_path / "out").exists()
