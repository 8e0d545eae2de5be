"""Training runs that are killed at random moments, and resumed: are they the uninterrupted ones, bit for bit?

    python benchmarks/killed_runs.py --kills 20

Each life of a run is a process ``grng-ref train --resume``, killed (SIGKILL) a random while after it began
to take steps; it records and checkpoints every few steps, so that many kills fall into the writing of a
file. After each kill the checkpoint must be valid. After its share of kills a run is let finish: arrays of
the last checkpoint and the records must equal those of a run that was never interrupted, except the seconds.
Exit status 1 if something is not. Needs the extra "verify".
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import grng_ref as gr
from grng_ref import training

COMMON = [
    *("--size", "200", "--hidden", "6", "--batch-size", "40", "--align", "0.1"),
    *("--every", "1", "--checkpoint-every", "2"),
]
RUNS = {
    "kfac": ["--steps", "150"],
    "rkalman": ["--steps", "40", "--rho", "0.1"],
    "sophia": ["--steps", "200", "--set", "refresh=3"],
    "adamw": ["--steps", "200", "--lr", "cosine:0.01"],
}


def command(name: str, folder: Path) -> list[str]:
    """The command line of one life."""
    files = ["--records", str(folder / "records.jsonl"), "--checkpoint", str(folder / "state.npz")]
    train = [sys.executable, "-m", "grng_ref", "train", "--optimizer", name, "--resume", "--json"]
    return [*train, *COMMON, *RUNS[name], *files]


def live(name: str, folder: Path, delay: float | None) -> int:
    """One life; killed ``delay`` seconds after the records file first changes, if a delay is given."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    before = stamp(folder)
    process = subprocess.Popen(command(name, folder), env=environment, **quiet)
    if delay is not None:
        while process.poll() is None and stamp(folder) == before:
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
    _, errors = process.communicate()
    if process.returncode not in (0, -9):
        raise RuntimeError(f"{name} ended with {process.returncode}: {errors.decode()}")
    return process.returncode


def stamp(folder: Path) -> tuple[int, int] | None:
    """When the records were last written, and their length."""
    path = folder / "records.jsonl"
    if not path.exists():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def look(folder: Path) -> str:
    """Where a kill fell; raises if the checkpoint is not valid."""
    path = folder / "state.npz"
    if not path.exists():
        return "before the first checkpoint"
    step = gr.load(path)["position"].step
    records = (folder / "records.jsonl").read_bytes()
    last = records.rfind(b'{"kind": "record"')
    ahead = records.count(b'"kind": "record"') - 1 - step
    if any(folder.glob("*.tmp")):
        return "while the checkpoint was written"
    if not records.endswith(b"\n") and last >= 0:
        return "while a record was written"
    return "between record and checkpoint" if ahead > 0 else "right after a checkpoint"


def differences(a: Path, b: Path) -> list[str]:
    """What two finished runs do not have in common, the seconds left out."""
    found = []
    with np.load(a / "state.npz") as left, np.load(b / "state.npz") as right:
        arrays = set(left.files) | set(right.files)
        for name in sorted(arrays - {"manifest", "checksum"}):
            if left[name].dtype != right[name].dtype or left[name].tobytes() != right[name].tobytes():
                found.append(f"array {name} of the checkpoint")
    places = [gr.load(folder / "state.npz")["position"] for folder in (a, b)]
    if places[0].step != places[1].step or places[0].passes != places[1].passes:
        found.append("step or passes of the checkpoint")
    texts = [training.read_records(folder / "records.jsonl") for folder in (a, b)]
    if texts[0].run != texts[1].run or texts[0].status != texts[1].status:
        found.append("description or status in the records")
    rows = [[record._replace(seconds=0.0) for record in text.records] for text in texts]
    return found if rows[0] == rows[1] else [*found, "records"]


def main() -> int:
    """Kill, resume, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="in all")
    parser.add_argument("--only", choices=RUNS, help="one optimizer instead of four")
    parser.add_argument("--longest", type=float, default=0.3, help="seconds of work before a kill, at most")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names = [options.only] if options.only else list(RUNS)
    draw, fell, wrong, done = random.Random(options.seed), collections.Counter(), 0, 0
    for i, name in enumerate(names):
        share = options.kills * (i + 1) // len(names) - options.kills * i // len(names)
        with tempfile.TemporaryDirectory() as text:
            whole, killed = Path(text, "whole"), Path(text, "killed")
            whole.mkdir()
            killed.mkdir()
            live(name, whole, None)
            count = 0
            for _ in range(share):
                if live(name, killed, draw.uniform(0.0, options.longest)) == 0:
                    break  # it was faster: nothing is left to kill
                count += 1
                fell[look(killed)] += 1
            live(name, killed, None)
            found = differences(whole, killed)
            steps = len(training.read_records(killed / "records.jsonl").records) - 1
        done += count
        wrong += bool(found)
        print(f"{name}: {steps} steps, {count} kills, {'; '.join(found) or 'bit-identical'}", flush=True)
    print(f"{done} kills: " + ", ".join(f"{count} {where}" for where, count in fell.most_common()))
    return 1 if wrong or done < options.kills else 0


if __name__ == "__main__":
    sys.exit(main())
