"""Sphinx configuration. Build, from the root of the repository:

python -m sphinx -W -b html docs docs/_build/html
python -m sphinx -W -b doctest docs docs/_build/doctest
"""

from __future__ import annotations

import grng_ref

project = "grng_ref"
author = "The grng_ref developers"
copyright = f"2026, {author}"
version = release = grng_ref.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_typehints = "none"  # the docstrings give types and shapes
autodoc_member_order = "bysource"
autosummary_generate = False  # one page holds the whole interface; no stub files
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "furo"
html_title = f"grng_ref {release}"
