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
    explicit = True  # P more rows in an update are no burden: the step costs O(P^3) anyway

    @property
    def size(self):
        return self.matrix.shape[0]

    def predict(self, *, transition=None, offset=None, noise=0.0, forgetting=1.0):
        if transition is not None:
            raise ValueError("transition must be None: this belief only knows the random walk")
        if offset is not None:  # it moves the mean, which is not kept here
            namespace(belief=self.matrix, offset=offset)
            check_shape("offset", offset, (self.size,), "one entry a parameter")
            check_finite(offset=offset)
        check_real("noise", noise, minimum=0.0)
        if check_real("forgetting", forgetting, minimum=0.0, exclusive=True) > 1.0:
            raise ValueError(f"forgetting must lie in (0, 1], got {forgetting}")
        Y = forgetting * self.matrix
        if noise > 0.0:  # (Y^{-1} + q I)^{-1} = (I + q Y)^{-1} Y, which is symmetric
            Y = solve(identity(self.size, Y) + noise * Y, Y)
        return InformationBelief(0.5 * (Y + Y.T))

    def update(self, rows, gradient, *, targets=None, precision=0.0):
        self._check_rows(rows)
        namespace(belief=self.matrix, gradient=gradient, targets=targets)
        check_shape("gradient", gradient, (self.size,), "one entry a parameter")
        if targets is not None:
            check_shape("targets", targets, (rows.shape[0],), "one entry an observation")
        check_finite(gradient=gradient, targets=targets)
        check_real("precision", precision, minimum=0.0)
        Y = self.matrix + rows.T @ rows + identity(self.size, rows, precision)
        return InformationBelief(Y), -solve(Y, gradient)

    def observed_covariance(self, rows):
        self._check_rows(rows)
        return rows @ solve(self.matrix, rows.T)

    def information(self):
        return self.matrix

    def covariance(self):
        P = solve(self.matrix, identity(self.size, self.matrix))
        return 0.5 * (P + P.T)

    def _check_rows(self, rows):
        namespace(belief=self.matrix, rows=rows)
        count = rows.shape[0] if rows.ndim == 2 else None  # there may be no row
        check_shape("rows", rows, (count, self.size), "(observations, parameters)")
        check_finite(rows=rows)


def solve(Y, columns):
    factor = cholesky(Y)  # None where Y is not numerically positive definite
    if factor is None:
        raise gr.NumericalError("the information matrix is not positive definite")
    return cholesky_solve(factor, columns)
