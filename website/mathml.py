"""Formulas as MathML, which browsers show by themselves: no script is fetched for it."""

from __future__ import annotations

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def show(translator: HTML5Translator, node: nodes.Element) -> None:
    """Write a formula, within a line or on lines of its own."""
    block = isinstance(node, nodes.math_block)
    # Browsers stretch brackets by themselves, so that their sizes need no command.
    text = re.sub(r"\\[bB]igg?[lrm]?(?![A-Za-z])", "", node.astext()).replace("\\dots", "\\ldots")
    translator.body.append(tex2mathml(text, as_block=block))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``mathml``, for ``html_math_renderer``."""
    app.add_html_math_renderer("mathml", (show, None), (show, None))
    return {"parallel_read_safe": True}
