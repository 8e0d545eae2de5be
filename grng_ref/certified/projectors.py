"""Spectral projectors of symmetric matrices in balls; EKFAC and nearest Kronecker pairs from them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ..arrays import NumericalError
from .library import load_flint

Pair = tuple[Any, Any]  # (A, G)


def projectors(name: str, matrix: Any) -> list[Any]:
    """``q q^T`` of every eigenvector of a symmetric ``arb_mat``, of the largest eigenvalue first.

    A projector has no sign and no scale. ``r r^T / r^T r`` of an eigenvector r of any complex scale is the
    same real matrix, so its real part holds it.

    Raises
    ------
    NumericalError
        Two eigenvalues are not separated: they are equal, or too near for the precision.
    """
    flint, size = load_flint(), matrix.nrows()
    try:
        values, vectors = flint.acb_mat(matrix).eig(right=True)
    except ValueError as error:
        raise NumericalError(
            f"{name} has eigenvalues that are equal, or not proved to differ: no eigenvector is unique"
        ) from error
    order = sorted(range(size), key=lambda i: float(values[i].real.mid()), reverse=True)
    if any(not values[i].real > values[j].real for i, j in pairwise(order)):
        raise NumericalError(f"{name} has eigenvalues whose order is not proved")
    found = []
    for place in order:
        r = flint.acb_mat(size, 1, [vectors[i, place] for i in range(size)])
        projector = r * r.transpose() / (r.transpose() * r)[0, 0]
        found.append(flint.arb_mat(size, size, [entry.real for entry in projector.entries()]))
    return found


def unit_vector(projector: Any) -> Any:
    """The vector q (n, 1) of ``q q^T``, with a positive entry where that is largest."""
    size = projector.nrows()
    place = max(range(size), key=lambda i: float(projector[i, i].mid()))
    root = projector[place, place].sqrt()
    return load_flint().arb_mat(size, 1, [projector[i, place] / root for i in range(size)])


def leading_vector(name: str, matrix: Any) -> Any:
    """The unit eigenvector (n, 1) of the largest eigenvalue of a positive semidefinite ``arb_mat``.

    For an approximation u with Rayleigh quotient r, the others are at most ``|M - r u u^T|_F``; Davis and
    Kahan's sine theorem bounds the angle by the residual over the gap.

    Raises
    ------
    NumericalError
        The gap is not proved.
    """
    flint, size = load_flint(), matrix.nrows()
    power = matrix
    for _ in range(12):  # the power 2^12, of midpoints alone: an approximation needs no radius
        power = flint.arb_mat(size, size, [entry.mid() for entry in (power / _trace(power)).entries()])
        power = power * power
    place = max(range(size), key=lambda i: float(power[i, i].mid()))
    u = flint.arb_mat(size, 1, [power[i, place].mid() for i in range(size)])
    u = u / _norm(u)
    value = (u.transpose() * (matrix * u))[0, 0]
    residual, gap = _bound(matrix * u - u * value), value - _bound(matrix - u * u.transpose() * value)
    if not gap > 0:
        raise NumericalError(f"{name} has no leading eigenvalue that is proved to be the only one")
    radius = (flint.arb(2).sqrt() * residual / gap).abs_upper()
    return flint.arb_mat(size, 1, [entry + flint.arb(0, radius) for entry in u.entries()])


def ekfac_block(factors: Pair, block: Any) -> Any:
    """``sum_ij <P_i kron Q_j, F> P_i kron Q_j`` of the projectors of G and A: EKFAC of an exact block F."""
    a, g = factors
    entries, zero, total = block.entries(), load_flint().arb(0), None
    for p in projectors("the factor G", g):
        for q in projectors("the factor A", a):
            both = kron(p, q)
            moment = sum((x * y for x, y in zip(both.entries(), entries, strict=True)), start=zero)
            total = both * moment if total is None else total + both * moment
    return total


def nearest_pair(kfac: Pair, inputs: list[Any], signals: list[Any]) -> Pair:
    """(A, G) with the least ``|F - G kron A|_F``, and ``|A| / |G|`` as that of K-FAC's pair.

    ``inputs`` and ``signals`` are ``a_n a_n^T`` and ``D_n^T D_n`` of every example, with ``N F`` the sum of
    their Kronecker products. In coordinates of symmetric matrices with their inner product, F has the matrix
    ``R = (1/N) sum_n s_n t_n^T``, and the pair is its leading singular pair.
    """
    arb_mat, n = load_flint().arb_mat, len(inputs)
    S, T = (arb_mat([_coordinates(one) for one in many]) for many in (signals, inputs))
    R = S.transpose() * T / n
    small_is_g = R.nrows() <= R.ncols()
    if not small_is_g:
        R = R.transpose()
    u = leading_vector("the rearranged Fisher times its transpose", R * R.transpose())
    v = R.transpose() * u  # of the length of the singular value
    u, v = _symmetric(u.entries()), _symmetric(v.entries())
    if _trace(u) < 0:
        u, v = -u, -v
    g, a = (u, v) if small_is_g else (v, u)
    norms = [_norm(one) for one in (*kfac, a, g)]
    ratio = (norms[0] / norms[1] * norms[3] / norms[2]).sqrt()
    return a * ratio, g / ratio


def kron(g: Any, a: Any) -> Any:
    """``G kron A``."""
    rows_g, rows_a = g.tolist(), a.tolist()
    return load_flint().arb_mat([[p * q for p in row for q in other] for row in rows_g for other in rows_a])


def _coordinates(matrix: Any) -> list[Any]:
    """The upper half of a symmetric matrix, off the diagonal times the root of 2."""
    root, size = load_flint().arb(2).sqrt(), matrix.nrows()
    return [matrix[i, j] * (1 if i == j else root) for i in range(size) for j in range(i, size)]


def _symmetric(coordinates: list[Any]) -> Any:
    """The matrix of its `_coordinates`."""
    root = load_flint().arb(2).sqrt()
    size = int(((8 * len(coordinates) + 1) ** 0.5 - 1) / 2)
    places = [(i, j) for i in range(size) for j in range(i, size)]
    entry = {p: c / (1 if p[0] == p[1] else root) for p, c in zip(places, coordinates, strict=True)}
    return load_flint().arb_mat([[entry[min(i, j), max(i, j)] for j in range(size)] for i in range(size)])


def _trace(matrix: Any) -> Any:
    return sum((matrix[i, i] for i in range(matrix.nrows())), start=load_flint().arb(0))


def _bound(matrix: Any) -> Any:
    """At least the Frobenius norm, also of balls that hold zero."""
    return sum((entry.abs_upper() ** 2 for entry in matrix.entries()), start=load_flint().arb(0)).sqrt()


def _norm(matrix: Any) -> Any:
    return sum((entry * entry for entry in matrix.entries()), start=load_flint().arb(0)).sqrt()
