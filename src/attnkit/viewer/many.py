"""Many maps at once: the heads of a model, and its layers twice (what is read, and what is moved)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.viewer import cells, palette
from attnkit.viewer.arguments import Array, labels, numbers, same_shape
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Point, Sheet, card_width, head_room, percent, text_width, widest

GAP = 0.1
LARGEST = 2.5
ACROSS = 10.2
FRAMES = (palette.WRONG, palette.FOURTH, palette.FIFTH, "#7A5195", "#E69F00")


@dataclass(frozen=True)
class Grid:
    """Maps of (layers, heads, q_len, kv_len), and where they lie on the sheet; lengths in inches."""

    entries: Array
    rows: list[str]
    columns: list[str]
    title: str

    @property
    def pitch(self) -> float:
        """The side of a cell."""
        count, q_len, kv_len = self.entries.shape[1:]
        return min(LARGEST, (ACROSS - (count - 1) * GAP) / count) / max(q_len, kv_len)

    @property
    def labelled(self) -> bool:
        """True where the cells are large enough for words."""
        return bool(self.columns) and self.pitch >= 0.13

    @property
    def first(self) -> Point:
        """The upper left corner of the first map."""
        rows = widest(self.rows, size=cells.text_size(self.pitch)) + 0.1 if self.labelled else 0.0
        left = palette.MARGIN + (0.62 if self.entries.shape[0] > 1 else 0.0) + rows
        return left, head_room(self.title) + 0.24 + self.above[0]

    @property
    def above(self) -> Point:
        """The room of the words above the columns, and how far the last one reaches over."""
        return cells.columns_room(self.columns, self.pitch) if self.labelled else (0.0, 0.0)

    @property
    def size(self) -> Point:
        """The width and height of a map."""
        return self.entries.shape[3] * self.pitch, self.entries.shape[2] * self.pitch

    def corner(self, layer: int, head: int) -> Point:
        """The upper left corner of a map."""
        gap = max(GAP, self.above[1] + 0.05)
        return self.first[0] + head * (self.size[0] + gap), self.first[1] + layer * (self.size[1] + GAP)


def heads(
    weights: Tensor,
    *,
    words: Sequence[str] | None = None,
    marked: Mapping[Any, str] | None = None,
    title: str = "",
) -> Picture:
    """A grid of maps, a line for each layer, each in Blues from 0 to 1.

    Args:
        weights: `layers heads q_len kv_len`, or `heads q_len kv_len` for one layer.
        words: one for each position, written where the maps are large enough.
        marked: (layer, head), or the head alone for one layer, and the name that goes below the grid in its colour.
        title: says what is seen.

    Raises:
        ShapeError: `weights` has other axes, or the words do not fit.
        OptionError: a marked head does not exist.
    """
    where = "viewer.heads"
    single = torch.as_tensor(weights).dim() == 3
    axes = "heads q_len kv_len" if single else "layers heads q_len kv_len"
    entries = numbers(where, "weights", weights, axes)
    entries = entries[None] if single else entries
    columns = labels(where, "words", words, entries.shape[3]) if words is not None else []
    grid = Grid(entries, columns if entries.shape[2] == entries.shape[3] else [], columns, title)
    named = _marked(where, marked or {}, entries.shape[:2])
    notes = [f"{'' if single else f'layer {at[0]}, '}head {at[1]}: {name}" for at, name in named.items()]
    right, bottom = grid.corner(entries.shape[0], entries.shape[1] - 1)
    below = grid.first[0] + sum(text_width(note, bold=True) + 0.3 for note in notes)
    width = card_width(title, right + grid.size[0] + grid.above[1] + palette.MARGIN, below)
    paint = partial(_paint_heads, grid=grid, named=named, notes=notes)
    alt = f"{title or 'Attention weights'}: {entries.shape[0] * entries.shape[1]} maps, a line for each layer"
    size = (width, bottom + (0.27 if notes else 0.0) + palette.MARGIN)
    return Picture(paint, size, "; ".join([alt, *notes]) + ".")


def _marked(where: str, marked: Mapping[Any, str], counts: tuple[int, int]) -> dict[tuple[int, int], str]:
    """`marked` by (layer, head); a head alone is one of layer 0."""
    named = {(0, spot) if isinstance(spot, int) else spot: str(name) for spot, name in marked.items()}
    for layer, head in named:
        if not (0 <= layer < counts[0] and 0 <= head < counts[1]):
            what = f"no head {head} in layer {layer}: there are {counts[0]} layers of {counts[1]} heads"
            raise OptionError(where=where, what=what, fix="count layers and heads from 0")
    return named


def _paint_heads(sheet: Sheet, *, grid: Grid, named: dict[tuple[int, int], str], notes: list[str]) -> None:
    layers, count = grid.entries.shape[:2]
    sheet.title(grid.title)
    for head in range(count):
        left, top = grid.corner(0, head)
        spot = (left + grid.size[0] / 2, top - grid.above[0] - 0.05)
        sheet.text(spot, f"head {head}", size=9 if grid.size[0] > 0.6 else 7.5, va="bottom")
        if grid.labelled:
            cells.draw_columns(sheet, grid.columns, corner=(left, top), pitch=grid.pitch)
    for layer in range(layers):
        left, top = grid.corner(layer, 0)
        if layers > 1:
            sheet.text((palette.MARGIN, top + grid.size[1] / 2), f"layer {layer}", size=9, ha="left")
        if grid.labelled:
            cells.draw_rows(sheet, grid.rows, corner=(left, top), pitch=grid.pitch)
        for head in range(count):
            at = {"corner": grid.corner(layer, head), "cell": (grid.pitch, grid.pitch)}
            cells.draw_cells(sheet, grid.entries[layer, head], kind="weights", **at)
    _paint_marks(sheet, grid, named, notes)


def _paint_marks(sheet: Sheet, grid: Grid, named: dict[tuple[int, int], str], notes: list[str]) -> None:
    x, y = grid.first[0], grid.corner(grid.entries.shape[0] - 1, 0)[1] + grid.size[1] + 0.14
    for number, ((layer, head), note) in enumerate(zip(named, notes, strict=True)):
        left, top = grid.corner(layer, head)
        color = FRAMES[number % len(FRAMES)]
        frame = (grid.size[0] + 0.06, grid.size[1] + 0.06)
        sheet.frame((left - 0.03, top - 0.03), frame, color=color, width=2.6, zorder=6)
        sheet.text((x, y), note, color=color, ha="left", va="top", weight="bold")
        x += text_width(note, bold=True) + 0.3


def sinks(weights: Tensor, moved: Tensor, *, title: str = "", word: str = "the first word") -> Picture:
    """Above, what is read (Blues, 0 to 1); below, what is moved (Oranges): weight times the length of the value.

    Under each map stands the share of column 0, so that a column which is read and moves nothing is seen twice.

    Args:
        weights: `layers q_len kv_len`, for instance the mean of the heads.
        moved: of the same shape, weight times the length of the value.
        title: says what is seen.
        word: what column 0 is called.

    Raises:
        ShapeError: the two have other axes or differ in shape.
    """
    where = "viewer.sinks"
    read = numbers(where, "weights", weights, "layers q_len kv_len")
    carried = numbers(where, "moved", moved, "layers q_len kv_len")
    same_shape(where, ("weights", read), ("moved", carried))
    layers, q_len, kv_len = read.shape
    pitch = min(1.75, (ACROSS - (layers - 1) * GAP) / layers) / max(q_len, kv_len)
    left = palette.MARGIN + max(1.0, text_width(f"{word} gets") + 0.15)
    top, tall = head_room(title) + 0.26, q_len * pitch
    paint = partial(_paint_sinks, title=title, word=word, maps=(read, carried), place=(left, top, pitch))
    means = [sum(_first_share(layer) for layer in kind) / layers for kind in (read, carried)]
    shares = f"{percent(means[0])} of the weights and {percent(means[1])} of what is moved"
    size = (card_width(title, left + layers * (kv_len * pitch + GAP) + 0.05), top + 2 * tall + 0.8)
    return Picture(paint, size, f"{title or 'Sinks'}: {word} gets {shares}, mean of {layers} layers.")


def _first_share(entries: Array) -> float:
    """The share of column 0 in the sum of all columns."""
    return float(entries[:, 0].sum() / max(entries.sum(), 1e-30))


def _paint_sinks(
    sheet: Sheet, *, title: str, word: str, maps: tuple[Array, Array], place: tuple[Number, Number, Number]
) -> None:
    left, first, pitch = place
    sheet.title(title)
    looks = (
        ("weights", palette.RIGHT, "read:\nweight"),
        ("moved", palette.WRONG, "moved:\nweight \u00d7\n\u2016value\u2016"),
    )
    for line, (kind, color, name) in enumerate(looks):
        tall, wide = maps[line].shape[1] * pitch, maps[line].shape[2] * pitch
        top = first + line * (tall + 0.42)
        sheet.text((palette.MARGIN, top + tall / 2), name, color=color, ha="left", weight="bold")
        sheet.text((palette.MARGIN, top + tall + 0.06), f"{word} gets", color=color, ha="left", va="top")
        for layer, entries in enumerate(maps[line]):
            corner = (left + layer * (wide + GAP), top)
            cells.draw_cells(sheet, entries, corner=corner, cell=(pitch, pitch), kind=kind)
            share = percent(_first_share(entries))
            sheet.text((corner[0], top + tall + 0.06), share, color=color, ha="left", va="top", weight="bold")
            if line == 0:
                sheet.text((corner[0] + wide / 2, top - 0.06), f"layer {layer}", va="bottom")
