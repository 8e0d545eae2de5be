"""The contract of a Gaussian belief of the Kalman filter."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..beliefs import Belief
from ..io import load, save
from .common import (
    Host,
    Place,
    fingerprint,
    host,
    make_place,
    require,
    require_close,
    require_identical,
    require_kind,
    require_raises,
    require_unchanged,
    run_properties,
)

_SIZE = 6


@dataclass(frozen=True)
class BeliefCase:
    """A factory of beliefs, with two observations of a linear model ``z = rows theta + noise``."""

    make: Callable[[Array], Belief]
    place: Place
    mean: Host  # (P,)
    rows: tuple[Host, Host]  # whitened: the noise has unit variance
    targets: tuple[Host, Host]  # z - rows mean
    exact: bool

    def prior(self) -> Belief:
        """The belief as the factory makes it."""
        return self.make(self.place.put(self.mean))

    def update(
        self, belief: Belief, rows: Host, targets: Host, *, given: bool = False, precision: float = 0.0
    ) -> tuple[Belief, Array]:
        """One update, with the gradient ``-rows^T targets``; ``given`` passes the targets, too."""
        put = self.place.put
        passed = put(targets) if given else None
        return belief.update(put(rows), put(-rows.T @ targets), targets=passed, precision=precision)

    def posterior(self) -> Belief:
        """The belief after the first observation: no longer isotropic."""
        return self.update(self.prior(), self.rows[0], self.targets[0])[0]

    def bound(self, information: Host) -> float:
        """Relative rounding error of what passes through the inverse of an information matrix."""
        condition = float(np.linalg.cond(information))
        return self.place.rounding(1.0, terms=_SIZE + len(self.rows[0]), condition=condition)


def check_belief(
    make: Callable[[Array], Belief],
    *,
    exact: bool = True,
    backend: str = "numpy",
    dtype: str = "float64",
    device: Any = None,
    rng: int = 0,
    asarray: Callable[[Any], Any] | None = None,
) -> None:
    """Check that beliefs keep the contract.

    ============================================  ============================================================
    property                                      what must hold
    ============================================  ============================================================
    results_have_the_kind_of_the_mean             size; library, dtype, device and shape of every result
    arguments_and_beliefs_are_left_alone          beliefs and arguments have the same bits afterwards
    results_are_repeatable                        two calls agree in every bit
    information_and_covariance_are_inverse        symmetric, positive definite, ``Y P = I``
    predict_without_change_is_the_identity        noise 0, forgetting 1
    predict_moves_the_covariance                  ``P / forgetting + noise I`` (exact)
    transition_moves_the_covariance               ``A P A^T / forgetting + Q``, or a ValueError (exact)
    offset_leaves_the_spread                      an offset moves a mean
    update_adds_information                       ``Y + rows^T rows + precision I`` (exact)
    precision_is_observed_without_rows            ``Y + precision I`` for rows (0, P) (exact)
    observed_covariance_is_that_of_the_rows       ``rows P rows^T``
    step_uses_the_updated_information             ``step = -Y_new^{-1} gradient`` (exact)
    targets_do_not_change_the_update              t with ``gradient = -rows^T t`` given
    batch_is_sequence                             both observations at once, or one after the other (exact)
    order_of_observations_does_not_matter         the observations exchanged (exact)
    information_grows                             ``Y_new - Y`` is positive semidefinite (exact)
    saved_belief_is_the_same                      `save` and `load`
    bad_arguments_are_refused                     ranges, shapes, dtypes, NaN
    ============================================  ============================================================

    Parameters
    ----------
    make : callable
        ``make(mean_like) -> Belief`` over parameters like ``mean_like`` (P,).
    exact : bool
        Whether the belief is the exact posterior of a linear observation. False for a belief that projects
        it on a smaller family: the properties marked (exact) are not asked of it.
    backend, dtype, device : optional
        Where the arrays live; see `asarray`.
    rng : int
        Seed of the observations.
    asarray : callable, optional
        Makes the arrays from a tree of host arrays in place of ``gr.asarray(tree, backend=..., ...)``; for
        example one that makes them read-only.

    Raises
    ------
    AssertionError
        Names every property that is violated, with the numbers.
    """
    place, generator = make_place(backend, dtype, device, asarray, rng)
    case = BeliefCase(  # fewer observations than parameters, then more
        make,
        place,
        generator.normal(0.0, 1.0, _SIZE),
        (generator.normal(0.0, 1.0, (3, _SIZE)), generator.normal(0.0, 1.0, (8, _SIZE))),
        (generator.normal(0.0, 1.0, 3), generator.normal(0.0, 1.0, 8)),
        exact,
    )
    name = getattr(make, "__qualname__", type(make).__name__)
    properties = [p for p in PROPERTIES if exact or p not in EXACT]
    run_properties(f"check_belief({name}, {backend}, {dtype})", properties, case)


def _require_same(case: BeliefCase, name: str, actual: Any, expected: Host, information: Host) -> None:
    bound = case.bound(information) * float(np.max(np.abs(expected)))
    require_close(name, host(actual), expected, bound)


def results_have_the_kind_of_the_mean(case: BeliefCase) -> None:
    """Size; library, dtype, device and shape of every result."""
    mean = case.place.put(case.mean)
    prior = case.make(mean)
    after, step = case.update(prior, case.rows[1], case.targets[1], precision=0.5)
    require_kind("step", step, mean, (_SIZE,))
    moved = prior.predict(noise=0.1, forgetting=0.9)
    for name, belief in (("prior", prior), ("predicted", moved), ("updated", after)):
        require(belief.size == _SIZE, f"size of the {name} belief is {belief.size}, expected {_SIZE}")
        require_kind(f"information() of the {name} belief", belief.information(), mean, (_SIZE, _SIZE))
        require_kind(f"covariance() of the {name} belief", belief.covariance(), mean, (_SIZE, _SIZE))


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
            bound = case.place.rounding(float(np.max(np.abs(matrix))), terms=_SIZE)
            require_close(f"{what} of the {name} belief and its transpose", matrix, matrix.T, bound)
            least = float(np.linalg.eigvalsh(matrix)[0])
            require(least > 0.0, f"{what} of the {name} belief has the eigenvalue {least:.3g}")
        require_close(
            f"information() @ covariance() of the {name} belief", Y @ P, np.eye(_SIZE), case.bound(Y)
        )


def predict_without_change_is_the_identity(case: BeliefCase) -> None:
    """Noise 0, forgetting 1."""
    belief = case.posterior()
    Y = host(belief.information())
    still = belief.predict()
    _require_same(case, "information() after predict()", still.information(), Y, Y)


def predict_moves_the_covariance(case: BeliefCase) -> None:
    """``P / forgetting + noise I`` (exact)."""
    belief = case.posterior()
    P, Y = host(belief.covariance()), host(belief.information())
    for noise, forgetting in ((0.0, 0.9), (0.1, 1.0), (0.1, 0.9), (2.0, 0.5)):
        expected = P / forgetting + noise * np.eye(_SIZE)
        moved = belief.predict(noise=noise, forgetting=forgetting)
        options = f"predict(noise={noise:g}, forgetting={forgetting:g})"
        _require_same(case, f"covariance() after {options}", moved.covariance(), expected, Y)


def transition_moves_the_covariance(case: BeliefCase) -> None:
    """``A P A^T / forgetting + Q``, or a ValueError (exact)."""
    belief = case.posterior()
    P, Y = host(belief.covariance()), host(belief.information())
    shift = np.eye(_SIZE) + 0.5 * np.eye(_SIZE, k=1)  # of a condition number near 3
    root = case.rows[0].T
    for noise in (0.0, 0.3, root @ root.T):  # the last one is singular
        Q = noise * np.eye(_SIZE) if np.ndim(noise) == 0 else noise
        options = {"transition": case.place.put(shift), "forgetting": 0.9}
        try:
            moved = belief.predict(noise=case.place.put(Q) if np.ndim(noise) else noise, **options)
        except ValueError as error:
            require("transition" in str(error), f"predict with a transition says {str(error)!r}")
            return
        expected = shift @ P @ shift.T / 0.9 + Q
        kind = "a matrix" if np.ndim(noise) else f"{noise:g}"
        name = f"covariance() after predict(transition=A, noise={kind})"
        _require_same(case, name, moved.covariance(), expected, np.diag([1.0, np.linalg.cond(Y) * 10.0]))


def offset_leaves_the_spread(case: BeliefCase) -> None:
    """An offset moves a mean."""
    belief = case.posterior()
    offset = case.place.put(case.mean)
    with_offset, without = (belief.predict(noise=0.1, offset=given) for given in (offset, None))
    require_identical("information() with an offset", with_offset.information(), without.information())


def update_adds_information(case: BeliefCase) -> None:
    """``Y + rows^T rows + precision I`` (exact)."""
    belief = case.posterior()
    Y, rows = host(belief.information()), case.rows[1]
    for precision in (0.0, 0.5, 20.0):
        expected = Y + rows.T @ rows + precision * np.eye(_SIZE)
        after, _ = case.update(belief, rows, case.targets[1], precision=precision)
        name = f"information() after update(precision={precision:g})"
        _require_same(case, name, after.information(), expected, np.eye(_SIZE))


def precision_is_observed_without_rows(case: BeliefCase) -> None:
    """``Y + precision I`` for rows (0, P) (exact)."""
    belief = case.posterior()
    Y = host(belief.information())
    new = Y + 0.5 * np.eye(_SIZE)
    gradient = case.rows[0][0, :]
    no_rows, put = case.place.put(np.zeros((0, _SIZE))), case.place.put
    after, step = belief.update(no_rows, put(gradient), precision=0.5)
    _require_same(case, "information() after update without rows", after.information(), new, np.eye(_SIZE))
    _require_same(case, "step of an update without rows", step, -np.linalg.solve(new, gradient), new)
    _, still = belief.update(no_rows, put(0.0 * gradient), targets=put(np.zeros(0)), precision=0.5)
    require_close("the step of an update without rows and gradient", host(still), 0.0 * gradient, 0.0)


def observed_covariance_is_that_of_the_rows(case: BeliefCase) -> None:
    """``rows P rows^T``."""
    for name, belief in (("prior", case.prior()), ("posterior", case.posterior())):
        Y, P = host(belief.information()), host(belief.covariance())
        for rows in case.rows:
            spread = belief.observed_covariance(case.place.put(rows))
            require_kind(
                f"observed_covariance() of the {name} belief", spread, belief.information(), (len(rows),) * 2
            )
            expected = rows @ P @ rows.T
            bound = case.bound(Y) * float(np.linalg.norm(rows) ** 2 * np.linalg.norm(P))
            require_close(f"observed_covariance() of the {name} belief", host(spread), expected, bound)


def step_uses_the_updated_information(case: BeliefCase) -> None:
    """``step = -Y_new^{-1} gradient`` (exact)."""
    for belief in (case.prior(), case.posterior()):
        Y, rows = host(belief.information()), case.rows[1]
        gradient = -rows.T @ case.targets[1]
        for precision in (0.0, 0.5):
            new = Y + rows.T @ rows + precision * np.eye(_SIZE)
            _, step = case.update(belief, rows, case.targets[1], precision=precision)
            expected = -np.linalg.solve(new, gradient)
            _require_same(case, f"step with precision {precision:g}", step, expected, new)


def targets_do_not_change_the_update(case: BeliefCase) -> None:
    """T with ``gradient = -rows^T t`` given."""
    belief = case.posterior()
    for rows, targets in zip(case.rows, case.targets, strict=True):
        for precision in (0.0, 0.5):
            without, step = case.update(belief, rows, targets, precision=precision)
            after, same = case.update(belief, rows, targets, precision=precision, given=True)
            Y = host(without.information())
            _require_same(case, "step with targets given", same, host(step), Y)
            _require_same(case, "information() with targets given", after.information(), Y, np.eye(_SIZE))


def _in_sequence(case: BeliefCase, order: tuple[int, int]) -> tuple[Host, Host]:
    """Information and total step of the observations one after the other."""
    first, second = order
    belief, step = case.update(case.prior(), case.rows[first], case.targets[first])
    remaining = case.targets[second] - case.rows[second] @ host(step)
    belief, next_step = case.update(belief, case.rows[second], remaining)
    return host(belief.information()), host(step) + host(next_step)


def batch_is_sequence(case: BeliefCase) -> None:
    """Both observations at once, or one after the other (exact)."""
    belief, step = case.update(case.prior(), np.concatenate(case.rows), np.concatenate(case.targets))
    Y = host(belief.information())
    information, steps = _in_sequence(case, (0, 1))
    _require_same(case, "information() in sequence, against a batch,", information, Y, np.eye(_SIZE))
    _require_same(case, "step in sequence, against a batch,", steps, host(step), Y)


def order_of_observations_does_not_matter(case: BeliefCase) -> None:
    """The observations exchanged (exact)."""
    (Y, step), (information, steps) = _in_sequence(case, (0, 1)), _in_sequence(case, (1, 0))
    _require_same(case, "information() in the other order", information, Y, np.eye(_SIZE))
    _require_same(case, "step in the other order", steps, step, Y)


def information_grows(case: BeliefCase) -> None:
    """``Y_new - Y`` is positive semidefinite (exact)."""
    belief = case.prior()
    for rows, targets in zip(case.rows, case.targets, strict=True):
        after, _ = case.update(belief, rows, targets)
        new = host(after.information())
        least = float(np.linalg.eigvalsh(new - host(belief.information()))[0])
        bound = case.place.rounding(float(np.max(np.abs(new))), terms=_SIZE)
        require(
            least >= -bound,
            f"an update of {len(rows)} rows changed the information by {least:.3g} in a direction",
        )
        belief = after


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
    for array in (case.mean[1:], np.full(_SIZE, math.nan)):
        what = f"predict with an offset of shape {array.shape}"
        require_raises(what, ValueError, belief.predict, mention=("offset",), offset=case.place.put(array))
    for array in (rows[:, 1:], rows[0]):
        what = f"observed_covariance of rows of shape {array.shape}"
        require_raises(what, ValueError, belief.observed_covariance, case.place.put(array), mention=("rows",))
    for value in (-1.0, math.nan):
        what = f"update(precision={value:g})"
        require_raises(what, ValueError, update, mention=("precision",), precision=value)
    require_unchanged("the belief", kept, (belief.information(), belief.covariance()))


EXACT = (
    predict_moves_the_covariance,
    transition_moves_the_covariance,
    update_adds_information,
    precision_is_observed_without_rows,
    step_uses_the_updated_information,
    batch_is_sequence,
    order_of_observations_does_not_matter,
    information_grows,
)
PROPERTIES = (
    results_have_the_kind_of_the_mean,
    arguments_and_beliefs_are_left_alone,
    results_are_repeatable,
    information_and_covariance_are_inverse,
    predict_without_change_is_the_identity,
    predict_moves_the_covariance,
    transition_moves_the_covariance,
    offset_leaves_the_spread,
    update_adds_information,
    precision_is_observed_without_rows,
    observed_covariance_is_that_of_the_rows,
    step_uses_the_updated_information,
    targets_do_not_change_the_update,
    batch_is_sequence,
    order_of_observations_does_not_matter,
    information_grows,
    saved_belief_is_the_same,
    bad_arguments_are_refused,
)
