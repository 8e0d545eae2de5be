"""Block-diagonal Fisher and K-FAC: what they hold exactly, where K-FAC is exact, and where it is not."""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs_check import Finding, Run, claim, combine, identity, oracles
from proofs_check.data import Instance, digits, on_host, small_instances, synthetic
from proofs_check.tolerance import Tolerance, roundoff


def _exact_blocks(instance: Instance) -> list[np.ndarray]:
    return instance.layer_blocks(instance.dense_fisher())


def _factors(instance: Instance) -> Any:
    """K-FAC's ``(A, G)`` of every layer."""
    kfac: Any = instance.fisher("kfac")
    return kfac.factors


def _kronecker_blocks(instance: Instance) -> list[np.ndarray]:
    """``G kron A`` of every layer."""
    return [np.kron(on_host(G), on_host(A)) for A, G in _factors(instance)]


def _swapped_kronecker_blocks(instance: Instance) -> list[np.ndarray]:
    """Planted error: ``A kron G``, the order of column-major layers."""
    return [np.kron(on_host(A), on_host(G)) for A, G in _factors(instance)]


def _flat(blocks: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([block.ravel() for block in blocks])


def _blocks_agree(
    computed: list[np.ndarray], reference: list[np.ndarray], limit: Tolerance, detail: str
) -> Finding:
    """The one check of this file: all blocks at once, relative Frobenius norm."""
    return identity(_flat(computed), _flat(reference), **limit, detail=detail)


def _kfac_is_exact(run: Run, instance: Instance, *, layers: slice = slice(None)) -> Finding:
    """K-FAC against the exact blocks of some layers; the control has the factors swapped."""
    exact = _exact_blocks(instance)[layers]
    limit = roundoff(run, terms=instance.num_examples)
    detail = f"{instance.name}, N = {instance.num_examples}, {len(exact)} layer blocks"
    planted = _blocks_agree(_swapped_kronecker_blocks(instance)[layers], exact, limit, detail)
    return _blocks_agree(_kronecker_blocks(instance)[layers], exact, limit, detail).with_control(planted)


@claim(
    "kfac-factors-are-their-definition",
    statement="K-FAC's block of a layer is G kron A with A = (1/N) sum abar abar^T and G = (1/N) sum "
    "(df/ds)^T Om (df/ds), in row-major order of [W | b].",
    source="classical result (Martens and Grosse 2015)",
    kind="identity",
    params={"num_examples": 5},
)
def kfac_factors(run: Run, num_examples: int) -> Finding:
    """Fails if a factor is transposed, scaled by another power of N, or misses the bias or the layer's scale.

    Reference: loops over examples and units, derivatives by complex step. Control: A kron G.
    """

    def check(instance: Instance) -> Finding:
        theta, x, _ = instance.host
        given = instance.architecture
        bias = given.get("bias", True)
        factors = oracles.kfac_factors(
            oracles.layer_matrices(theta, given["sizes"], bias=bias),
            x,
            given.get("activation", "tanh"),
            oracles.layer_scales(given["sizes"], given.get("parameterization", "standard")),
            instance.likelihood,
            bias=bias,
            variance=instance.variance,
        )
        reference = [oracles.kronecker(G, A) for A, G in factors]
        limit = roundoff(run, terms=num_examples)
        detail = f"{instance.name}, N = {num_examples}"
        planted = _blocks_agree(_swapped_kronecker_blocks(instance), reference, limit, detail)
        return _blocks_agree(_kronecker_blocks(instance), reference, limit, detail).with_control(planted)

    return combine(check(one) for one in small_instances(run, num_examples=num_examples, key=21))


@claim(
    "kfac-is-exact-for-one-example",
    statement="For a single example, K-FAC's block of every layer is the exact Fisher block.",
    source="classical result (Martens and Grosse 2015)",
    kind="identity",
    params={"sizes": [64, 16, 10]},
)
def kfac_one_example(run: Run, sizes: list[int]) -> Finding:
    """Fails if a factor is of another layer or quantity, or the two are multiplied in another order.

    (N = 1 shows no wrong power of N; the deep linear networks do.) Control: A kron G.
    """
    image = digits(run, sizes, num_examples=1, key=(22,))
    return combine(_kfac_is_exact(run, one) for one in (image, *small_instances(run, num_examples=1, key=22)))


@claim(
    "kfac-is-exact-for-deep-linear-gaussian-networks",
    statement="For a deep linear network with a Gaussian likelihood, K-FAC's block of every layer is the "
    "exact Fisher block: df/ds does not depend on the example.",
    source="classical result (Bernacchia, Lengyel and Hennequin 2018)",
    kind="identity",
    params={"num_examples": 20, "shapes": [[4, 3, 2], [3, 5, 4, 2], [2, 4, 3, 3, 1]]},
)
def kfac_deep_linear(run: Run, num_examples: int, shapes: list[list[int]]) -> Finding:
    """Fails if either factor is not a mean over examples: N = 20 in both would show. Control: A kron G."""
    cases = [
        synthetic(
            run, "gaussian", sizes, num_examples=num_examples, key=(23, i), activation="identity",
            parameterization=("standard", "ntk")[i % 2],
        )
        for i, sizes in enumerate(shapes)
    ]  # fmt: skip
    return combine(_kfac_is_exact(run, one) for one in cases)


@claim(
    "kfac-is-exact-in-the-last-gaussian-layer",
    statement="For any network with a Gaussian likelihood, K-FAC's block of the last layer is the exact "
    "Fisher block (I / variance) kron A.",
    source="classical result (Martens and Grosse 2015)",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 16, 10], "activations": ["tanh", "relu", "gelu", "silu"]},
)
def kfac_last_layer(run: Run, num_examples: int, sizes: list[int], activations: list[str]) -> Finding:
    """Fails if the last layer's input or its output Fisher is wrong. Control: A kron G."""
    images = digits(run, sizes, num_examples=num_examples, key=(24,), likelihood="gaussian")
    small = [
        synthetic(run, "gaussian", (3, 5, 4, 2), num_examples=20, key=(24, i), activation=activation)
        for i, activation in enumerate(activations)
    ]
    return combine(_kfac_is_exact(run, one, layers=slice(-1, None)) for one in (images, *small))


