"""Test vectors: cases with every stage of a computation, and certified error radii.

from grng_ref.testing.vectors import load_cases, reference
"""

from .case import Case
from .catalogue import CATALOGUE, build_case, build_cases
from .certify import certify, uncertified
from .stages import STAGES, Stage, reference
from .store import load_cases, read_manifest, save_cases

__all__ = [
    "CATALOGUE",
    "STAGES",
    "Case",
    "Stage",
    "build_case",
    "build_cases",
    "certify",
    "load_cases",
    "read_manifest",
    "reference",
    "save_cases",
    "uncertified",
]
