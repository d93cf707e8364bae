"""Images, and beside each what is read of its patches."""

from collections.abc import Sequence
from functools import partial

import numpy
from torch import Tensor

from attnkit.errors import ShapeError
from attnkit.viewer import cells, palette
from attnkit.viewer.arguments import Array, labels, numbers
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Point, Sheet, card_width, head_room, percent, text_width, widest

SIDE = 1.25
BETWEEN = 0.08
APART = 0.45
ABOVE = 0.27


def looks(
    images: Tensor, weights: Tensor, names: Sequence[str] | None = None, *, title: str = "", columns: int = 3
) -> Picture:
    """Images, each with a map of what is read of its patches: Blues, the patch that is read most the darkest.

    Args:
        images: `count channels height width`, from 0 to 1, with one channel (grey) or three (red, green, blue).
        weights: `count rows columns`, a number for each patch.
        names: one for each image, written above it; None counts.
        title: says what is seen.
        columns: images in a line.

    Raises:
        ShapeError: the axes are others, there are 2 or more than 3 channels, or the counts differ.
    """
    where = "viewer.looks"
    pixels = numbers(where, "images", images, "count channels height width")
    read = numbers(where, "weights", weights, "count rows columns")
    if pixels.shape[1] not in (1, 3):
        what = f"images have {pixels.shape[1]} channels"
        raise ShapeError(where=where, what=what, fix="images[:, :1] for one that is grey")
    if len(read) != len(pixels):
        what = f"{len(pixels)} images and {len(read)} maps of weights"
        raise ShapeError(where=where, what=what, fix="give a map for each image")
    words = labels(where, "names", names, len(pixels))
    across = max(2 * SIDE + BETWEEN, widest(words)) + APART
    columns = max(1, min(columns, len(pixels)))
    lines = -(-len(pixels) // columns)
    note = "left the image, right what is read of it: the darkest patch is read most"
    size = (
        card_width(title, palette.MARGIN + columns * across, text_width(note) + 2 * palette.MARGIN),
        head_room(title) + 0.25 + lines * (ABOVE + SIDE + 0.12) + palette.MARGIN,
    )
    paint = partial(_paint, pixels=pixels, read=read, told=(title, note, words), place=(columns, across))
    seen = [f"{word!r} reads patch {_most(look)} most" for word, look in zip(words, read, strict=True)]
    return Picture(paint, size, f"{title or 'What is read of images'}: {'; '.join(seen[:6])}.")


def _most(look: Array) -> str:
    row, column = numpy.unravel_index(int(look.argmax()), look.shape)
    return f"({row}, {column}), {percent(float(look.max() / max(look.sum(), 1e-30)))}"


def _paint(
    sheet: Sheet, *, pixels: Array, read: Array, told: tuple[str, str, list[str]], place: tuple[int, float]
) -> None:
    (title, note, words), (columns, across) = told, place
    sheet.title(title)
    top = head_room(title)
    sheet.text((palette.MARGIN, top), note, ha="left", va="top", color=palette.QUIET)
    for number, word in enumerate(words):
        line, column = divmod(number, columns)
        corner = (palette.MARGIN + column * across, top + 0.25 + ABOVE + line * (ABOVE + SIDE + 0.12))
        sheet.text((corner[0], corner[1] - 0.05), word, ha="left", va="bottom")
        _paint_one(sheet, pixels[number], read[number], corner)


def _paint_one(sheet: Sheet, image: Array, look: Array, corner: Point) -> None:
    colors = numpy.clip(numpy.moveaxis(image, 0, -1), 0.0, 1.0).repeat(4 - image.shape[0], axis=-1)[..., :3]
    sheet.image(colors, corner=corner, size=(SIDE, SIDE))
    sheet.frame(corner, (SIDE, SIDE))
    beside = (corner[0] + SIDE + BETWEEN, corner[1])
    cell = (SIDE / look.shape[1], SIDE / look.shape[0])
    most = look / max(float(look.max()), 1e-30)
    sheet.image(cells.colored("weights", most), corner=beside, size=(SIDE, SIDE))
    sheet.rule(look.shape, corner=beside, cell=cell)
    sheet.frame(beside, (SIDE, SIDE))
