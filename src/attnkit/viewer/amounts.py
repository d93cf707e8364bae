"""Amounts: bars of a few numbers, histograms of many, and how evenly each word reads."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy
from torch import Tensor

from attnkit.errors import OptionError, ShapeError
from attnkit.viewer import palette
from attnkit.viewer.arguments import Array, labels, not_empty, numbers
from attnkit.viewer.cells import every
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Sheet, card_width, head_room, widest

ROW = 0.30
EVENLY = 4.6


def bars(
    values: Mapping[str, Any],
    *,
    title: str = "",
) -> Picture:
    """Horizontal bars with their numbers; blue to the right, orange below zero. Each panel fills its room.

    Args:
        values: a number for each name, or for each panel such a mapping: panels stand side by side and share names.
        title: says what is seen.

    Raises:
        OptionError: there are no values.
        ShapeError: the panels have different names.
    """
    panels, names = _panels(values)
    each, left = (
        4.0 if len(panels) == 1 else min(3.0, 9.0 / len(panels)),
        palette.MARGIN + widest(names) + 0.15,
    )
    top = head_room(title) + (0.28 if "" not in panels else 0.0)
    paint = partial(_paint_bars, title=title, amounts=panels, names=names, place=(left, top, each))
    listed = []
    for panel, entries in panels.items():
        texts = [f"{name} {value:.2f}" for name, value in zip(names, entries, strict=True)]
        listed.append(f"{panel} {', '.join(texts)}".strip())
    size = (card_width(title, left + len(panels) * each), top + len(names) * ROW + palette.MARGIN)
    return Picture(paint, size, f"{title or 'Bars'}: {'; '.join(listed)}.")


def _panels(values: Mapping[str, Any]) -> tuple[dict[str, list[Number]], list[str]]:
    """The numbers of each panel (one without a name, if `values` are numbers), and the names they share."""
    where = "viewer.bars"
    not_empty(where, "values", dict(values))
    panels = values if all(isinstance(value, Mapping) for value in values.values()) else {"": values}
    names = [str(name) for name in next(iter(panels.values()))]
    if any([str(name) for name in panel] != names for panel in panels.values()):
        fix = "give every panel the same names in the same order"
        raise ShapeError(where=where, what="the panels have different names", fix=fix)
    return {str(name): [float(value) for value in panel.values()] for name, panel in panels.items()}, names


def _paint_bars(
    sheet: Sheet,
    *,
    title: str,
    amounts: dict[str, list[Number]],
    names: list[str],
    place: tuple[Number, Number, Number],
) -> None:
    left, top, each = place
    sheet.title(title)
    for row, name in enumerate(names):
        sheet.text((left - 0.1, top + (row + 0.5) * ROW), name, ha="right")
    for number, (panel, entries) in enumerate(amounts.items()):
        sheet.text((left + number * each, top - 0.08), panel, ha="left", va="bottom", weight="bold")
        _panel(sheet, entries, left=left + number * each, top=top, room=each - 0.2)


def _panel(sheet: Sheet, entries: list[Number], *, left: Number, top: Number, room: Number) -> None:
    finite = [value for value in entries if numpy.isfinite(value)]
    low, high = min([0.0, *finite]), max([0.0, *finite])
    texts = [f"{value:.2f}".replace("-", "\u2212") for value in entries]
    label = widest(texts, size=9) + 0.08
    before = label if low < 0 else 0.0
    scale = (room - label - before) / max(high - low, 1e-9)
    zero = left + before - low * scale
    for row, (value, words) in enumerate(zip(entries, texts, strict=True)):
        y = top + row * ROW
        length = value * scale if numpy.isfinite(value) else 0.0
        shade = palette.WRONG if value < 0 else palette.RIGHT
        corner = (zero + min(length, 0), y + 0.05)
        sheet.frame(corner, (abs(length), ROW - 0.1), color="none", facecolor=shade)
        spot = (zero + length + (-0.05 if value < 0 else 0.05), y + ROW / 2)
        sheet.text(spot, words, size=9, ha="right" if value < 0 else "left")
    sheet.line([(zero, top), (zero, top + len(entries) * ROW)], color=palette.QUIET, width=0.8)


def histograms(
    tensors: Mapping[str, Tensor], *, title: str = "", bins: int = 40, xlabel: str = ""
) -> Picture:
    """How the numbers of several tensors are spread, one below the other on one scale.

    Args:
        tensors: a name and a tensor of any shape each.
        title: says what is seen.
        bins: how many bars a histogram has.
        xlabel: what the numbers are.

    Raises:
        OptionError: there are no tensors, or one has no finite number.
    """
    where = "viewer.histograms"
    not_empty(where, "tensors", dict(tensors))
    given = {}
    for name, tensor in tensors.items():
        entries = numbers(where, f"tensors[{name!r}]", tensor.reshape(-1), "entries")
        given[str(name)] = entries[numpy.isfinite(entries)]
        if not len(given[str(name)]):
            what = f"{name!r} holds no finite number"
            raise OptionError(where=where, what=what, fix="draw it before it turns into nan")
    spans = {name: (entries.min(), entries.max()) for name, entries in given.items()}
    ranges = {name: f"{low:.2f} to {high:.2f}".replace("-", "\u2212") for name, (low, high) in spans.items()}
    each, left = min(1.15, 4.4 / len(given)), palette.MARGIN + max(widest(list(given)) * 1.1, 0.6) + 0.2
    look, place = (bins, xlabel), (left, head_room(title), each)
    paint = partial(_paint_histograms, title=title, given=given, ranges=ranges, look=look, place=place)
    width = card_width(title, left + 5.25 + widest(list(ranges.values()), size=9))
    seen = "; ".join(f"{name} from {span}" for name, span in ranges.items()).replace("\n", " ")
    size = (width, head_room(title) + len(given) * each + (0.55 if xlabel else 0.3))
    return Picture(paint, size, f"{title or 'Histograms'}: {seen}.")


def _paint_histograms(
    sheet: Sheet,
    *,
    title: str,
    given: dict[str, Array],
    ranges: dict[str, str],
    look: tuple[int, str],
    place: tuple[Number, Number, Number],
) -> None:
    left, top, each = place
    low, high = (
        min(entries.min() for entries in given.values()),
        max(entries.max() for entries in given.values()),
    )
    high = high if high > low else low + 1.0
    sheet.title(title)
    for row, (name, entries) in enumerate(given.items()):
        shade, tall = palette.LINES[row % len(palette.LINES)], each - 0.12
        axes = sheet.axes((left, top + row * each), (5.0, tall))
        axes.hist(entries, bins=numpy.linspace(low, high, look[0] + 1).tolist(), color=shade)
        axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.tick_params(labelbottom=row == len(given) - 1)
        middle = top + row * each + tall / 2
        sheet.text((left - 0.12, middle), name, color=shade, ha="right", weight="bold")
        sheet.text((left + 5.1, middle), ranges[name], size=9, color=palette.QUIET, ha="left")
    sheet.text((left + 2.5, top + len(given) * each + 0.27), look[1], va="top")


def entropy(weights: Tensor, words: Sequence[str] | None, *, title: str = "") -> Picture:
    """How evenly each row reads: its entropy over the largest possible one, from 0 (one word) to 1 (all alike).

    Args:
        weights: `q_len kv_len`, rows that sum to one.
        words: one for each row; None counts positions.
        title: says what is seen.

    Raises:
        ShapeError: the axes do not fit, or there is only one key.
    """
    where = "viewer.entropy"
    entries = numbers(where, "weights", weights, "q_len kv_len")
    names = labels(where, "words", words, len(entries))
    if entries.shape[1] < 2:
        raise ShapeError(
            where=where, what="with one key there is nothing to choose", fix="give at least two keys"
        )
    logs = numpy.log(numpy.where(entries > 0, entries, 1.0))
    shares = numpy.abs((entries * logs).sum(axis=1)) / numpy.log(entries.shape[1])
    row = max(0.07, min(ROW, 6.0 / len(names)))
    left, top = palette.MARGIN + widest(names) + 0.3, head_room(title) + 0.3
    paint = partial(_paint_entropy, title=title, names=names, shares=shares.tolist(), place=(left, top, row))
    listed = ", ".join(f"{name} {share:.2f}" for name, share in zip(names[:12], shares[:12], strict=True))
    size = (card_width(title, left + EVENLY + 0.65), top + len(names) * row + palette.MARGIN)
    return Picture(paint, size, f"{title or 'Entropy of each row, of the largest possible'}: {listed}.")


def _paint_entropy(
    sheet: Sheet, *, title: str, names: list[str], shares: list[Number], place: tuple[Number, Number, Number]
) -> None:
    left, top, row = place
    bottom = top + len(names) * row
    sheet.title(title)
    for x, words, side in (
        (left, "0: reads one word", "left"),
        (left + EVENLY, "1: reads all alike", "right"),
    ):
        sheet.line([(x, top - 0.04), (x, bottom)], color="0.8", width=0.8)
        sheet.text((x, top - 0.08), words, size=9, color=palette.QUIET, ha=side, va="bottom")
    for position in every(len(names), row):
        size = palette.TEXT_SIZE if row > 0.18 else 8
        sheet.text((left - 0.15, top + (position + 0.5) * row), names[position], size=size, ha="right")
    for position, share in enumerate(shares):
        y = top + (position + 0.5) * row
        sheet.line(
            [(left, y), (left + share * EVENLY, y)], color=palette.KEPT, width=min(3.0, 20 * row), zorder=2
        )
        sheet.dot((left + share * EVENLY, y), color=palette.RIGHT, size=min(8, 60 * row))
        if row > 0.18:
            sheet.text((left + EVENLY + 0.15, y), f"{share:.2f}", ha="left")
