"""Records as tables and pages; what is shown here is computed elsewhere."""

from .conformance import conformance_html, conformance_markdown, print_conformance, write_conformance

__all__ = ["conformance_html", "conformance_markdown", "print_conformance", "write_conformance"]
