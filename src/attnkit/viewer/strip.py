"""The strip: how one matrix becomes the next, from the words' vectors to their contexts.

    x -> scores -> (mask) -> weights -> context

Every chapter adds a box and moves nothing else, so the eye finds what is new. The operation stands under its arrow, the
shape under its box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from attnkit.errors import OptionError, ShapeError
from attnkit.viewer import cells, palette
from attnkit.viewer.arguments import not_empty
from attnkit.viewer.boxes import Box
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Sheet, card_width, head_room, text_width, widest

WIDEST = 12.6
SHORTEST = 0.8
ARROW = 0.4


@dataclass(frozen=True)
class Place:
    """A box with its words, the left edge of its cells, and the middle of the arrow before it (None: no arrow)."""

    box: Box
    rows: list[str]
    columns: list[str]
    left: Number
    arrow: Number | None

    @property
    def right(self) -> float:
        """How far the box and what stands above and below it reach to the right."""
        return (
            self.left
            + self.box.size[0]
            + max(_spill(self.box), cells.columns_room(self.columns, self.box.cell)[1])
        )


def steps(*boxes: Box, words: Sequence[str], title: str = "") -> Picture:
    """The strip of `boxes`, from left to right; it starts a new line where it gets wider than 12.6 inches.

    Args:
        boxes: made by `box`.
        words: one for each row; a box with another number of rows is drawn without them.
        title: says what is seen.

    Raises:
        OptionError: there are no boxes, or something else is among them.
        ShapeError: `words` fit none of the boxes.
    """
    where = "viewer.steps"
    not_empty(where, "boxes", boxes)
    for given in boxes:
        if not isinstance(given, Box):
            fix = "wrap each tensor: viewer.box('scores', scores, by='x @ x.T')"
            raise OptionError(where=where, what=f"boxes holds a {type(given).__name__}", fix=fix)
    names, counts = [str(word) for word in words], [given.entries.shape[0] for given in boxes]
    if len(names) not in counts:
        what = f"{len(names)} words, but the boxes have {', '.join(map(str, counts))} rows"
        raise ShapeError(where=where, what=what, fix="give one word for each row")
    lines = _places(boxes, names)
    width = card_width(title, *(line[-1].right + palette.MARGIN for line in lines))
    height = head_room(title) + sum(_above(line) + _tallest(line) + _below(line) for line in lines)
    path = " to ".join(given.name for given in boxes)
    alt = f"{title or 'Attention step by step'}: from {path}, for the words {', '.join(names)}."
    return Picture(partial(_paint, title=title, lines=lines), (width, height), alt)


def _places(boxes: Sequence[Box], words: list[str]) -> list[list[Place]]:
    """Where each box of each line stands."""
    lines: list[list[Place]] = [[]]
    right = palette.MARGIN
    for number, given in enumerate(boxes):
        rows = words if given.entries.shape[0] == len(words) else []
        columns = list(given.columns) if isinstance(given.columns, tuple) else []
        if given.columns is True and given.entries.shape[1] == len(words):
            columns = words
        room = max(ARROW, text_width(given.by, size=palette.SMALL_SIZE, mono=True)) + 0.3 if number else 0.0
        before = room + max(widest(rows, size=cells.text_size(given.cell)) + 0.08, _spill(given))
        place = Place(given, rows, columns, right + before, right + room / 2 if number else None)
        if lines[-1] and place.right > WIDEST:
            lines.append([])
            place = Place(given, rows, columns, palette.MARGIN + before, palette.MARGIN + room / 2)
        lines[-1].append(place)
        right = place.right
    return lines


def _spill(given: Box) -> float:
    """How far the name, the shape or the note of a box reaches over its edges, on either side."""
    below = max(
        text_width(given.shape, size=palette.SMALL_SIZE), text_width(given.note, size=palette.SMALL_SIZE)
    )
    return max(0.0, (max(text_width(given.name), below) - given.size[0]) / 2)


def _above(line: list[Place]) -> float:
    return 0.26 + max(cells.columns_room(place.columns, place.box.cell)[0] for place in line)


def _tallest(line: list[Place]) -> float:
    return max(SHORTEST, *(place.box.size[1] for place in line))


def _below(line: list[Place]) -> float:
    return palette.MARGIN + (0.44 if any(place.box.note for place in line) else 0.24)


def _paint(sheet: Sheet, *, title: str, lines: list[list[Place]]) -> None:
    sheet.title(title)
    top = head_room(title)
    for line in lines:
        middle = top + _above(line) + _tallest(line) / 2
        for place in line:
            _paint_box(sheet, place, top=middle - place.box.size[1] / 2)
            if place.arrow is not None:
                half = ARROW / 2
                ends = (place.arrow - half, middle), (place.arrow + half, middle)
                sheet.arrow(*ends, color=palette.WRONG, width=1.8)
                how = {"size": palette.SMALL_SIZE, "family": palette.MONO, "va": "top", "linespacing": 1.25}
                sheet.text((place.arrow, middle + 0.12), place.box.by, color=palette.WRONG, **how)
        top += _above(line) + _tallest(line) + _below(line)


def _paint_box(sheet: Sheet, place: Place, *, top: Number) -> None:
    given, corner = place.box, (place.left, top)
    cell = (given.cell, given.cell)
    cells.draw_cells(sheet, given.entries, corner=corner, cell=cell, kind=given.kind, keep=given.keep)
    cells.draw_rows(sheet, place.rows, corner=corner, pitch=given.cell)
    cells.draw_columns(sheet, place.columns, corner=corner, pitch=given.cell)
    center, bottom = place.left + given.size[0] / 2, top + given.size[1]
    above = top - cells.columns_room(place.columns, given.cell)[0] - 0.07
    sheet.text((center, above), given.name, va="bottom")
    quiet = {"size": palette.SMALL_SIZE, "color": palette.QUIET, "va": "top"}
    sheet.text((center, bottom + 0.06), given.shape, **quiet)
    sheet.text((center, bottom + 0.24), given.note, **quiet)
