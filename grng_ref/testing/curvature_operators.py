"""Properties of a curvature as an operator, and of how a structure builds it."""

from __future__ import annotations

import math

import array_api_compat as compat
import numpy as np

from .common import (
    fingerprint,
    host,
    require,
    require_close,
    require_identical,
    require_kind,
    require_unchanged,
)
from .curvature_case import Batch, CurvatureCase, require_same_matrix, solver_options, typical_eigenvalue

# --- results and products --------------------------------------------------------------------------------


def results_have_the_kind_of_the_arguments(case: CurvatureCase) -> None:
    """Library, dtype, device and shape of every result."""
    built, v = case.build(case.large), case.place.put(case.v)
    xp, p = compat.array_namespace(v), case.v.shape[0]
    require(tuple(built.shape) == (p, p), f"shape is {built.shape}, expected {(p, p)}")
    require(built.dtype == v.dtype, f"dtype is {built.dtype}, expected {v.dtype}")
    require_kind("to_dense()", built.to_dense(), v, (p, p))
    require_kind("diagonal()", built.diagonal(), v, (p,))
    require_kind("trace()", built.trace(), v, ())
    require_kind("C @ v", built @ v, v, (p,))
    require_kind("C.matvec(v)", built.matvec(v), v, (p,))
    require_kind("C @ V", built @ xp.stack([v, 2.0 * v, 3.0 * v], axis=1), v, (p, 3))
    damping = typical_eigenvalue(host(built.to_dense()))
    for kind, method in solver_options(built):
        x = built.solve(v, damping=damping, damping_kind=kind, method=method)
        require_kind(f"solve by {kind}, {method}", x, v, (p,))
        value = built.logdet(damping=damping, damping_kind=kind)
        require(np.ndim(value) == 0 and bool(np.isfinite(float(value))), f"logdet is {value!r}")


def arguments_are_left_alone(case: CurvatureCase) -> None:
    """Activations, signals and v have the same bits afterwards."""
    activations, signals, v = arguments = case.place.put((case.large.activations, case.large.signals, case.v))
    before = fingerprint(arguments)
    built = case.structure.build(activations, signals)
    require_unchanged("activations or score_signals", before, (activations, signals, v))
    dense = built.to_dense()
    kept = fingerprint((dense, built.diagonal(), built @ v))
    for kind, method in solver_options(built):
        built.solve(v, damping=typical_eigenvalue(host(dense)), damping_kind=kind, method=method)
        built.logdet(damping=typical_eigenvalue(host(dense)), damping_kind=kind)
    built.trace()
    require_unchanged("an argument", before, (activations, signals, v))
    require_unchanged("the curvature", kept, (built.to_dense(), built.diagonal(), built @ v))


def results_are_repeatable(case: CurvatureCase) -> None:
    """Two builds, products and solves agree in every bit."""
    first, second = case.build(case.large), case.build(case.large)
    v, damping = case.place.put(case.v), typical_eigenvalue(case.dense(case.large))
    require_identical("two dense matrices", first.to_dense(), second.to_dense())
    require_identical("two products", first @ v, second @ v)
    for kind, method in solver_options(first):
        x, again, other = (
            c.solve(v, damping=damping, damping_kind=kind, method=method) for c in (first, first, second)
        )
        require_identical(f"two solves by {kind}, {method}", x, again)
        require_identical(f"solves of two builds by {kind}, {method}", x, other)


def products_are_those_of_the_dense_matrix(case: CurvatureCase) -> None:
    """``C @ v``, ``C @ V``, ``C.matvec(v)``."""
    for name, built, dense in case.matrices():
        vectors = np.stack([case.v, case.v[::-1], np.eye(len(case.v))[1]], axis=1)
        # a product by factors passes through sums of |B^T| |B| |v|, which cancel in C v
        size = np.sqrt(np.outer(np.diag(dense), np.diag(dense))) @ np.abs(vectors)
        bound = case.place.rounding(1.0, terms=dense.shape[0]) * size
        require_close(f"C @ V ({name})", host(built @ case.place.put(vectors)), dense @ vectors, bound)
        v = case.place.put(case.v)
        for what, product in (("C @ v", built @ v), ("C.matvec(v)", built.matvec(v))):
            require_close(f"{what} ({name})", host(product), dense @ case.v, bound[:, 0])


