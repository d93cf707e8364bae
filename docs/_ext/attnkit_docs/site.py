"""What the extension does at each step of a build."""

import shutil
from pathlib import Path
from typing import Any

import torch
from docutils.nodes import Node, raw
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import attnkit
from attnkit import masks
from attnkit_docs import api, docstrings, mathml, pages


class Picture(SphinxDirective):
    """`{picture} masks.causal`: the drawing of a mask, or anything else that a notebook would show as HTML."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[Node]:
        """The drawing, where the directive stands."""
        shown = eval(self.arguments[0], {"ak": attnkit, "masks": masks, "torch": torch})
        drawing = shown.show(12, 12) if isinstance(shown, masks.Mask) else shown
        return [raw("", f'<div class="wide">{drawing._repr_html_()}</div>', format="html")]


def write_pages(app: Sphinx) -> None:
    """Write what is made and not written by hand: a page a mechanism, the reference, the tutorial."""
    source = Path(app.srcdir)
    everything = attnkit.all_mechanisms()
    made = {
        f"mechanisms/{name}.md": pages.page(mechanism, everything) for name, mechanism in everything.items()
    }
    made |= {"mechanisms/index.md": pages.index(everything), "api/index.md": api.index()}
    made |= {f"api/{name}.md": api.page(name) for name in api.MODULES}
    for folder in ("mechanisms", "api"):
        shutil.rmtree(source / folder, ignore_errors=True)
        (source / folder).mkdir()
    for path, text in made.items():
        (source / path).write_text(text, "utf-8")
    shutil.copy(source.parent / "attention.ipynb", source / "tutorial.ipynb")


def add_decisions(app: Sphinx, name: str, source: list[str]) -> None:
    """Put the pages that docs/decisions/README.md links to into the tree; on its own it has no such list."""
    if name == "decisions/README":
        found = sorted(path.stem for path in (Path(app.srcdir) / "decisions").glob("[a-z]*.md"))
        source[0] += "\n\n```{toctree}\n:hidden:\n" + "\n".join(found) + "\n```\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("picture", Picture)
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(mathml.write_inline, None),
        block_renderers=(mathml.write_block, None),
    )
    app.connect("builder-inited", write_pages)
    app.connect("source-read", add_decisions)
    app.connect("autodoc-process-docstring", docstrings.as_rst, priority=400)
    app.connect("autodoc-skip-member", docstrings.is_borrowed)
    app.connect("autodoc-process-signature", docstrings.as_written)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
