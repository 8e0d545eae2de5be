"""Reports of stored records as lines, tables, figures and HTML pages: they read plain data, never optimizers."""

from .conformance import conformance_html, conformance_markdown, print_conformance, write_conformance
from .study import study_html, study_lines, study_markdown

__all__ = [
    "conformance_html",
    "conformance_markdown",
    "print_conformance",
    "study_html",
    "study_lines",
    "study_markdown",
    "write_conformance",
]
