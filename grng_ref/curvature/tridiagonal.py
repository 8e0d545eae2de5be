"""Block-tridiagonal K-FAC: neighbouring layers correlated, the inverse block-tridiagonal.

Martens and Grosse (2015, section 4.3) take the layers' gradients for a Markov chain from the last layer to
the first: ``g_l = Psi_l g_{l+1} + e_l`` with independent ``e_l`` of covariance ``Sigma_l``. From the
Kronecker blocks ``F_ij = G_ij kron A_ij`` of neighbouring layers,

    Psi_l   = F_{l,l+1} F_{l+1,l+1}^{-1} = (G_{l,l+1} G_{l+1}^{-1}) kron (A_{l,l+1} A_{l+1}^{-1}),
    Sigma_l = F_ll - Psi_l F_{l+1,l+1} Psi_l^T = G_l kron A_l - G'_l kron A'_l,

where ``A'_l = A_{l,l+1} A_{l+1}^{-1} A_{l,l+1}^T`` is the part of A_l that the next layer explains. With Xi
the unit upper bidiagonal matrix of blocks -Psi_l, the approximation is ``Xi^{-1} Sigma Xi^{-T}`` and its
inverse ``Xi^T Sigma^{-1} Xi``. Nothing larger than a factor is ever formed.

Solves use that inverse. Products use the blocks, ``F_ij = F_{i,i+1} F_{i+1,i+1}^{-1} F_{i+1,j}`` for
j > i + 1: they divide by the factors of inner layers only and subtract nothing, and a residual that is
measured with them shares no error with the solve.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from ..arrays import Array, NumericalError, namespace
from ..arrays.linalg import (
    cholesky,
    diagonal,
    eigh,
    identity,
    is_singular,
    kron,
    norm,
    solve_triangular,
    transpose,
)
from ..solvers import ACCEPTED_RESIDUAL, SolveResult, failure, refine, scaled_residual, truncated_inverse
from ..solvers.result import Apply, Status
from .base import Curvature
from .kfac import average_factors, damped_factors, kfac_factors
from .parts import layer_matrices
from .score import layer_rows

Pair = tuple[Array, Array]
"""The two factors of a Kronecker product ``G kron A``, in the order (A, G)."""


@dataclass(frozen=True, eq=False)
class TridiagonalKFAC(Curvature):
    """The block-tridiagonal K-FAC approximation, by factors of single layers and of neighbours.

    Damping is factored and is put on the diagonal blocks *before* the recursion, so the damped operator is
    ``damped(a)``, not ``C + a I``, and exact damping is not defined. ``@``, the dense matrix, diagonal and
    trace are those of the undamped operator, with pseudo-inverses where a factor is singular; a solve needs
    definite factors, so softmax outputs need a damping.

    With three layers or more a product has an error of its own, from the inner layers' factors that it
    divides by. The residual that a solve states includes an estimate of it.

    Attributes
    ----------
    factors : tuple of (A, G)
        K-FAC's factors of every layer.
    neighbours : tuple of (A, G)
        ``A_{l,l+1} = (1/N) sum abar_l abar_{l+1}^T`` and ``G_{l,l+1} = (1/N) sum D_l^T D_{l+1}``.
    """

    factors: tuple[Pair, ...]
    neighbours: tuple[Pair, ...]

    solvers: ClassVar[dict[str, tuple[str, ...]]] = {"factored": ("cholesky",)}

    @property
    def shape(self) -> tuple[int, int]:
        """(P, P)."""
        size = sum(int(A.shape[0] * G.shape[0]) for A, G in self.factors)
        return size, size

    @property
    def _template(self) -> Array:
        return self.factors[0][0]

    def damped(self, damping: float) -> TridiagonalKFAC:
        """The operator with factored damping on its diagonal blocks, the neighbours' blocks as they are."""
        factors = tuple(damped_factors(A, G, damping) for A, G in self.factors)
        return TridiagonalKFAC(factors, self.neighbours)

    def _product(self, columns: Array) -> Array:
        divisions = [_pseudo_division(A, G) for A, G in self.factors[1:-1]]
        return _product(self.factors, self.neighbours, divisions, columns)

    def to_dense(self) -> Array:
        """The matrix (P, P); for small problems and tests."""
        return self._product(identity(self.shape[0], self._template))

    def diagonal(self) -> Array:
        """The diagonal (P,), that of K-FAC: the diagonal blocks are the same."""
        xp = namespace(A=self._template)
        return xp.concat([kron(diagonal(G), diagonal(A)) for A, G in self.factors])

    def _logdet(self, damping: float, damping_kind: str) -> float:
        return sum(one.logdet() for one in _FactoredChain.of(self.damped(damping)).conditionals)

    def _auto(self, damping: float, damping_kind: str) -> str:
        return "cholesky"

    def _solve(
        self, v: Array, damping: float, damping_kind: str, method: str, coefficients: Array | None
    ) -> SolveResult:
        damped = self.damped(damping)
        try:
            chain = _FactoredChain.of(damped)
        except NumericalError:
            return failure(v, "not_positive_definite", method)
        matrix_norm, terms = _frobenius_norm(damped), self._terms(coefficients)
        result = refine(chain.product, chain.solve, v, matrix_norm=matrix_norm, method=method, terms=terms)
        if not result.success:
            return result
        doubt = scaled_residual(chain.doubt(result.x), result.x, matrix_norm, terms)
        residual = result.residual + doubt
        status: Status = "converged" if residual <= ACCEPTED_RESIDUAL else "inaccurate"
        return replace(result, residual=residual, status=status)

    def _inverse(self, damping: float) -> Apply:
        try:
            return _FactoredChain.of(self.damped(damping)).solve
        except NumericalError:
            return super()._inverse(damping)


