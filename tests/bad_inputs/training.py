"""Bad input at the doors of `grng_ref.data` and `grng_ref.training`.

Door -> rows ``(defect, call, error, argument, needs, got)``; see `values.Row`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grng_ref as gr
from grng_ref import data, training

from .values import FILE_, PROBLEM, SGD, T_, THETA, V_, X, Y


def fit(**changes: Any) -> training.Fit:
    options = {"steps": 1} | changes
    return training.fit(PROBLEM, SGD, THETA, X, Y, **options)


def read(saved: Path, content: bytes) -> training.Records:
    path = saved.parent / "other.npz"
    path.write_bytes(content)
    return training.read_records(path)


DIGITS = data.load("digits", size=10)
GOOD_RUN = b'{"kind": "run", "schema": 1}\n'

# fmt: off
TABLE: dict[str, list[tuple[Any, ...]]] = {
    "data.load": [
        ("unknown name", lambda: data.load("iris"), V_, "name", "'digits'", "got 'iris'"),
        ("no name", lambda: data.load(None), V_, "name", "'digits'", "got None"),
        ("too few", lambda: data.load("digits", size=9), V_, "size", "an integer >= 10", "got 9"),
        ("size not integer", lambda: data.load("digits", size=50.0), T_, "size", "an integer", "got float"),
        ("rng None", lambda: data.load("digits", rng=None), T_, "rng", "an integer seed", "got NoneType"),
        ("rng negative", lambda: data.load("digits", rng=-1), V_, "rng", "a seed >= 0", "got -1"),
    ],
    "training.fit": [
        ("problem", lambda: training.fit(None, SGD, THETA, X, Y, steps=1),
         T_, "problem", "a Problem", "got NoneType"),
        ("optimizer", lambda: training.fit(PROBLEM, None, THETA, X, Y, steps=1),
         T_, "optimizer", "methods init and step", "got NoneType"),
        ("optimizer's maker", lambda: training.fit(PROBLEM, gr.sgd, THETA, X, Y, steps=1),
         T_, "optimizer", "methods init and step", "got function"),
        ("data set for x", lambda: training.fit(PROBLEM, SGD, THETA, DIGITS, Y, steps=1),
         T_, "x", "must be an array", "got DataSet"),
        ("data set for y", lambda: training.fit(PROBLEM, SGD, THETA, X, DIGITS, steps=1),
         T_, "y", "must be an array", "got DataSet"),
        ("data set for validation", lambda: fit(validation=DIGITS),
         T_, "validation", "a pair (x, y)", "got DataSet"),
        ("lists for validation", lambda: fit(validation=([[1.0]], [0])),
         T_, "x", "must be an array", "got list"),
        ("theta", lambda: training.fit(PROBLEM, SGD, THETA[:3], X, Y, steps=1),
         V_, "theta", "must have shape", "got (3,)"),
        ("no length", lambda: fit(steps=None), V_, "epochs", "one of the two", "got None and None"),
        ("two lengths", lambda: fit(epochs=2), V_, "epochs", "one of the two", "got 2 and 1"),
        ("no steps", lambda: fit(steps=0), V_, "steps", "an integer >= 1", "got 0"),
        ("no epochs", lambda: fit(steps=None, epochs=0), V_, "epochs", "an integer >= 1", "got 0"),
        ("empty batch", lambda: fit(batch_size=0), V_, "batch_size", "an integer >= 1", "got 0"),
        ("seed", lambda: fit(seed=-1), V_, "seed", "an integer >= 0", "got -1"),
        ("seed None", lambda: fit(seed=None), T_, "seed", "an integer", "got NoneType"),
        ("validation", lambda: fit(validation=X), T_, "validation", "a pair (x, y)", "got ndarray"),
        ("validation inputs", lambda: fit(validation=(X[:, :2], Y)),
         V_, "x", "must have shape", "got (5, 2)"),
        ("align", lambda: fit(align=0.0), V_, "align", "> 0", "got 0.0"),
        ("align bool", lambda: fit(align=True), T_, "align", "a real number", "got bool"),
        ("every", lambda: fit(every=0), V_, "every", "an integer >= 1", "got 0"),
        ("checkpoint_every", lambda: fit(checkpoint_every=0),
         V_, "checkpoint_every", "an integer >= 1", "got 0"),
        ("records", lambda: fit(records=3), T_, "records", "a string or a path", "got int"),
        ("checkpoint", lambda: fit(checkpoint=3), T_, "checkpoint", "a string or a path", "got int"),
        ("records bool", lambda: fit(records=True), T_, "records", "a string or a path", "got bool"),
        ("records a list", lambda: fit(records=[]), T_, "records", "a string or a path", "got list"),
        ("one file for both", lambda saved: fit(records=saved.parent / "f", checkpoint=f"{saved.parent}/./f"),
         V_, "records", "must be two files", "/f"),
        ("not to be written", lambda saved: fit(checkpoint=saved.parent / ("c" * 250)),
         OSError, "checkpoint", "a path that can be written", "cccc"),
        ("records not to be written", lambda saved: fit(records=saved.parent / ("r" * 300)),
         OSError, "records", "can be written", "rrrr"),
        ("on_record", lambda: fit(on_record=3), T_, "on_record", "a function", "got int"),
        ("on_start", lambda: fit(on_start="print"), T_, "on_start", "a function", "got str"),
        ("resume from nothing", lambda: fit(resume=True), V_, "checkpoint", "with resume=True", "got None"),
        ("no directory", lambda saved: fit(records=saved.parent / "none" / "r"),
         FILE_, "records", "an existing directory", "none"),
        ("file is there", lambda saved: fit(checkpoint=saved),
         FileExistsError, "checkpoint", "a new file", "state.npz"),
        ("another file", lambda saved: fit(checkpoint=saved, resume=True),
         V_, "checkpoint", "a file that fit wrote", "state.npz"),
    ],
    "training.read_records": [
        ("no path", lambda: training.read_records(3), T_, "path", "a string or a path", "got int"),
        ("missing file", lambda saved: training.read_records(saved.parent / "none"),
         FILE_, "none", "No such file", "/none"),
        ("empty", lambda saved: read(saved, b""), V_, "path", "kind 'run'", "got none"),
        ("no JSON", lambda saved: read(saved, b"loss 1\n"), V_, "line 1", "a line of schema 1", "loss 1"),
        ("newer schema", lambda saved: read(saved, b'{"kind": "run", "schema": 2}\n'),
         V_, "line 1", "a line of schema 1", '"schema": 2'),
        ("two runs", lambda saved: read(saved, 2 * GOOD_RUN),
         V_, "path", "its one line of kind 'run'", "other"),
        ("fields missing", lambda saved: read(saved, GOOD_RUN + b'{"kind": "record", "step": 0}\n'),
         V_, "line 2", "a line of schema 1", '"step": 0'),
    ],
    "training.schedule": [
        ("name", lambda: training.schedule("step", 1.0, steps=3), V_, "name", "'cosine'", "got 'step'"),
        ("name a number", lambda: training.schedule(0.1, 1.0, steps=3), V_, "name", "'cosine'", "got 0.1"),
        ("value text", lambda: training.schedule("linear", "1", steps=3),
         T_, "value", "a real number", "got str"),
        ("steps real", lambda: training.schedule("linear", 1.0, steps=2.5),
         T_, "steps", "an integer", "got float"),
        ("value", lambda: training.schedule("linear", -1.0, steps=3),
         V_, "value", "a finite number >= 0", "got -1.0"),
        ("steps", lambda: training.schedule("linear", 1.0, steps=0), V_, "steps", "an integer >= 1", "got 0"),
    ],
    "training.evaluate": [
        ("problem", lambda: training.evaluate(None, THETA, X, Y), T_, "problem", "a Problem", "got NoneType"),
        ("data set", lambda: training.evaluate(PROBLEM, THETA, DIGITS, Y),
         T_, "x", "must be an array", "got DataSet"),
        ("labels", lambda: training.evaluate(PROBLEM, THETA, X, Y + 2), V_, "y", "", "got"),
    ],
    "training.alignment": [
        ("problem", lambda: training.alignment(SGD, THETA, X, Y, THETA, damping=0.1),
         T_, "problem", "a Problem", "got SGD"),
        ("damping", lambda: training.alignment(PROBLEM, THETA, X, Y, THETA, damping=0.0),
         V_, "damping", "> 0", "got 0.0"),
        ("delta", lambda: training.alignment(PROBLEM, THETA, X, Y, THETA[:3], damping=0.1),
         V_, "delta", "must have shape", "got (3,)"),
    ],
    "training.passes_of_step": [
        ("optimizer", lambda: training.passes_of_step(None, 0, 2),
         T_, "optimizer", "methods init and step", "got NoneType"),
        ("step", lambda: training.passes_of_step(SGD, -1, 2), V_, "step", "an integer >= 0", "got -1"),
        ("outputs", lambda: training.passes_of_step(SGD, 0, 0.5), T_, "outputs", "an integer", "got float"),
    ],
}
# fmt: on
