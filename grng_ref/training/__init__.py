"""Training: `fit` with records and checkpoints, schedules, what a run is measured by; and `study`."""

from .analysis import analyse
from .audit import audit
from .cost import gradient_evaluations, passes_of_step
from .entries import Entry, default_entries
from .evaluation import Evaluation, alignment, evaluate
from .fitting import Fit, fit
from .hessians import Flatness, flatness
from .intervals import Interval, bonferroni, median_ratio, paired_interval, pairs_needed
from .records import Record, Records, read_records
from .runs import DataPlan, Place
from .schedules import SCHEDULES, NamedSchedule, schedule
from .search import choose, draw_trials
from .stored import read_study
from .studies import QUICK_PROTOCOL, Protocol, study

__all__ = [
    "DataPlan",
    "Entry",
    "Evaluation",
    "Fit",
    "Flatness",
    "Interval",
    "NamedSchedule",
    "Place",
    "Protocol",
    "QUICK_PROTOCOL",
    "Record",
    "Records",
    "SCHEDULES",
    "alignment",
    "analyse",
    "audit",
    "bonferroni",
    "choose",
    "default_entries",
    "draw_trials",
    "evaluate",
    "fit",
    "flatness",
    "gradient_evaluations",
    "median_ratio",
    "paired_interval",
    "pairs_needed",
    "passes_of_step",
    "read_records",
    "read_study",
    "schedule",
    "study",
]