Between = Callable[[Array, Array, Array], Array]
"""``(L, V, R) -> L V R``."""


def _left_first(left: Array, v: Array, right: Array) -> Array:
    return left @ v @ right


def _right_first(left: Array, v: Array, right: Array) -> Array:
    return left @ (v @ right)


@dataclass(frozen=True, eq=False)
class _FactoredChain:
    """An operator with definite factors, whose Cholesky factors and shares are taken once."""

    curvature: TridiagonalKFAC
    roots: list[Pair]
    links: Links
    conditionals: list[ConditionalLayer]

    @classmethod
    def of(cls, curvature: TridiagonalKFAC) -> _FactoredChain:
        """A NumericalError where a factor or a Sigma_l is singular."""
        roots = [(_root(A), _root(G)) for A, G in curvature.factors]
        links = [
            (Link.between(a_cross, a_root), Link.between(g_cross, g_root))
            for (a_cross, g_cross), (a_root, g_root) in zip(curvature.neighbours, roots[1:], strict=True)
        ]
        return cls(curvature, roots, links, _conditionals(roots, links))

    def solve(self, v: Array) -> Array:
        """``Xi^T Sigma^{-1} Xi v`` (P,)."""
        layers = layer_matrices(v[:, None], _shapes(self.roots))
        for index, (a, g) in enumerate(self.links):
            layers[index] = layers[index] - g.transition @ layers[index + 1] @ transpose(a.transition)
        layers = [one.solve(layer) for one, layer in zip(self.conditionals, layers, strict=True)]
        for index in range(len(self.links) - 1, -1, -1):
            a, g = self.links[index]
            layers[index + 1] = layers[index + 1] - transpose(g.transition) @ layers[index] @ a.transition
        return _columns(layers)[:, 0]

    def product(self, v: Array) -> Array:
        """The operator times v (P,), the divisions refined by one step."""
        inner = zip(self.curvature.factors[1:-1], self.roots[1:-1], strict=True)
        return self._product(v, [_refined(factors, _division(*roots)) for factors, roots in inner])

    def doubt(self, v: Array) -> Array:
        """Two values of `product` compared (P,), from other roundoff: as large as the error of both."""
        if len(self.roots) < 3:
            return 0.0 * v
        divisions = [_division(*roots) for roots in self.roots[1:-1]]
        return self.product(v) - self._product(v, divisions, _right_first)

    def _product(self, v: Array, divisions: Sequence[Division], between: Between = _left_first) -> Array:
        C = self.curvature
        return _product(C.factors, C.neighbours, divisions, v[:, None], between)[:, 0]


