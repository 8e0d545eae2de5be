"""The Fisher matrix: what it equals, what it is the expectation of, and what it is not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import grng_ref as gr
from proofs_check import Finding, Run, claim, combine, identity, oracles, statistical
from proofs_check.data import LABELS, Instance, digits, on_host, small_instances, synthetic
from proofs_check.tolerance import DIFFERENCE_ERROR, roundoff

# --- references ----------------------------------------------------------------------------------------


def _jacobian(instance: Instance) -> np.ndarray:
    """The Jacobian (N, K, P) by complex step through the unit-by-unit network."""
    theta, x, _ = instance.host
    return oracles.complex_step_jacobian(lambda z: oracles.mlp_outputs(z, x, **instance.architecture), theta)


def _digits_jacobian(instance: Instance) -> np.ndarray:
    """The same for a network with one hidden tanh layer, in matrix form: the loops are slow at 64 inputs."""
    theta, x, _ = instance.host
    inputs, hidden, outputs = instance.architecture["sizes"]

    def network(z: np.ndarray) -> np.ndarray:
        first = z[: hidden * (inputs + 1)].reshape(hidden, inputs + 1)
        second = z[hidden * (inputs + 1) :].reshape(outputs, hidden + 1)
        a = np.tanh(x @ first[:, :-1].T + first[:, -1])
        return a @ second[:, :-1].T + second[:, -1]

    return oracles.complex_step_jacobian(network, theta)


def _outputs(instance: Instance) -> np.ndarray:
    return on_host(instance.problem.outputs(instance.theta, instance.x))


def _loss_curvature(instance: Instance, f: np.ndarray, y: Any) -> np.ndarray:
    """``d^2 l / df^2`` (K, K) of one example, by differences."""

    def loss(z: np.ndarray) -> Any:
        return oracles.example_loss(instance.likelihood, z, y, instance.variance)

    return oracles.hessian(loss, f)


def _mean_product(jacobian: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """``(1/N) sum_n J_n^T C_n J_n``, example by example."""
    pairs = zip(jacobian, curvatures, strict=True)
    return sum(j.T @ c @ j for j, c in pairs) / len(jacobian)


def _summed_product(jacobian: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """Planted error: the sum over examples, the 1/N dropped."""
    return len(jacobian) * _mean_product(jacobian, curvatures)


def _independent_outputs(probabilities: np.ndarray) -> np.ndarray:
    """Planted error: the classes taken for independent yes/no outputs, ``diag p (1 - p)``."""
    return np.stack([np.diag(p * (1 - p)) for p in probabilities])


# --- Fisher = Gauss-Newton, and its forms --------------------------------------------------------------


@claim(
    "fisher-is-gauss-newton",
    statement="For the four likelihoods in their natural parameter, the Fisher (1/N) sum J_n^T Om_n J_n "
    "is the generalized Gauss-Newton matrix (1/N) sum J_n^T (d^2 l / df^2) J_n.",
    source="classical result (Schraudolph 2002; Martens 2020)",
    kind="identity",
    params={"num_examples": 5},
)
def fisher_is_gauss_newton(run: Run, num_examples: int) -> Finding:
    """Fails if an output Fisher, the Jacobian, the mean over examples or the order of theta is wrong.

    The reference knows the loss l(f, y) alone: its second derivative is a central difference of a
    complex-step gradient, and J is a complex step through a loop over units. Control: the 1/N dropped.
    """

    def check(instance: Instance) -> Finding:
        pairs = zip(_outputs(instance), instance.host[2], strict=True)
        curvatures = np.stack([_loss_curvature(instance, f, y) for f, y in pairs])
        jacobian = _jacobian(instance)

        def finding(reference: np.ndarray) -> Finding:
            return identity(
                instance.dense_fisher(),
                reference,
                **roundoff(run, terms=num_examples, reference=DIFFERENCE_ERROR),
                detail=f"{instance.name}, {num_examples} examples",
            )

        good, planted = (product(jacobian, curvatures) for product in (_mean_product, _summed_product))
        return finding(good).with_control(finding(planted))

    return combine(check(one) for one in small_instances(run, num_examples=num_examples, key=11))


@claim(
    "fisher-on-digits-is-its-definition",
    statement="The dense Fisher of a softmax network on real images, assembled layer pair by layer pair, "
    "is (1/N) sum J_n^T (diag p_n - p_n p_n^T) J_n.",
    source="classical result (Amari 1998); the assembly is our own",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 16, 10]},
)
def fisher_on_digits(run: Run, num_examples: int, sizes: list[int]) -> Finding:
    """Fails if the assembly misplaces or miscounts a layer pair.

    Reference: complex-step Jacobian, one product an example. Control: the classes taken for independent.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(12,))
    jacobian, fisher = _digits_jacobian(instance), instance.dense_fisher()
    probabilities = np.stack([oracles.output_mean("categorical", f) for f in _outputs(instance)])
    softmax = np.stack([np.diag(p) - np.outer(p, p) for p in probabilities])

    def finding(curvatures: np.ndarray) -> Finding:
        return identity(
            fisher,
            _mean_product(jacobian, curvatures),
            **roundoff(run, terms=max(num_examples, sizes[0])),
            detail=f"{instance.name}, {num_examples} images, {len(fisher)} parameters",
        )

    return finding(softmax).with_control(finding(_independent_outputs(probabilities)))


