"""The contract of a structure and of the curvatures that it builds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..curvature import Structure, find_structure
from . import curvature_averages as averages
from . import curvature_operators as operators
from . import curvature_solves as solves
from .common import make_place, run_properties
from .curvature_case import NUM_PARAMETERS, CurvatureCase, random_batch


def check_curvature(
    structure: str | Structure,
    *,
    exact_for_one_example: bool = True,
    backend: str = "numpy",
    dtype: str = "float64",
    device: Any = None,
    rng: int = 0,
    asarray: Callable[[Any], Any] | None = None,
) -> None:
    """Check that a structure builds curvatures that keep the contract.

    ============================================  ============================================================
    property                                      what must hold
    ============================================  ============================================================
    results_have_the_kind_of_the_arguments        library, dtype, device and shape of every result
    arguments_are_left_alone                      activations, signals and v have the same bits afterwards
    results_are_repeatable                        two builds, products and solves agree in every bit
    products_are_those_of_the_dense_matrix        ``C @ v``, ``C @ V``, ``C.matvec(v)``
    products_are_linear                           ``C (s u + t v) = s C u + t C v``, s from 1e-10 to 1e10
    dense_matrix_is_symmetric_psd                 symmetric, no negative eigenvalue
    diagonal_and_trace_are_those_of_the_matrix    ``diagonal()``, ``trace()``
    quadratic_in_the_signals                      signals times s: C times s^2; activations alike
    mean_over_examples                            the batch twice over: the same C
    order_of_examples_does_not_matter             permuted examples: the same C
    sum_over_factor_columns                       columns twice over, over sqrt(2): the same C
    one_example_is_exact                          the diagonal is that of ``B^T B``, and the trace
    average_is_that_of_the_factors                ``average``, if there is one: its ends, and of A and G each
    average_is_linear_in_each_factor              signals, activations times 2: ``(1 - w + 4 w) C``
    solves_invert_the_damped_matrix               every method: scaled residual <= 30, status and fields
    damping_is_added_once                         two dampings a: ``C + a I`` is what solves invert
    null_space_is_kept                            ``v / a`` for v in the null space
    factored_damping_is_that_of_the_factors       ``(G + sqrt(a)/pi I) kron (A + pi sqrt(a) I)``
    methods_agree                                 all methods of one damping kind
    coefficients_do_not_change_the_solution       c with ``v = B^T c`` given; a ValueError is allowed
    zero_damping_is_minimum_norm_or_an_error      never a wrong answer
    logdet_is_that_of_the_damped_matrix           every damping kind; a singular matrix is an error
    bad_arguments_are_refused                     names, damping, shapes, dtypes, NaN
    ============================================  ============================================================

    Parameters
    ----------
    structure : str or Structure
        A name, or a factory ``build(activations, score_signals) -> Curvature``.
    exact_for_one_example : bool
        Whether C has the diagonal of ``B^T B`` for a batch of one example, as every structure of this package
        has; it fixes the layout and the scale. False for a structure that does not claim it.
    backend, dtype, device : optional
        Where the arrays live; see `asarray`.
    rng : int
        Seed of the batches.
    asarray : callable, optional
        Makes the arrays from a tree of host arrays in place of ``gr.asarray(tree, backend=..., ...)``; for
        example one that makes them read-only.

    Raises
    ------
    AssertionError
        Names every property that is violated, with the numbers.

    Notes
    -----
    Solves are judged by LAPACK's scaled residual against the curvature's own dense matrix; equal matrices
    up to ``32 sqrt(terms) eps`` of their largest entry.
    """
    place, generator = make_place(backend, dtype, device, asarray, rng)
    case = CurvatureCase(
        find_structure(structure),
        place,
        random_batch(generator, examples=3),
        random_batch(generator, examples=24),
        generator.normal(0.0, 1.0, NUM_PARAMETERS),
        exact_for_one_example,
    )
    name = structure if isinstance(structure, str) else type(structure).__name__
    run_properties(f"check_curvature({name}, {backend}, {dtype})", PROPERTIES, case)


PROPERTIES = (
    operators.results_have_the_kind_of_the_arguments,
    operators.arguments_are_left_alone,
    operators.results_are_repeatable,
    operators.products_are_those_of_the_dense_matrix,
    operators.products_are_linear,
    operators.dense_matrix_is_symmetric_psd,
    operators.diagonal_and_trace_are_those_of_the_matrix,
    operators.quadratic_in_the_signals,
    operators.mean_over_examples,
    operators.order_of_examples_does_not_matter,
    operators.sum_over_factor_columns,
    operators.one_example_is_exact,
    averages.average_is_that_of_the_factors,
    averages.average_is_linear_in_each_factor,
    solves.solves_invert_the_damped_matrix,
    solves.damping_is_added_once,
    solves.null_space_is_kept,
    solves.factored_damping_is_that_of_the_factors,
    solves.methods_agree,
    solves.coefficients_do_not_change_the_solution,
    solves.zero_damping_is_minimum_norm_or_an_error,
    solves.logdet_is_that_of_the_damped_matrix,
    solves.bad_arguments_are_refused,
)
