"""The Fisher matrix: what it equals, and its forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from proofs_check import Finding, Run, claim, combine, identity, oracles
from proofs_check.data import Instance, digits, on_host, small_instances
from proofs_check.tolerance import roundoff

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


def _loss_curvature(instance: Instance, f: np.ndarray, y: Any) -> np.ndarray:
    """``d^2 l / df^2`` (K, K) of one example, from values of the loss alone."""

    def loss(z: np.ndarray) -> Any:
        return oracles.example_loss(instance.likelihood, z, y, instance.variance)

    return oracles.circle_hessian(loss, f)


def _summed_product(jacobian: np.ndarray, curvatures: np.ndarray) -> np.ndarray:
    """Planted error: the sum over examples, the 1/N dropped."""
    return len(jacobian) * oracles.fisher(jacobian, curvatures)


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

    The reference knows the loss l(f, y) alone: its second derivative is from values on circles in the complex
    plane, and J is a complex step through a loop over units. Control: the 1/N dropped.
    """

    def check(instance: Instance) -> Finding:
        pairs = zip(instance.outputs(), instance.host[2], strict=True)
        curvatures = np.stack([_loss_curvature(instance, f, y) for f, y in pairs])
        jacobian = _jacobian(instance)

        def finding(reference: np.ndarray) -> Finding:
            return identity(
                instance.dense_fisher(),
                reference,
                **roundoff(run, terms=num_examples),
                detail=f"{instance.name}, {num_examples} examples",
            )

        good, planted = (product(jacobian, curvatures) for product in (oracles.fisher, _summed_product))
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
    probabilities = np.stack([oracles.output_mean("categorical", f) for f in instance.outputs()])
    softmax = np.stack([np.diag(p) - np.outer(p, p) for p in probabilities])

    def finding(curvatures: np.ndarray) -> Finding:
        return identity(
            fisher,
            oracles.fisher(jacobian, curvatures),
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

    Controls: for F v, a damping of a hundredth of the largest diagonal entry added at the product; for B^T B,
    rows without their factor N^(-1/2).
    """

    def check(instance: Instance) -> list[Finding]:
        operator, dense = instance.fisher(), instance.dense_fisher()
        directions = run.asarray(run.rng(13, 1).normal(size=(len(dense), columns)))
        product, v = on_host(operator @ directions), on_host(directions)
        rows = on_host(instance.problem.score_rows(instance.theta, instance.x))
        where = f"{instance.name}, {instance.num_examples} examples"

        def product_finding(added: float) -> Finding:
            return identity(
                product + added * v,
                dense @ v,
                **roundoff(run, terms=max(len(dense), len(rows))),
                detail=f"F v, {where}, {columns} directions",
            )

        def rows_finding(scale: float) -> Finding:
            return identity(
                scale**2 * rows.T @ rows,
                dense,
                **roundoff(run, terms=len(rows)),
                detail=f"B^T B, {where}",
            )

        planted = product_finding(0.01 * float(dense.diagonal().max()))
        summed = rows_finding(math.sqrt(instance.num_examples))
        return [product_finding(0.0).with_control(planted), rows_finding(1.0).with_control(summed)]

    images = digits(run, sizes, num_examples=num_examples, key=(13,))
    small = small_instances(run, num_examples=6, key=13)
    return combine(finding for one in (images, *small) for finding in check(one))
