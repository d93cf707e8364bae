"""A white sheet measured in inches from its upper left corner: everything in a picture is placed on one.

Inches, not fractions of a figure: a cell keeps its size however many boxes stand beside it, and a text's room is known
before it is drawn.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from attnkit.errors import need
from attnkit.viewer import palette
from attnkit.viewer.palette import Number
from attnkit.viewer.spread import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
else:
    Axes = Figure = Any


@contextlib.contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Where no installed font has a sign, a box stands for it; that is seen in the picture and needs no warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


@lru_cache(maxsize=1)
def families() -> list[str]:
    """The font of all texts, then those installed that hold Chinese, Japanese, Korean and emoji."""
    fonts = need("matplotlib.font_manager", extra="view", where="viewer")
    installed = {font.name for font in fonts.fontManager.ttflist}
    return [palette.FONT, *(name for name in palette.MORE_FONTS if name in installed)]


@lru_cache(maxsize=4096)
def text_width(
    words: str, *, size: Number = palette.TEXT_SIZE, mono: bool = False, bold: bool = False
) -> float:
    """The width of `words` in inches; of the longest line, where there are several."""
    fonts = need("matplotlib.font_manager", extra="view", where="viewer")
    paths = need("matplotlib.textpath", extra="view", where="viewer")
    family, weight = (palette.MONO if mono else families()), ("bold" if bold else "normal")
    font = fonts.FontProperties(family=family, size=size, weight=weight)
    with without_glyph_warnings():
        widths = [
            paths.text_to_path.get_text_width_height_descent(line, font, False)[0]
            for line in words.split("\n")
        ]
    return max(widths) / 72


def widest(words: Sequence[str], *, size: Number = palette.TEXT_SIZE) -> float:
    """The width in inches of the widest of `words`; 0.0 where there are none."""
    return max((text_width(word, size=size) for word in words), default=0.0)


def head_room(title: str) -> float:
    """How far below the upper edge the picture may start, in inches."""
    return palette.MARGIN + (0.36 if title else 0.0)


def card_width(title: str, *widths: Number) -> float:
    """The width of a card on which the title and all `widths` (margins included) fit, in inches."""
    return max(text_width(title, size=palette.TITLE_SIZE, bold=True) + 2 * palette.MARGIN, *widths)


def percent(share: Number) -> str:
    """A share from 0 to 1 as whole percents."""
    return f"{share:.0%}".replace("%", " %")


@dataclass(frozen=True)
class Sheet:
    """A rectangle of `figure`, `width` x `height` inches; y grows downwards.

    `paper` are matplotlib axes over the rectangle that count inches, `box` is where it lies in fractions of the figure
    (left, bottom, width, height).
    """

    figure: Figure
    paper: Axes
    width: Number
    height: Number
    box: tuple[Number, Number, Number, Number]

    @classmethod
    def over(
        cls, figure: Figure, size: Point, *, box: tuple[Number, Number, Number, Number] = (0, 0, 1, 1)
    ) -> "Sheet":
        """Lay a sheet of `size` inches over all of `figure`, or over a `box` of it."""
        paper = figure.add_axes(box, label=f"paper {box}")
        paper.set_xlim(0, size[0])
        paper.set_ylim(size[1], 0)
        paper.axis("off")
        return cls(figure=figure, paper=paper, width=size[0], height=size[1], box=box)

    def part(self, corner: Point, size: Point) -> "Sheet":
        """The `size` inches of this sheet whose upper left is `corner`, as a sheet of their own."""
        return Sheet.over(self.figure, size, box=self._fractions(corner, size))

    def _fractions(self, corner: Point, size: Point) -> tuple[Number, Number, Number, Number]:
        left, bottom, width, height = self.box
        across, up = width / self.width, height / self.height
        lower = self.height - corner[1] - size[1]
        return left + corner[0] * across, bottom + lower * up, size[0] * across, size[1] * up

    def text(
        self,
        spot: Point,
        words: str,
        *,
        size: Number = palette.TEXT_SIZE,
        color: Any = palette.INK,
        **how: Any,
    ) -> None:
        """Write `words` with their middle at `spot`; `how` are further properties of a matplotlib text."""
        style = {
            "ha": "center",
            "va": "center",
            "family": families(),
            "parse_math": False,
            "zorder": 5,
        } | how
        self.paper.text(*spot, words, fontsize=size, color=color, **style)

    def title(self, words: str, *, top: Number = palette.MARGIN) -> None:
        """Write the title at the upper left; nothing where `words` is empty."""
        if words:
            spot = (palette.MARGIN, top)
            self.text(spot, words, size=palette.TITLE_SIZE, ha="left", va="top", weight="bold")

    def line(
        self, points: Sequence[Point], *, color: Any = palette.INK, width: Number = 1.0, **how: Any
    ) -> None:
        """Draw a line through `points`; `width` is in points."""
        style = {"solid_capstyle": "round", "zorder": 3} | how
        self.paper.plot([x for x, _ in points], [y for _, y in points], color=color, linewidth=width, **style)

    def dot(
        self, spot: Point, *, color: Any, size: Number = 9.0, hollow: bool = False, zorder: Number = 4
    ) -> None:
        """Draw a dot, `size` points across."""
        style = {"markersize": size, "markeredgecolor": color, "markeredgewidth": 2.0 if hollow else 0.0}
        face = "white" if hollow else color
        self.paper.plot(*spot, marker="o", markerfacecolor=face, linestyle="none", zorder=zorder, **style)

    def arrow(self, start: Point, end: Point, *, color: Any, width: Number = 1.5, zorder: Number = 3) -> None:
        """Draw an arrow; `width` is in points."""
        patches = need("matplotlib.patches", extra="view", where="viewer")
        style = {
            "arrowstyle": "-|>",
            "mutation_scale": 6 + 3 * width,
            "shrinkA": 0,
            "shrinkB": 0,
            "zorder": zorder,
        }
        self.paper.add_patch(patches.FancyArrowPatch(start, end, color=color, linewidth=width, **style))

    def frame(
        self, corner: Point, size: Point, *, color: Any = palette.EDGE, width: Number = 0.8, **how: Any
    ) -> None:
        """Draw a rectangle from its upper left `corner`; hollow unless `how` has a facecolor."""
        patches = need("matplotlib.patches", extra="view", where="viewer")
        style = {"facecolor": "none", "zorder": 3} | how
        self.paper.add_patch(patches.Rectangle(corner, *size, edgecolor=color, linewidth=width, **style))

    def image(self, colors: Any, *, corner: Point, size: Point) -> None:
        """Draw (rows, columns, 4) colours as cells from the upper left `corner`, with sharp edges."""
        edges = (corner[0], corner[0] + size[0], corner[1] + size[1], corner[1])
        self.paper.imshow(colors, extent=edges, aspect="auto", interpolation="nearest", zorder=1)

    def rule(self, shape: tuple[int, int], *, corner: Point, cell: Point) -> None:
        """White lines between `shape` cells, so that neighbours of one colour can be counted."""
        right, bottom = corner[0] + shape[1] * cell[0], corner[1] + shape[0] * cell[1]
        across = [corner[1] + row * cell[1] for row in range(1, shape[0])]
        down = [corner[0] + column * cell[0] for column in range(1, shape[1])]
        self.paper.hlines(across, corner[0], right, colors="white", linewidth=0.8, zorder=2)
        self.paper.vlines(down, corner[1], bottom, colors="white", linewidth=0.8, zorder=2)

    def axes(self, corner: Point, size: Point) -> Axes:
        """A matplotlib axes from its upper left `corner`, with two quiet spines and our text."""
        box = self._fractions(corner, size)
        axes = self.figure.add_axes(box, label=f"axes {box}", facecolor="none")
        axes.tick_params(colors=palette.INK, labelsize=palette.TEXT_SIZE, labelfontfamily=palette.FONT)
        for side, spine in axes.spines.items():
            spine.set(color=palette.INK, linewidth=0.8, visible=side in ("left", "bottom"))
        return axes

    def inches(self, axes: Axes, point: Point) -> Point:
        """Where a `point` of `axes` lies on this sheet."""
        axes.autoscale_view()
        x, y = self.paper.transData.inverted().transform(axes.transData.transform(point))
        return float(x), float(y)