@dataclass(frozen=True, eq=False)
class Link:
    """How layer l+1 explains layer l, for one of the two factors.

    With ``M = L L^T`` the next layer's factor and X the neighbours' factor: ``half = L^{-1} X^T``,
    ``transition = X M^{-1} = half^T L^{-1}``, and the explained part is ``half^T half``.
    """

    half: Array
    transition: Array

    @classmethod
    def between(cls, cross: Array, root: Array) -> Link:
        """The link of two neighbouring layers, by the following one's L."""
        half = solve_triangular(root, transpose(cross), lower=True)
        return cls(half, transpose(solve_triangular(root, half, lower=True, transposed=True)))


Links = list[tuple[Link, Link]]
"""For every layer but the last, its links for A and for G."""


Division = Callable[[Array], Array]
"""``V -> G^{-1} V A^{-1}`` for V (R, d_out, d_in)."""


def _product(
    factors: Sequence[Pair],
    neighbours: Sequence[Pair],
    divisions: Sequence[Division],
    columns: Array,
    between: Between = _left_first,
) -> Array:
    """The operator times V (P, R), with a division by ``F_ii`` for every inner layer.

    Layer i gets ``U_i = F_{i,i+1} (V_{i+1} + F_{i+1,i+1}^{-1} U_{i+1})`` from all later layers together, and
    the like from all earlier ones.
    """
    layers, last = layer_matrices(columns, _shapes(factors)), len(factors) - 1
    made = [between(G, layer, A) for (A, G), layer in zip(factors, layers, strict=True)]
    carried = layers[last]
    for index in range(last - 1, -1, -1):
        A, G = neighbours[index]
        part = between(G, carried, transpose(A))
        made[index] = made[index] + part
        if index > 0:
            carried = layers[index] + divisions[index - 1](part)
    carried = layers[0]
    for index in range(1, last + 1):
        A, G = neighbours[index - 1]
        part = between(transpose(G), carried, A)
        made[index] = made[index] + part
        if index < last:
            carried = layers[index] + divisions[index - 1](part)
    return _columns(made)


def _pseudo_division(A: Array, G: Array) -> Division:
    """By the pseudo-inverses of factors that may be singular."""
    a_inverse, g_inverse = _pseudo_inverse(A), _pseudo_inverse(G)
    return lambda v: g_inverse @ v @ a_inverse


def _pseudo_inverse(factor: Array) -> Array:
    values, vectors = eigh(factor)
    return (vectors * truncated_inverse(values, 0.0)) @ transpose(vectors)


def _division(a_root: Array, g_root: Array) -> Division:
    def divide(v: Array) -> Array:
        v = _divide(g_root, _divide(g_root, v, transposed=False), transposed=True)
        v = _divide(a_root, _divide(a_root, transpose(v), transposed=False), transposed=True)
        return transpose(v)

    return divide


def _refined(factors: Pair, division: Division) -> Division:
    A, G = factors

    def divide(v: Array) -> Array:
        x = division(v)
        return x + division(v - G @ x @ A)

    return divide


@dataclass(frozen=True, eq=False)
class ConditionalLayer:
    """``Sigma_l = (K_G kron K_A) diag(1 - s_G s_A^T) (K_G kron K_A)^T``, ready for solves.

    ``A = L L^T`` and ``L^{-1} A' L^{-T} = E diag(s) E^T`` give ``K_A = L E``; the same for G. Every s lies in
    [0, 1], below 1 with damping.
    """

    a_root: Array  # L of A
    a_basis: Array  # E of A
    g_root: Array
    g_basis: Array
    remaining: Array  # 1 - s_G s_A^T (d_out, d_in[+1])

    def solve(self, v: Array) -> Array:
        """``Sigma_l^{-1} V`` for V (R, d_out, d_in)."""
        v = _divide(self.g_root, v, transposed=False)
        v = transpose(_divide(self.a_root, transpose(v), transposed=False))
        v = transpose(self.g_basis) @ v @ self.a_basis / self.remaining
        v = _divide(self.g_root, self.g_basis @ v @ transpose(self.a_basis), transposed=True)
        return transpose(_divide(self.a_root, transpose(v), transposed=True))

    def logdet(self) -> float:
        """``log det Sigma_l``."""
        xp = namespace(r=self.remaining)
        outputs, inputs = self.remaining.shape
        a_logs, g_logs = xp.sum(xp.log(diagonal(self.a_root))), xp.sum(xp.log(diagonal(self.g_root)))
        return float(2.0 * (inputs * g_logs + outputs * a_logs) + xp.sum(xp.log(self.remaining)))


