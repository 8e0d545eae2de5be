"""The table of bad inputs: what is refused at every public door, how, and with which words.

`TABLE` maps a door (a public name, or a method of one) to its rows
``(defect, call, error, argument, needs, got)``; every row is one call with one defect.
`test_bad_inputs.py` runs them.
"""

from __future__ import annotations

from . import beliefs, certified, core, files, networks, peers, training
from .values import WORLD, Row

__all__ = ["NO_BAD_INPUT", "PEERS", "TABLE", "WORLD", "Row"]

TABLE = core.TABLE | beliefs.TABLE | networks.TABLE | files.TABLE | certified.TABLE | training.TABLE
PEERS = peers.TABLE

NO_BAD_INPUT = {
    "BackendError": "raised, not called",
    "NumericalError": "raised, not called",
    "Belief": "a protocol; its doors are rows of their own",
    "Curvature": "a base class; its doors are rows of their own",
    "Likelihood": "a protocol; its implementations are doors",
    "Optimizer": "a protocol; its doors are rows of their own",
    "Structure": "a protocol; objects of it enter through `curvature`",
    "Comparison": "a record that only the package fills",
    "Conventions": "a record that only the package fills",
    "InverseResult": "a record that only the package fills",
    "KalmanInfo": "a record that only the package fills",
    "KalmanResult": "a record that only the package fills",
    "Linearization": "a record that only the package fills",
    "SolveInfo": "a record that only the package fills",
    "SolveResult": "a record that only the package fills",
    "StepInfo": "a record that only the package fills",
    "VarianceEstimate": "a record that only the package fills",
}
