"""One map: rows ask, columns are read; a map of weights, of a mask, or of a few chosen questions."""

from collections.abc import Sequence
from typing import Any

import numpy
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.viewer import cells, palette
from attnkit.viewer.arguments import Array, labels, numbers
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Sheet, card_width, text_width, widest

Cell = tuple[int, int]
ASKS = "asks \u2193"
READS = "reads \u2192"


def weights(
    weights: Tensor,
    queries: Sequence[str] | None,
    keys: Sequence[str] | None = None,
    *,
    title: str = "",
    marked: Sequence[Cell] = (),
) -> Picture:
    """A map of `weights`, in Blues from 0 to 1 whatever they are.

    Args:
        weights: `q_len kv_len`, of one head.
        queries: one word for each row; None counts positions.
        keys: one word for each column; None takes `queries` where they fit.
        title: says what is seen.
        marked: cells (row, column) that are framed, with their number beside them.

    Raises:
        ShapeError: `weights` has other axes, or there are more or fewer words than rows and columns.
        OptionError: a marked cell lies outside.
    """
    where = "viewer.weights"
    entries = numbers(where, "weights", weights, "q_len kv_len")
    rows, columns = _words(where, entries, queries, keys)
    seen = [_most(row, columns, line) for row, line in zip(rows, entries, strict=True)]
    if marked:
        seen = [
            f"{rows[row]!r} reads {columns[column]!r} with weight {entries[row, column]:.2f}"
            for row, column in _inside(where, entries, marked)
        ]
    alt = f"{title or 'Attention weights'}, rows ask and columns are read: {'; '.join(seen[:4])}."
    return _map(entries, rows, columns, kind="weights", title=title, alt=alt, marked=marked)


def mask(
    keep: Tensor, queries: Sequence[str] | None, keys: Sequence[str] | None = None, *, title: str = ""
) -> Picture:
    """A map of a mask: blue may be read, hatched is hidden.

    Args:
        keep: bool `q_len kv_len`, True keeps.
        queries: one word for each row; None counts positions.
        keys: one word for each column; None takes `queries` where they fit.
        title: says what is seen.

    Raises:
        ShapeError: `keep` has other axes, or there are more or fewer words than rows and columns.
    """
    where = "viewer.mask"
    entries = numbers(where, "keep", keep, "q_len kv_len")
    rows, columns = _words(where, entries, queries, keys)
    alt = f"{title or 'A mask'}: {int((entries > 0).sum())} of {entries.size} cells may be read, the rest is hatched."
    return _map(entries, rows, columns, kind="mask", title=title, alt=alt)


def cards(
    weights: Tensor,
    cards: Sequence[str],
    questions: Sequence[str],
    title: str = "",
) -> Picture:
    """What a few questions, or heads, read: one row each, flat enough that two such maps fit side by side.

    Args:
        weights: `questions cards`, Blues from 0 to 1.
        cards: one word for each column.
        questions: one word for each row.
        title: says what is seen.

    Raises:
        ShapeError: `weights` has other axes, or the words do not fit.
    """
    where = "viewer.cards"
    entries = numbers(where, "weights", weights, "questions cards")
    columns = labels(where, "cards", cards, entries.shape[1])
    rows = labels(where, "questions", questions, entries.shape[0])
    seen = "; ".join(_most(row, columns, line) for row, line in zip(rows, entries, strict=True))
    alt = f"{title or 'What is read'}: {seen}."
    return _map(entries, rows, columns, kind="weights", title=title, alt=alt)


def _most(row: str, columns: list[str], line: Array) -> str:
    """What one row reads most, in words."""
    if not numpy.isfinite(line).all():
        return f"{row!r} is nan"
    if not line.any():
        return f"{row!r} reads nothing"
    return f"{row!r} reads {columns[int(line.argmax())]!r} most ({line.max():.2f})"


def _words(
    where: str, entries: Array, queries: Sequence[str] | None, keys: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    rows = labels(where, "queries", queries, entries.shape[0])
    square = entries.shape[0] == entries.shape[1]
    return rows, labels(where, "keys", queries if keys is None and square else keys, entries.shape[1])


def _inside(where: str, entries: Array, marked: Sequence[Cell]) -> Sequence[Cell]:
    for row, column in marked:
        if not (0 <= row < entries.shape[0] and 0 <= column < entries.shape[1]):
            what = f"the cell ({row}, {column}) lies outside {entries.shape[0]} rows and {entries.shape[1]} columns"
            raise OptionError(where=where, what=what, fix="count rows and columns from 0")
    return marked


def _map(
    entries: Array,
    rows: list[str],
    columns: list[str],
    *,
    kind: str,
    title: str,
    alt: str,
    marked: Sequence[Cell] = (),
) -> Picture:
    """The picture of one map."""
    pitch = min(max(min(4.6 / max(entries.shape), 0.44), 0.17), 7.0 / max(entries.shape))
    room, over = cells.columns_room(columns, pitch)
    left = (
        palette.MARGIN
        + max(widest(rows, size=cells.text_size(pitch)), text_width(READS, size=palette.SMALL_SIZE))
        + 0.12
    )
    top = palette.MARGIN + (0.3 if title else 0.0) + max(room, 0.4)
    width = card_width(title, left + entries.shape[1] * pitch + over + palette.MARGIN)

    def paint(sheet: Sheet) -> None:
        sheet.title(title)
        keep = entries if kind == "mask" else None
        cells.draw_cells(sheet, entries, corner=(left, top), cell=(pitch, pitch), kind=kind, keep=keep)
        cells.draw_rows(sheet, rows, corner=(left, top), pitch=pitch)
        cells.draw_columns(sheet, columns, corner=(left, top), pitch=pitch)
        axis = {"size": palette.SMALL_SIZE, "color": palette.QUIET, "ha": "right", "va": "bottom"}
        sheet.text((left - 0.07, top - 0.2), READS, **axis)
        sheet.text((left - 0.07, top - 0.03), ASKS, **axis)
        for cell in marked:
            _mark(sheet, entries, cell, (left, top, pitch))

    return Picture(paint, (width, top + entries.shape[0] * pitch + palette.MARGIN), alt)


def _mark(sheet: Sheet, entries: Array, cell: Cell, place: tuple[Number, Number, Number]) -> None:
    """Frame a cell, and write its number beside it where the cells do not hold theirs."""
    left, top, pitch = place
    row, column = cell
    corner = (left + column * pitch, top + row * pitch)
    sheet.frame(corner, (pitch, pitch), color=palette.WRONG, width=2.4, zorder=6)
    if max(entries.shape) <= palette.NUMBERS_UP_TO:
        return
    before = column > entries.shape[1] - 4 and column >= 3
    spot = (corner[0] - 0.08 if before else corner[0] + pitch + 0.08, corner[1] + pitch / 2)
    how: dict[str, Any] = {"ha": "right" if before else "left", "weight": "bold", "zorder": 7}
    how["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85}
    sheet.text(spot, f"{entries[row, column]:.2f}", color=palette.WRONG, **how)
