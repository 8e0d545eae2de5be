"""Which structure is how near to the exact Fisher, and what is exact in each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from proofs_check import Finding, Run, claim, combine, identity, inequality, oracles
from proofs_check.data import Instance, digits, on_host, small_instances, synthetic
from proofs_check.tolerance import roundoff

BLOCK_APPROXIMATIONS = ("kfac", "ekfac", "kronecker_optimal", "unitwise", "diagonal")


def _flat(blocks: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([block.ravel() for block in blocks])


def _layer_shapes(instance: Instance) -> list[tuple[int, int]]:
    """(d_out, d_in[+1]) of every layer."""
    return [layer.shape for layer in instance.problem.unpack(instance.host[0])]


def _errors(instance: Instance, matrix: np.ndarray) -> np.ndarray:
    """``|F_l - C_l|_F`` of every layer, in units of ``|F_l|_F``."""
    exact = instance.layer_blocks(instance.dense_fisher())
    pairs = zip(exact, instance.layer_blocks(matrix), strict=True)
    return np.array([np.linalg.norm(f - c) / np.linalg.norm(f) for f, c in pairs])


# --- what is exact --------------------------------------------------------------------------------------


@claim(
    "unitwise-and-diagonal-hold-the-exact-entries",
    statement="The unit-wise Fisher has the exact Fisher's block of every unit's incoming parameters, the "
    "diagonal Fisher its diagonal, and both have zeros elsewhere.",
    source="classical result (Ollivier 2015; Becker and LeCun 1989)",
    kind="identity",
    params={"num_examples": 48, "sizes": [64, 8, 10]},
)
def exact_entries(run: Run, num_examples: int, sizes: list[int]) -> Finding:
    """Fails if a block is approximated, misplaced (a unit's outgoing parameters) or scaled.

    Reference: B^T B with the other entries set to zero. Control: the entries divided by N once more.
    """

    def check(instance: Instance) -> Finding:
        rows = on_host(instance.problem.score_rows(instance.theta, instance.x))
        units = np.repeat(
            np.arange(sum(shape[0] for shape in _layer_shapes(instance))),
            [shape[1] for shape in _layer_shapes(instance) for _ in range(shape[0])],
        )
        places = {"unitwise": units, "diagonal": np.arange(rows.shape[1])}
        kept = [place[:, None] == place[None, :] for place in places.values()]
        reference = [np.where(keep, rows.T @ rows, 0.0) for keep in kept]
        computed = [instance.dense_fisher(structure) for structure in places]

        def finding(factor: float) -> Finding:
            return identity(
                factor * _flat(computed),
                _flat(reference),
                **roundoff(run, terms=len(rows)),
                detail=f"{instance.name}, N = {instance.num_examples}, both matrices",
            )

        return finding(1.0).with_control(finding(1.0 / instance.num_examples))

    images = digits(run, sizes, num_examples=num_examples, key=(81,))
    return combine(check(one) for one in (images, *small_instances(run, num_examples=6, key=81)))


@claim(
    "ekfac-and-optimal-kronecker-are-exact-where-kfac-is",
    statement="For one example, and for deep linear networks with a Gaussian likelihood, EKFAC and the "
    "optimal Kronecker product are the exact Fisher block of every layer; for any network with a Gaussian "
    "likelihood, of its last layer.",
    source="classical result (George and others 2018; Van Loan and Pitsianis 1993; both are no farther "
    "than K-FAC, which is exact there)",
    kind="identity",
    params={
        "sizes": [64, 8, 10],
        "num_examples": 20,
        "shapes": [[4, 3, 2], [3, 5, 4, 2]],
        "activations": ["tanh", "relu", "gelu"],
    },
)
def exact_where_kfac_is(
    run: Run, sizes: list[int], num_examples: int, shapes: list[list[int]], activations: list[str]
) -> Finding:
    """Fails if the refit or the rank-one fit changes what needs no change.

    Control: every layer's block with rows and columns in column-major order, as of A kron G.
    """

    def check(instance: Instance, layers: slice, structure: str) -> Finding:
        exact = instance.layer_blocks(instance.dense_fisher())[layers]
        blocks = instance.layer_blocks(instance.dense_fisher(structure))[layers]
        turned = []
        for block, shape in zip(blocks, _layer_shapes(instance)[layers], strict=True):
            order = np.arange(len(block)).reshape(shape).T.ravel()
            turned.append(block[np.ix_(order, order)])

        def finding(computed: list[np.ndarray]) -> Finding:
            return identity(
                _flat(computed),
                _flat(exact),
                **roundoff(run, terms=len(exact[0])),
                detail=f"{instance.name}, N = {instance.num_examples}, {structure}, {len(exact)} blocks",
            )

        return finding(blocks).with_control(finding(turned))

    single = (
        digits(run, sizes, num_examples=1, key=(82,)),
        *small_instances(run, num_examples=1, key=82),
    )
    linear = [
        synthetic(
            run, "gaussian", shape, num_examples=num_examples, key=(82, 9, i), activation="identity"
        )
        for i, shape in enumerate(shapes)
    ]  # fmt: skip
    last = [
        digits(run, sizes, num_examples=num_examples, key=(82, 20), likelihood="gaussian"),
        *(
            synthetic(
                run, "gaussian", (3, 5, 4, 2), num_examples=num_examples, key=(82, 21, i), activation=name
            )
            for i, name in enumerate(activations)
        ),
    ]
    cases = [(one, slice(None)) for one in (*single, *linear)] + [(one, slice(-1, None)) for one in last]
    names = ("ekfac", "kronecker_optimal")
    return combine(check(one, layers, name) for one, layers in cases for name in names)


# --- orderings ------------------------------------------------------------------------------------------


def _ordering_instances(run: Run, num_examples: int, sizes: list[int], key: int) -> tuple[Instance, ...]:
    images = [
        digits(run, sizes, num_examples=num_examples, key=(key, i), likelihood=likelihood)
        for i, likelihood in enumerate(("categorical", "gaussian"))
    ]
    return (*images, *small_instances(run, num_examples=6, key=key))


@claim(
    "refits-come-no-farther-from-the-block-than-kfac",
    statement="In every layer |F_l - EKFAC_l|_F <= |F_l - K-FAC_l|_F and |F_l - (optimal G kron A)|_F <= "
    "|F_l - K-FAC_l|_F.",
    source="classical result (George and others 2018; Van Loan and Pitsianis 1993)",
    kind="inequality",
    params={"num_examples": 96, "sizes": [64, 12, 10], "planted": 2.0},
)
def refits(run: Run, num_examples: int, sizes: list[int], planted: float) -> Finding:
    """Fails if EKFAC's diagonal is not the best in its basis, or the Kronecker fit stops beyond K-FAC.

    Errors in units of |F_l|. Control: both refits doubled, which puts them as far from
    F_l as zero is.
    """

    def check(instance: Instance, structure: str) -> Finding:
        kfac = _errors(instance, instance.dense_fisher("kfac"))
        refitted = instance.dense_fisher(structure)
        limit = roundoff(run, terms=instance.num_examples)

        def finding(factor: float) -> Finding:
            errors = _errors(instance, factor * refitted)
            listed = "; ".join(f"{e:.4f} <= {k:.4f}" for e, k in zip(errors, kfac, strict=True))
            return inequality(
                errors,
                kfac,
                slack=limit["tolerance"],
                reason=f"{limit['reason']}, in units of |F_l|",
                scale=1.0,
                detail=f"{instance.name}, N = {instance.num_examples}, {structure}; by layer {listed}",
            )

        return finding(1.0).with_control(finding(planted))

    instances = _ordering_instances(run, num_examples, sizes, 83)
    return combine(check(one, name) for one in instances for name in ("ekfac", "kronecker_optimal"))


@claim(
    "no-kronecker-product-is-nearer-than-the-optimal-one",
    statement="In every layer the optimal Kronecker product is the leading singular pair of the rearranged "
    "block F_l, so that |F_l - (optimal G kron A)|_F <= |F_l - X kron Y|_F for every X and Y.",
    source="classical result (Eckart and Young 1936; Van Loan and Pitsianis 1993)",
    kind="identity",
    params={"num_examples": 96, "sizes": [64, 12, 10]},
)
def optimal_kronecker(run: Run, num_examples: int, sizes: list[int]) -> Finding:
    """Fails if the fit stops before the nearest product, or goes to another singular pair.

    Reference: the SVD of the rearranged dense block, in float64. The error near the nearest product is flat,
    so the product itself is compared. Control: alternating least squares from K-FAC, stopped after one round.
    """

    def check(instance: Instance) -> Finding:
        exact = instance.layer_blocks(instance.dense_fisher())
        outputs = [shape[0] for shape in _layer_shapes(instance)]
        nearest = [oracles.nearest_kronecker(*pair) for pair in zip(exact, outputs, strict=True)]
        condition = max(float(s[0] / (s[0] - s[1])) for _, s in nearest)
        left = [float(np.linalg.norm(s[1:]) / np.linalg.norm(s)) for _, s in nearest]

        def finding(blocks: list[np.ndarray]) -> Finding:
            return identity(
                _flat(blocks),
                _flat([block for block, _ in nearest]),
                **roundoff(run, condition=condition, terms=num_examples),
                detail=f"{instance.name}, N = {num_examples}; least errors by layer "
                + ", ".join(f"{error:.4f}" for error in left),
            )

        kfac = instance.layer_blocks(instance.dense_fisher("kfac"))
        stopped = [_one_round(*three) for three in zip(exact, kfac, outputs, strict=True)]
        blocks = instance.layer_blocks(instance.dense_fisher("kronecker_optimal"))
        return finding(blocks).with_control(finding(stopped))

    return combine(check(one) for one in _ordering_instances(run, num_examples, sizes, 89)[:2])


def _one_round(block: np.ndarray, kfac: np.ndarray, outputs: int) -> np.ndarray:
    """K-FAC's block with each factor fitted once, the other one held."""
    inputs = len(block) // outputs
    four, held = (matrix.reshape(outputs, inputs, outputs, inputs) for matrix in (block, kfac))
    G = np.einsum("iaja->ij", held)
    A = np.einsum("iajb,ij->ab", four, G) / np.sum(G * G)
    G = np.einsum("iajb,ab->ij", four, A) / np.sum(A * A)
    return np.kron(G, A)


@claim(
    "exact-blocks-are-the-nearest-block-diagonal",
    statement="Of all matrices without entries between layers the exact blocks are the nearest to F "
    "(Frobenius): K-FAC, EKFAC, the optimal Kronecker product, the unit-wise and the diagonal Fisher are no "
    "nearer; and the unit-wise Fisher is no farther than the diagonal.",
    source="classical result (a projection is the nearest point)",
    kind="inequality",
    params={"num_examples": 96, "sizes": [64, 12, 10], "planted": 2.0},
)
def nearest_blocks(run: Run, num_examples: int, sizes: list[int], planted: float) -> Finding:
    """Fails if the block-diagonal Fisher's blocks are not those of F, or a structure reaches between layers.

    Errors in units of |F|. Control: the exact blocks doubled, as far from F as zero is.
    """

    def check(instance: Instance) -> Finding:
        fisher = instance.dense_fisher()
        size = np.linalg.norm(fisher)
        nearest = instance.dense_fisher("block_diagonal")
        others = {name: instance.dense_fisher(name) for name in BLOCK_APPROXIMATIONS}
        errors = {name: float(np.linalg.norm(fisher - one) / size) for name, one in others.items()}
        listed = ", ".join(f"{name} {error:.3f}" for name, error in errors.items())
        limit = roundoff(run, terms=instance.num_examples)

        def finding(factor: float) -> Finding:
            least = float(np.linalg.norm(fisher - factor * nearest) / size)
            return inequality(
                np.array([least] * len(errors) + [errors["unitwise"]]),
                np.array([*errors.values(), errors["diagonal"]]),
                slack=limit["tolerance"],
                reason=f"{limit['reason']}, in units of |F|",
                scale=1.0,
                detail=f"{instance.name}, N = {instance.num_examples}; blocks {least:.3f}, {listed}",
            )

        return finding(1.0).with_control(finding(planted))

    return combine(check(one) for one in _ordering_instances(run, num_examples, sizes, 84))


@claim(
    "refits-are-projections",
    statement="<F_l, C_l> = |C_l|^2 (Frobenius) in every layer for the exact block, the unit-wise and the "
    "diagonal Fisher, EKFAC and the optimal Kronecker product: no multiple of them is nearer to F_l.",
    source="classical result (the nearest point of a cone or a subspace)",
    kind="identity",
    params={"num_examples": 96, "sizes": [64, 12, 10]},
)
def projections(run: Run, num_examples: int, sizes: list[int]) -> Finding:
    """Fails if a refit is left out, or its scale is not that of the nearest point on its ray.

    (That the ray of the optimal Kronecker product is the right one, the claim on its singular pair shows.)
    Control: K-FAC, which is near to F_l without being fitted to it.
    """

    def check(instance: Instance, structure: str) -> Finding:
        exact = instance.layer_blocks(instance.dense_fisher())

        def finding(name: str) -> Finding:
            blocks = instance.layer_blocks(instance.dense_fisher(name))
            return identity(
                np.array([np.sum(f * c) for f, c in zip(exact, blocks, strict=True)]),
                np.array([np.sum(c * c) for c in blocks]),
                **roundoff(run, terms=num_examples),
                detail=f"{instance.name}, N = {num_examples}, {name}, every layer",
            )

        return finding(structure).with_control(finding("kfac"))

    images = _ordering_instances(run, num_examples, sizes, 88)[:2]
    refitted = ("block_diagonal", *(name for name in BLOCK_APPROXIMATIONS if name != "kfac"))
    return combine(check(one, name) for one in images for name in refitted)
