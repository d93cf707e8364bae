"""A picture is a value: what to draw, on how much paper, and one sentence for whoever cannot see it.

It is drawn when somebody looks, on a matplotlib figure of its own (no pyplot, no shared state), and a picture can be a
part of a larger one: see `grid`.
"""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from attnkit.errors import need
from attnkit.viewer import palette
from attnkit.viewer.sheet import Point, Sheet, without_glyph_warnings

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any


@dataclass(frozen=True)
class Picture:
    """A drawing on a white card; a notebook shows it as PNG, and its sentence where pictures are not shown.

    Args:
        paint: draws on a sheet of `size`.
        size: width and height in inches.
        alt: one sentence that says what is to be seen.
    """

    paint: Callable[[Sheet], None]
    size: Point
    alt: str

    @cached_property
    def figure(self) -> Figure:
        """The matplotlib figure, drawn at the first look and then kept, so that it can be changed by hand."""
        figures = need("matplotlib.figure", extra="view", where="viewer")
        figure = figures.Figure(figsize=self.size, dpi=palette.DOTS, facecolor="white", edgecolor="white")
        self.paint(Sheet.over(figure, self.size))
        return figure

    def png(self) -> bytes:
        """The picture as PNG, 95 dots an inch, in 256 colours: a third of the bytes, and no difference to the eye."""
        agg = need("matplotlib.backends.backend_agg", extra="view", where="viewer")
        images = need("PIL.Image", extra="view", where="viewer")
        canvas = agg.FigureCanvasAgg(self.figure)
        with without_glyph_warnings():
            canvas.draw()
        image = images.fromarray(numpy.asarray(canvas.buffer_rgba())).convert("RGB")
        file = io.BytesIO()
        image.quantize(256, dither=images.Dither.NONE).save(file, format="png", optimize=True)
        return file.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the picture to `path`; its ending (.png, .svg, .pdf) says in which form."""
        with without_glyph_warnings():
            self.figure.savefig(path, dpi=palette.DOTS, facecolor="white")

    def __repr__(self) -> str:
        return f"Picture({self.alt!r})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"image/png": base64.b64encode(self.png()).decode("ascii"), "text/plain": self.alt}
