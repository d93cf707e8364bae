"""The fan: one word's vector, layer by layer, in many sentences, each named at its own end."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy
from torch import Tensor

from attnkit.viewer import palette
from attnkit.viewer.arguments import Array, finite, labels, numbers, same_shape
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Point, Sheet, card_width, head_room, widest
from attnkit.viewer.spread import apart

LEFT, RIGHT = 0.45, 6.0


def fan(
    tracks: Tensor,
    sentences: Sequence[str],
    groups: Sequence[Any],
    *,
    guesses: Mapping[str, Tensor] | None = None,
    word: str = "bank",
    title: str = "",
) -> Picture:
    """One word's vector in many sentences, layer by layer, along one direction.

    Args:
        tracks: `sentences layers`, the first layer being the table of vectors.
        sentences: written at the end of each line.
        groups: one for each sentence; the first that appears is blue, the second orange, None a dashed grey guess.
        guesses: further sentences and their `layers` numbers, dashed grey.
        word: whose vector it is.
        title: says what is seen.

    Raises:
        ShapeError: the axes do not fit together.
        OptionError: a number is nan or infinite.
    """
    where = "viewer.fan"
    lines = numbers(where, "tracks", tracks, "sentences layers")
    texts = labels(where, "sentences", sentences, len(lines))
    labels(where, "groups", [str(group) for group in groups], len(lines))
    kinds = list(dict.fromkeys(group for group in groups if group is not None))
    shades = [
        palette.GUESS if group is None else palette.LINES[kinds.index(group) % len(palette.LINES)]
        for group in groups
    ]
    for sentence, track in (guesses or {}).items():
        more = numbers(where, f"guesses[{sentence!r}]", track, "layers")
        same_shape(where, ("one row of tracks", lines[0]), (f"guesses[{sentence!r}]", more))
        lines = numpy.vstack([lines, more[None]])
        texts, shades = [*texts, str(sentence)], [*shades, palette.GUESS]
    finite(where, "a track or a guess", lines)
    return _picture(lines, texts, shades, word=word, title=title)


def _picture(lines: Array, texts: list[str], shades: list[str], *, word: str, title: str) -> Picture:
    top, tall = head_room(title) + 0.08, max(3.6, 0.22 * len(texts) + 0.3)
    paint = partial(
        _paint, lines=lines, texts=texts, shades=shades, word=word, title=title, place=(top, tall)
    )
    near, far = float(numpy.ptp(lines[:, 0])), float(numpy.ptp(lines[:, -1]))
    opening = title or f"The vector of {word!r} in {len(texts)} sentences"
    alt = (
        f"{opening}: the lines are {near:.1f} apart in the table, {far:.1f} after layer {lines.shape[1] - 1}."
    )
    return Picture(
        paint, (card_width(title, RIGHT + 0.43 + widest(texts) + palette.MARGIN), top + tall + 0.95), alt
    )


def _paint(
    sheet: Sheet, *, lines: Array, texts: list[str], shades: list[str], word: str, title: str, place: Point
) -> None:
    top, tall = place
    low, high = float(lines.min()), float(lines.max())
    columns = numpy.linspace(LEFT, RIGHT, lines.shape[1]).tolist()
    rows = (top + tall * (high - lines) / max(high - low, 1e-9)).tolist()
    heights = apart([row[-1] for row in rows], gap=0.215, low=top - 0.05, high=top + tall + 0.15)
    sheet.title(title)
    for row, text, shade, height in zip(rows, texts, shades, heights, strict=True):
        dashed = shade == palette.GUESS
        how: dict[str, Any] = {"dashes": (4, 2), "zorder": 2} if dashed else {}
        sheet.line(list(zip(columns, row, strict=True)), color=shade, width=1.5 if dashed else 2.6, **how)
        elbow = [(RIGHT, row[-1]), (RIGHT + 0.12, row[-1]), (RIGHT + 0.32, height), (RIGHT + 0.38, height)]
        sheet.line(elbow, color=shade, width=0.7)
        sheet.text((RIGHT + 0.43, height), text, color=shade, ha="left", va="center_baseline")
    if float(numpy.ptp(lines[:, 0])) <= 0.02 * (high - low):
        _one_point(sheet, (LEFT, float(numpy.mean([row[0] for row in rows]))), len(rows), word)
    _layers(sheet, columns, top + tall + 0.3)


def _one_point(sheet: Sheet, spot: Point, count: int, word: str) -> None:
    """The point where all sentences start, and what it is."""
    sheet.dot(spot, color=palette.INK, size=10, zorder=6)
    sheet.line([(spot[0] + 0.02, spot[1] - 0.1), (spot[0] + 0.2, spot[1] - 0.72)], width=0.8)
    words = f"{count} sentences,\none vector for \u201c{word}\u201d"
    sheet.text((spot[0] - 0.2, spot[1] - 0.78), words, ha="left", va="bottom", linespacing=1.25)


def _layers(sheet: Sheet, columns: list[Number], floor: Number) -> None:
    sheet.line([(columns[0], floor), (columns[-1], floor)], width=0.8)
    for layer, x in enumerate(columns):
        sheet.line([(x, floor), (x, floor + 0.05)], width=0.8)
        sheet.text((x, floor + 0.09), str(layer) if layer else "table", va="top")
    sheet.text(((columns[0] + columns[-1]) / 2, floor + 0.31), "after layer", va="top", color=palette.QUIET)