def _root(factor: Array) -> Array:
    root = cholesky(factor)
    if root is None or is_singular(root, norm(factor)):
        raise NumericalError("a factor is singular: it needs damping")
    return root


def _conditionals(roots: Sequence[Pair], links: Links) -> list[ConditionalLayer]:
    """``Sigma_l`` of every layer; a NumericalError where one is singular."""
    layers: list[tuple[Link | None, Link | None]] = [*links, (None, None)]
    made = []
    for (a_root, g_root), (a_link, g_link) in zip(roots, layers, strict=True):
        a_basis, a_shares = _shares(a_root, a_link)
        g_basis, g_shares = _shares(g_root, g_link)
        remaining = 1.0 - g_shares[:, None] * a_shares[None, :]
        if not float(namespace(r=remaining).min(remaining)) > 0.0:
            raise NumericalError("a layer is determined by the next one: it needs damping")
        made.append(ConditionalLayer(a_root, a_basis, g_root, g_basis, remaining))
    return made


def _shares(root: Array, link: Link | None) -> tuple[Array, Array]:
    """E and s of one factor; the last layer, which nothing explains, has s = 0."""
    if link is None:
        return identity(root.shape[0], root), 0.0 * diagonal(root)
    share = transpose(solve_triangular(root, transpose(link.half), lower=True))
    values, basis = eigh(transpose(share) @ share)
    xp = namespace(values=values)
    return basis, xp.where(values > 0.0, values, 0.0 * values)  # roundoff of a rank-deficient square


def _divide(root: Array, v: Array, *, transposed: bool) -> Array:
    """``L^{-1} V`` (or ``L^{-T} V``) for every matrix V (R, n, m): one triangular solve with R m columns."""
    xp = namespace(v=v)
    count, size, width = v.shape
    columns = xp.reshape(xp.permute_dims(v, (1, 0, 2)), (size, count * width))
    solved = solve_triangular(root, columns, lower=True, transposed=transposed)
    return xp.permute_dims(xp.reshape(solved, (size, count, width)), (1, 0, 2))


def _frobenius_norm(curvature: TridiagonalKFAC) -> float:
    """Frobenius norm of the tridiagonal blocks: no more than that of the matrix."""
    own = [norm(A) * norm(G) for A, G in curvature.factors]
    between = [norm(A) * norm(G) for A, G in curvature.neighbours]
    return math.hypot(*own, *between, *between)  # a float's ** raises OverflowError


def _shapes(factors: Sequence[Pair]) -> list[tuple[int, int]]:
    return [(int(G.shape[0]), int(A.shape[0])) for A, G in factors]


def _columns(layers: Sequence[Array]) -> Array:
    """Layers (R, d_out, d_in) as columns (P, R)."""
    xp = namespace(layer=layers[0])
    return xp.concat([xp.reshape(layer, (layer.shape[0], -1)).T for layer in layers])


@dataclass(frozen=True)
class TridiagonalKFACStructure:
    """The factory of block-tridiagonal K-FAC curvatures."""

    solvers: ClassVar[dict[str, tuple[str, ...]]] = TridiagonalKFAC.solvers

    def build(self, activations: tuple[Array, ...], score_signals: tuple[Array, ...]) -> TridiagonalKFAC:
        """The factors from layer inputs (N, d_in[+1]) and score signals (N, K', d_out)."""
        rows = layer_rows(activations, score_signals)
        xp = namespace(a=rows.activations[0])
        flat = [xp.reshape(d, (-1, d.shape[2])) for d in rows.signals]
        pairs = list(zip(rows.activations, flat, strict=True))
        neighbours = tuple(
            (transpose(a) @ a_next / rows.num_examples, transpose(d) @ d_next / rows.num_examples)
            for (a, d), (a_next, d_next) in pairwise(pairs)
        )
        factors = zip(rows.activations, rows.signals, strict=True)
        return TridiagonalKFAC(tuple(kfac_factors(a, d) for a, d in factors), neighbours)

    def average(self, old: TridiagonalKFAC, new: TridiagonalKFAC, weight: float) -> TridiagonalKFAC:
        """``(1 - weight) old + weight new`` of every factor, those of neighbours too."""
        return TridiagonalKFAC(
            average_factors(old.factors, new.factors, weight),
            average_factors(old.neighbours, new.neighbours, weight),
        )
