"""Interrupted, killed and resumed runs equal uninterrupted ones, bit for bit; planted errors do not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from training.training_cases import OPTIMIZERS, PROBLEM, STEPS, THETA, differences, run, without_seconds

import grng_ref as gr
from grng_ref import training
from grng_ref.training import fitting
from grng_ref.training.batches import Batches

ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Stands for a kill: nothing is written after it."""


def killed_at(folder: Path, monkeypatch: pytest.MonkeyPatch, calls: int, where: str, name: str) -> None:
    """Run until call number ``calls`` of a function of the loop, which ends everything before it acts."""
    real, count = getattr(fitting._Loop, where), 0

    def dying(self, *arguments):
        nonlocal count
        count += 1
        if count == calls:
            raise Killed
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fitting._Loop, where, dying)
        with pytest.raises(Killed):
            run(folder, name, checkpoint_every=2)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("where", "calls"), [("save", 3), ("note", 4)])
def test_a_killed_run_resumes_to_the_same_bits(name, where, calls, tmp_path, monkeypatch):
    """``save``: the kill falls between a record and its checkpoint, so one record must be cut."""
    whole = run(None, name)
    killed_at(tmp_path, monkeypatch, calls, where, name)
    left = training.read_records(tmp_path / "r.jsonl")
    assert left.status is None
    assert len(left.records) == 3
    resumed = run(tmp_path, name, resume=True, checkpoint_every=2)
    assert resumed.status == "finished"
    assert differences(whole, resumed, tmp_path) == []
    final = training.read_records(tmp_path / "r.jsonl")
    assert [record.step for record in final.records] == [0, 2, 4, 6, 8, 9]
    assert final.records == resumed.records
    assert final.status == "finished"


@pytest.mark.parametrize(
    "tail", [b'{"kind": "record", "step"', b"\x00\xff", b'{"kind": "end", "status": "x"}\n']
)
def test_a_torn_or_stale_end_of_the_records_is_cut(tail, tmp_path):
    run(tmp_path, steps=6)
    with (tmp_path / "r.jsonl").open("ab") as file:
        file.write(tail)
    resumed = run(tmp_path, resume=True)
    assert differences(run(), resumed, tmp_path) == []
    assert training.read_records(tmp_path / "r.jsonl").records == resumed.records


def test_a_run_can_be_made_longer(tmp_path):
    """The last record of the shorter run, which the longer one does not have, goes."""
    run(tmp_path, steps=5)
    assert differences(run(), run(tmp_path, resume=True), tmp_path) == []
    assert [r.step for r in training.read_records(tmp_path / "r.jsonl").records] == [0, 2, 4, 6, 8, 9]


@pytest.mark.parametrize("first", [1, 2, 5, 7])
@pytest.mark.parametrize("second", [2, 5, 7, 8])
@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_lengths_off_the_grid_of_records(first, second, checkpoint_every, tmp_path):
    """Records every second step: a run of 5 steps has one more at its end, which one of 7 steps has not."""
    if first > second:
        pytest.skip("a run is not made shorter")
    whole = run(None, "adamw", steps=second)
    run(tmp_path, "adamw", steps=first, checkpoint_every=checkpoint_every)
    resumed = run(tmp_path, "adamw", steps=second, checkpoint_every=checkpoint_every, resume=True)
    assert differences(whole, resumed, tmp_path) == []
    read = training.read_records(tmp_path / "r.jsonl")
    assert read.records == resumed.records
    assert sorted({*range(0, second, 2), second}) == [r.step for r in read.records]
    assert read.status == "finished"


