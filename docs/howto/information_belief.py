"""A belief of a user: the page "How to add a belief" explains it."""

from dataclasses import dataclass
from typing import Any

import grng_ref as gr
from grng_ref.arrays import check_finite, check_real, check_shape, namespace
from grng_ref.arrays.linalg import cholesky, cholesky_solve, identity


@dataclass(frozen=True, eq=False)
class InformationBelief:
    """A Gaussian by its information matrix Y (P, P)."""

    matrix: Any

    @property
    def size(self):
        return self.matrix.shape[0]

    def predict(self, *, noise=0.0, forgetting=1.0):
        check_real("noise", noise, minimum=0.0)
        if check_real("forgetting", forgetting, minimum=0.0, exclusive=True) > 1.0:
            raise ValueError(f"forgetting must lie in (0, 1], got {forgetting}")
        Y = forgetting * self.matrix
        if noise > 0.0:  # (Y^{-1} + q I)^{-1} = (I + q Y)^{-1} Y, which is symmetric
            Y = solve(identity(self.size, Y) + noise * Y, Y)
        return InformationBelief(0.5 * (Y + Y.T))

    def update(self, rows, gradient, *, targets=None, precision=0.0):
        namespace(belief=self.matrix, rows=rows, gradient=gradient, targets=targets)
        check_shape("rows", rows, (None, self.size), "(observations, parameters)")
        check_shape("gradient", gradient, (self.size,), "one entry a parameter")
        if targets is not None:
            check_shape("targets", targets, (rows.shape[0],), "one entry an observation")
        check_finite(rows=rows, gradient=gradient, targets=targets)
        check_real("precision", precision, minimum=0.0)
        Y = self.matrix + rows.T @ rows + identity(self.size, rows, precision)
        return InformationBelief(Y), -solve(Y, gradient)

    def information(self):
        return self.matrix

    def covariance(self):
        P = solve(self.matrix, identity(self.size, self.matrix))
        return 0.5 * (P + P.T)


def solve(Y, columns):
    factor = cholesky(Y)  # None where Y is not numerically positive definite
    if factor is None:
        raise gr.NumericalError("the information matrix is not positive definite")
    return cholesky_solve(factor, columns)
