"""The Fisher matrix as an expectation: what it is the expectation of, and what it is not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, oracles, statistical
from proofs_check.data import LABELS, Instance, digits, on_host, small_instances, synthetic
from proofs_check.tolerance import roundoff

# --- every label, with its probability ------------------------------------------------------------------


_HERMITE_NODES = 3  # exact for polynomials of degree 5: a product of two Gaussian scores has degree 2


def _label_nodes(instance: Instance, f: np.ndarray) -> list[list[tuple[float, float]]]:
    """Labels and weights of each independent output of one example, for an exact expectation.

    Bernoulli: both labels. Gaussian: Gauss-Hermite nodes. Poisson: all counts up to one beyond which
    ``E[(y - rate)^2; y > T]`` is below 1e-17 of the rate, by the bound of `_poisson_cut`.
    """
    mean = oracles.output_mean(instance.likelihood, f)
    if instance.likelihood == "bernoulli":
        return [[(0.0, 1.0 - float(p)), (1.0, float(p))] for p in mean]
    if instance.likelihood == "gaussian":
        points, weights = np.polynomial.hermite_e.hermegauss(_HERMITE_NODES)
        scaled = math.sqrt(instance.variance) * points
        return [list(zip(m + scaled, weights / weights.sum(), strict=True)) for m in mean]
    cut = max(_poisson_cut(float(m)) for m in mean)
    return [[(float(y), _poisson_probability(y, float(m))) for y in range(cut + 1)] for m in mean]


def _poisson_probability(count: int, rate: float) -> float:
    return math.exp(count * math.log(rate) - rate - math.lgamma(count + 1))


def _poisson_cut(rate: float) -> int:
    """T with ``sum_{y > T} y^2 p(y) <= 2 (T + 1)^2 p(T + 1) <= 1e-17 rate``.

    From T + 1 >= max(4 rate, 5) on, each term is less than half of the one before:
    ``((y + 1) / y)^2 rate / (y + 1) <= (6/5)^2 / 4``.
    """
    cut = max(math.ceil(4 * rate), 5) - 1
    while 2 * (cut + 1) ** 2 * _poisson_probability(cut + 1, rate) > 1e-17 * rate:
        cut += 1
    return cut


def _weighted_labels(instance: Instance, outputs: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of labels for the whole batch and their weights (N,): every label of every example, once."""
    if instance.likelihood == "categorical":
        for k in range(outputs.shape[1]):
            weights = [float(oracles.output_mean("categorical", f)[k]) for f in outputs]
            yield np.full(len(outputs), k, dtype=LABELS), np.array(weights)
        return
    grids = [_label_nodes(instance, f) for f in outputs]
    longest = max(len(nodes) for grid in grids for nodes in grid)
    padded = [[nodes + [(0.0, 0.0)] * (longest - len(nodes)) for nodes in grid] for grid in grids]
    for index in np.ndindex(*(longest,) * outputs.shape[1]):
        picked = [[nodes[i] for nodes, i in zip(grid, index, strict=True)] for grid in padded]
        labels = np.array([[label for label, _ in row] for row in picked])
        yield labels, np.array([math.prod(weight for _, weight in row) for row in picked])


