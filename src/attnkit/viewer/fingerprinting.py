"""Fingerprints: which output depends on which input. Past and present are blue, the future is orange.

An honest causal module leaves the upper right corner white; every way to leak paints its own pattern there.
"""

from collections.abc import Mapping
from functools import partial

import numpy
from torch import Tensor

from attnkit.errors import OptionError, ShapeError, need
from attnkit.viewer import palette
from attnkit.viewer.arguments import Array, not_empty, numbers
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Point, Sheet, card_width, head_room, text_width

NOTHING = 1e-6


def fingerprint(influence: Tensor, *, title: str = "") -> Picture:
    """The fingerprint of one module.

    Args:
        influence: `len len`, at least 0: how much output (row) i changes with input (column) j.
        title: says what is seen.

    Raises:
        ShapeError: `influence` is not square.
        OptionError: it has a negative entry.
    """
    return _grid({"": _checked("viewer.fingerprint", influence)}, title, side=3.2)


def fingerprints(influences: Mapping[str, Tensor], *, title: str = "") -> Picture:
    """The fingerprints of several modules, four in a line.

    Args:
        influences: a name and its `len len` influence each, at least 0.
        title: says what is seen.

    Raises:
        ShapeError: an influence is not square.
        OptionError: there are none, or one has a negative entry.
    """
    where = "viewer.fingerprints"
    not_empty(where, "influences", dict(influences))
    checked = {str(name): _checked(where, given) for name, given in influences.items()}
    return _grid(checked, title, side=2.0)


def _checked(where: str, influence: Tensor) -> Array:
    entries = numbers(where, "influence", influence, "len len")
    if entries.shape[0] != entries.shape[1]:
        what = f"influence has shape {entries.shape}; every output needs its input, so it is square"
        raise ShapeError(where=where, what=what, fix="give (len, len): rows outputs, columns inputs")
    if not (entries >= 0).all():
        fix = "take the norm of the gradient, or the absolute value"
        raise OptionError(where=where, what="influence has entries below zero or nan", fix=fix)
    return numpy.where(entries > NOTHING * entries.max(), entries, 0.0)


def _leaks(entries: Array) -> tuple[int, int]:
    """How many cells of the future are not empty, and how many there are."""
    future = numpy.triu(numpy.ones_like(entries, dtype=bool), 1)
    return int((entries[future] > 0).sum()), int(future.sum())


def _verdict(entries: Array) -> str:
    leaking, all_cells = _leaks(entries)
    return f"reads the future: {leaking} of {all_cells} cells" if leaking else "reads no future"


def _colors(entries: Array) -> Array:
    """The square root of the entries as colour: blue up to the diagonal, orange beyond, faint leaks still seen."""
    matplotlib = need("matplotlib", extra="view", where="viewer")
    strength = numpy.sqrt(entries / max(float(entries.max()), 1e-30))
    past = matplotlib.colormaps["Blues"](0.12 + 0.83 * strength)
    seen = (0.25 + 0.75 * strength)[..., None]
    future = numpy.ones_like(past)
    future[..., :3] = seen * numpy.array(matplotlib.colors.to_rgb(palette.WRONG)) + (1 - seen)
    ahead = numpy.triu(numpy.ones_like(entries, dtype=bool), 1)[..., None]
    white = (entries == 0)[..., None]
    return numpy.where(white, 1.0, numpy.where(ahead, future, past))


def _grid(given: dict[str, Array], title: str, *, side: Number) -> Picture:
    across = min(len(given), 4)
    down = -(-len(given) // across)
    lines = max(name.count("\n") + 1 if name else 0 for name in given)
    pitch = (side + 0.28, side + palette.LINE_HEIGHT * lines + 0.52)
    left, top = palette.MARGIN + 0.55, head_room(title)
    names = max(text_width(name, bold=True) for name in given)
    paint = partial(_paint, given=given, title=title, side=side, across=across, place=(left, top, pitch))
    seen = "; ".join(f"{name or 'the module'} {_verdict(entries)}" for name, entries in given.items())
    size = (
        card_width(title, left + across * pitch[0], left + (across - 1) * pitch[0] + names),
        top + down * pitch[1] + 0.2,
    )
    return Picture(
        paint, size, f"{title or 'Which output depends on which input'}: {seen}.".replace("\n", " ")
    )


def _paint(
    sheet: Sheet,
    *,
    given: dict[str, Array],
    title: str,
    side: Number,
    across: int,
    place: tuple[Number, Number, Point],
) -> None:
    left, top, pitch = place
    sheet.title(title)
    for number, (name, entries) in enumerate(given.items()):
        row, column = divmod(number, across)
        corner = (left + column * pitch[0], top + (row + 1) * pitch[1] - side - 0.42)
        _paint_one(sheet, entries, name, corner=corner, side=side)
        if column == 0:
            spot = (corner[0] - 0.3, corner[1] + side / 2)
            sheet.text(spot, "output of token", size=9, color=palette.QUIET, rotation=90)
    bottom = top + -(-len(given) // across) * pitch[1]
    sheet.text((left, bottom - 0.04), "input token \u2192", size=9, color=palette.QUIET, ha="left")


def _paint_one(sheet: Sheet, entries: Array, name: str, *, corner: Point, side: Number) -> None:
    (left, top), count = corner, len(entries)
    step = side / count
    sheet.image(_colors(entries), corner=corner, size=(side, side))
    if count <= 24:
        sheet.rule(entries.shape, corner=corner, cell=(step, step))
    sheet.frame(corner, (side, side))
    stairs = [
        (left + (i + over) * step, top + i * step)
        for i in range(count + 1)
        for over in (0, 1)
        if i + over <= count
    ]
    sheet.line(stairs[1:], color=palette.INK, width=1.0)
    color = palette.WRONG if _leaks(entries)[0] else palette.RIGHT
    sheet.text((left, top - 0.07), name, ha="left", va="bottom", weight="bold")
    sheet.text((left, top + side + 0.06), _verdict(entries), size=9, color=color, ha="left", va="top")
    for position in {0, count - 1}:
        sheet.text((left - 0.1, top + (position + 0.5) * step), str(position), size=8, color=palette.QUIET)
