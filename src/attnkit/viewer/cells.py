"""A matrix as coloured cells, and the words beside and above it.

Colours never stretch to the data: weights are Blues from 0 to 1, so flat rows look flat; signed numbers are red above
zero and blue below, as strong on either side. Numbers stand in the cells of matrices up to 8 x 8.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy

from attnkit.errors import need, unknown_name
from attnkit.viewer import palette
from attnkit.viewer.arguments import Array
from attnkit.viewer.palette import Number
from attnkit.viewer.sheet import Point, Sheet, text_width, widest

KINDS = ("signed", "weights", "mask", "moved")
SLANT = 60


def colored(kind: str, numbers: Array) -> Array:
    """The colours, (rows, columns, 4), of `numbers`; what is not finite is grey."""
    if kind not in KINDS:
        raise unknown_name("viewer", "kind of cells", kind, KINDS)
    matplotlib = need("matplotlib", extra="view", where="viewer")
    finite = numpy.isfinite(numbers)
    known = numpy.where(finite, numbers, 0.0)
    largest = float(numpy.abs(known).max()) or 1.0
    if kind == "signed":
        colors = matplotlib.colormaps["RdBu_r"]((known / (1.2 * largest) + 1) / 2)
    elif kind == "moved":
        colors = matplotlib.colormaps["Oranges"](known / largest)
    elif kind == "mask":
        colors = numpy.where(known[..., None] > 0, matplotlib.colors.to_rgba(palette.KEPT), 1.0)
    else:
        colors = matplotlib.colormaps["Blues"](numpy.clip(known, 0.0, 1.0))
    return numpy.where(finite[..., None], colors, matplotlib.colors.to_rgba(palette.HIDDEN))


def number_text(kind: str, value: Number) -> str:
    """How `value` stands in a cell: weights with two digits, signed numbers with one, huge ones as 1e6."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "\u2212\u221e" if value < 0 else "\u221e"
    if kind == "weights":
        return "0" if value == 0 else f"{value:.2f}"
    if abs(value) >= 9999.5:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e").replace("-", "\u2212")
    digits = 1 if abs(value) < 99.95 else 0
    rounded = round(value, digits) + 0.0
    return f"{rounded:.{digits}f}".replace("-", "\u2212")


def draw_cells(
    sheet: Sheet, numbers: Array, *, corner: Point, cell: Point, kind: str, keep: Array | None = None
) -> None:
    """Draw `numbers` (rows, columns) from the upper left `corner`, each cell `cell` inches wide and high.

    `keep`, of the same shape, hatches the cells where it is False.
    """
    rows, columns = numbers.shape
    colors = colored(kind, numbers)
    size = (columns * cell[0], rows * cell[1])
    sheet.image(colors, corner=corner, size=size)
    shown = numpy.ones_like(numbers, dtype=bool) if keep is None else keep.astype(bool)
    if not shown.all():
        _hatch(sheet, shown, corner, cell)
    if min(cell) >= 0.14:
        sheet.rule((rows, columns), corner=corner, cell=cell)
    sheet.frame(corner, size)
    if max(rows, columns) <= palette.NUMBERS_UP_TO and kind in ("signed", "weights") and min(cell) >= 0.28:
        _write(sheet, numbers, colors, shown, (corner, cell, kind))


def _write(sheet: Sheet, numbers: Array, colors: Array, shown: Array, look: tuple[Point, Point, str]) -> None:
    corner, cell, kind = look
    light = colors[..., :3] @ numpy.array([0.30, 0.59, 0.11])
    texts = {
        spot: number_text(kind, float(value)) for spot, value in numpy.ndenumerate(numbers) if shown[spot]
    }
    size = min(9.0, 9.0 * (cell[0] - 0.06) / max(widest(list(texts.values()), size=9.0), 0.1))
    for (row, column), words in texts.items():
        spot = (corner[0] + (column + 0.5) * cell[0], corner[1] + (row + 0.5) * cell[1])
        quiet = palette.EDGE if words == "0" else palette.INK
        sheet.text(spot, words, size=size, color="white" if light[row, column] < 0.55 else quiet)


