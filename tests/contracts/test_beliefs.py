"""Every belief of the package, and one of a user, through the public battery."""

from __future__ import annotations

import functools
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
    explicit = True

    @property
    def size(self):
        return self.matrix.shape[0]

    def predict(self, *, transition=None, offset=None, noise=0.0, forgetting=1.0):
        if transition is not None:
            raise ValueError("transition must be None for this belief")
        judge = gr.full_belief(self.matrix[0, :], prior_variance=1.0)
        judge.predict(offset=offset, noise=noise, forgetting=forgetting)
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

    def observed_covariance(self, rows):
        gr.full_belief(self.matrix[0, :], prior_variance=1.0).observed_covariance(rows)
        return rows @ self.matrix @ rows.T

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


def form(name):
    return functools.partial(gr.full_belief, prior_variance=0.7, form=name)


def blocks(*sizes):
    return functools.partial(gr.block_diagonal_belief, prior_variance=0.7, blocks=sizes)


EXACT = {
    "full": full,
    "wide full": wide_full,
    "information": form("information"),
    "square-root covariance": form("square_root_covariance"),
    "covariance": form("covariance"),
    "joseph": form("joseph"),
    "one block": blocks(6),
    "low rank, of full rank": functools.partial(gr.low_rank_belief, prior_variance=0.7, rank=6),
    "a user's": users,
}
PROJECTED = {
    "blocks": blocks(2, 3, 1),
    "diagonal covariance": functools.partial(gr.diagonal_belief, prior_variance=0.7),
    "diagonal precision": functools.partial(gr.diagonal_belief, prior_variance=0.7, projection="precision"),
    "low rank": functools.partial(gr.low_rank_belief, prior_variance=0.7, rank=2),
}


@pytest.mark.parametrize("name", [*EXACT, *PROJECTED])
def test_contract(name, place):
    check_belief((EXACT | PROJECTED)[name], exact=name in EXACT, **place)


@pytest.mark.parametrize("name", PROJECTED)
def test_a_projection_is_not_exact(name):
    """The list above would hide a belief that is not projected at all."""
    with pytest.raises(AssertionError, match=r"update_adds_information|step_uses_the_updated_information"):
        check_belief(PROJECTED[name])
