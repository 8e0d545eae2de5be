"""What a likelihood returns: kinds, purity, rows, identities between the results, and labels refused."""

from __future__ import annotations

from dataclasses import replace

import array_api_compat as compat
import numpy as np

from ..arrays import NumericalError
from .common import (
    fingerprint,
    host,
    require,
    require_close,
    require_identical,
    require_kind,
    require_place,
    require_raises,
    require_unchanged,
)
from .likelihood_case import SATURATED, LikelihoodCase, uncertainty


def results_have_the_kind_of_the_outputs(case: LikelihoodCase) -> None:
    """Library, dtype, device and shape of every result."""
    n, k = case.f.shape
    shapes: dict[str, tuple[int | None, ...]] = {
        "loss": (n,),
        "log_base": (n,),
        "mean": (n, k),
        "gradient": (n, k),
        "coefficients": (n, None),
        "fisher": (n, k, k),
        "factor": (n, k, None),
        "hessian": (n, k, k),
    }
    results = case.results(case.f)
    for name, shape in shapes.items():
        require_kind(name, results[name], case.f, shape)
    columns = results["factor"].shape[2]
    require_kind("coefficients", results["coefficients"], case.f, (n, columns))
    samples = case.likelihood.sample(case.f, num_samples=3, rng=case.seed)
    require_place("sample", samples, case.f)
    axes = tuple(samples.shape)
    require(
        axes in ((3, n), (3, n, k)), f"sample has shape {axes}, expected {(3, n)} or {(3, n, k)} for 3 draws"
    )


def arguments_are_left_alone(case: LikelihoodCase) -> None:
    """F and y have the same bits afterwards."""
    before = fingerprint((case.f, case.y))
    case.results(case.f)
    case.likelihood.check_targets(case.f, case.y)
    case.likelihood.sample(case.f, num_samples=2, rng=case.seed)
    require_unchanged("f or y", before, (case.f, case.y))


def results_are_repeatable(case: LikelihoodCase) -> None:
    """Two calls agree in every bit."""
    first, second = case.results(case.f), case.results(case.f)
    for name, value in first.items():
        require_identical(f"{name} of two calls", value, second[name])


def rows_are_independent(case: LikelihoodCase) -> None:
    """A row of a batch is treated as it is alone."""
    whole = case.results(case.f)
    alone = replace(case, y=case.y[1:2, ...]).results(case.f[1:2, :])
    for name, value in alone.items():
        together, single = host(whole[name])[1], host(value)[0]
        bound = case.place.rounding(float(np.max(np.abs(single))))
        require_close(f"{name} of example 1 in a batch and alone", together, single, bound)


def saturated_outputs_give_finite_results(case: LikelihoodCase) -> None:
    """At ``|f| = 40``, or a NumericalError."""
    try:
        results = case.results(case.saturated)
    except NumericalError:  # an honest refusal
        return
    for name, value in results.items():
        bad = int(np.sum(~np.isfinite(host(value))))
        require(bad == 0, f"{name} has {bad} NaN or infinite entries at |f| about {SATURATED:g}")


def log_base_ignores_the_outputs(case: LikelihoodCase) -> None:
    """The same numbers for other f."""
    first, second = (host(case.likelihood.log_base(f, case.y)) for f in (case.f, case.saturated))
    require_close("log_base at two outputs", first, second, 0.0)


def probabilities_sum_to_one(case: LikelihoodCase) -> None:
    """``exp(-loss + log_base)`` over ``labels``, if they are given."""
    if case.labels is None:
        return
    y = case.place.put(case.labels)
    xp, count = compat.array_namespace(case.f), case.labels.shape[0]
    for n in range(case.f.shape[0]):
        f = xp.broadcast_to(case.f[n : n + 1, :], (count, case.f.shape[1]))
        case.likelihood.check_targets(f, y)
        loss, base = host(case.likelihood.loss(f, y)), host(case.likelihood.log_base(f, y))
        with np.errstate(over="ignore"):
            parts = case.weights * np.exp(base - loss)
        # an error of eps in the exponent's terms is one of eps times their size in a part, which is at most 1
        size = np.minimum(parts, 1.0) * (1.0 + np.abs(loss) + np.abs(base))
        bound = case.place.rounding(float(np.sum(size)))
        require_close(f"the sum of the probabilities of example {n}", np.sum(parts), 1.0, bound)


def factor_reproduces_the_fisher(case: LikelihoodCase) -> None:
    """``S S^T = Om``."""
    factor, fisher = host(case.likelihood.factor(case.f)), host(case.likelihood.fisher(case.f))
    sizes = np.abs(factor) @ np.swapaxes(np.abs(factor), 1, 2)
    bound = case.place.rounding(1.0, terms=factor.shape[2]) * sizes
    require_close("S S^T and fisher", factor @ np.swapaxes(factor, 1, 2), fisher, bound)


def fisher_is_positive_semidefinite(case: LikelihoodCase) -> None:
    """Symmetric, no negative eigenvalue."""
    fisher = host(case.likelihood.fisher(case.f))
    bound = case.place.rounding(float(np.max(np.abs(fisher))), terms=fisher.shape[1])
    require_close("fisher and its transpose", fisher, np.swapaxes(fisher, 1, 2), bound)
    least = float(np.min(np.linalg.eigvalsh(fisher)))
    require(least >= -bound, f"fisher has the eigenvalue {least:.3g}, allowed {-bound:.3g}")


def coefficients_reproduce_the_gradient(case: LikelihoodCase) -> None:
    """``S ct = grad``, also where f is saturated."""
    for where, f, y in case.situations():
        factor, ct = host(case.likelihood.factor(f)), host(case.likelihood.coefficients(f, y))
        gradient = host(case.likelihood.gradient(f, y))
        terms = np.einsum("nkj,nj->nk", np.abs(factor), np.abs(ct)) + uncertainty(case, f, y)
        # p_k sqrt(p_j) in a factor may underflow where 1 / sqrt(p_j) in a coefficient is large.
        lost = float(np.finfo(case.place.dtype).smallest_normal) * np.sum(np.abs(ct), axis=1, keepdims=True)
        bound = case.place.rounding(1.0, terms=factor.shape[2]) * terms + lost
        product = np.einsum("nkj,nj->nk", factor, ct)
        require_close(f"S ct and gradient at {where}", product, gradient, bound)


def bad_targets_are_refused(case: LikelihoodCase) -> None:
    """Wrong length, dtype, type, NaN, and ``bad_targets``."""
    check, f = case.likelihood.check_targets, case.f
    labels = np.asarray(host(case.y))
    require_raises("labels for too few examples", ValueError, check, f, case.y[1:, ...])
    require_raises("a list of labels", TypeError, check, f, labels.tolist())
    wrong = [case.place.put(labels.astype(np.float64))]
    if np.issubdtype(labels.dtype, np.floating):
        wrong = case.place.wrong_dtypes(labels)
        broken = labels.copy()
        broken.flat[0] = np.nan
        require_raises("a NaN label", ValueError, check, f, case.place.put(broken))
    for y in wrong:
        require_raises(f"labels of dtype {y.dtype}", TypeError, check, f, y)
    for values in case.bad_targets:
        labels = np.asarray(values)
        require_raises(f"labels {labels.tolist()}", ValueError, check, f, case.place.put(labels))
