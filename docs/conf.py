"""Sphinx configuration. Build, from the root of the repository:

python -m sphinx -W -b html docs docs/_build/html
python -m sphinx -W -b doctest docs docs/_build/doctest
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import grng_ref

sys.path.insert(0, str(Path(__file__).parent / "howto"))  # the pages show these files and import from them

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
html_math_renderer = "mathml"


def setup(app: Sphinx) -> None:
    """Render formulas as MathML: pages then need no script from elsewhere, and show formulas offline."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_math_block, None))


def _visit_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(_mathml(node))
    raise nodes.SkipNode


def _visit_math_block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div style="padding: 0.5em 0">{_mathml(node, as_block=True)}</div>')
    raise nodes.SkipNode


def _mathml(node: nodes.Element, *, as_block: bool = False) -> str:
    # docutils would put the index of an accented letter below it; an empty group keeps the two apart.
    tex = re.sub(r"\\(bar|tilde) ([A-Za-z])", r"{\\\1{\2}{}}", node.astext())
    # Browsers draw the macron as an accent only in this form of it.
    return tex2mathml(tex, as_block=as_block).replace("\u02c9", "\u00af")