def _score_moments(instance: Instance, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(1/N) sum_n E[u_n]`` and ``(1/N) sum_n E[u_n u_n^T]``, u the gradient on y ~ p(y | outputs)."""
    first: Any = 0.0
    second: Any = 0.0
    for labels, weights in _weighted_labels(instance, outputs):
        y = instance.run.asarray(labels)
        scores = on_host(instance.problem.per_example_gradients(instance.theta, instance.x, y))
        first = first + weights @ scores
        second = second + (scores.T * weights) @ scores
    return first / len(outputs), second / len(outputs)


def _moments_of_another_model(instance: Instance, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Planted error: labels drawn from a model whose outputs are larger by 0.3 in the first component."""
    shifted = outputs.copy()
    shifted[:, 0] += 0.3
    return _score_moments(instance, shifted)


@claim(
    "fisher-is-the-score-covariance",
    statement="F = (1/N) sum_n E_{y ~ p(y|x_n,theta)}[u_n u_n^T], u_n the gradient of the loss of example "
    "n on the label y.",
    source="classical result (Amari 1998)",
    kind="identity",
    params={"num_examples": 4, "images": 16, "sizes": [64, 8, 10]},
)
def fisher_is_score_covariance(run: Run, num_examples: int, images: int, sizes: list[int]) -> Finding:
    """Fails if output Fisher and gradients of a likelihood do not belong together.

    The expectation is exact: enumeration of all labels (categorical, Bernoulli), Gauss-Hermite quadrature
    (Gaussian), a sum with a bounded remainder (Poisson). Control: labels of another model.
    """

    def check(instance: Instance) -> Finding:
        outputs, fisher = instance.outputs(), instance.dense_fisher()

        def finding(moments: tuple[np.ndarray, np.ndarray]) -> Finding:
            return identity(
                fisher,
                moments[1],
                **roundoff(run, terms=max(instance.num_examples, 32)),
                detail=f"{instance.name}, {instance.num_examples} examples, every label",
            )

        planted = _moments_of_another_model(instance, outputs)
        return finding(_score_moments(instance, outputs)).with_control(finding(planted))

    real = digits(run, sizes, num_examples=images, key=(14,))
    return combine(check(one) for one in (real, *small_instances(run, num_examples=num_examples, key=14)))


@claim(
    "score-has-zero-mean",
    statement="E_{y ~ p(y|x,theta)}[grad l] = 0: a score has zero mean under its own model. Read "
    "literally, the regularizer |E_{p(y|x,theta)}[grad L]|^2 of the paper's summaries is therefore zero "
    "at every theta; the gradient in RING, RENG and R-Kalman is the one on the observed labels, which is "
    "not.",
    source="classical result; a remark on the paper's summaries",
    kind="identity",
    params={"num_examples": 4, "images": 16, "sizes": [64, 8, 10]},
)
def score_has_zero_mean(run: Run, num_examples: int, images: int, sizes: list[int]) -> Finding:
    """Fails if a gradient is not that of a log likelihood, or the expectation is over another model.

    The error is relative to sqrt(tr F), the root mean square length of a score. Control: the mean over the
    observed labels, the gradient that regularizes, is not zero.
    """

    def check(instance: Instance) -> Finding:
        size = math.sqrt(float(instance.dense_fisher().trace()))

        def finding(mean_score: Any) -> Finding:
            return identity(
                mean_score,
                np.zeros(instance.problem.num_parameters),
                scale=size,
                **roundoff(run, terms=32),
                detail=f"{instance.name}, {instance.num_examples} examples, every label",
            )

        observed = instance.problem.gradient(instance.theta, instance.x, instance.y)
        expected = _score_moments(instance, instance.outputs())[0]
        return finding(expected).with_control(finding(observed))

    real = digits(run, sizes, num_examples=images, key=(15,))
    return combine(check(one) for one in (real, *small_instances(run, num_examples=num_examples, key=15)))


@claim(
    "monte-carlo-fisher-is-unbiased",
    statement="The Monte-Carlo Fisher, from gradients on labels drawn from the model, has the expectation "
    "F, in every entry.",
    source="classical result (Martens 2020)",
    kind="statistical",
    params={"draws": 20000, "draws_full": 40000, "num_examples": 6, "seeds": 2, "copies": 100},
)
def monte_carlo_is_unbiased(
    run: Run, draws: int, draws_full: int, num_examples: int, seeds: int, copies: int
) -> Finding:
    """Fails if the draws are not from the model, or their normalisation depends on the outputs or the draws.

    A z-test of every entry of the lower triangle, at a sample size fixed in advance, for two models of each
    likelihood; products of scores are skewed, most of all Poisson's, and the threshold knows how much.
    Control: the estimate divided once more by the number K of outputs.
    """
    count = draws_full if run.full else draws
    # single outputs have nothing to divide by K: the control would be no error there
    cases = [
        synthetic(run, likelihood, (2, 2, 2), num_examples=num_examples, key=(16, seed, index))
        for seed in range(seeds)
        for index, likelihood in enumerate(("gaussian", "categorical", "bernoulli", "poisson"))
    ]
    entries = sum(one.problem.num_parameters * (one.problem.num_parameters + 1) // 2 for one in cases)

    def check(instance: Instance, position: int) -> Finding:
        lower = np.tril_indices(instance.problem.num_parameters)
        # every example stands in the batch many times, which leaves the mean over examples as it is
        x = run.asarray(np.tile(instance.host[1], (copies, 1)))
        rows = instance.problem.score_rows(
            instance.theta, x, kind="monte_carlo", num_samples=count // copies, rng=run.rng(16, 99, position)
        )
        drawn = on_host(rows).reshape(copies, num_examples, count // copies, -1)
        scores = math.sqrt(count) * drawn.swapaxes(0, 1).reshape(num_examples, count, -1)
        products = sum(one[:, lower[0]] * one[:, lower[1]] for one in scores)  # one estimate of F a draw
        mean, deviation = products.mean(axis=0), products.std(axis=0, ddof=1)
        spread = deviation / math.sqrt(count)
        third = np.mean((products - mean) ** 3, axis=0)
        # an entry that never varies has no tails: it must agree exactly
        skewness = np.divide(third, deviation**3, out=np.zeros_like(third), where=deviation > 0)
        exact = instance.dense_fisher()[lower]

        def finding(factor: float) -> Finding:
            return statistical(
                factor * mean,
                exact,
                factor * spread,
                num_samples=count,
                comparisons=entries,
                skewness=skewness,
                detail=f"{instance.name}, {num_examples} examples, {len(exact)} entries of F",
            )

        return finding(1.0).with_control(finding(1.0 / instance.architecture["sizes"][-1]))

    return combine(check(one, position) for position, one in enumerate(cases))


@claim(
    "empirical-fisher-is-the-fisher",
    statement="The empirical Fisher (1/N) sum g_n g_n^T, of gradients on the observed labels, is the Fisher.",
    source="a classical confusion (Kunstner, Hennig and Balles 2019); to be refuted",
    kind="identity",
    expected="refuted",
    params={"num_examples": 64, "sizes": [64, 16, 10]},
)
def empirical_is_not_the_fisher(run: Run, num_examples: int, sizes: list[int]) -> Finding:
    """Would hold if every label were observed as often as the model says.

    Control: exactly such data, each image once with every class at a model that says 1/10 for each, where the
    two do agree.
    """

    def finding(instance: Instance) -> Finding:
        empirical = gr.fisher(instance.problem, instance.theta, instance.x, instance.y, kind="empirical")
        return identity(
            empirical.to_dense(),
            instance.dense_fisher(),
            **roundoff(run, terms=num_examples),
            detail=f"{instance.name}, {instance.num_examples} examples",
        )

    observed = digits(run, sizes, num_examples=num_examples, key=(17,))
    return finding(observed).with_control(finding(_labels_as_the_model_says(run, observed)))


def _labels_as_the_model_says(run: Run, instance: Instance) -> Instance:
    """Six of the images, each once with every class, and a last layer of zeros: p = 1/K."""
    theta, x, _ = instance.host
    classes = instance.architecture["sizes"][-1]
    *first, last = instance.problem.unpack(theta)
    even = instance.problem.pack([*first, 0.0 * last])
    moved = run.asarray(
        (even, np.repeat(x[:6], classes, axis=0), np.tile(np.arange(classes, dtype=LABELS), 6))
    )
    theta, x, y = moved
    return dataclasses.replace(instance, name=f"{instance.name}, every class once", theta=theta, x=x, y=y)
