"""The contract of a likelihood."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..arrays import check_integer
from ..likelihoods import Likelihood
from . import likelihood_derivatives as derivatives
from . import likelihood_samples as samples
from . import likelihood_values as values
from .common import Host, make_place, run_properties
from .likelihood_case import EXAMPLES, SATURATED, LikelihoodCase


def check_likelihood(
    likelihood: Likelihood,
    *,
    outputs: int = 3,
    bad_targets: Sequence[Host] = (),
    labels: Host | None = None,
    label_weights: Host | float = 1.0,
    backend: str = "numpy",
    dtype: str = "float64",
    device: Any = None,
    rng: int = 0,
    asarray: Callable[[Any], Any] | None = None,
) -> None:
    """Check that an object keeps the contract of a likelihood; its own samples are the labels used.

    ============================================  ============================================================
    property                                      what must hold
    ============================================  ============================================================
    results_have_the_kind_of_the_outputs          library, dtype, device and shape of every result
    arguments_are_left_alone                      f and y have the same bits afterwards
    results_are_repeatable                        two calls agree in every bit
    rows_are_independent                          a row of a batch is treated as it is alone
    log_base_ignores_the_outputs                  the same numbers for other f
    probabilities_sum_to_one                      ``exp(-loss + log_base)`` over ``labels``, if they are given
    factor_reproduces_the_fisher                  ``S S^T = Om``
    fisher_is_positive_semidefinite               symmetric, no negative eigenvalue
    coefficients_reproduce_the_gradient           ``S ct = grad``, also where f is saturated
    gradient_is_the_derivative_of_the_loss        central differences at two step sizes
    hessian_is_the_derivative_of_the_gradient     the same, also where f is saturated
    scores_have_mean_zero                         over 4000 draws, z-test
    fisher_is_the_covariance_of_the_scores        over 4000 draws, z-test
    samples_are_valid_targets                     ``check_targets`` takes every draw
    sampling_is_seeded                            one seed, one draw; a generator is advanced
    bad_targets_are_refused                       wrong length, dtype, type, NaN, and ``bad_targets``
    saturated_outputs_give_finite_results         at ``|f| = 40``, or a NumericalError
    ============================================  ============================================================

    Parameters
    ----------
    likelihood : Likelihood
    outputs : int
        K.
    bad_targets : sequence of host arrays, optional
        Labels outside the support for 4 examples; each must raise a ValueError.
    labels : host array (M, ...), optional
        All labels that one example can have, up to a probability that rounding hides, or the nodes of a
        quadrature over them. Without them nothing checks the constants in ``log_base``.
    label_weights : host array (M,) or float
        The weights of the quadrature; 1 for labels that are counted.
    backend, dtype, device : optional
        Where the arrays live; see `asarray`.
    rng : int
        Seed of the outputs and draws.
    asarray : callable, optional
        Makes the arrays from a tree of host arrays in place of ``gr.asarray(tree, backend=..., ...)``; for
        example one that makes them read-only.

    Raises
    ------
    AssertionError
        Names every property that is violated, with the numbers.

    Notes
    -----
    The z-tests have a fixed sample size and, by the central limit theorem, a false-alarm rate of 1e-6
    together. A difference quotient D(h) is compared with the derivative up to ``|D(h) - D(h/2)|``, which
    exceeds the truncation error of D(h/2) threefold, plus the rounding error of the quotient.
    """
    place, generator = make_place(backend, dtype, device, asarray, rng)
    check_integer("outputs", outputs, minimum=1)
    f = place.put(generator.normal(0.0, 1.0, (EXAMPLES, outputs)))
    signs = np.where(generator.random((EXAMPLES, outputs)) < 0.5, -1.0, 1.0)
    offsets = generator.integers(-2, 3, (EXAMPLES, outputs))
    signs[0, :], offsets[0, 0] = -1.0, 0  # in the first example one output is far above all others
    signs[0, 0] = 1.0
    name = f"check_likelihood({type(likelihood).__name__}, {backend}, {dtype})"
    try:
        y = likelihood.sample(f, num_samples=1, rng=rng)[0, ...]
    except Exception as error:  # without labels there is nothing to check
        raise AssertionError(f"{name}: sample: {type(error).__name__}: {error}") from error
    saturated = place.put(SATURATED * signs + offsets)
    known = None if labels is None else np.asarray(labels)
    weights = np.asarray(label_weights)
    case = LikelihoodCase(likelihood, place, f, y, saturated, tuple(bad_targets), known, weights, rng)
    run_properties(name, PROPERTIES, case)


PROPERTIES = (
    values.results_have_the_kind_of_the_outputs,
    values.arguments_are_left_alone,
    values.results_are_repeatable,
    values.rows_are_independent,
    values.log_base_ignores_the_outputs,
    values.probabilities_sum_to_one,
    values.factor_reproduces_the_fisher,
    values.fisher_is_positive_semidefinite,
    values.coefficients_reproduce_the_gradient,
    derivatives.gradient_is_the_derivative_of_the_loss,
    derivatives.hessian_is_the_derivative_of_the_gradient,
    samples.scores_have_mean_zero,
    samples.fisher_is_the_covariance_of_the_scores,
    samples.samples_are_valid_targets,
    samples.sampling_is_seeded,
    values.bad_targets_are_refused,
    values.saturated_outputs_give_finite_results,
)
