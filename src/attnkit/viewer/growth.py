"""How something grows: measured dots on logarithmic axes, beside the dashed line of a power."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy
from torch import Tensor

from attnkit.errors import OptionError, need
from attnkit.viewer import palette
from attnkit.viewer.arguments import Array, not_empty, numbers, same_shape
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Axes, Sheet, card_width, head_room, widest
from attnkit.viewer.spread import apart

Slopes = Mapping[str, tuple[str, Number]]


def powers(
    x: Sequence[Number] | Tensor,
    curves: Mapping[str, Any],
    *,
    slopes: Slopes | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
) -> Picture:
    """Measured dots on two logarithmic axes; where a law is given, on its dashed line through their last dot.

    Args:
        x: `sizes`, above 0.
        curves: a name and `sizes` measured numbers each, above 0.
        slopes: for some of the names, the law: its text and its slope (1 grows as x, 2 as its square). The dots of
            the others are joined by a thin line.
        xlabel: what x is.
        ylabel: what is measured.
        title: says what is seen.

    Raises:
        OptionError: there are no curves, or a number is not above 0.
        ShapeError: a curve has another length than `x`.
    """
    where = "viewer.powers"
    not_empty(where, "curves", dict(curves))
    sizes = numbers(where, "x", x, "sizes")
    lines = {str(name): numbers(where, f"curves[{name!r}]", line, "sizes") for name, line in curves.items()}
    for name, line in lines.items():
        same_shape(where, ("x", sizes), (f"curves[{name!r}]", line))
        if not ((line > 0).all() and (sizes > 0).all()):
            what = f"x or {name!r} has a number that is not above 0"
            raise OptionError(where=where, what=what, fix="a logarithm needs numbers above 0")
    top = head_room(title) + (0.0 if title else 0.05)
    axis = (title, xlabel, ylabel)
    paint = partial(_paint, sizes=sizes, lines=lines, slopes=dict(slopes or {}), axis=axis, top=top)
    seen = "; ".join(f"{name} grows {line[-1] / line[0]:.3g} times" for name, line in lines.items())
    alt = f"{title or ylabel or 'Growth'}: while {xlabel or 'x'} grows {sizes[-1] / sizes[0]:,.0f} times, {seen}."
    return Picture(paint, (card_width(title, 6.15 + 1.1 * widest(list(lines))), top + 3.75), alt)


def _paint(
    sheet: Sheet,
    *,
    sizes: Array,
    lines: dict[str, Array],
    slopes: Slopes,
    axis: tuple[str, str, str],
    top: Number,
) -> None:
    sheet.title(axis[0])
    axes = _logarithmic(sheet, sizes, lines, top=top, axis=axis)
    for number, (name, line) in enumerate(lines.items()):
        look: dict[str, Any] = {"color": palette.LINES[number % len(palette.LINES)], "marker": "o"}
        look |= {"markersize": 7, "clip_on": False, "zorder": 4, "linewidth": 1.5}
        axes.plot(sizes, line, linestyle="none" if name in slopes else "-", **look)
    for name, (_, slope) in slopes.items():
        line = float(lines[name][-1]) * (sizes / sizes[-1]) ** slope
        axes.plot(sizes, line, color=palette.GUESS, linewidth=1.4, dashes=(4, 3), zorder=3)
    axes.autoscale_view()
    for name, (words, slope) in slopes.items():
        middle = float(numpy.sqrt(sizes[0] * sizes[-1]))
        height = float(lines[name][-1]) * (middle / float(sizes[-1])) ** slope
        x, y = sheet.inches(axes, (middle, height))
        sheet.text((x - 0.08, y - 0.08), words, color=palette.GUESS, ha="right", va="bottom")
    ends = [sheet.inches(axes, (float(sizes[-1]), float(line[-1]))) for line in lines.values()]
    heights = apart([y for _, y in ends], gap=0.22, low=0.2, high=sheet.height - 0.4)
    for number, (name, (x, _), y) in enumerate(zip(lines, ends, heights, strict=True)):
        shade = palette.LINES[number % len(palette.LINES)]
        sheet.text((x + 0.14, y), name, color=shade, ha="left", weight="bold")


def _logarithmic(
    sheet: Sheet, sizes: Array, lines: dict[str, Array], *, top: Number, axis: tuple[str, str, str]
) -> Axes:
    ticker = need("matplotlib.ticker", extra="view", where="viewer")
    axes = sheet.axes((0.95, top), (4.8, 3.1))
    span = max(float(line.max()) for line in lines.values()) / min(
        float(line.min()) for line in lines.values()
    )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2 if span < 300 else 10)
    shown = sizes[:: -(-len(sizes) // 8)].tolist()
    axes.set_xticks(shown, [f"{size:,.0f}" if size >= 1 else f"{size:g}" for size in shown])
    if span < 1e6:
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    style: dict[str, Any] = {"family": palette.FONT, "fontsize": palette.TEXT_SIZE, "color": palette.INK}
    axes.set_xlabel(axis[1], **style)
    axes.set_ylabel(axis[2], **style)
    return axes


def cost(
    lengths: Sequence[int] | Tensor,
    seconds: Sequence[Number] | Tensor,
    *,
    linear: Sequence[Number] | Tensor | None = None,
    title: str = "",
) -> Picture:
    """The time of attention against the number of tokens, beside the line of its square.

    Args:
        lengths: `sizes`, in tokens.
        seconds: `sizes`, of attention.
        linear: `sizes`, seconds of a layer that does not compare words, for contrast.
        title: says what is seen; empty states the growth that was measured.

    Raises:
        OptionError: a number is not above 0.
        ShapeError: the axes do not fit together.
    """
    where = "viewer.cost"
    sizes, spent = numbers(where, "lengths", lengths, "sizes"), numbers(where, "seconds", seconds, "sizes")
    measured: dict[str, Any] = {}
    if linear is not None:
        measured["one Linear layer"] = numbers(where, "linear", linear, "sizes") * 1000
    measured["attention"] = spent * 1000
    if not ((sizes > 0).all() and (spent > 0).all()):
        raise OptionError(
            where=where, what="a length or a time is not above 0", fix="repeat what is too quick to time"
        )
    growth = f"{sizes[-1] / sizes[0]:.0f} times the words: {spent[-1] / spent[0]:.0f} times the time"
    slopes = {"attention": ("grows as the square", 2.0)}
    return powers(
        sizes.tolist(), measured, slopes=slopes, xlabel="tokens", ylabel="milliseconds", title=title or growth
    )
