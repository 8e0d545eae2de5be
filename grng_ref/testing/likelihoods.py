"""The contract of a likelihood."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import array_api_compat as compat
import numpy as np

from ..arrays import Array, NumericalError, check_integer
from ..likelihoods import Likelihood
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
    require_place,
    require_raises,
    require_unchanged,
    run_properties,
)

_EXAMPLES = 4
_DRAWS = 4000
_FALSE_ALARMS = 1e-6
_SATURATED = 40.0  # exp(-40) is below eps in float64; exp(-80), between two outputs, is normal in float32


@dataclass(frozen=True)
class LikelihoodCase:
    """A likelihood with ordinary outputs f (N, K), saturated ones, and labels drawn at the ordinary ones."""

    likelihood: Likelihood
    place: Place
    f: Array
    y: Array
    saturated: Array
    bad_targets: tuple[Host, ...]
    seed: int

    def results(self, f: Array) -> dict[str, Array]:
        """What every method but `sample` says of f and the labels."""
        of = self.likelihood
        both = {
            name: getattr(of, name)(f, self.y) for name in ("loss", "gradient", "coefficients", "hessian")
        }
        return both | {name: getattr(of, name)(f) for name in ("mean", "fisher", "factor")}

    def situations(self) -> Iterator[tuple[str, Array, Array]]:
        """Outputs and labels: ordinary, saturated and wrong, saturated and right."""
        yield "ordinary outputs", self.f, self.y
        yield "saturated outputs with unlikely labels", self.saturated, self.y
        with contextlib.suppress(NumericalError):  # counts of that size may be refused
            likely = self.likelihood.sample(self.saturated, num_samples=1, rng=self.seed)[0, ...]
            yield "saturated outputs with likely labels", self.saturated, likely


def check_likelihood(
    likelihood: Likelihood,
    *,
    outputs: int = 3,
    bad_targets: Sequence[Host] = (),
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
    f = place.put(generator.normal(0.0, 1.0, (_EXAMPLES, outputs)))
    signs = np.where(generator.random((_EXAMPLES, outputs)) < 0.5, -1.0, 1.0)
    offsets = generator.integers(-2, 3, (_EXAMPLES, outputs))
    signs[0, :], offsets[0, 0] = -1.0, 0  # in the first example one output is far above all others
    signs[0, 0] = 1.0
    name = f"check_likelihood({type(likelihood).__name__}, {backend}, {dtype})"
    try:
        y = likelihood.sample(f, num_samples=1, rng=rng)[0, ...]
    except Exception as error:  # without labels there is nothing to check
        raise AssertionError(f"{name}: sample: {type(error).__name__}: {error}") from error
    saturated = place.put(_SATURATED * signs + offsets)
    case = LikelihoodCase(likelihood, place, f, y, saturated, tuple(bad_targets), rng)
    run_properties(name, PROPERTIES, case)


# --- results ---------------------------------------------------------------------------------------------


def results_have_the_kind_of_the_outputs(case: LikelihoodCase) -> None:
    """Library, dtype, device and shape of every result."""
    n, k = case.f.shape
    shapes: dict[str, tuple[int | None, ...]] = {
        "loss": (n,),
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
        require(bad == 0, f"{name} has {bad} NaN or infinite entries at |f| about {_SATURATED:g}")


# --- identities ------------------------------------------------------------------------------------------


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
        terms = np.einsum("nkj,nj->nk", np.abs(factor), np.abs(ct)) + _uncertainty(case, f, y)
        # p_k sqrt(p_j) in a factor may underflow where 1 / sqrt(p_j) in a coefficient is large.
        lost = float(np.finfo(case.place.dtype).smallest_normal) * np.sum(np.abs(ct), axis=1, keepdims=True)
        bound = case.place.rounding(1.0, terms=factor.shape[2]) * terms + lost
        product = np.einsum("nkj,nj->nk", factor, ct)
        require_close(f"S ct and gradient at {where}", product, gradient, bound)


def _uncertainty(case: LikelihoodCase, f: Array, y: Array) -> Host:
    """What a relative error of one in f and in the result does to the gradient, entry by entry (N, K).

    Componentwise, so that ``1 - p`` may not be rounded to the size of p; the part of f lets a mean that
    equals its label to many digits be as uncertain as f makes it.
    """
    gradient, hessian = host(case.likelihood.gradient(f, y)), host(case.likelihood.hessian(f, y))
    return np.abs(gradient) + np.einsum("nkj,nj->nk", np.abs(hessian), np.abs(host(f)))


def gradient_is_the_derivative_of_the_loss(case: LikelihoodCase) -> None:
    """Central differences at two step sizes."""

    def loss(f: Array) -> Host:
        return host(case.likelihood.loss(f, case.y))[:, None]

    gradient = host(case.likelihood.gradient(case.f, case.y))
    # A loss is a difference of terms such as y f, of the size of |f| |gradient| and the loss.
    size = 1.0 + np.abs(loss(case.f)) + np.max(np.abs(host(case.f) * gradient), axis=1, keepdims=True)
    _require_derivative(case, "gradient", loss, case.f, gradient[:, None, :], size[:, :, None])


def hessian_is_the_derivative_of_the_gradient(case: LikelihoodCase) -> None:
    """The same, also where f is saturated."""
    for where, f, y in case.situations():
        hessian = host(case.likelihood.hessian(f, y))
        size = _uncertainty(case, f, y)[:, :, None]

        def gradient(f: Array, y: Array = y) -> Host:
            return host(case.likelihood.gradient(f, y))

        _require_derivative(case, f"hessian at {where}", gradient, f, hessian, size)


def _require_derivative(
    case: LikelihoodCase,
    name: str,
    function: Callable[[Array], Host],
    f: Array,
    derivative: Host,
    size: Host,
) -> None:
    """Compare ``derivative`` (N, values, K) with central differences of ``function`` (N, values)."""
    h = case.place.eps ** (1.0 / 3.0)  # balances the truncation h^2 with the rounding eps / h
    coarse, fine = (_central_differences(case.place, function, f, step) for step in (h, h / 2))
    truncation = np.abs(coarse - fine)
    noise = case.place.rounding(1.0) * size / h
    scale = np.maximum(np.abs(fine), np.abs(derivative)) + size
    require(
        bool(np.all(truncation <= 0.05 * scale)),
        f"{name} cannot be checked: difference quotients at steps {h:.1e} and {h / 2:.1e} differ by "
        f"{np.max(truncation):.3g}; the function is not smooth",
    )
    require_close(f"{name} and difference quotients", derivative, fine, truncation + noise)


def _central_differences(place: Place, function: Callable[[Array], Host], f: Array, h: float) -> Host:
    base, columns = host(f), []
    for k in range(base.shape[1]):
        shift = np.zeros_like(base)
        shift[:, k] = h
        above, below = place.put(base + shift), place.put(base - shift)
        moved = (host(above) - host(below))[:, k]  # what remained of 2 h after rounding
        columns.append((function(above) - function(below)) / moved[:, None])
    return np.stack(columns, axis=2)


# --- samples ---------------------------------------------------------------------------------------------


def samples_are_valid_targets(case: LikelihoodCase) -> None:
    """``check_targets`` takes every draw."""
    samples = case.likelihood.sample(case.f, num_samples=20, rng=case.seed)
    for m in range(20):
        case.likelihood.check_targets(case.f, samples[m, ...])


def sampling_is_seeded(case: LikelihoodCase) -> None:
    """One seed, one draw; a generator is advanced."""

    def draw(rng: Any) -> Array:
        return case.likelihood.sample(case.f, num_samples=40, rng=rng)

    require_identical("draws of one seed", draw(case.seed), draw(case.seed))
    together = host(draw(case.seed))
    if bool(np.all(together == together[:1])):  # a single class: there is nothing to draw
        return
    generator = np.random.default_rng(case.seed)
    first, second = draw(generator), draw(generator)
    require(fingerprint(first) != fingerprint(second), "a generator gave the same 40 draws twice")
    require(fingerprint(first) != fingerprint(draw(case.seed + 1)), "two seeds gave the same 40 draws")


def _scores(case: LikelihoodCase) -> Host:
    """Gradients on labels drawn from the model, (draws, N, K)."""
    xp = compat.array_namespace(case.f)
    samples = case.likelihood.sample(case.f, num_samples=_DRAWS, rng=case.seed)
    labels = xp.reshape(samples, (-1, *samples.shape[2:]))
    f = xp.concat([case.f] * _DRAWS, axis=0)
    return host(case.likelihood.gradient(f, labels)).reshape(_DRAWS, *case.f.shape)


def _z_limit(tests: int) -> float:
    return NormalDist().inv_cdf(1.0 - _FALSE_ALARMS / (4 * tests))  # two-sided, in two properties


def scores_have_mean_zero(case: LikelihoodCase) -> None:
    """Over 4000 draws, z-test."""
    scores = _scores(case)
    n, k = scores.shape[1:]
    error = np.std(scores, axis=0) / np.sqrt(_DRAWS)
    bound = _z_limit(n * k) * error + case.place.rounding(float(np.max(np.abs(scores))))
    require_close(f"the mean of the score over {_DRAWS} draws", np.mean(scores, axis=0), 0.0, bound)


def fisher_is_the_covariance_of_the_scores(case: LikelihoodCase) -> None:
    """Over 4000 draws, z-test."""
    scores, fisher = _scores(case), host(case.likelihood.fisher(case.f))
    n, k = scores.shape[1:]
    products = scores[:, :, :, None] * scores[:, :, None, :]
    error = np.std(products, axis=0) / np.sqrt(_DRAWS)
    limit = _z_limit(n * k * (k + 1) // 2)
    bound = limit * error + case.place.rounding(float(np.max(np.abs(products))))
    require_close(f"fisher and score products over {_DRAWS} draws", fisher, np.mean(products, axis=0), bound)


# --- targets ---------------------------------------------------------------------------------------------


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


PROPERTIES = (
    results_have_the_kind_of_the_outputs,
    arguments_are_left_alone,
    results_are_repeatable,
    rows_are_independent,
    factor_reproduces_the_fisher,
    fisher_is_positive_semidefinite,
    coefficients_reproduce_the_gradient,
    gradient_is_the_derivative_of_the_loss,
    hessian_is_the_derivative_of_the_gradient,
    scores_have_mean_zero,
    fisher_is_the_covariance_of_the_scores,
    samples_are_valid_targets,
    sampling_is_seeded,
    bad_targets_are_refused,
    saturated_outputs_give_finite_results,
)
