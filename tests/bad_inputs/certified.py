"""Bad input at the doors of ground truth that take a network or an enclosure.

Door -> rows ``(defect, call, error, argument, needs, got)``; see `values.Row`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import grng_ref as gr
from grng_ref.certified import (
    Enclosure,
    eigenvalue_bounds,
    eigenvalue_enclosure,
    gram_enclosure,
    network_enclosure,
    norm_bounds,
    residual_enclosure,
)
from grng_ref.models.activations import ACTIVATIONS

from .values import ARRAY, FLOAT, INF, MLP, NAN, PROBLEM, REGRESSION, T_, THETA, V_, T, X, Y, with_entry


@dataclass(frozen=True)
class Laplace(gr.Gaussian):
    """A likelihood of a user's, which is none of the four though it is derived from one."""


class Residual(gr.MLP):
    """A model of a user's."""


@dataclass(frozen=True)
class Parts:
    """What has the parts of a problem."""

    model: Any
    likelihood: Any


NAMELESS = gr.Problem(gr.MLP((3, 4, 2), activation=ACTIVATIONS["tanh"]), gr.Categorical())
SQUARE = Enclosure(np.eye(2), np.zeros((2, 2)))
SKEW = Enclosure(np.array([[1.0, 2.0], [3.0, 1.0]]), np.zeros((2, 2)))


# fmt: off
def reads_the_model(door: Any) -> list[tuple[Any, ...]]:
    """The rows of the doors that take a problem, theta and x."""
    return [
        ("no problem", lambda: door(MLP, THETA, X),
         T_, "problem", "a gr.Problem, which has a model", "got MLP"),
        ("model of a user's", lambda: door(gr.Problem(Residual((3, 2)), gr.Gaussian()), THETA[:8], X),
         T_, "problem.model", "of the package itself (gr.MLP)", "certified.Residual"),
        ("activation of a user's", lambda: door(NAMELESS, THETA, X),
         T_, "problem.model.activation", "must be a name ('identity'", "got Activation"),
        ("list for theta", lambda: door(PROBLEM, THETA.tolist(), X), T_, "theta", ARRAY, "list"),
        ("theta one short", lambda: door(PROBLEM, THETA[1:], X), V_, "theta", "(26,)", "got (25,)"),
        ("NaN in theta", lambda: door(PROBLEM, with_entry(THETA, NAN), X), V_, "theta", "finite", "NaN"),
        ("integer theta", lambda: door(PROBLEM, THETA.astype(int), X), T_, "theta", FLOAT, "int64"),
        ("x of another width", lambda: door(PROBLEM, THETA, X[:, :2]),
         V_, "x", "(examples, inputs)", "(5, 2)"),
        ("infinity in x", lambda: door(PROBLEM, THETA, with_entry(X, INF)), V_, "x", "finite", "infinit"),
        ("precision of a float", lambda: door(PROBLEM, THETA, X, precision=52),
         V_, "precision", "an integer >= 53", "got 52"),
        ("fractional precision", lambda: door(PROBLEM, THETA, X, precision=64.0),
         T_, "precision", "an integer", "got float"),
    ]


def reads_a_symmetric_matrix(door: Any) -> list[tuple[Any, ...]]:
    return [
        ("array for an enclosure", lambda: door(np.eye(2)), T_, "matrix", "an Enclosure", "got ndarray"),
        ("vector", lambda: door(Enclosure(np.ones(3), np.zeros(3))),
         V_, "matrix", "a square matrix", "got (3,)"),
        ("oblong", lambda: door(Enclosure(np.ones((2, 3)), np.zeros((2, 3)))),
         V_, "matrix", "a square matrix", "got (2, 3)"),
        ("number", lambda: door(Enclosure(np.ones(()), np.zeros(()))),
         V_, "matrix", "a square matrix", "got ()"),
        ("empty", lambda: door(Enclosure(np.ones((0, 0)), np.zeros((0, 0)))),
         V_, "matrix", "a square matrix", "got (0, 0)"),
        ("not symmetric", lambda: door(SKEW), V_, "matrix", "equal its transpose in every bit", "at [0, 1]"),
        ("radii not symmetric", lambda: door(Enclosure(np.eye(2), SKEW.midpoint)),
         V_, "matrix", "equal its transpose in every bit", "at [0, 1]"),
        ("precision of a float", lambda: door(SQUARE, precision=24),
         V_, "precision", "an integer >= 53", "got 24"),
    ]


def reads_the_labels(door: Any) -> list[tuple[Any, ...]]:
    return [
        ("likelihood of a user's", lambda: door(Parts(MLP, Laplace()), THETA, X, T),
         T_, "problem.likelihood", "of the package itself (gr.Gaussian, gr.Categorical", "certified.Laplace"),
        ("labels of another length", lambda: door(PROBLEM, THETA, X, Y[1:]),
         V_, "y", "one class label an example", "got (4,)"),
        ("class that there is not", lambda: door(PROBLEM, THETA, X, 2 * Y),
         V_, "y", "class labels 0..1", "to 2"),
        ("real targets for classes", lambda: door(PROBLEM, THETA, X, T),
         T_, "y", "an integer dtype", "got float64"),
        ("targets of another shape", lambda: door(REGRESSION, THETA, X, T[:, :1]),
         V_, "y", "the shape of f", "got (5, 1)"),
    ]


TABLE: dict[str, list[tuple[Any, ...]]] = {
    "certified.network_enclosure": [
        *reads_the_model(network_enclosure),
        *reads_the_labels(network_enclosure),
        ("integer for a flag", lambda: network_enclosure(PROBLEM, THETA, X, jacobian=1),
         T_, "jacobian", "True or False", "got 1"),
    ],
    "certified.residual_enclosure": [
        *reads_the_model(lambda *a, **o: residual_enclosure(*a, Y, **o)),
        *reads_the_labels(residual_enclosure),
        ("no labels", lambda: residual_enclosure(PROBLEM, THETA, X, None), T_, "y", "given", "None"),
    ],
    "certified.gram_enclosure": reads_the_model(gram_enclosure),
    "certified.eigenvalue_enclosure": reads_a_symmetric_matrix(eigenvalue_enclosure),
    "certified.eigenvalue_bounds": reads_a_symmetric_matrix(eigenvalue_bounds),
    "certified.norm_bounds": [
        ("array for an enclosure", lambda: norm_bounds(np.eye(2)),
         T_, "array", "an Enclosure", "got ndarray"),
        ("precision of a float", lambda: norm_bounds(SQUARE, precision=24),
         V_, "precision", "an integer >= 53", "got 24"),
    ],
}