def products_are_linear(case: CurvatureCase) -> None:
    """``C (s u + t v) = s C u + t C v``, s from 1e-10 to 1e10."""
    built = case.build(case.large)
    u, v = case.v[::-1].copy(), case.v
    for s, t in ((2.0, -0.5), (1e-10, 3e-10), (1e10, 1e10)):
        combined = host(built @ case.place.put(s * u + t * v))
        separate = s * host(built @ case.place.put(u)) + t * host(built @ case.place.put(v))
        top = np.max(np.abs(np.diag(case.dense(case.large)))) * len(v) * (abs(s) + abs(t)) * np.max(np.abs(v))
        require_close(f"C ({s:g} u + {t:g} v)", combined, separate, case.place.rounding(top))


def dense_matrix_is_symmetric_psd(case: CurvatureCase) -> None:
    """Symmetric, no negative eigenvalue."""
    for name, _, dense in case.matrices():
        bound = case.place.rounding(float(np.max(np.abs(dense))), terms=dense.shape[0])
        require_close(f"to_dense() and its transpose ({name})", dense, dense.T, bound)
        least = float(np.linalg.eigvalsh(dense)[0])
        require(least >= -bound, f"to_dense() has the eigenvalue {least:.3g}, allowed {-bound:.3g} ({name})")


def diagonal_and_trace_are_those_of_the_matrix(case: CurvatureCase) -> None:
    """``diagonal()``, ``trace()``."""
    for name, built, dense in case.matrices():
        bound = case.place.rounding(1.0, terms=dense.shape[0])
        require_close(f"diagonal() ({name})", host(built.diagonal()), np.diag(dense), bound * np.diag(dense))
        trace = float(np.trace(dense))
        require_close(f"trace() ({name})", host(built.trace()), trace, bound * trace)


# --- conventions -----------------------------------------------------------------------------------------


def quadratic_in_the_signals(case: CurvatureCase) -> None:
    """Signals times s: C times s^2; activations alike."""
    dense, terms = case.dense(case.large), case.large.signals[0].shape[0]
    louder = case.dense(case.large.scaled(3.0))
    require_same_matrix(case, "C of signals times 3, over 9,", louder / 9.0, dense, terms)
    doubled = Batch(tuple(2.0 * a for a in case.large.activations), case.large.signals)
    require_same_matrix(case, "C of activations times 2, over 4,", case.dense(doubled) / 4.0, dense, terms)


def mean_over_examples(case: CurvatureCase) -> None:
    """The batch twice over: the same C."""
    for batch in (case.small, case.large):
        n = batch.signals[0].shape[0]
        twice, once = case.dense(batch.of_examples(np.tile(np.arange(n), 2))), case.dense(batch)
        ratio = float(np.trace(twice) / np.trace(once))
        require_same_matrix(case, f"C of the batch twice over (trace times {ratio:.3g})", twice, once, 2 * n)


def order_of_examples_does_not_matter(case: CurvatureCase) -> None:
    """Permuted examples: the same C."""
    n = case.large.signals[0].shape[0]
    turned = case.dense(case.large.of_examples(np.arange(n)[::-1]))
    require_same_matrix(case, "C of the examples in reverse order", turned, case.dense(case.large), n)


def sum_over_factor_columns(case: CurvatureCase) -> None:
    """Columns twice over, over sqrt(2): the same C."""
    n = case.large.signals[0].shape[0]
    halves = tuple(np.concatenate([d, d], axis=1) / math.sqrt(2.0) for d in case.large.signals)
    twice, once = case.dense(Batch(case.large.activations, halves)), case.dense(case.large)
    ratio = float(np.trace(twice) / np.trace(once))
    name = f"C of the factor columns twice over, over sqrt(2) (trace times {ratio:.3g}),"
    require_same_matrix(case, name, twice, once, 4 * n)


def one_example_is_exact(case: CurvatureCase) -> None:
    """The diagonal is that of ``B^T B``, and the trace."""
    if not case.exact_for_one_example:
        return
    batch = case.large.of_examples(np.array([0]))
    built, B = case.build(batch), batch.rows()
    expected = np.sum(B * B, axis=0)
    # against the largest entry: a matrix held in an eigenbasis has no digits of its own for small ones
    bound = case.place.rounding(1.0, terms=B.shape[0]) * float(np.max(expected))
    require_close("diagonal() for one example, against B^T B,", host(built.diagonal()), expected, bound)
