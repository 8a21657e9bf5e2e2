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
    translator.body.append(tex2mathml(understood(node.astext()), as_block=block))
    raise nodes.SkipNode


def understood(text: str) -> str:
    """A formula of LaTeX in the part of it that docutils reads rightly."""
    # Browsers stretch brackets by themselves, so that their sizes need no command.
    text = re.sub(r"\\[bB]igg?[lrm]?(?![A-Za-z])", "", text).replace("\\dots", "\\ldots")
    # Two digits after a fraction are its two parts, and not one number.
    return re.sub(r"(\\[td]?frac)(\d)(\d)", r"\1{\2}{\3}", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer ``mathml``, for ``html_math_renderer``."""
    app.add_html_math_renderer("mathml", (show, None), (show, None))
    return {"parallel_read_safe": True}