def stopped_at(step: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of 9 steps that a signal reaches in the step before ``step``."""
    real = fitting._Run.advance

    def advance(self, at):
        if at.step + 1 == step:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, at)

    with monkeypatch.context() as patch:
        patch.setattr(fitting._Run, "advance", advance)
        assert run(folder, "adamw").step == step


@pytest.mark.parametrize(("stop", "second"), [(3, 5), (3, 9), (4, 4), (4, 7), (5, 9), (5, 6)])
def test_interrupted_runs_end_at_other_lengths(stop, second, tmp_path, monkeypatch):
    stopped_at(stop, tmp_path, monkeypatch)
    resumed = run(tmp_path, "adamw", steps=second, resume=True)
    assert differences(run(None, "adamw", steps=second), resumed, tmp_path) == []


def test_a_run_cannot_end_where_its_last_record_is_missing(tmp_path, monkeypatch):
    """Stopped after step 5 of 9, off the grid: a run of 5 steps has a record there."""
    stopped_at(5, tmp_path, monkeypatch)
    before = (tmp_path / "r.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"must hold the record of step 5.* meant to be longer"):
        run(tmp_path, "adamw", steps=5, resume=True)
    assert (tmp_path / "r.jsonl").read_bytes() == before


def test_a_finished_run_is_left_as_it_is(tmp_path):
    first = run(tmp_path)
    again = run(tmp_path, resume=True)
    assert again.records == first.records
    assert differences(first, again, tmp_path) == []


def test_a_missing_record_is_refused(tmp_path):
    run(tmp_path, steps=6)
    lines = (tmp_path / "r.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "r.jsonl").write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(ValueError, match="must hold the record of step 2"):
        run(tmp_path, resume=True)


@pytest.mark.parametrize(
    ("change", "word"),
    [({"batch_size": 10}, "batch_size"), ({"seed": 1}, "seed"), ({"name": "sgd"}, "optimizer"),
     ({"align": 0.2}, "align"), ({"every": 3}, "every"), ({"validation": None}, "validation")],
)  # fmt: skip
def test_another_run_is_not_resumed(change, word, tmp_path):
    run(tmp_path, steps=4)
    with pytest.raises(ValueError, match=rf"checkpoint must be of this same run.*{word}"):
        run(tmp_path, resume=True, **change)


def records_of_another_run(folder: Path) -> None:
    """Checkpoint of one run, records of a second one, of another seed, with as many lines."""
    run(folder, steps=4)
    (folder / "r.jsonl").unlink()
    run(folder, steps=4, seed=1, checkpoint=None)


def test_records_of_another_run_are_not_spliced(tmp_path):
    records_of_another_run(tmp_path)
    before = (tmp_path / "r.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"records must be of this same run.*batches.seed: 1, now 0"):
        run(tmp_path, resume=True)
    assert (tmp_path / "r.jsonl").read_bytes() == before


@pytest.mark.parametrize("seed", [0, 1])
def test_records_without_their_checkpoint_are_not_overwritten(seed, tmp_path):
    """Of another run or of this one: more than its start stands there."""
    run(tmp_path, steps=4, seed=seed)
    (tmp_path / "c.npz").unlink()
    before = (tmp_path / "r.jsonl").read_bytes()
    with pytest.raises(FileExistsError, match="records must be a new file where there is no checkpoint"):
        run(tmp_path, resume=True)
    assert (tmp_path / "r.jsonl").read_bytes() == before


@pytest.mark.parametrize("lines", [0, 1, 2])
@pytest.mark.parametrize("torn", [0, 7])
def test_a_run_killed_before_its_checkpoint_begins_anew(lines, torn, tmp_path):
    whole = run(tmp_path)
    (tmp_path / "c.npz").unlink()
    content = (tmp_path / "r.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "r.jsonl").write_bytes(b"".join(content[:lines]) + content[lines][: torn * (lines < 2)])
    assert differences(whole, run(tmp_path, resume=True), tmp_path) == []


def test_leftovers_of_a_killed_save_are_removed(tmp_path):
    run(tmp_path, steps=4)
    leftover, other = tmp_path / f"c.npz.{'0a' * 8}.tmp", tmp_path / "c.npz.mine.tmp"
    leftover.touch()
    other.touch()
    run(tmp_path, resume=True)
    assert not leftover.exists()
    assert other.exists()


# --- signals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_a_valid_checkpoint(number, tmp_path):
    before = signal.getsignal(number)

    def wish(record):
        if record.step == 4:
            os.kill(os.getpid(), number)

    stopped = run(tmp_path, on_record=wish)
    assert (stopped.status, stopped.step) == ("interrupted", 4)
    assert training.read_records(tmp_path / "r.jsonl").status == "interrupted"
    assert signal.getsignal(number) is before
    assert differences(run(), run(tmp_path, resume=True), tmp_path) == []


def test_a_second_signal_interrupts_at_once(tmp_path):
    def twice(record):
        if record.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, on_record=twice)
    assert differences(run(), run(tmp_path, resume=True), tmp_path) == []


def test_other_threads_train_without_signals():
    results = []
    thread = threading.Thread(target=lambda: results.append(run()))
    thread.start()
    thread.join()
    assert results[0].status == "finished"


@pytest.mark.slow
def test_killed_processes_resume_to_the_same_bits():
    """The script that kills twenty times, with two kills."""
    script = [sys.executable, str(ROOT / "benchmarks" / "killed_runs.py")]
    done = subprocess.run(
        [*script, "--kills", "2", "--only", "adamw", "--longest", "0.2"],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kills, bit-identical" in done.stdout


# --- planted errors ----------------------------------------------------------------------------------------


def resumed_differs(folder: Path, name: str = "kfac") -> bool:
    """Whether a run in two parts differs from one in one part."""
    run(folder, name, steps=5)
    return differences(run(None, name), run(folder, name, resume=True), folder) != []


def forget_the_state(monkeypatch):
    def forgetful(path, theta, identity):
        at = read(path, theta, identity)
        return at._replace(state=OPTIMIZERS["kfac"](PROBLEM).init(THETA))

    read = fitting.read_checkpoint
    monkeypatch.setattr(fitting, "read_checkpoint", forgetful)


def shuffle_with_one_generator(monkeypatch):
    rng = np.random.default_rng(0)
    orders: dict[tuple[int, int], np.ndarray] = {}

    def indices(self, step):  # a generator that lives as long as the process
        epoch, part = divmod(step, self.per_epoch)
        order = orders.setdefault((id(self), epoch), rng.permutation(self.examples))
        return np.array_split(order, self.per_epoch)[part]

    monkeypatch.setattr(Batches, "indices", indices)


def round_theta(monkeypatch):
    def rounded(path, position, identity):
        theta = position.theta.astype(np.float32).astype(np.float64)
        real(path, position._replace(theta=theta), identity)

    real = fitting.write_checkpoint
    monkeypatch.setattr(fitting, "write_checkpoint", rounded)


def keep_records_beyond_the_checkpoint(monkeypatch):
    def uncut(path, expected, identity):
        return training.read_records(path).records

    monkeypatch.setattr(fitting, "cut_back", uncut)


def test_without_an_error_nothing_differs(tmp_path):
    assert not resumed_differs(tmp_path)


@pytest.mark.parametrize(
    "plant",
    [forget_the_state, shuffle_with_one_generator, round_theta, keep_records_beyond_the_checkpoint],
)
def test_a_planted_error_is_caught(plant, tmp_path, monkeypatch):
    plant(monkeypatch)
    assert resumed_differs(tmp_path)


def test_the_checkpoint_is_a_state_that_gr_load_reads(tmp_path):
    done = run(tmp_path)
    saved = gr.load(tmp_path / "c.npz")["position"]
    assert saved.step == STEPS
    assert np.array_equal(saved.theta, done.theta)
    assert without_seconds(done.records)[-1].gradient_evaluations == saved.passes / 3


def test_a_file_that_no_run_wrote_is_not_overwritten(tmp_path):
    (tmp_path / "r.jsonl").write_text("a thesis")
    with pytest.raises(FileExistsError, match="something else than the start of this run"):
        run(tmp_path, resume=True)
    assert (tmp_path / "r.jsonl").read_text() == "a thesis"
    (tmp_path / "r.jsonl").write_text('{"kind": "ru')  # left by a killed run
    assert run(tmp_path, resume=True).status == "finished"