@claim(
    "fisher-product-is-the-dense-one",
    statement="The matrix-free product F v = B^T (B v) and the score rows' B^T B agree with the dense "
    "Fisher.",
    source="classical result (Schraudolph 2002)",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 16, 10], "columns": 3},
)
def fisher_product(run: Run, num_examples: int, sizes: list[int], columns: int) -> Finding:
    """Fails if a product, its transpose or the rows are scaled, ordered or reshaped otherwise.

    Control: a damping of a hundredth of the largest diagonal entry added at the product.
    """

    def check(instance: Instance) -> Finding:
        operator = instance.fisher()
        dense = instance.dense_fisher()
        size = len(dense)
        directions = run.asarray(run.rng(13, 1).normal(size=(size, columns)))
        product, right = on_host(operator @ directions), dense @ on_host(directions)
        rows = on_host(instance.problem.score_rows(instance.theta, instance.x))
        terms = max(size, len(rows))

        def finding(added: float) -> Finding:
            damped = product + added * on_host(directions)
            return identity(
                np.concatenate([damped, rows.T @ rows], axis=1),
                np.concatenate([right, dense], axis=1),
                **roundoff(run, terms=terms),
                detail=f"{instance.name}, {instance.num_examples} examples, {columns} directions and B^T B",
            )

        return finding(0.0).with_control(finding(0.01 * float(dense.diagonal().max())))

    images = digits(run, sizes, num_examples=num_examples, key=(13,))
    return combine(check(one) for one in (images, *small_instances(run, num_examples=6, key=13)))


# --- Fisher as an expectation --------------------------------------------------------------------------

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
        outputs, fisher = _outputs(instance), instance.dense_fisher()

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
        expected = _score_moments(instance, _outputs(instance))[0]
        return finding(expected).with_control(finding(observed))

    real = digits(run, sizes, num_examples=images, key=(15,))
    return combine(check(one) for one in (real, *small_instances(run, num_examples=num_examples, key=15)))


@claim(
    "monte-carlo-fisher-is-unbiased",
    statement="The Monte-Carlo Fisher, from gradients on labels drawn from the model, has the expectation "
    "F, in every entry.",
    source="classical result (Martens 2020)",
    kind="statistical",
    params={"draws": 4000, "draws_full": 40000, "num_examples": 3, "seeds": 1},
)
def monte_carlo_is_unbiased(run: Run, draws: int, draws_full: int, num_examples: int, seeds: int) -> Finding:
    """Fails if the draws are not from the model, or their normalisation depends on the outputs or the draws.

    A z-test of every entry of the lower triangle at a sample size fixed in advance. Control: the estimate
    divided once more by the number K of outputs.
    """
    count = draws_full if run.full else draws
    # single outputs have nothing to divide by K: the control would be no error there
    cases = [
        synthetic(run, likelihood, (2, 2, 3), num_examples=num_examples, key=(16, seed, index))
        for seed in range(seeds)
        for index, likelihood in enumerate(("gaussian", "categorical", "bernoulli", "poisson"))
    ]
    entries = sum(one.problem.num_parameters * (one.problem.num_parameters + 1) // 2 for one in cases)

    def check(instance: Instance, position: int) -> Finding:
        lower = np.tril_indices(instance.problem.num_parameters)
        rows = instance.problem.score_rows(
            instance.theta, instance.x, kind="monte_carlo", num_samples=count, rng=run.rng(16, 99, position)
        )
        scores = math.sqrt(count) * on_host(rows).reshape(num_examples, count, -1)
        products = sum(one[:, lower[0]] * one[:, lower[1]] for one in scores)  # one estimate of F a draw
        mean, spread = products.mean(axis=0), products.std(axis=0, ddof=1) / math.sqrt(count)
        exact = instance.dense_fisher()[lower]

        def finding(factor: float) -> Finding:
            return statistical(
                factor * mean,
                exact,
                factor * spread,
                num_samples=count,
                comparisons=entries,
                detail=f"{instance.name}, {num_examples} examples, {len(exact)} entries of F",
            )

        return finding(1.0).with_control(finding(1.0 / instance.architecture["sizes"][-1]))

    return combine(check(one, position) for position, one in enumerate(cases))


@claim(
    "empirical-fisher-is-the-fisher",
    statement="The empirical Fisher (1/N) sum g_n g_n^T, of gradients on the observed labels, is the Fisher.",
    source="a classical confusion (Kunstner, Balles and Hennig 2019); to be refuted",
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
