"""How a width is split into heads: neighbouring columns belong together."""

from functools import partial

from attnkit.errors import OptionError
from attnkit.viewer import palette
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Point, Sheet, card_width, head_room

COLORS = palette.LINES
LEFT = 0.35
BETWEEN = 1.5
GAP = 0.14


def split_columns(d_out: int, num_heads: int, *, tokens: int = 3, title: str = "") -> Picture:
    """The columns of a projection, coloured by head, before and after `split_heads`.

    Args:
        d_out: how many columns there are, at most 48.
        num_heads: into how many runs of neighbours they are split, at most 8.
        tokens: how many rows are drawn, at most 8.
        title: says what is seen.

    Raises:
        OptionError: `num_heads` does not divide `d_out`, or there are too many to draw.
    """
    where = "viewer.split_columns"
    if not (1 <= num_heads <= len(COLORS) and num_heads <= d_out <= 48 and 1 <= tokens <= 8):
        what = f"d_out {d_out}, num_heads {num_heads}, tokens {tokens} cannot be drawn"
        raise OptionError(
            where=where, what=what, fix="at most 48 columns, 8 heads and 8 tokens, each at least 1"
        )
    if d_out % num_heads:
        divisors = ", ".join(str(count) for count in range(1, len(COLORS) + 1) if d_out % count == 0)
        what = f"{num_heads} heads do not divide {d_out} columns"
        raise OptionError(where=where, what=what, fix=f"num_heads one of {divisors}")
    cell, head_dim, top = min(0.3, 3.6 / d_out), d_out // num_heads, head_room(title) + 0.3
    bottom = top + num_heads * (tokens * cell + GAP) - GAP
    paint = partial(_paint, title=title, counts=(d_out, num_heads, tokens), cell=cell, top=top)
    alt = f"{title or 'Split into heads'}: {d_out} columns become {num_heads} heads of {head_dim} neighbouring columns."
    width = card_width(title, LEFT + d_out * cell + BETWEEN + max(head_dim * cell, 0.35) + 0.85)
    return Picture(paint, (width, bottom + palette.MARGIN), alt)


def _paint(sheet: Sheet, *, title: str, counts: tuple[int, int, int], cell: Number, top: Number) -> None:
    d_out, num_heads, tokens = counts
    head_dim, block = d_out // num_heads, tokens * cell
    middle, right = top + (num_heads * (block + GAP) - GAP) / 2, LEFT + d_out * cell + BETWEEN
    shape = {"size": palette.SMALL_SIZE, "color": palette.QUIET, "va": "bottom"}
    sheet.title(title)
    for number in range(num_heads):
        y, size = top + number * (block + GAP), (head_dim, tokens)
        _block(
            sheet,
            (LEFT + number * head_dim * cell, middle - block / 2),
            size,
            cell=cell,
            color=COLORS[number],
        )
        _block(sheet, (right, y), size, cell=cell, color=COLORS[number])
        spot = (right + head_dim * cell + 0.1, y + block / 2)
        sheet.text(spot, f"head {number}", color=COLORS[number], ha="left", weight="bold")
    sheet.text((LEFT + d_out * cell / 2, middle - block / 2 - 0.06), f"(len, {d_out})", **shape)
    sheet.text((right, top - 0.06), f"({num_heads}, len, {head_dim})", ha="left", **shape)
    center = right - BETWEEN / 2
    sheet.arrow((center - 0.35, middle), (center + 0.35, middle), color=palette.WRONG, width=1.8)
    how = {"size": palette.SMALL_SIZE, "family": palette.MONO, "va": "top"}
    sheet.text((center, middle + 0.12), "split_heads", color=palette.WRONG, **how)


def _block(sheet: Sheet, corner: Point, size: tuple[int, int], *, cell: Number, color: str) -> None:
    """The columns of one head; every second token is darker, so that rows can be followed."""
    for column in range(size[0]):
        for row in range(size[1]):
            spot = (corner[0] + column * cell, corner[1] + row * cell)
            alpha = 0.85 if row % 2 else 0.55
            sheet.frame(spot, (cell, cell), color="white", width=0.8, facecolor=color, alpha=alpha)