@claim(
    "kfac-is-exact-on-digits",
    statement="On many real images with a softmax, K-FAC's blocks are the exact Fisher blocks.",
    source="to be refuted: K-FAC takes activations and backpropagated errors for uncorrelated",
    kind="identity",
    expected="refuted",
    params={"num_examples": 128, "sizes": [64, 16, 10]},
)
def kfac_on_digits(run: Run, num_examples: int, sizes: list[int]) -> Finding:
    """Would hold if outer products of activations and of errors were uncorrelated over the images.

    What is measured is K-FAC's error, relative Frobenius norm. Control: the same network on a single image,
    where they are uncorrelated.
    """

    def finding(count: int) -> Finding:
        instance = digits(run, sizes, num_examples=count, key=(25,))
        computed, exact = _kronecker_blocks(instance), _exact_blocks(instance)
        each = [np.linalg.norm(c - e) / np.linalg.norm(e) for c, e in zip(computed, exact, strict=True)]
        errors = ", ".join(f"{error:.2g}" for error in each)
        detail = f"{instance.name}, N = {count}; relative Frobenius error by layer: {errors}"
        return _blocks_agree(computed, exact, roundoff(run, terms=count), detail)

    return finding(num_examples).with_control(finding(1))


@claim(
    "block-diagonal-holds-the-exact-blocks",
    statement="The block-diagonal Fisher has the exact Fisher's block of every layer, and zeros elsewhere.",
    source="classical result (Martens and Grosse 2015)",
    kind="identity",
    params={"num_examples": 64, "sizes": [64, 16, 10]},
)
def block_diagonal_blocks(run: Run, num_examples: int, sizes: list[int]) -> Finding:
    """Fails if a block is approximated, misplaced or scaled.

    Reference: the blocks of B^T B, cut out. Control of the blocks: divided by N once more. Control of the
    zeros elsewhere: the full Fisher's entries between layers.
    """

    def check(instance: Instance) -> list[Finding]:
        rows = on_host(instance.problem.score_rows(instance.theta, instance.x))
        inside = np.zeros((rows.shape[1],) * 2, dtype=bool)
        for part in instance.layer_slices:
            inside[part, part] = True
        fisher = rows.T @ rows
        size, limit = float(np.linalg.norm(fisher)), roundoff(run, terms=len(rows))
        computed = instance.dense_fisher("block_diagonal")
        where = f"{instance.name}, N = {instance.num_examples}"

        def blocks(factor: float) -> Finding:
            detail = f"{where}, the blocks"
            return identity(factor * computed[inside], fisher[inside], **limit, detail=detail)

        def elsewhere(matrix: np.ndarray) -> Finding:
            outside = matrix[~inside]
            return identity(outside, 0 * outside, scale=size, **limit, detail=f"{where}, outside the blocks")

        return [
            blocks(1.0).with_control(blocks(1.0 / instance.num_examples)),
            elsewhere(computed).with_control(elsewhere(fisher)),
        ]

    images = digits(run, sizes, num_examples=num_examples, key=(26,))
    small = small_instances(run, num_examples=6, key=26)
    return combine(finding for one in (images, *small) for finding in check(one))
