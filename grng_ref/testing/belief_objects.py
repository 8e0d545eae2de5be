"""Properties of a belief as an object: kinds, bits, motion, saving, and what it must refuse."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..io import load, save
from .belief_case import SIZE, BeliefCase, require_same
from .common import (
    fingerprint,
    host,
    require,
    require_close,
    require_identical,
    require_kind,
    require_raises,
    require_unchanged,
)


def results_have_the_kind_of_the_mean(case: BeliefCase) -> None:
    """Size; library, dtype, device and shape of every result."""
    mean = case.place.put(case.mean)
    prior = case.make(mean)
    after, step = case.update(prior, case.rows[1], case.targets[1], precision=0.5)
    require_kind("step", step, mean, (SIZE,))
    moved = prior.predict(noise=0.1, forgetting=0.9)
    for name, belief in (("prior", prior), ("predicted", moved), ("updated", after)):
        require(belief.size == SIZE, f"size of the {name} belief is {belief.size}, expected {SIZE}")
        require_kind(f"information() of the {name} belief", belief.information(), mean, (SIZE, SIZE))
        require_kind(f"covariance() of the {name} belief", belief.covariance(), mean, (SIZE, SIZE))


def arguments_and_beliefs_are_left_alone(case: BeliefCase) -> None:
    """Beliefs and arguments have the same bits afterwards."""
    rows, gradient, targets = case.place.put(
        (case.rows[0], -case.rows[0].T @ case.targets[0], case.targets[0])
    )
    belief = case.posterior()
    arguments = fingerprint((rows, gradient, targets))
    kept = fingerprint((belief.information(), belief.covariance()))
    belief.predict(noise=0.1, forgetting=0.9)
    belief.update(rows, gradient, precision=0.5)
    belief.update(rows, gradient, targets=targets)
    require_unchanged("rows, gradient or targets", arguments, (rows, gradient, targets))
    require_unchanged("the belief", kept, (belief.information(), belief.covariance()))


def results_are_repeatable(case: BeliefCase) -> None:
    """Two calls agree in every bit."""
    belief = case.posterior()
    for given in (False, True):
        (first, step), (second, again) = (
            case.update(belief, case.rows[1], case.targets[1], given=given, precision=0.5) for _ in range(2)
        )
        require_identical("the steps of two updates", step, again)
        require_identical("the information of two updates", first.information(), second.information())
    moved = [belief.predict(noise=0.1, forgetting=0.9).covariance() for _ in range(2)]
    require_identical("the covariance of two predictions", *moved)


def information_and_covariance_are_inverse(case: BeliefCase) -> None:
    """Symmetric, positive definite, ``Y P = I``."""
    posterior = case.posterior()
    moved = posterior.predict(noise=0.1, forgetting=0.9)
    for name, belief in (("prior", case.prior()), ("posterior", posterior), ("predicted", moved)):
        Y, P = host(belief.information()), host(belief.covariance())
        for what, matrix in (("information()", Y), ("covariance()", P)):
            bound = case.place.rounding(float(np.max(np.abs(matrix))), terms=SIZE)
            require_close(f"{what} of the {name} belief and its transpose", matrix, matrix.T, bound)
            least = float(np.linalg.eigvalsh(matrix)[0])
            require(least > 0.0, f"{what} of the {name} belief has the eigenvalue {least:.3g}")
        require_close(
            f"information() @ covariance() of the {name} belief", Y @ P, np.eye(SIZE), case.bound(Y)
        )


def predict_without_change_is_the_identity(case: BeliefCase) -> None:
    """Noise 0, forgetting 1."""
    belief = case.posterior()
    Y = host(belief.information())
    still = belief.predict()
    require_same(case, "information() after predict()", still.information(), Y, Y)


def predict_moves_the_covariance(case: BeliefCase) -> None:
    """``P / forgetting + noise I`` (exact)."""
    belief = case.posterior()
    P, Y = host(belief.covariance()), host(belief.information())
    for noise, forgetting in ((0.0, 0.9), (0.1, 1.0), (0.1, 0.9), (2.0, 0.5)):
        expected = P / forgetting + noise * np.eye(SIZE)
        moved = belief.predict(noise=noise, forgetting=forgetting)
        options = f"predict(noise={noise:g}, forgetting={forgetting:g})"
        require_same(case, f"covariance() after {options}", moved.covariance(), expected, Y)


def transition_moves_the_covariance(case: BeliefCase) -> None:
    """``A P A^T / forgetting + Q``, or a ValueError (exact)."""
    belief = case.posterior()
    P, Y = host(belief.covariance()), host(belief.information())
    shift = np.eye(SIZE) + 0.5 * np.eye(SIZE, k=1)  # of a condition number near 3
    root = case.rows[0].T
    for noise in (0.0, 0.3, root @ root.T):  # the last one is singular
        Q = noise * np.eye(SIZE) if np.ndim(noise) == 0 else noise
        options = {"transition": case.place.put(shift), "forgetting": 0.9}
        try:
            moved = belief.predict(noise=case.place.put(Q) if np.ndim(noise) else noise, **options)
        except ValueError as error:
            require("transition" in str(error), f"predict with a transition says {str(error)!r}")
            return
        expected = shift @ P @ shift.T / 0.9 + Q
        kind = "a matrix" if np.ndim(noise) else f"{noise:g}"
        name = f"covariance() after predict(transition=A, noise={kind})"
        require_same(case, name, moved.covariance(), expected, np.diag([1.0, np.linalg.cond(Y) * 10.0]))


def offset_leaves_the_spread(case: BeliefCase) -> None:
    """An offset moves a mean."""
    belief = case.posterior()
    offset = case.place.put(case.mean)
    with_offset, without = (belief.predict(noise=0.1, offset=given) for given in (offset, None))
    require_identical("information() with an offset", with_offset.information(), without.information())


def saved_belief_is_the_same(case: BeliefCase) -> None:
    """`save` and `load`."""
    belief = case.posterior()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "belief.npz"
        save(path, belief)
        loaded = load(path, backend=case.place.backend, device=case.place.device)
    require(type(loaded) is type(belief), f"a loaded {type(belief).__name__} is {type(loaded).__name__}")
    require_identical("information() after save and load", loaded.information(), belief.information())
    results = [case.update(b, case.rows[1], case.targets[1])[1] for b in (belief, loaded)]
    require_identical("the step after save and load", *results)


def bad_arguments_are_refused(case: BeliefCase) -> None:
    """Ranges, shapes, dtypes, NaN."""
    belief = case.posterior()
    kept = fingerprint((belief.information(), belief.covariance()))
    for option, values in (("forgetting", (0.0, -0.5, 1.5, math.nan)), ("noise", (-0.1, math.nan, math.inf))):
        for value in values:
            what = f"predict({option}={value:g})"
            require_raises(what, ValueError, belief.predict, mention=(option,), **{option: value})
    rows, targets = case.rows[1], case.targets[1]
    good = {"rows": rows, "gradient": -rows.T @ targets, "targets": targets}
    bad: list[tuple[str, Any]] = [("rows", rows[:, 1:]), ("rows", rows[0])]
    bad += [(name, value[1:]) for name, value in good.items() if name != "rows"]
    for name, value in good.items():
        broken = value.copy()
        broken.flat[0] = math.nan
        bad.append((name, broken))

    def update(**changed: Any) -> Any:
        arguments = {name: case.place.put(value) for name, value in good.items()} | changed
        return belief.update(arguments.pop("rows"), arguments.pop("gradient"), **arguments)

    for name, value in bad:
        what = f"update with {name} of shape {value.shape}{' with a NaN' if np.isnan(value).any() else ''}"
        array = case.place.put(value)
        require_raises(what, ValueError, update, mention=(name,), **{name: array})
    for name, value in good.items():
        for wrong in case.place.wrong_dtypes(value):
            what = f"update with {name} of dtype {wrong.dtype}"
            require_raises(what, TypeError, update, **{name: wrong})
    for array in (case.mean[1:], np.full(SIZE, math.nan)):
        what = f"predict with an offset of shape {array.shape}"
        require_raises(what, ValueError, belief.predict, mention=("offset",), offset=case.place.put(array))
    for array in (rows[:, 1:], rows[0]):
        what = f"observed_covariance of rows of shape {array.shape}"
        require_raises(what, ValueError, belief.observed_covariance, case.place.put(array), mention=("rows",))
    for value in (-1.0, math.nan):
        what = f"update(precision={value:g})"
        require_raises(what, ValueError, update, mention=("precision",), precision=value)
    require_unchanged("the belief", kept, (belief.information(), belief.covariance()))
