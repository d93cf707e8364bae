"""Several pictures on one card."""

from attnkit.errors import OptionError
from attnkit.viewer import palette
from attnkit.viewer.arguments import not_empty
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Sheet, text_width


def grid(*pictures: Picture, columns: int | None = None, title: str = "") -> Picture:
    """Pictures side by side, `columns` in a line (None: all in one), aligned at their upper edges.

    Raises:
        OptionError: there are no pictures, something else is among them, or `columns` is below 1.
    """
    where = "viewer.grid"
    not_empty(where, "pictures", pictures)
    for given in pictures:
        if not isinstance(given, Picture):
            raise OptionError(
                where=where,
                what=f"a {type(given).__name__} is no picture",
                fix="give what viewer.weights(...) returns",
            )
    across = len(pictures) if columns is None else columns
    if across < 1:
        raise OptionError(where=where, what=f"columns is {columns}", fix="at least 1")
    lines = [pictures[start : start + across] for start in range(0, len(pictures), across)]
    wide = [
        max(line[i].size[0] for line in lines if i < len(line)) for i in range(min(across, len(pictures)))
    ]
    tall = [max(picture.size[1] for picture in line) for line in lines]
    head = (palette.MARGIN + 0.3) if title else 0.0
    width = max(sum(wide), text_width(title, size=palette.TITLE_SIZE, bold=True) + 2 * palette.MARGIN)
    size = (width, head + sum(tall))

    def paint(sheet: Sheet) -> None:
        sheet.title(title)
        for row, line in enumerate(lines):
            for column, picture in enumerate(line):
                corner = (sum(wide[:column]), head + sum(tall[:row]))
                picture.paint(sheet.part(corner, picture.size))

    return Picture(
        paint,
        size,
        (f"{title}: " if title else "") + " Beside it: ".join(picture.alt for picture in pictures),
    )
