"""Curves with their names beside them: no legend, no names on top of each other."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy
from torch import Tensor

from attnkit.viewer import palette
from attnkit.viewer.arguments import Array, not_empty, numbers, same_shape
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Axes, Point, Sheet, card_width, head_room, widest
from attnkit.viewer.spread import apart

LOWEST = 0.18
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def curves(
    curves: Mapping[str, Tensor],
    *,
    x: Sequence[Number] | Tensor | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    named: bool = True,
    guessing: Number | None = None,
) -> Picture:
    """Lines with their names beside them: at their ends, or where they fall if they all end in one place.

    Args:
        curves: a name and `steps` numbers each; the first is blue, the second orange.
        x: `steps` numbers; None counts steps from 0.
        xlabel: what x is.
        ylabel: what y is.
        title: says what is seen.
        named: False shows letters instead of names: which is which?
        guessing: the height of a dotted line, what guessing would reach.

    Raises:
        OptionError: there are no curves.
        ShapeError: a curve has other axes, or another length than `x`.
    """
    where = "viewer.curves"
    not_empty(where, "curves", dict(curves))
    lines = {str(name): numbers(where, f"curves[{name!r}]", curve, "steps") for name, curve in curves.items()}
    across = {name: _steps(where, x, len(line)) for name, line in lines.items()}
    for name, line in lines.items():
        same_shape(where, ("x", across[name]), (f"curves[{name!r}]", line))
    shown = dict(zip(lines, lines if named else LETTERS, strict=False))
    top = head_room(title) + (0.0 if title else 0.05)
    axis = (xlabel, ylabel, guessing)
    paint = partial(_paint, title=title, lines=lines, across=across, shown=shown, axis=axis, top=top)
    ends = ", ".join(f"{shown[name]} ends at {line[-1]:.2f}" for name, line in lines.items())
    room = 0.1 if _together(lines) else 1.1 * widest(list(shown.values())) + 0.25
    size = (card_width(title, 6.25 + room), top + 3.1 + (0.65 if xlabel else 0.45))
    return Picture(paint, size, f"{title or ylabel or 'Curves'}: {ends}.")


def _steps(where: str, x: Any, count: int) -> Array:
    if x is None:
        return numpy.arange(count)
    return numbers(where, "x", x, "steps")


def _paint(
    sheet: Sheet,
    *,
    title: str,
    lines: dict[str, Array],
    across: dict[str, Array],
    shown: dict[str, str],
    axis: tuple[str, str, Number | None],
    top: Number,
) -> None:
    xlabel, ylabel, guessing = axis
    shades: dict[str, str] = dict(zip(lines, palette.LINES * len(lines), strict=False))
    sheet.title(title)
    axes = sheet.axes((0.75, top), (5.4, 3.1))
    style: dict[str, Any] = {"family": palette.FONT, "fontsize": palette.TEXT_SIZE, "color": palette.INK}
    axes.set_xlabel(xlabel, **style)
    axes.set_ylabel(ylabel, **style)
    for name, line in lines.items():
        axes.plot(across[name], line, color=shades[name], linewidth=2.2)
    if guessing is not None:
        axes.axhline(guessing, color=palette.GUESS, linewidth=1.2, linestyle=":")
        spot = sheet.inches(axes, (axes.get_xlim()[1], guessing))
        sheet.text(
            (spot[0], spot[1] - 0.03), "guessing", size=9, color=palette.GUESS, ha="right", va="bottom"
        )
    anchors, x = _anchors(sheet, axes, lines, across)
    _name(sheet, anchors, shown, shades, x=min(x, sheet.width - 1.1 * widest(list(shown.values())) - 0.08))


def _anchors(
    sheet: Sheet, axes: Axes, lines: dict[str, Array], across: dict[str, Array]
) -> tuple[dict[str, Point], Number]:
    """Where each curve is named, and where the names begin.

    At the ends; where those lie on top of each other, at points on the way, the slowest curve highest, so that the
    leaders cross as little as possible.
    """
    if not _together(lines):
        ends = {
            name: sheet.inches(axes, (float(across[name][_last(line)]), float(line[_last(line)])))
            for name, line in lines.items()
        }
        return ends, max(x for x, _ in ends.values()) + 0.22
    everything = numpy.concatenate(list(lines.values()))
    low, high = float(everything.min()), float(everything.max())
    order = sorted(lines, key=lambda name: _crossing(lines[name], (low + high) / 2))
    anchors = {}
    for rank, name in enumerate(order):
        step = _crossing(lines[name], low + (high - low) * (LOWEST + 0.6 * rank / (len(order) - 1)))
        anchors[name] = sheet.inches(axes, (float(across[name][step]), float(lines[name][step])))
    floor = [_crossing(line, low + (high - low) * 0.7 * LOWEST) for line in lines.values()]
    beyond = max(float(across[name][step]) for name, step in zip(lines, floor, strict=True))
    return anchors, sheet.inches(axes, (beyond, low))[0] + 0.2


def _together(lines: dict[str, Array]) -> bool:
    """True where the curves end so near to each other that names at their ends would say nothing."""
    everything, ends = numpy.concatenate(list(lines.values())), [line[-1] for line in lines.values()]
    return len(ends) > 1 and float(numpy.ptp(ends)) < 0.012 * (len(ends) - 1) * float(numpy.ptp(everything))


def _last(line: Array) -> int:
    """The last step with a finite number: a training that breaks off in nan has its name where it broke off."""
    finite = numpy.flatnonzero(numpy.isfinite(line))
    return int(finite[-1]) if len(finite) else 0


def _crossing(line: Array, level: Number) -> int:
    """The first step at which `line` is on the other side of `level` than it began."""
    beyond = numpy.flatnonzero((line <= level) if line[0] > level else (line >= level))
    return int(beyond[0]) if len(beyond) else len(line) - 1


def _name(
    sheet: Sheet, anchors: dict[str, Point], shown: dict[str, str], shades: dict[str, str], *, x: Number
) -> None:
    heights = apart([spot[1] for spot in anchors.values()], gap=0.215, low=0.6, high=sheet.height - 0.75)
    for (name, spot), y in zip(anchors.items(), heights, strict=True):
        sheet.line([spot, (x - 0.05, y)], color=shades[name], width=0.7, zorder=6)
        sheet.text(
            (x, y), shown[name], color=shades[name], ha="left", weight="bold", va="center_baseline", zorder=7
        )
