"""Formulas without a script: LaTeX becomes MathML when a page is written, and the browser sets it.

docutils knows the LaTeX; a command that it doesn't know fails the build, with the formula in the message.
"""

from typing import Any

from docutils.nodes import SkipNode, math, math_block
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError


def mathml(latex: str, *, block: bool) -> str:
    """The MathML of a formula.

    Raises:
        ExtensionError: there is a command in it that nobody here knows.
    """
    try:
        return tex2mathml(latex, as_block=block)
    except (MathError, IndexError) as unknown:
        raise ExtensionError(f"the formula {latex!r} does not become MathML: {unknown}") from unknown


def write_inline(translator: Any, node: math) -> None:
    """Write a formula in a line."""
    translator.body.append(mathml(node.astext(), block=False))
    raise SkipNode


def write_block(translator: Any, node: math_block) -> None:
    """Write a formula on lines of its own."""
    translator.body.append(f'<div class="formula">{mathml(node.astext(), block=True)}</div>')
    raise SkipNode
