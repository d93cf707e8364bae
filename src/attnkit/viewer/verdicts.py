"""Pictures that answer yes or no: training against truth, two readings of a pronoun, tests against models."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from attnkit.errors import OptionError, ShapeError
from attnkit.viewer import palette
from attnkit.viewer.arguments import not_empty
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Point, Sheet, card_width, head_room, percent, text_width, widest

ROW = 0.42
LINE = 0.36
SHARES = 4.6
ENDS = ("in training", "when the future is cut off")
CAPTION = "the blue dot should lie right of the line, the orange one left of it"
GOOD, BAD = "#CFE8DF", "#FBD9C2"


def dumbbells(
    values: Mapping[str, tuple[Number, Number]],
    *,
    title: str = "",
    guessing: Number | None = None,
) -> Picture:
    """Two shares a name, from 0 to 1: in training (hollow) and when the future is cut off (full).

    Orange where the full one falls behind.

    Args:
        values: (hollow, full) for each name.
        title: says what is seen.
        guessing: where a dotted line stands, what guessing would reach.

    Raises:
        OptionError: there are no values, or one is not a share.
    """
    where = "viewer.dumbbells"
    not_empty(where, "values", dict(values))
    pairs = {str(name): (float(pair[0]), float(pair[1])) for name, pair in values.items()}
    for name, pair in pairs.items():
        if not all(-1e-6 <= share <= 1 + 1e-6 for share in pair):
            what = f"{name!r} has {pair}; a share lies between 0 and 1"
            raise OptionError(where=where, what=what, fix="divide by the number of tries")
    left, top = palette.MARGIN + widest(list(pairs)) + 0.3, head_room(title) + 0.34
    paint = partial(_paint_dumbbells, title=title, pairs=pairs, guessing=guessing, place=(left, top))
    seen = "; ".join(
        f"{name} {percent(hollow)} {ENDS[0]}, {percent(full)} {ENDS[1]}"
        for name, (hollow, full) in pairs.items()
    )
    width = card_width(title, left + SHARES + 0.9, left + text_width("".join(ENDS)) + 1.1)
    return Picture(paint, (width, top + len(pairs) * ROW + 0.42), f"{title or 'Two shares each'}: {seen}.")


def _paint_dumbbells(
    sheet: Sheet,
    *,
    title: str,
    pairs: dict[str, tuple[Number, Number]],
    guessing: Number | None,
    place: Point,
) -> None:
    left, top = place
    bottom = top + len(pairs) * ROW
    sheet.title(title)
    x = left
    for words, hollow in zip(ENDS, (True, False), strict=True):
        sheet.dot((x, top - 0.2), color=palette.INK, size=9, hollow=hollow)
        sheet.text((x + 0.12, top - 0.2), words, ha="left")
        x += text_width(words) + 0.5
    if guessing is not None:
        x = left + guessing * SHARES
        sheet.line([(x, top), (x, bottom + 0.05)], color=palette.GUESS, width=1.2, linestyle=":")
        sheet.text((x, bottom + 0.1), "guessing", size=9, color=palette.GUESS, va="top")
    for share in (0.0, 0.5, 1.0):
        if guessing is None or abs(share - guessing) > 0.2:
            sheet.text(
                (left + share * SHARES, bottom + 0.1), percent(share), size=9, color=palette.QUIET, va="top"
            )
    for row, (name, pair) in enumerate(pairs.items()):
        sheet.text((left - 0.2, top + (row + 0.5) * ROW), name, ha="right")
        _dumbbell(sheet, pair, spot=(left, top + (row + 0.5) * ROW))


def _dumbbell(sheet: Sheet, pair: tuple[Number, Number], *, spot: Point) -> None:
    (hollow, full), (left, y) = pair, spot
    shade = palette.RIGHT if full > hollow - 0.05 else palette.WRONG
    sheet.line([(left, y), (left + SHARES, y)], color="0.93", width=0.8, zorder=0)
    sheet.line([(left + hollow * SHARES, y), (left + full * SHARES, y)], color="0.75", width=2.5, zorder=2)
    sheet.dot((left + hollow * SHARES, y), color=shade, size=12, hollow=True)
    sheet.dot((left + full * SHARES, y), color=shade, size=8 if abs(full - hollow) < 0.03 else 12, zorder=5)
    sheet.text((left + SHARES + 0.72, y), percent(full), color=shade, ha="right", weight="bold")


PairRow = tuple[str, str, str, Number, Number]


def pairs(rows: Sequence[PairRow], *, title: str = "") -> Picture:
    """Two readings of one sentence as two dots between two nouns: do they lie on different sides?

    Args:
        rows: (sentence, orange noun, blue noun, blue dot, orange dot); a dot is the weight on the blue noun less
            the weight on the orange one, -1 to 1.
        title: says what is seen.

    Raises:
        OptionError: there are no rows.
        ShapeError: a row does not have five entries.
    """
    where = "viewer.pairs"
    not_empty(where, "rows", rows)
    for row in rows:
        if len(row) != 5:
            fix = "(sentence, orange noun, blue noun, blue dot, orange dot)"
            raise ShapeError(where=where, what=f"a row has {len(row)} entries", fix=fix)
    sentence, orange, blue = (widest([str(row[column]) for row in rows]) for column in range(3))
    left = palette.MARGIN + sentence + 0.3 + orange * 1.12 + 0.2
    room = max(3.4, min(4.6, 10.2 - left - blue))
    top = head_room(title) + 0.3
    paint = partial(_paint_pairs, title=title, rows=rows, place=(left, top, room))
    changed = sum(float(row[3]) > 0 > float(row[4]) for row in rows)
    width = card_width(title, left + room + blue * 1.12 + 0.35, text_width(CAPTION) + 0.3)
    alt = f"{title or 'Two readings'}: in {changed} of {len(rows)} sentences both dots lie where they should."
    return Picture(paint, (width, top + len(rows) * LINE + palette.MARGIN), alt)


def _paint_pairs(
    sheet: Sheet, *, title: str, rows: Sequence[PairRow], place: tuple[Number, Number, Number]
) -> None:
    left, top, room = place
    middle = left + room / 2
    scale = (room / 2 - 0.12) / max(0.1, *(abs(float(dot)) for row in rows for dot in row[3:]))
    sheet.title(title)
    sheet.text((palette.MARGIN, top - 0.18), CAPTION, ha="left", color=palette.QUIET)
    sheet.line([(middle, top), (middle, top + len(rows) * LINE)], color=palette.INK, width=1.4)
    sentence = palette.MARGIN + widest([str(row[0]) for row in rows])
    for number, (words, orange, blue, first, second) in enumerate(rows):
        y = top + (number + 0.5) * LINE
        right, wrong = middle + float(first) * scale, middle + float(second) * scale
        sheet.line([(left, y), (left + room, y)], color="0.93", width=0.8, zorder=0)
        sheet.text((sentence, y), str(words), ha="right")
        sheet.text((left - 0.2, y), str(orange), color=palette.WRONG, ha="right", weight="bold")
        sheet.text((left + room + 0.15, y), str(blue), color=palette.RIGHT, ha="left", weight="bold")
        sheet.line([(right, y), (wrong, y)], color="0.75", width=3.0, zorder=2)
        sheet.dot((right, y), color=palette.RIGHT, size=11)
        sheet.dot((wrong, y), color=palette.WRONG, size=7 if abs(right - wrong) < 0.12 else 11, zorder=5)


def table(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[Any]], *, title: str = ""
) -> Picture:
    r"""A table of verdicts.

    Args:
        rows: what was examined.
        columns: by which test; `\n` starts a new line.
        cells: `rows columns`: True is green "passes", False orange "caught", (bool, text) has its own text, None is
            empty, anything else is written on grey.
        title: says what is seen.

    Raises:
        OptionError: there are no rows or no columns.
        ShapeError: the cells do not fit the names.
    """
    where = "viewer.table"
    not_empty(where, "rows", rows)
    not_empty(where, "columns", columns)
    if len(cells) != len(rows) or any(len(line) != len(columns) for line in cells):
        what = f"the cells do not fit {len(rows)} rows and {len(columns)} columns"
        raise ShapeError(where=where, what=what, fix="give one list a row, with one entry a column")
    names, heads = [str(row) for row in rows], [str(column) for column in columns]
    texts = [[_cell(entry) for entry in line] for line in cells]
    wide = [max(widest([head]), widest([line[i][0] for line in texts])) + 0.3 for i, head in enumerate(heads)]
    left = palette.MARGIN + widest(names) + 0.2
    top = head_room(title) + max(head.count("\n") + 1 for head in heads) * palette.LINE_HEIGHT + 0.12
    paint = partial(_paint_table, title=title, names=names, heads=heads, texts=texts, place=(left, top, wide))
    listed = (
        f"{name}: " + ", ".join(f"{head} {words}" for head, (words, _) in zip(heads, line, strict=True))
        for name, line in zip(names, texts, strict=True)
    )
    size = (card_width(title, left + sum(wide) + palette.MARGIN), top + len(rows) * LINE + palette.MARGIN)
    return Picture(paint, size, f"{title or 'Verdicts'}: {'; '.join(listed)}.".replace("\n", " "))


def _paint_table(
    sheet: Sheet,
    *,
    title: str,
    names: list[str],
    heads: list[str],
    texts: list[list[tuple[str, str]]],
    place: tuple[Number, Number, list[Number]],
) -> None:
    left, top, wide = place
    sheet.title(title)
    for i, head in enumerate(heads):
        x = left + sum(wide[:i]) + wide[i] / 2
        sheet.text((x, top - 0.08), head, va="bottom", linespacing=1.2)
        for j, line in enumerate(texts):
            corner = (x - wide[i] / 2, top + j * LINE)
            sheet.frame(corner, (wide[i], LINE), color="white", width=2.0, facecolor=line[i][1])
            sheet.text((x, corner[1] + LINE / 2), line[i][0])
    for j, name in enumerate(names):
        sheet.text((left - 0.12, top + (j + 0.5) * LINE), name, ha="right")


def _cell(entry: Any) -> tuple[str, str]:
    """The text and the colour of a table's cell."""
    if isinstance(entry, bool):
        return ("passes", GOOD) if entry else ("caught", BAD)
    if isinstance(entry, tuple) and len(entry) == 2 and isinstance(entry[0], bool):
        return str(entry[1]), GOOD if entry[0] else BAD
    return ("" if entry is None else str(entry)), "0.96"
