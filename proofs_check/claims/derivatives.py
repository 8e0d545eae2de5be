"""Hand-written derivatives against complex step and differences; double backpropagation."""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs_check import Finding, Run, claim, combine, identity, oracles
from proofs_check.data import Instance, digits, on_host, small_instances
from proofs_check.tolerance import DIFFERENCE_ERROR, roundoff


def _reference_gradient(instance: Instance) -> Any:
    """``theta -> grad L`` by complex step through the unit-by-unit network and loss."""
    _, x, y = instance.host

    def loss(z: np.ndarray) -> Any:
        outputs = oracles.mlp_outputs(z, x, **instance.architecture)
        return oracles.mean_loss(instance.likelihood, outputs, list(y), instance.variance)

    return lambda theta: oracles.complex_step_gradient(loss, theta)


@claim(
    "gradient-is-the-slope-of-the-loss",
    statement="The gradient g is the derivative of the mean loss, and the mean of the per-example gradients.",
    source="classical result (backpropagation)",
    kind="identity",
    params={"num_examples": 5},
)
def gradient(run: Run, num_examples: int) -> Finding:
    """Fails if a backward pass, a loss's slope or the mean is wrong.

    Reference: complex step through loops. Control: the 1/N dropped.
    """

    def check(instance: Instance) -> Finding:
        arguments = (instance.theta, instance.x, instance.y)
        computed = on_host(instance.problem.gradient(*arguments))
        each = on_host(instance.problem.per_example_gradients(*arguments))
        reference = _reference_gradient(instance)(instance.host[0])
        # g is a difference of labels and means: what counts is the size of the terms, not of their sum
        size = float(np.linalg.norm(each) / np.sqrt(num_examples))

        def finding(factor: float) -> Finding:
            return identity(
                np.stack([computed, each.mean(axis=0)]),
                factor * np.stack([reference, reference]),
                scale=size,
                **roundoff(run, terms=num_examples),
                detail=f"{instance.name}, {num_examples} examples",
            )

        return finding(1.0).with_control(finding(float(num_examples)))

    return combine(check(one) for one in small_instances(run, num_examples=num_examples, key=31))


@claim(
    "hvp-is-the-derivative-of-the-gradient",
    statement="H v is the derivative of the gradient along v, for all activations and likelihoods.",
    source="classical result (Pearlmutter 1994)",
    kind="identity",
    params={"num_examples": 4, "directions": 2},
)
def hvp(run: Run, num_examples: int, directions: int) -> Finding:
    """Fails if a line of the differentiated backward pass is missing or wrong.

    Reference: five-point differences of a complex-step gradient through loops. Control: the Gauss-Newton
    product F v, which lacks the curvature of the network. (It is no error for a network with one linear
    piece, so the linear network takes no part.)
    """

    def check(instance: Instance, position: int) -> Finding:
        theta, slope = instance.host[0], _reference_gradient(instance)
        vectors = run.asarray(run.rng(32, position).normal(size=(directions, len(theta))))
        columns = [vectors[i, ...] for i in range(directions)]
        reference = np.stack([oracles.central_directional(slope, theta, on_host(v)) for v in columns])

        def finding(products: list[Any]) -> Finding:
            return identity(
                np.stack([on_host(product) for product in products]),
                reference,
                **roundoff(run, terms=num_examples, reference=DIFFERENCE_ERROR),
                detail=f"{instance.name}, {num_examples} examples, {directions} directions",
            )

        arguments = (instance.theta, instance.x, instance.y)
        fisher = instance.fisher()
        exact = finding([instance.problem.hvp(*arguments, v) for v in columns])
        return exact.with_control(finding([fisher @ v for v in columns]))

    curved = [
        one
        for one in small_instances(run, num_examples=num_examples, key=32)
        if one.architecture["activation"] != "identity"
    ]
    return combine(check(one, position) for position, one in enumerate(curved))


@claim(
    "double-backprop-is-one-hvp",
    statement="grad (|grad L|^2 / 2) = H g: the gradient of the regularizer is one Hessian-vector product.",
    source="paper (RENG by double backpropagation); classical result",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 16, 10], "directions": 6},
)
def double_backprop(run: Run, num_examples: int, sizes: list[int], directions: int) -> Finding:
    """Fails if H g has another sign, or the factor 2 of |g|^2 without the half.

    H g along random directions against five-point differences of |g|^2 / 2, taken in float64 on the host.
    Control: the sign of H g.
    """
    instance = digits(run, sizes, num_examples=num_examples, key=(33,))
    arguments = (instance.theta, instance.x, instance.y)
    theta, x, y = instance.host
    vectors = run.rng(33, 1).normal(size=(directions, len(theta))) / np.sqrt(len(theta))

    def regularizer(z: np.ndarray) -> Any:
        slope = instance.problem.gradient(z, x, y)
        return 0.5 * (slope @ slope)

    reference = np.array([oracles.central_directional(regularizer, theta, v) for v in vectors])
    product = on_host(instance.problem.hvp(*arguments, instance.problem.gradient(*arguments)))
    # along one direction almost all of H g may cancel: the error is relative to |H g| |v|
    size = float(np.linalg.norm(product))

    def finding(sign: float) -> Finding:
        return identity(
            sign * (vectors @ product),
            reference,
            scale=size,
            **roundoff(run, terms=num_examples, reference=DIFFERENCE_ERROR),
            detail=f"{instance.name}, {num_examples} images, {directions} directions",
        )

    return finding(1.0).with_control(finding(-1.0))
