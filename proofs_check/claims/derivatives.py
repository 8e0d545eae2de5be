"""Hand-written derivatives against complex step; double backpropagation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from proofs_check import Finding, Run, claim, combine, identity, oracles
from proofs_check.data import Instance, digits, on_host, small_instances
from proofs_check.tolerance import roundoff


def _reference_gradient(instance: Instance) -> np.ndarray:
    """``grad L`` (P,) by complex step through the unit-by-unit network and loss."""
    theta, x, y = instance.host

    def loss(z: np.ndarray) -> Any:
        outputs = oracles.mlp_outputs(z, x, **instance.architecture)
        return oracles.mean_loss(instance.likelihood, outputs, list(y), instance.variance)

    return oracles.complex_step_gradient(loss, theta)


def _example_gradients(instance: Instance) -> Callable[[np.ndarray], np.ndarray]:
    """``theta -> grad l_n`` (N, P) by the chain rule through loops, for complex theta too."""
    _, x, y = instance.host

    def gradients(theta: np.ndarray) -> np.ndarray:
        return oracles.example_gradients(
            theta, x, y, instance.likelihood, variance=instance.variance, **instance.architecture
        )

    return gradients


def _root_mean_square(rows: np.ndarray) -> float:
    """``((1/N) sum_n |row_n|^2)^(1/2)``: the size of the terms of a mean that may cancel."""
    return float(np.linalg.norm(rows) / np.sqrt(len(rows)))


@claim(
    "gradient-is-the-slope-of-the-loss",
    statement="The gradient g is the derivative of the mean loss, and the mean of the per-example gradients.",
    source="classical result (backpropagation)",
    kind="identity",
    params={"num_examples": 5},
)
def gradient(run: Run, num_examples: int) -> Finding:
    """Fails if a backward pass, a loss's slope or the mean is wrong.

    Reference: complex step through loops. Control of g and of the per-example gradients, each: the 1/N
    dropped.
    """

    def check(instance: Instance) -> list[Finding]:
        arguments = (instance.theta, instance.x, instance.y)
        each = on_host(instance.problem.per_example_gradients(*arguments))
        found = {"g": on_host(instance.problem.gradient(*arguments)), "mean of g_n": each.mean(axis=0)}
        reference = _reference_gradient(instance)

        def finding(name: str, factor: float) -> Finding:
            return identity(
                found[name],
                factor * reference,
                # a difference of labels and means: what counts is the size of the terms, not of their sum
                scale=_root_mean_square(each),
                **roundoff(run, terms=num_examples),
                detail=f"{name}, {instance.name}, {num_examples} examples",
            )

        return [finding(name, 1.0).with_control(finding(name, float(num_examples))) for name in found]

    return combine(f for one in small_instances(run, num_examples=num_examples, key=31) for f in check(one))


@claim(
    "hvp-is-the-derivative-of-the-gradient",
    statement="H v is the derivative of the gradient along v, for all likelihoods and all activations but "
    "the identity (a network of one linear piece has H = F); for relu away from its kinks.",
    source="classical result (Pearlmutter 1994)",
    kind="identity",
    params={"num_examples": 4, "directions": 2},
)
def hvp(run: Run, num_examples: int, directions: int) -> Finding:
    """Fails if a line of the differentiated backward pass is missing or wrong.

    Reference: a complex step of the chain rule through loops, which rounds but does not truncate and takes
    no step along which a unit could cross relu's kink. Control: the Gauss-Newton product F v, which lacks
    the curvature of the network; it is no error for a linear network, which therefore takes no part.
    """

    def check(instance: Instance, position: int) -> Finding:
        theta, gradients = instance.host[0], _example_gradients(instance)
        vectors = run.asarray(run.rng(32, position).normal(size=(directions, len(theta))))
        columns = [vectors[i, ...] for i in range(directions)]
        each = [oracles.complex_step_directional(gradients, theta, on_host(v)) for v in columns]
        reference = np.stack([rows.mean(axis=0) for rows in each])
        fisher, arguments = instance.fisher(), (instance.theta, instance.x, instance.y)
        curved = [on_host(instance.problem.hvp(*arguments, v)) for v in columns]
        flat = [on_host(fisher @ v) for v in columns]
        # H v = F v + the network's own curvature, which may cancel, as may the examples
        size = float(np.linalg.norm([_root_mean_square(rows) for rows in each]) + np.linalg.norm(flat))

        def finding(products: list[np.ndarray]) -> Finding:
            return identity(
                np.stack(products),
                reference,
                scale=size,
                **roundoff(run, terms=num_examples),
                detail=f"{instance.name}, {num_examples} examples, {directions} directions",
            )

        return finding(curved).with_control(finding(flat))

    networks = [
        one
        for one in small_instances(run, num_examples=num_examples, key=32)
        if one.architecture["activation"] != "identity"
    ]
    return combine(check(one, position) for position, one in enumerate(networks))


@claim(
    "double-backprop-is-one-hvp",
    statement="grad (|grad L|^2 / 2) = H g: the gradient of the regularizer is one Hessian-vector product.",
    source="paper (RENG by double backpropagation); classical result",
    kind="identity",
    params={"num_examples": 24, "sizes": [64, 8, 10], "directions": 6},
)
def double_backprop(run: Run, num_examples: int, sizes: list[int], directions: int) -> Finding:
    """Fails if H g has another sign, or the factor 2 of |g|^2 without the half.

    H g along random directions against a complex step of |g|^2 / 2, g by the chain rule through loops.
    Controls: the sign of H g, and its double, the gradient of |g|^2.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(33,))
    arguments = (instance.theta, instance.x, instance.y)
    theta, gradients = instance.host[0], _example_gradients(instance)
    vectors = run.rng(33, 1).normal(size=(directions, len(theta))) / np.sqrt(len(theta))

    def regularizer(z: np.ndarray) -> Any:
        slope = gradients(z).mean(axis=0)
        return slope @ slope / 2  # no conjugate: analytic

    reference = np.array([oracles.complex_step_directional(regularizer, theta, v) for v in vectors])
    product = on_host(instance.problem.hvp(*arguments, instance.problem.gradient(*arguments)))
    # along one direction almost all of H g may cancel: the error is relative to |H g| |v|
    size = float(np.linalg.norm(product))

    def finding(factor: float) -> Finding:
        return identity(
            factor * (vectors @ product),
            reference,
            scale=size,
            **roundoff(run, terms=num_examples),
            detail=f"{instance.name}, {num_examples} images, {directions} directions",
        )

    right = finding(1.0)
    return combine(right.with_control(finding(factor)) for factor in (-1.0, 2.0))
