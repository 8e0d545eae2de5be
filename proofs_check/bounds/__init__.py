"""Rigorous bounds: numbers with two sides, the method that proves them, and a witness to check again.

Each function returns a `Bound`. Stored floats are taken as the exact numbers that they are, and every
rounding on the way goes outwards, so a bound holds for the real numbers that the stored floats define::

    from proofs_check.bounds import gram_min, jacobian_lipschitz, residual_norm

    s0 = gram_min(problem, theta, x).lower  # a proved lower bound of lmin(J J^T)

`check_witness` proves the sides of a bound again, by other code than the one that found them. Ball
arithmetic is python-flint's (``pip install 'grng-ref[verify]'``). `prove` keeps a bound together with its
arguments, so that a record can store it and ``proofs-check verify`` prove it again.
"""

from .bound import Bound
from .change import jacobian_change
from .check import Check, check_witness
from .lipschitz import jacobian_lipschitz, slope_lipschitz
from .networks import gram_max, gram_min, residual_norm
from .proof import Proof, prove
from .spectra import eigenvalue_max, eigenvalue_min, newton_schulz_residual, positive_definite

__all__ = [
    "Bound",
    "Check",
    "Proof",
    "check_witness",
    "eigenvalue_max",
    "eigenvalue_min",
    "gram_max",
    "gram_min",
    "jacobian_change",
    "jacobian_lipschitz",
    "newton_schulz_residual",
    "positive_definite",
    "prove",
    "residual_norm",
    "slope_lipschitz",
]
