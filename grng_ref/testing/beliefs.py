"""The contract of a Gaussian belief of the Kalman filter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import Array
from ..beliefs import Belief
from . import belief_objects as objects
from . import belief_updates as updates
from .belief_case import SIZE, BeliefCase
from .common import make_place, run_properties


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
        generator.normal(0.0, 1.0, SIZE),
        (generator.normal(0.0, 1.0, (3, SIZE)), generator.normal(0.0, 1.0, (8, SIZE))),
        (generator.normal(0.0, 1.0, 3), generator.normal(0.0, 1.0, 8)),
        exact,
    )
    name = getattr(make, "__qualname__", type(make).__name__)
    properties = [p for p in PROPERTIES if exact or p not in EXACT]
    run_properties(f"check_belief({name}, {backend}, {dtype})", properties, case)


EXACT = (
    objects.predict_moves_the_covariance,
    objects.transition_moves_the_covariance,
    updates.update_adds_information,
    updates.precision_is_observed_without_rows,
    updates.step_uses_the_updated_information,
    updates.batch_is_sequence,
    updates.order_of_observations_does_not_matter,
    updates.information_grows,
)
PROPERTIES = (
    objects.results_have_the_kind_of_the_mean,
    objects.arguments_and_beliefs_are_left_alone,
    objects.results_are_repeatable,
    objects.information_and_covariance_are_inverse,
    objects.predict_without_change_is_the_identity,
    objects.predict_moves_the_covariance,
    objects.transition_moves_the_covariance,
    objects.offset_leaves_the_spread,
    updates.update_adds_information,
    updates.precision_is_observed_without_rows,
    updates.observed_covariance_is_that_of_the_rows,
    updates.step_uses_the_updated_information,
    updates.targets_do_not_change_the_update,
    updates.batch_is_sequence,
    updates.order_of_observations_does_not_matter,
    updates.information_grows,
    objects.saved_belief_is_the_same,
    objects.bad_arguments_are_refused,
)