def _hatch(sheet: Sheet, shown: Array, corner: Point, cell: Point) -> None:
    """Grey the cells that are not shown, as one path: neighbouring cells share one unbroken hatch."""
    paths = need("matplotlib.path", extra="view", where="viewer")
    patches = need("matplotlib.patches", extra="view", where="viewer")
    rectangles = []
    for row in range(shown.shape[0]):
        edges = numpy.flatnonzero(numpy.diff(numpy.concatenate(([1], shown[row].astype(int), [1]))))
        top, bottom = corner[1] + row * cell[1], corner[1] + (row + 1) * cell[1]
        for start, stop in edges.reshape(-1, 2):
            left, right = corner[0] + start * cell[0], corner[0] + stop * cell[0]
            rectangles.append(
                paths.Path(
                    [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], closed=True
                )
            )
    style: dict[str, Any] = {
        "facecolor": palette.HIDDEN,
        "edgecolor": palette.HATCH,
        "linewidth": 0.0,
        "hatch": "////",
    }
    sheet.paper.add_patch(patches.PathPatch(paths.Path.make_compound_path(*rectangles), zorder=1.5, **style))


def every(count: int, pitch: Number, *, room: Number = 0.15) -> range:
    """The positions that get a label when neighbours stand `pitch` inches apart: all, or every second, third, ..."""
    return range(0, count, max(1, math.ceil(room / pitch - 1e-9)))


def text_size(pitch: Number) -> float:
    """The size, in points, of labels whose neighbours stand `pitch` inches apart."""
    return min(palette.TEXT_SIZE, max(7.5, 45 * pitch))


def slanted(words: Sequence[str], pitch: Number) -> bool:
    """True where `words` above columns `pitch` inches wide need to be turned; numbers are thinned instead."""
    return not all(word.isdigit() for word in words) and widest(words, size=text_size(pitch)) > pitch - 0.04


def columns_room(words: Sequence[str], pitch: Number) -> Point:
    """The height that the words above columns need, and how far the last one reaches over the right edge, in inches."""
    if not words:
        return 0.0, 0.0
    if not slanted(words, pitch):
        return 0.22, 0.0
    angle, size = math.radians(SLANT), text_size(pitch)
    over = max(
        text_width(word, size=size) * math.cos(angle) - (len(words) - i - 0.5) * pitch
        for i, word in enumerate(words)
    )
    return widest(words, size=size) * math.sin(angle) + 0.16, max(over + 0.1, 0.0)


def draw_columns(sheet: Sheet, words: Sequence[str], *, corner: Point, pitch: Number) -> None:
    """Write `words` above columns that start at `corner`, turned where they are too wide, thinned where too many."""
    turned = slanted(words, pitch)
    room = 0.15 if turned else widest(words, size=text_size(pitch)) + 0.04
    for position in every(len(words), pitch, room=room):
        spot = (corner[0] + (position + 0.5) * pitch, corner[1] - 0.05)
        how: dict[str, Any] = {"va": "bottom"}
        if turned:
            how |= {"rotation": SLANT, "rotation_mode": "anchor", "ha": "left", "va": "center"}
            spot = (spot[0], corner[1] - 0.06)
        sheet.text(spot, words[position], size=text_size(pitch), **how)


def draw_rows(sheet: Sheet, words: Sequence[str], *, corner: Point, pitch: Number) -> None:
    """Write `words` left of rows that start at `corner`, thinned where there are too many."""
    for position in every(len(words), pitch):
        spot = (corner[0] - 0.07, corner[1] + (position + 0.5) * pitch)
        sheet.text(spot, words[position], size=text_size(pitch), ha="right")
