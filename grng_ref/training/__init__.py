"""Training: `fit` with records and checkpoints, schedules, and what a run is measured by."""

from .cost import gradient_evaluations, passes_of_step
from .evaluation import Evaluation, alignment, evaluate
from .fitting import Fit, fit
from .records import Record, Records, read_records
from .schedules import SCHEDULES, NamedSchedule, schedule

__all__ = [
    "SCHEDULES",
    "Evaluation",
    "Fit",
    "NamedSchedule",
    "Record",
    "Records",
    "alignment",
    "evaluate",
    "fit",
    "gradient_evaluations",
    "passes_of_step",
    "read_records",
    "schedule",
]
