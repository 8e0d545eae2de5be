"""The checker of foreign implementations: adapters, verdicts from conditioning and dtype, diagnosis.

`check` compares what an adapter returns with test vectors, stage by stage; see ``docs/conformance.md``.
"""

from .adapter import UserCodeError, load_adapter
from .checker import check, parametrize_with_vectors
from .hypotheses import HYPOTHESES, Hypothesis
from .report import Check, Diagnosis, Report
from .results import ResultFiles
from .separate import Separation, separation
from .verdicts import VERDICTS

__all__ = [
    "HYPOTHESES",
    "VERDICTS",
    "Check",
    "Diagnosis",
    "Hypothesis",
    "Report",
    "ResultFiles",
    "Separation",
    "UserCodeError",
    "check",
    "load_adapter",
    "parametrize_with_vectors",
    "separation",
]
