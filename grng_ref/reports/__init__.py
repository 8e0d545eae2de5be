"""Reports of stored records: they read plain data, never optimizers."""

from .study import study_html, study_lines, study_markdown

__all__ = ["study_html", "study_lines", "study_markdown"]
