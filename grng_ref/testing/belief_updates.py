"""Properties of a belief's updates: what is added to the information, and the step of the mean."""

from __future__ import annotations

import numpy as np

from .belief_case import SIZE, BeliefCase, require_same
from .common import Host, host, require, require_close, require_kind


def update_adds_information(case: BeliefCase) -> None:
    """``Y + rows^T rows + precision I`` (exact)."""
    belief = case.posterior()
    Y, rows = host(belief.information()), case.rows[1]
    for precision in (0.0, 0.5, 20.0):
        expected = Y + rows.T @ rows + precision * np.eye(SIZE)
        after, _ = case.update(belief, rows, case.targets[1], precision=precision)
        name = f"information() after update(precision={precision:g})"
        require_same(case, name, after.information(), expected, np.eye(SIZE))


def precision_is_observed_without_rows(case: BeliefCase) -> None:
    """``Y + precision I`` for rows (0, P) (exact)."""
    belief = case.posterior()
    Y = host(belief.information())
    new = Y + 0.5 * np.eye(SIZE)
    gradient = case.rows[0][0, :]
    no_rows, put = case.place.put(np.zeros((0, SIZE))), case.place.put
    after, step = belief.update(no_rows, put(gradient), precision=0.5)
    require_same(case, "information() after update without rows", after.information(), new, np.eye(SIZE))
    require_same(case, "step of an update without rows", step, -np.linalg.solve(new, gradient), new)
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
            new = Y + rows.T @ rows + precision * np.eye(SIZE)
            _, step = case.update(belief, rows, case.targets[1], precision=precision)
            expected = -np.linalg.solve(new, gradient)
            require_same(case, f"step with precision {precision:g}", step, expected, new)


def targets_do_not_change_the_update(case: BeliefCase) -> None:
    """T with ``gradient = -rows^T t`` given."""
    belief = case.posterior()
    for rows, targets in zip(case.rows, case.targets, strict=True):
        for precision in (0.0, 0.5):
            without, step = case.update(belief, rows, targets, precision=precision)
            after, same = case.update(belief, rows, targets, precision=precision, given=True)
            Y = host(without.information())
            require_same(case, "step with targets given", same, host(step), Y)
            require_same(case, "information() with targets given", after.information(), Y, np.eye(SIZE))


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
    require_same(case, "information() in sequence, against a batch,", information, Y, np.eye(SIZE))
    require_same(case, "step in sequence, against a batch,", steps, host(step), Y)


def order_of_observations_does_not_matter(case: BeliefCase) -> None:
    """The observations exchanged (exact)."""
    (Y, step), (information, steps) = _in_sequence(case, (0, 1)), _in_sequence(case, (1, 0))
    require_same(case, "information() in the other order", information, Y, np.eye(SIZE))
    require_same(case, "step in the other order", steps, step, Y)


def information_grows(case: BeliefCase) -> None:
    """``Y_new - Y`` is positive semidefinite (exact)."""
    belief = case.prior()
    for rows, targets in zip(case.rows, case.targets, strict=True):
        after, _ = case.update(belief, rows, targets)
        new = host(after.information())
        least = float(np.linalg.eigvalsh(new - host(belief.information()))[0])
        bound = case.place.rounding(float(np.max(np.abs(new))), terms=SIZE)
        require(
            least >= -bound,
            f"an update of {len(rows)} rows changed the information by {least:.3g} in a direction",
        )
        belief = after
