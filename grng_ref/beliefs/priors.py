"""Isotropic prior beliefs, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..arrays import (
    Array,
    check_choice,
    check_integer,
    check_real,
    check_representable,
    check_shape,
    like,
    namespace,
)
from ..arrays.linalg import identity
from .base import Belief
from .block_diagonal import BlockDiagonalBelief
from .covariance_forms import CovarianceBelief, JosephBelief, SquareRootCovarianceBelief
from .diagonal import PROJECTIONS, DiagonalBelief
from .full import FullBelief
from .information_form import InformationBelief
from .low_rank import LowRankBelief

# form -> the belief made of a multiple of the identity, and the power of the prior variance that it takes
_FORMS: dict[str, tuple[Callable[[Array], Belief], float]] = {
    "square_root_information": (FullBelief, -0.5),
    "information": (InformationBelief, -1.0),
    "square_root_covariance": (SquareRootCovarianceBelief, 0.5),
    "covariance": (CovarianceBelief, 1.0),
    "joseph": (JosephBelief, 1.0),
}
FORMS = ("auto", *_FORMS)


def full_belief(mean_like: Array, *, prior_variance: float, form: str = "auto") -> Belief:
    """The prior belief ``P_0 = prior_variance I`` over parameters of the shape of ``mean_like`` (P,).

    Parameters
    ----------
    mean_like : array (P,)
        Gives the size, library, dtype and device.
    prior_variance : float
        p0 > 0.
    form : str
        What is stored: ``"square_root_information"`` (that is ``"auto"``, and the most accurate),
        ``"information"``, ``"square_root_covariance"``, ``"covariance"`` or ``"joseph"``; the others are
        there to be compared with.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.

    Notes
    -----
    Source: classical (Kalman 1960; Bucy and Joseph 1968; Bierman 1977).
    """
    check_choice("form", form, FORMS)
    make, power = _FORMS["square_root_information" if form == "auto" else form]
    value = _prior(mean_like, prior_variance, power)
    return make(identity(mean_like.shape[0], mean_like, value))


def block_diagonal_belief(
    mean_like: Array, *, prior_variance: float, blocks: Sequence[int]
) -> BlockDiagonalBelief:
    """A prior belief ``prior_variance I`` that keeps only correlations inside blocks of parameters.

    See `BlockDiagonalBelief` for its step and projection.

    Parameters
    ----------
    mean_like : array (P,)
        Gives the size, library, dtype and device.
    prior_variance : float
        p0 > 0.
    blocks : sequence of int
        Sizes of the blocks, in the order of the parameters; their sum is P. A network's layers:
        ``[math.prod(layer.shape) for layer in problem.unpack(theta)]``.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.

    Notes
    -----
    Source: classical (Puskorius and Feldkamp 1991).
    """
    value = _prior(mean_like, prior_variance, -0.5)
    if isinstance(blocks, str) or not isinstance(blocks, Sequence):
        raise TypeError(f"blocks must be a sequence of integers, got {type(blocks).__name__}")
    sizes = [check_integer(f"blocks[{i}]", size, minimum=1) for i, size in enumerate(blocks)]
    if sum(sizes) != mean_like.shape[0]:
        raise ValueError(f"blocks must add up to {mean_like.shape[0]} parameters, got {sum(sizes)}")
    return BlockDiagonalBelief(tuple(FullBelief(identity(size, mean_like, value)) for size in sizes))


def diagonal_belief(
    mean_like: Array, *, prior_variance: float, projection: str = "covariance"
) -> DiagonalBelief:
    """A prior belief ``prior_variance I`` that keeps one variance a parameter; O(P) memory.

    Parameters
    ----------
    mean_like : array (P,)
        Gives the size, library, dtype and device.
    prior_variance : float
        p0 > 0.
    projection : {"covariance", "precision"}
        What the posterior is projected on; see `DiagonalBelief`.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.

    Notes
    -----
    Source: classical; see `DiagonalBelief`.
    """
    value = _prior(mean_like, prior_variance, -1.0)
    check_choice("projection", projection, PROJECTIONS)
    ones = namespace(mean_like=mean_like).ones(mean_like.shape[0], **like(mean_like))
    return DiagonalBelief(value * ones, projection)


def low_rank_belief(mean_like: Array, *, prior_variance: float, rank: int) -> LowRankBelief:
    """A prior belief ``prior_variance I`` whose information stays diagonal plus rank ``rank``; O(P rank).

    See `LowRankBelief` for its step and projection.

    Parameters
    ----------
    mean_like : array (P,)
        Gives the size, library, dtype and device.
    prior_variance : float
        p0 > 0.
    rank : int
        From 1 to P.

    Raises
    ------
    TypeError, ValueError
        Bad arguments.

    Notes
    -----
    Source: our reconstruction; see `LowRankBelief`.
    """
    value = _prior(mean_like, prior_variance, -1.0)
    size = mean_like.shape[0]
    if check_integer("rank", rank, minimum=1) > size:
        raise ValueError(f"rank must be at most the number of parameters, {size}, got {rank}")
    xp = namespace(mean_like=mean_like)
    ones, zeros = xp.ones(size, **like(mean_like)), xp.zeros((size, rank), **like(mean_like))
    return LowRankBelief(value * ones, zeros)


def _prior(mean_like: Array, prior_variance: float, power: float) -> float:
    """``prior_variance ** power``, checked to be a number of the dtype."""
    namespace(mean_like=mean_like)
    check_shape("mean_like", mean_like, (None,), "one entry a parameter")
    variance = check_real("prior_variance", prior_variance, minimum=0.0, exclusive=True)
    try:
        value = variance**power
    except OverflowError:
        value = float("inf")
    return check_representable("prior_variance", value, mean_like)
