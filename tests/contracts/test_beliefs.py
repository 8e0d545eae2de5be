"""Every belief of the package, and one of a user, through the public battery."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import array_api_compat as compat
import pytest

import grng_ref as gr
from grng_ref.testing import check_belief


@dataclass(frozen=True, eq=False)
class CovarianceBelief:
    """A user's belief: the plain covariance form, with `gr.FullBelief` as the judge of bad arguments."""

    matrix: Any

    @property
    def size(self):
        return self.matrix.shape[0]

    def predict(self, *, noise=0.0, forgetting=1.0):
        gr.full_belief(self.matrix[0, :], prior_variance=1.0).predict(noise=noise, forgetting=forgetting)
        return CovarianceBelief(self.matrix / forgetting + noise * self._identity())

    def update(self, rows, gradient, *, targets=None, precision=0.0):
        judge = gr.full_belief(self.matrix[0, :], prior_variance=1.0)
        judge.update(rows, gradient, targets=targets, precision=precision)
        xp = compat.array_namespace(rows)
        observed = xp.concat([rows, math.sqrt(precision) * self._identity()])
        gain = xp.linalg.solve(
            observed @ self.matrix @ observed.T
            + xp.eye(observed.shape[0], dtype=rows.dtype, device=compat.device(rows)),
            observed @ self.matrix,
        )
        matrix = self.matrix - self.matrix @ observed.T @ gain
        matrix = 0.5 * (matrix + matrix.T)
        return CovarianceBelief(matrix), -(matrix @ gradient)

    def information(self):
        inverse = compat.array_namespace(self.matrix).linalg.inv(self.matrix)
        return 0.5 * (inverse + inverse.T)

    def covariance(self):
        return self.matrix

    def _identity(self):
        xp = compat.array_namespace(self.matrix)
        return xp.eye(self.size, dtype=self.matrix.dtype, device=compat.device(self.matrix))


def full(mean_like):
    return gr.full_belief(mean_like, prior_variance=0.7)


def wide_full(mean_like):
    return gr.full_belief(mean_like, prior_variance=20.0, form="square_root_information")


def users(mean_like):
    return CovarianceBelief(full(mean_like).covariance())


BELIEFS = {"full": full, "wide full": wide_full, "a user's": users}


@pytest.mark.parametrize("name", BELIEFS)
def test_contract(name, place):
    check_belief(BELIEFS[name], **place)
