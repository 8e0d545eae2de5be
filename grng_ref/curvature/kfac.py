"""K-FAC: every layer's block approximated by a Kronecker product of two small factors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from ..arrays import (
    Array,
    check_choice,
    check_finite,
    check_real,
    check_shape,
    epsilon,
    namespace,
)
from ..arrays.linalg import (
    add_to_diagonal,
    cholesky,
    cholesky_solve,
    diagonal,
    eigh,
    is_singular,
    kron,
    matmul,
    norm,
    quiet,
    transpose,
)
from ..solvers import SolveResult, failure, newton_schulz_inverse
from ..solvers.eigenbasis import logdet_of_spectrum, numerical_rank, truncated_inverse, where_zero
from ..solvers.result import Apply, Status, refine
from .base import Curvature, raise_on_failure
from .full import logdet_dense
from .parts import blend, block_matrix, join_results, layer_matrices
from .score import layer_rows

KRONECKER_SOLVERS = {
    "exact": ("eigh",),
    "factored": ("cholesky", "eigh", "newton_schulz"),
}


def kfac_factors(activations: Array, score_signals: Array) -> tuple[Array, Array]:
    """The K-FAC factors of one layer: ``A = (1/N) sum abar abar^T``, ``G = (1/N) sum_n D_n^T D_n``.

    The layer's Fisher block is approximated by ``G kron A`` (row-major order of Wbar: G first). Both factors
    are means over examples.

    Parameters
    ----------
    activations : array (N, d_in[+1])
        The layer's inputs abar.
    score_signals : array (N, K', d_out)
        ``D_n = S_n^T df_n/ds`` (expected), or gradients on drawn or observed labels with K' draws.

    Returns
    -------
    A : array (d_in[+1], d_in[+1])
    G : array (d_out, d_out)

    Raises
    ------
    TypeError, ValueError
        Not arrays of one library, dtype and device; shapes that do not fit; an empty batch.

    Notes
    -----
    Exact (equal to the block) for one example, for deep linear networks with a Gaussian likelihood, and
    for the last layer under any Gaussian likelihood. Source: Martens and Grosse 2015.
    """
    xp = namespace(activations=activations, score_signals=score_signals)
    check_shape("activations", activations, (None, None), "(examples, inputs [+ 1])")
    n = activations.shape[0]
    check_shape("score_signals", score_signals, (n, None, None), "(examples, factor columns K', outputs)")
    check_finite(activations=activations, score_signals=score_signals)
    flat = xp.reshape(score_signals, (-1, score_signals.shape[2]))
    return matmul(transpose(activations), activations) / n, matmul(transpose(flat), flat) / n


def damped_factors(A: Array, G: Array, damping: float) -> tuple[Array, Array]:
    """``A + pi sqrt(a) I`` and ``G + sqrt(a)/pi I``, ``pi^2 = (tr A/dim A)/(tr G/dim G)``.

    pi is 1 where a trace is zero (dead units), since nothing balances the factors then.
    """
    xp = namespace(A=A, G=G)
    mean_a = float(xp.sum(diagonal(A))) / A.shape[0]
    mean_g = float(xp.sum(diagonal(G))) / G.shape[0]
    pi = math.sqrt(mean_a / mean_g) if mean_a > 0.0 and mean_g > 0.0 else 1.0
    root = math.sqrt(damping)
    return add_to_diagonal(A, pi * root), add_to_diagonal(G, root / pi)


def kronecker_solve(
    A: Array,
    G: Array,
    v: Array,
    *,
    damping: float,
    damping_kind: str = "exact",
    method: str = "auto",
) -> Array:
    """Solve ``(G kron A + a I) vec(X) = vec(V)``, that is ``G X A + a X = V``, without the product.

    Parameters
    ----------
    A : array (d_in, d_in)
    G : array (d_out, d_out)
    v : array (d_out, d_in)
        V, in the shape of the layer matrix.
    damping : float
        a >= 0. At 0 the eigenbasis gives the minimum-norm solution.
    damping_kind : {"exact", "factored"}
        Factored: ``(G + sqrt(a)/pi I) X (A + pi sqrt(a) I) = V``.
    method : {"auto", "eigh", "cholesky", "newton_schulz"}
        Exact damping needs the eigenbasis; the others invert the damped factors.

    Returns
    -------
    X : array (d_out, d_in)

    Raises
    ------
    TypeError, ValueError
        Bad arguments, or a method that the damping kind does not have.
    NumericalError
        The solve failed; carries the SolveResult.
    """
    namespace(A=A, G=G, v=v)
    check_shape("v", v, (None, None), "(outputs, inputs [+ 1])")
    check_shape("A", A, (v.shape[1], v.shape[1]), "(inputs, inputs)")
    check_shape("G", G, (v.shape[0], v.shape[0]), "(outputs, outputs)")
    check_finite(A=A, G=G, v=v)
    a = check_real("damping", damping, minimum=0.0)
    check_choice("damping_kind", damping_kind, KRONECKER_SOLVERS)
    check_choice("method", method, ("auto", *KRONECKER_SOLVERS[damping_kind]))
    chosen = auto_method(a, damping_kind) if method == "auto" else method
    with quiet():
        result = solve_kronecker(A, G, v, a, damping_kind, chosen)
    raise_on_failure(result, a)
    return result.x


def auto_method(damping: float, damping_kind: str) -> str:
    """The eigenbasis for exact damping and at zero damping, else Cholesky."""
    return "eigh" if damping_kind == "exact" or damping == 0.0 else "cholesky"


def solve_kronecker(
    A: Array, G: Array, v: Array, damping: float, kind: str, method: str, terms: float = 0.0
) -> SolveResult:
    """The solve of one layer, v and x in its shape (d_out, d_in); ``terms``: see `scaled_residual`."""
    undamped = damping == 0.0
    if undamped and method != "eigh" and not (_is_definite(A) and _is_definite(G)):
        return failure(v, "not_positive_definite", method)
    if kind == "factored":
        A, G = damped_factors(A, G, damping)
        damping = 0.0
    inverse = _FACTOR_INVERSES[method](A, G, damping)
    if isinstance(inverse, str):
        return failure(v, inverse, method)
    return refine(
        lambda x: G @ x @ A + damping * x,
        inverse.apply,
        v,
        matrix_norm=norm(A) * norm(G) + damping,
        method=method,
        rank=inverse.rank,
        iterations=inverse.iterations,
        terms=terms,
        outside=inverse.outside(v) if undamped and inverse.outside is not None else None,
    )


def _is_definite(matrix: Array) -> bool:
    """Whether a matrix is positive definite to working precision, not by the luck of roundoff."""
    factor = cholesky(matrix)
    return factor is not None and not is_singular(factor, norm(matrix))


class _Inverse(NamedTuple):
    """An approximate inverse of ``G kron A + damping I``, as a function of layer matrices."""

    apply: Callable[[Array], Array]
    rank: int | None = None
    iterations: int | None = None
    outside: Callable[[Array], Array] | None = None  # the part outside the range


def _eigen_inverse(A: Array, G: Array, damping: float) -> _Inverse | Status:
    """``Q_G [(Q_G^T V Q_A) / (g_i a_j + damping)] Q_A^T``; the pseudo-inverse at zero damping."""
    xp = namespace(A=A)
    a_values, a_vectors = eigh(A)
    g_values, g_vectors = eigh(G)
    products = g_values[:, None] * a_values[None, :]
    roundoff = max(A.shape[0], G.shape[0]) * epsilon(A) * float(xp.max(xp.abs(products)))
    if damping > 0.0 and float(xp.min(products)) + damping <= -roundoff:
        return "not_positive_definite"
    if damping > roundoff:
        scale = 1.0 / (products + damping)
    else:
        # The damping cannot be told from zero, nor can the eigenvalues that it should lift. Each factor
        # has its own roundoff: the product of two small eigenvalues still has its digits.
        inverse = truncated_inverse(g_values, 0.0)[:, None] * truncated_inverse(a_values, 0.0)[None, :]
        scale = inverse / (1.0 + damping * inverse)

    def filtered(v: Array, scale: Array) -> Array:
        return g_vectors @ (scale * (transpose(g_vectors) @ v @ a_vectors)) @ transpose(a_vectors)

    return _Inverse(
        lambda v: filtered(v, scale),
        rank=numerical_rank(a_values) * numerical_rank(g_values),
        outside=lambda v: filtered(v, where_zero(scale)),
    )


def _cholesky_inverse(A: Array, G: Array, damping: float) -> _Inverse | Status:
    a_factor, g_factor = cholesky(A), cholesky(G)
    if a_factor is None or g_factor is None:
        return "not_positive_definite"

    def approximate(v: Array) -> Array:
        return transpose(cholesky_solve(a_factor, transpose(cholesky_solve(g_factor, v))))

    return _Inverse(approximate)


def _newton_schulz_inverse(A: Array, G: Array, damping: float) -> _Inverse | Status:
    """Each factor is refined on its own: in the residual of the product the error of one would drown."""
    a_found, g_found = newton_schulz_inverse(A), newton_schulz_inverse(G)
    # What the three steps of `refine`, each a contraction by the residual, bring below sqrt(eps).
    if not max(a_found.residual, g_found.residual) <= epsilon(A) ** 0.125:
        return "stagnated"

    def divide(matrix: Array, inverse: Array, v: Array) -> Array:
        size = norm(matrix)
        return refine(lambda x: matrix @ x, lambda r: inverse @ r, v, matrix_norm=size, method="").x

    def approximate(v: Array) -> Array:
        half = divide(G, g_found.inverse, v)
        return transpose(divide(A, a_found.inverse, transpose(half)))

    return _Inverse(approximate, iterations=max(a_found.iterations, g_found.iterations))


_FACTOR_INVERSES = {
    "eigh": _eigen_inverse,
    "cholesky": _cholesky_inverse,
    "newton_schulz": _newton_schulz_inverse,
}


@dataclass(frozen=True, eq=False)
class KroneckerFactored(Curvature):
    """``diag(G_0 kron A_0, G_1 kron A_1, ...)``: one pair of factors a layer.

    Attributes
    ----------
    factors : tuple of (A, G)
        A (d_in[+1], d_in[+1]) and G (d_out, d_out) of every trainable layer.
    """

    factors: tuple[tuple[Array, Array], ...]

    solvers: ClassVar[dict[str, tuple[str, ...]]] = {
        "exact": (*KRONECKER_SOLVERS["exact"], "cg"),
        "factored": KRONECKER_SOLVERS["factored"],
    }

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Shape (d_out, d_in[+1]) of every layer matrix."""
        return tuple((int(G.shape[0]), int(A.shape[0])) for A, G in self.factors)

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        size = sum(rows * columns for rows, columns in self.shapes)
        return size, size

    @property
    def _template(self) -> Array:
        return self.factors[0][0]

    def _product(self, columns: Array) -> Array:
        xp = namespace(columns=columns)
        parts = []
        for (A, G), layer in zip(self.factors, layer_matrices(columns, self.shapes), strict=True):
            product = G @ layer @ A
            parts.append(xp.reshape(product, (product.shape[0], -1)).T)
        return xp.concat(parts)

    def to_dense(self) -> Array:
        """The matrix (P, P) with the Kronecker products on its diagonal; for small problems and tests."""
        return block_matrix([kron(G, A) for A, G in self.factors])

    def diagonal(self) -> Array:
        """The diagonal (P,)."""
        xp = namespace(A=self._template)
        return xp.concat([kron(diagonal(G), diagonal(A)) for A, G in self.factors])

    def _logdet(self, damping: float, damping_kind: str) -> float:
        if damping_kind == "factored" and damping > 0.0:  # undamped, the kinds are the same
            total = 0.0
            for A, G in self.factors:
                damped_a, damped_g = damped_factors(A, G, damping)
                total += G.shape[0] * logdet_dense(damped_a, 0.0) + A.shape[0] * logdet_dense(damped_g, 0.0)
            return total
        return sum(_logdet_exact(A, G, damping) for A, G in self.factors)

    def _auto(self, damping: float, damping_kind: str) -> str:
        return auto_method(damping, damping_kind)

    def _inverse(self, damping: float) -> Apply:
        found = [_eigen_inverse(A, G, damping) for A, G in self.factors]
        inverses = [inverse for inverse in found if isinstance(inverse, _Inverse)]
        if len(inverses) < len(found):
            return super()._inverse(damping)

        def apply(r: Array) -> Array:
            xp = namespace(r=r)
            layers = zip(inverses, layer_matrices(r[:, None], self.shapes), strict=True)
            return xp.concat([xp.reshape(inverse.apply(layer[0, :, :]), (-1,)) for inverse, layer in layers])

        return apply

    def _solve(
        self, v: Array, damping: float, damping_kind: str, method: str, coefficients: Array | None
    ) -> SolveResult:
        layers = [layer[0, :, :] for layer in layer_matrices(v[:, None], self.shapes)]
        pairs, terms = zip(self.factors, layers, strict=True), self._terms(coefficients)
        return join_results(
            [solve_kronecker(A, G, layer, damping, damping_kind, method, terms) for (A, G), layer in pairs]
        )


def _logdet_exact(A: Array, G: Array, damping: float) -> float:
    """By the rule of `_eigen_inverse`: zero is what a factor cannot tell from zero."""
    xp = namespace(A=A)
    a_values, g_values = eigh(A)[0], eigh(G)[0]
    kept = truncated_inverse(g_values, 0.0)[:, None] * truncated_inverse(a_values, 0.0)[None, :]
    products = g_values[:, None] * a_values[None, :]
    roundoff = max(products.shape) * epsilon(A) * float(xp.max(xp.abs(products)))
    return logdet_of_spectrum(products, damping, zeros=kept == 0.0, roundoff=roundoff)


Factors = tuple[tuple[Array, Array], ...]


def average_factors(old: Factors, new: Factors, weight: float) -> Factors:
    """``(1 - weight) old + weight new`` of every A and of every G, separately."""
    pairs = zip(old, new, strict=True)
    return tuple((blend(A, B, weight), blend(G, H, weight)) for (A, G), (B, H) in pairs)


@dataclass(frozen=True)
class KFACStructure:
    """The factory of K-FAC curvatures."""

    solvers: ClassVar[dict[str, tuple[str, ...]]] = KroneckerFactored.solvers

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> KroneckerFactored:
        """The factors from layer inputs (N, d_in[+1]) and score signals (N, K', d_out)."""
        rows = layer_rows(activations, score_signals)
        pairs = zip(rows.activations, rows.signals, strict=True)
        return KroneckerFactored(tuple(kfac_factors(a, d) for a, d in pairs))

    def average(self, old: KroneckerFactored, new: KroneckerFactored, weight: float) -> KroneckerFactored:
        """``(1 - weight) old + weight new`` of every A and G; not the average of their products."""
        return KroneckerFactored(average_factors(old.factors, new.factors, weight))
