"""A new optimizer, entered in the study and held against each baseline: NGD whose step has a trust region.

``GRNG_BACKEND=torch python new_optimizer.py [page.html]``, or another backend (JAX: ``JAX_ENABLE_X64=1``).
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import array_api_compat

import grng_ref as gr
import grng_ref.reports
import grng_ref.training as training


@dataclass(frozen=True)
class TrustRegion:
    """``delta = -d min(1, radius / |d|)``, d the damped natural direction, by K-FAC."""

    problem: gr.Problem
    radius: float
    damping: float

    def init(self, theta):
        return 0  # steps taken

    def update(self, theta, state, x, y, *, samples=None, probes=None):
        xp = array_api_compat.array_namespace(theta)
        g = self.problem.gradient(theta, x, y)
        direction = gr.fisher(self.problem, theta, x, structure="kfac").solve(g, damping=self.damping)
        size = float(xp.linalg.vector_norm(direction))
        delta = -min(1.0, self.radius / size) * direction
        seen = float(self.problem.loss(theta, x, y)), float(xp.linalg.vector_norm(g))
        return delta, state + 1, gr.StepInfo(state, *seen, self.damping, min(size, self.radius), None, None)

    def step(self, theta, state, x, y, *, samples=None, probes=None):
        delta, state, info = self.update(theta, state, x, y)
        return theta + delta, state, info

    def passes(self, step, outputs):  # a forward pass counts 1, a backward pass 2
        return 3 + 1 + 2 * outputs


def make(problem, settings, seed):
    return TrustRegion(problem, **settings)


SPACE = {"radius": (1e-2, 1.0), "damping": (1e-3, 1.0)}
NAMES = ("SGD", "AdamW", "K-FAC", "NGD kfac", "RING kfac")
beside = [entry for entry in training.default_entries() if entry.name in NAMES]
place = training.Place(os.environ.get("GRNG_BACKEND", "numpy"))
plan = training.DataPlan("breast_cancer", (4,), 200, 30, 2)
protocol = training.Protocol((plan,), trials=2, seeds=8, place=place)
result = training.study(protocol, entries=[*beside, training.Entry("trust region", make, SPACE)])
print("\n".join(gr.reports.study_lines(result)))  # the last table: the new one against each baseline
if len(sys.argv) > 1:
    Path(sys.argv[1]).write_text(gr.reports.study_html(result), encoding="utf-8")
