"""Formulas as MathML, written by docutils at build time: the pages need no script and no network to show them."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import wrap_displaymath

logger = logging.getLogger(__name__)


def convert(node, tex, as_block):
    tex = re.sub(r"(frac *)(\d)(\d)", r"\1{\2}{\3}", tex)  # docutils reads \frac12 as \frac{12}
    try:
        return tex2mathml(tex, as_block=as_block)
    except MathError as failure:
        logger.warning("formula not understood: %s", failure, location=node)
        return f"<code>{node.astext()}</code>"


def visit_inline(translator, node):
    translator.body.append(convert(node, node.astext(), as_block=False))
    raise nodes.SkipNode


def visit_block(translator, node):
    tex = node.astext()
    if r"\begin" not in tex and (r"\\" in tex or "&" in tex):
        tex = wrap_displaymath(tex, None, numbering=False)
    # not of the class "math": themes lay that out for numbered formulas that a script has drawn
    style = "margin-bottom: 1.15rem; padding-block: 0.2rem; overflow: auto hidden"
    translator.body.append(f'<div style="{style}">{convert(node, tex, as_block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
