"""What large scores do to a softmax: one key takes everything, and most rows stop learning."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy
from torch import Tensor

from attnkit.errors import ShapeError, need
from attnkit.viewer import palette
from attnkit.viewer.arguments import Array, numbers
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Axes, Point, Sheet, card_width, head_room

Measured = tuple[Tensor, Tensor, Tensor]
Amounts = tuple[Array, Array, Array]


def saturation(head_dims: Sequence[int], raw: Measured, scaled: Measured, *, title: str = "") -> Picture:
    """What large scores do: one dark streak of weights, entropy that falls, a gradient that vanishes.

    Args:
        head_dims: `dims`.
        raw: without the scale: weights `dims kv_len` of one query, entropy `dims` (1 is even), gradient at the
            scores `dims` (of the median row).
        scaled: the same with the scale.
        title: says what is seen.

    Raises:
        ShapeError: the axes do not fit together.
    """
    where = "viewer.saturation"
    names = [str(size) for size in head_dims]
    both = [_amounts(where, kind, given, len(names)) for kind, given in (("raw", raw), ("scaled", scaled))]
    top = head_room(title) + 0.3
    paint = partial(_paint, title=title, names=names, both=both, top=top)
    ends = [float(entropy[-1]) for _, entropy, _ in both]
    alt = f"at head_dim {names[-1]} the entropy is {ends[0]:.2f} without the scale and {ends[1]:.2f} with it."
    return Picture(
        paint, (card_width(title, 10.2), top + 3.35), f"{title or 'Large scores saturate the softmax'}: {alt}"
    )


def _amounts(where: str, kind: str, given: Measured, count: int) -> Amounts:
    if len(given) != 3:
        raise ShapeError(
            where=where, what=f"{kind} has {len(given)} parts", fix="give (weights, entropy, gradient)"
        )
    weights, entropy, gradient = given
    amounts = (
        numbers(where, f"{kind}: weights", weights, "dims kv_len"),
        numbers(where, f"{kind}: entropy", entropy, "dims"),
        numbers(where, f"{kind}: gradient", gradient, "dims"),
    )
    if any(len(part) != count for part in amounts):
        what = f"{kind} has {', '.join(str(len(part)) for part in amounts)} entries for {count} head_dims"
        raise ShapeError(where=where, what=what, fix="measure all three at every head_dim")
    return amounts


def _paint(sheet: Sheet, *, title: str, names: list[str], both: list[Amounts], top: Number) -> None:
    sheet.title(title)
    looks = (
        ("Oranges", palette.WRONG, "q \u00b7 k as it is"),
        ("Blues", palette.RIGHT, "q \u00b7 k / \u221ahead_dim"),
    )
    for number, look in enumerate(looks):
        _streaks(sheet, both[number][0], look=look, corner=(0.55, top + number * 1.57))
    shown = range(0, len(names), max(1, (len(names) - 1) // 3))
    for position in shown:
        spot = (0.55 + (position + 0.5) * 3.2 / len(names), top + 2.83)
        sheet.text(spot, names[position], va="top")
    for number, words in enumerate(
        ("entropy (1: even, 0: one key)", "gradient at the scores, median row"), start=1
    ):
        left = 1.15 + number * 3.2
        axes = sheet.axes((left, top), (2.5, 2.75))
        for amounts, shade in zip(both, (palette.WRONG, palette.RIGHT), strict=True):
            axes.plot(
                range(len(names)), amounts[number], color=shade, linewidth=2.2, marker="o", markersize=4.5
            )
        axes.set_xticks(list(shown), [names[position] for position in shown])
        axes.set_ylim(
            0, max(1.0 if number == 1 else 0.0, 1.2 * max(float(amounts[number].max()) for amounts in both))
        )
        _two_names(axes, both[0][number], both[1][number])
        sheet.text((left - 0.3, top - 0.17), words, ha="left", va="bottom")
    for center in (2.15, 5.6, 8.8):
        sheet.text((center, top + 3.03), "head_dim", va="top")


def _two_names(axes: Axes, raw: Array, scaled: Array) -> None:
    """Name the two lines: one above its end, the other left of where it has fallen to a third."""
    how: dict[str, Any] = {"textcoords": "offset points", "family": palette.FONT, "weight": "bold"}
    end, low = len(raw) - 1, int(numpy.abs(raw - raw.max() / 3).argmin())
    axes.annotate(
        "divided", (end, scaled[end]), xytext=(0, 6), ha="right", va="bottom", color=palette.RIGHT, **how
    )
    axes.annotate(
        "not divided", (low, raw[low]), xytext=(-8, 0), ha="right", va="top", color=palette.WRONG, **how
    )


def _streaks(sheet: Sheet, weights: Array, *, look: tuple[str, str, str], corner: Point) -> None:
    """A strip of weights, 0 to 1, a column for each head_dim and a row for each key."""
    matplotlib = need("matplotlib", extra="view", where="viewer")
    (colors, shade, words), (left, top), (width, tall) = look, corner, (3.2, 1.18)
    shown = matplotlib.colormaps[colors](numpy.clip(weights.T, 0, 1))
    sheet.image(shown, corner=corner, size=(width, tall))
    sheet.frame(corner, (width, tall))
    sheet.text((left, top - 0.05), words, color=shade, ha="left", va="bottom", weight="bold")
    sheet.text((left - 0.17, top + tall / 2), f"{weights.shape[1]} keys", size=9, rotation=90)
