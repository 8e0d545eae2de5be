"""Sweeps: the grid, what a value may be, seeds, order, and workers that joblib is configured for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import jsonschema
import pytest
from typer.testing import CliRunner

from proofs_check import RESULT_SCHEMA, Run, cli, load_suite, run_suite, to_record
from proofs_check.report import to_html, to_markdown, to_tex
from proofs_check.sweep import parse_sweep

ROOT = Path(cli.__file__).parents[1]

FILE = '''
from proofs_check import claim, identity

def finding(run, width, eta, factor):
    x = run.asarray(run.rng(width).normal(size=width))
    detail = f"{width} numbers, eta {eta!r}, first {float(x[0])!r}"
    return identity(factor * x, 2 * x, tolerance=run.eps, reason="exact", detail=detail)

@claim("both", statement="s", source="x", kind="identity", params={"width": 4, "eta": 1.0}, full={"width": 9})
def both(run, width, eta):
    """Fails if the sum is wrong; at eta = 3 it is."""
    return finding(run, width, eta, 2 if eta < 3 else 4).with_control(finding(run, width, eta, 3))

@claim("neither", statement="s", source="x", kind="identity", params={"name": "tanh"})
def neither(run, name):
    return finding(run, 3, 0.0, 2).with_control(finding(run, 3, 0.0, 3))
'''


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "mine.py"
    found.write_text(FILE)
    return found


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("width=64:512", (64, 128, 256, 512)),
        ("width=3:3", (3,)),
        ("width=1,4:16", (1, 4, 8, 16)),
        ("eta=0.5,1,1e-3", (0.5, 1, 1e-3)),
        ("act=tanh, relu", ("tanh", "relu")),
        ("on=true,false", (True, False)),
        ("widths=[64,256],[512]", ([64, 256], [512])),
        ('text="a,b",c', ("a,b", "c")),
    ],
)
def test_values_of_a_sweep(text, values):
    (found,) = parse_sweep([text]).values()
    assert found == values
    assert list(map(type, found)) == list(map(type, values))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["width"], "must be NAME=VALUES"),
        (["=3"], "must be NAME=VALUES"),
        (["width="], "empty value"),
        (["width=1,,2"], "empty value"),
        (["width=2,1:4"], "2 twice"),
        (["width=1", "width=2"], "'width' twice"),
        (["width=64:100"], "must end at 64 doubled"),
        (["width=8:4"], "must end at 8 doubled"),
        (["width=0:4"], "must end at"),
        (["eta=0.5:2"], "positive integers, which doubles"),
        (["eta=NaN"], "NaN"),
    ],
)
def test_a_wrong_sweep_says_why(texts, message):
    with pytest.raises(ValueError, match=message):
        parse_sweep(texts)


def test_an_integer_and_the_float_that_it_stands_for_are_one_point(path):
    with pytest.raises(ValueError, match=r"'eta' has 1\.0 twice"):
        run_suite(load_suite(path), sweep={"eta": (1, 1.0)})


def essence(result):
    return [
        (one.claim.id, dict(one.claim.point), one.run.seed, one.finding and one.finding.detail, one.verdict)
        for one in result.results
    ]


def test_the_order_is_claims_then_points_then_seeds(path):
    result = run_suite(load_suite(path), Run(seed=5), sweep={"eta": (1, 2.5), "width": (4, 8)}, seeds=2)
    grid = [{"eta": e, "width": w} for e in (1.0, 2.5) for w in (4, 8)]
    expected = [("both", point, seed) for point in grid for seed in (5, 6)]
    expected += [("neither", {}, seed) for seed in (5, 6)]
    assert [one[:3] for one in essence(result)] == expected
    assert result.ok
    assert all(type(one.claim.point["eta"]) is float for one in result.results[:8])
    details = [one[3] for one in essence(result)[:8]]
    assert "4 numbers, eta 1.0" in details[0]
    assert "8 numbers, eta 2.5" in details[6]
    assert len(set(details)) == 8  # each seed has draws of its own


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ({"depth": (1,)}, "no selected claim has a parameter 'depth'; there are: eta, name, width"),
        ({"width": (0.5,)}, "width of claim 'both' is an integer, as 4; got 0.5"),
        ({"width": (True,)}, "width of claim 'both' is an integer"),
        ({"eta": ("large",)}, "eta of claim 'both' is a number"),
        ({"eta": ()}, "at least one value"),
    ],
)
def test_a_sweep_that_fits_no_claim_is_refused(path, sweep, message):
    with pytest.raises(ValueError, match=message):
        run_suite(load_suite(path), sweep=sweep)


@pytest.mark.parametrize("seeds", [0, True, 1.0])
def test_seeds_are_at_least_one(path, seeds):
    with pytest.raises(ValueError, match="seeds must be an integer of at least 1"):
        run_suite(load_suite(path), seeds=seeds)


def test_a_full_run_has_its_own_parameters_and_a_sweep_goes_before_them(path):
    full = run_suite(load_suite(path), Run(full=True), only=["both"])
    assert "9 numbers" in full.results[0].finding.detail
    assert to_record(full)["claims"][0]["params"]["width"] == 9
    swept = run_suite(load_suite(path), Run(full=True), only=["both"], sweep={"width": [4]})
    assert "4 numbers" in swept.results[0].finding.detail


def test_the_command_sweeps_and_counts_by_point(path, tmp_path):
    out = tmp_path / "a.json"
    result = call("run", path, "--sweep", "eta=1,3", "--seeds", 3, "--jobs", 2, "--out", out)
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[1:4] == ["both eta=1.0 3 3 3 1", "both eta=3.0 3 3 0 -4.5e+15", "neither - 3 3 3 1"]
    assert "both at eta=3.0, seed 0: s" in result.stdout
    assert lines[-1].startswith("NOT AS EXPECTED: 6 of 9 runs of 2 claims (6 hold on the sample, 3 refuted)")
    assert "seeds 0 to 2" in lines[-1]
    record = json.loads(out.read_text())
    jsonschema.validate(record, RESULT_SCHEMA)
    assert record["sweep"] == {"eta": [1, 3]}
    assert [one["seed"] for one in record["claims"]] == [0, 1, 2] * 3
    assert record["claims"][3]["point"] == {"eta": 3.0}
    for text in (to_html(record), to_markdown(record), to_tex(record)):
        assert text.count("eta=3.0") >= 1
        assert len(text.splitlines()) < 150


def test_a_name_that_no_claim_has_is_wrong_use(path):
    result = call("run", path, "--sweep", "depth=1")
    assert result.exit_code == 2
    assert "no selected claim has a parameter 'depth'; there are: eta, name, width" in result.stderr


def test_workers_give_what_one_process_gives_on_the_backend_that_is_configured(path):
    options = {"sweep": {"eta": (1.0, 3.0), "width": (4, 8)}, "seeds": 2}
    serial = run_suite(load_suite(path), **options)
    assert essence(run_suite(load_suite(path), jobs=2, **options)) == essence(serial)
    with joblib.parallel_config(backend="threading"):
        assert essence(run_suite(load_suite(path), jobs=2, **options)) == essence(serial)


def test_a_sweep_leaves_the_machine_with_dask(path):
    from distributed import Client, LocalCluster

    options = {"sweep": {"eta": (1.0, 3.0), "width": (4, 8)}, "seeds": 2}
    serial = run_suite(load_suite(path), **options)
    address = {"dashboard_address": None, "processes": False}
    with LocalCluster(n_workers=2, threads_per_worker=1, **address) as cluster, Client(cluster) as client:
        with joblib.parallel_config(backend="dask"):
            found = run_suite(load_suite(path), jobs=2, **options)
        ran = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.transition_counter)
    assert essence(found) == essence(serial)
    assert ran > 0  # the scheduler has seen tasks: nothing ran beside the cluster


SLOW = """
import time
from pathlib import Path
from proofs_check import claim, identity

@claim("slow", statement="s", source="x", kind="identity", params={"k": 0})
def slow(run, k):
    Path(__file__).with_name(f"at-{k}").touch()
    time.sleep(0.0 if k < 3 else 60.0)
    return identity(1.0, 1.0, tolerance=0.1, reason="r", detail="d")
"""


def listens():
    """What a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.skipif(os.name != "posix", reason="sends a signal as a terminal does")
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_sweep_keeps_what_is_done(tmp_path, jobs):
    path, out = tmp_path / "slow.py", tmp_path / "a.json"
    path.write_text(SLOW)
    command = [sys.executable, "-m", "proofs_check", "run", path, "--sweep", "k=0,1,2,3,4", "--out", out]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    running = subprocess.Popen(
        [*command, "--jobs", str(jobs)],
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
        preexec_fn=listens,
    )
    for _ in range(600):
        if (tmp_path / "at-3").exists():  # the others are done, or with two workers will be at once
            break
        time.sleep(0.1)
    time.sleep(1.0)
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=50)
    record = json.loads(out.read_text())
    assert running.returncode == 130
    assert record["interrupted"]
    assert [one["point"]["k"] for one in record["claims"]] == [0, 1, 2]
