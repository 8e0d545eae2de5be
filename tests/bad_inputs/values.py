"""Good values, each of which one defect spoils, and the form of a row of the table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import grng_ref as gr


class Row(NamedTuple):
    """One bad call. The message must hold ``argument`` as a word, and the other two as they stand."""

    defect: str
    call: Callable[[], Any]
    error: type[Exception]
    argument: str
    needs: str
    got: str


# What rows share: errors, and words of messages.
T_, V_, B_, FILE_ = TypeError, ValueError, gr.BackendError, FileNotFoundError
ARRAY, FLOAT, CAST = "must be an array", "float32 or float64", "cast one of them"
DOOR = "gr.asarray"  # what the messages about the wrong library or device point to


def frozen_array(values: Any, dtype: Any = np.float64) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


def with_entry(array: np.ndarray, value: Any) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] = value
    return frozen_array(changed, array.dtype)


def on(array: Any, device: str | None = None) -> Any:
    return gr.asarray(array, backend="array_api_strict", device=device)


def there(array: Any) -> Any:
    """On a device that stands in for a GPU."""
    return on(array, "device1")


# --- good values, each of which one defect spoils ----------------------------------------------------------

DRAW = np.random.default_rng(5)
MLP = gr.MLP((3, 4, 2))
PROBLEM = gr.Problem(MLP, gr.Categorical())
REGRESSION = gr.Problem(MLP, gr.Gaussian())
SIZE = MLP.num_parameters  # 26
THETA = frozen_array(PROBLEM.init(rng=0))
X, Y = frozen_array(DRAW.standard_normal((5, 3))), frozen_array([0, 1, 1, 0, 1], np.int64)
T = frozen_array(DRAW.standard_normal((5, 2)))  # real targets
B = frozen_array(PROBLEM.score_rows(THETA, X))  # (10, 26)
G = frozen_array(PROBLEM.gradient(THETA, X, Y))
F32 = np.float32
ABAR, SIGNALS = PROBLEM.activations(THETA, X), PROBLEM.score_signals(THETA, X)
FA, FG = gr.kfac_factors(ABAR[0], SIGNALS[0])  # (4, 4) and (4, 4)
V = frozen_array(DRAW.standard_normal((4, 4)))
FULL, KFAC, TRIDIAGONAL, DIAGONAL = (
    gr.fisher(PROBLEM, THETA, X, structure=name) for name in ("full", "kfac", "tridiagonal_kfac", "diagonal")
)
BELIEF = gr.full_belief(THETA, prior_variance=1.0)
BLOCKS, DIAGONAL_BELIEF, LOW_RANK = (
    gr.block_diagonal_belief(THETA, prior_variance=1.0, blocks=[16, 10]),
    gr.diagonal_belief(THETA, prior_variance=1.0),
    gr.low_rank_belief(THETA, prior_variance=1.0, rank=3),
)
NGD, RKALMAN = gr.ngd(PROBLEM, lr=0.1, damping=0.1), gr.rkalman(PROBLEM)
SGD, ADAMW = gr.sgd(PROBLEM, lr=0.1, momentum=0.9), gr.adamw(PROBLEM, lr=0.1)
SOPHIA, HUTCHINSON = (
    gr.sophia(PROBLEM, lr=0.1, estimator=e) for e in ("gauss_newton_bartlett", "hutchinson")
)
STATE, FILTER = NGD.init(THETA), RKALMAN.init(THETA)
NAN, INF = math.nan, math.inf
LAYER = frozen_array(np.ones((2, 5)))  # the last layer of MLP
WORLD = {
    "theta": THETA,
    "natural": STATE,
    "filter": FILTER,
    "belief": BELIEF,
    "structured": (BLOCKS, DIAGONAL_BELIEF, LOW_RANK),
    "factors": KFAC.factors,
}
