"""Vectors of two numbers as arrows, and a context as a sum of arrows."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy
from torch import Tensor

from attnkit.errors import ShapeError
from attnkit.viewer import palette
from attnkit.viewer.arguments import Array, finite, labels, not_empty, numbers, same_shape
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.sheet import Point, Sheet, card_width, head_room, text_width, widest
from attnkit.viewer.spread import beside

SIDE = 4.2
BORDER = 0.75
ORIGIN = (0.0, 0.0)

Label = tuple[Point, Point, str, Any]
Stroke = tuple[Point, Point]


class Plane:
    """A part of the plane on a sheet: the origin and all `points` are inside, and both axes have one scale.

    Args:
        points: `n 2`.
        title: says what is seen.
        names: what is written beside the points.
        beside: inches to leave at the right.
    """

    def __init__(self, points: Array, title: str, *, names: Sequence[str], beside: Number = 0.0) -> None:
        corners = numpy.vstack([points, numpy.zeros((1, 2))])
        self.low, self.high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        across, up = self.high[0] - self.low[0], self.high[1] - self.low[1]
        self.scale = SIDE / max(across, up, 1e-9)
        border = max(BORDER, widest(names) + 0.15)
        self.left, self.top, self.title = border, head_room(title) + 0.4, title
        width = card_width(title, across * self.scale + 2 * border + beside)
        self.size = (width, self.top + up * self.scale + 0.55)

    def __call__(self, point: Array | Sequence[Number]) -> Point:
        """Where `point` lies on the sheet, in inches."""
        x = self.left + (float(point[0]) - self.low[0]) * self.scale
        return x, self.top + (self.high[1] - float(point[1])) * self.scale

    def cross(self, sheet: Sheet) -> None:
        """The title, and two faint axes through the origin."""
        sheet.title(self.title)
        x, y = self(ORIGIN)
        right, bottom = self((self.high[0], self.low[1]))
        sheet.line([(self.left - 0.3, y), (right + 0.3, y)], color="0.9", width=0.8, zorder=0)
        sheet.line([(x, self.top - 0.15), (x, bottom + 0.15)], color="0.9", width=0.8, zorder=0)


def write_beside(
    sheet: Sheet, wanted: Sequence[Label], *, strokes: Sequence[Stroke] = (), top: Number = 0.0
) -> None:
    """Write labels beside their points, off each other and off the strokes; a leader where one lies farther away.

    Each label is a point, the direction in which it should lie, its words and its colour.
    """
    steps = numpy.linspace(0, 1, 30).tolist()
    points = [(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for a, b in strokes for t in steps]
    taken = [(point, (0.0, 0.0)) for point in points]
    within = ((0.05, top), (sheet.width - 0.05, sheet.height - 0.05))
    for tip, away, words, color in wanted:
        size = (text_width(words), palette.LINE_HEIGHT * (1 + words.count("\n")))
        spot = beside(tip, away, size, taken=taken, within=within)
        taken.append((spot, size))
        distance = max(abs(spot[0] - tip[0]) - size[0] / 2, abs(spot[1] - tip[1]) - size[1] / 2)
        if distance > 0.25:
            edge = (tip[0] + 0.8 * (spot[0] - tip[0]), tip[1] + 0.8 * (spot[1] - tip[1]))
            sheet.line([tip, edge], color=palette.LEADER, width=0.7)
        sheet.text(spot, words, color=color, linespacing=1.15)


def outward(
    plane: Plane, point: Array, words: str, color: Any, *, origin: Array | Sequence[Number] = ORIGIN
) -> Label:
    """The label of `point`, to lie on the far side of it as seen from `origin`."""
    tip, start = plane(point), plane(origin)
    return tip, (tip[0] - start[0], tip[1] - start[1]), words, color


def vectors(
    vectors: Mapping[str, Sequence[Number] | Tensor],
    *,
    notes: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
    title: str = "",
) -> Picture:
    """Arrows from the origin, each with its name at the tip.

    Args:
        vectors: a name and two numbers each.
        notes: a text under some of the names.
        colors: a colour for some of the names; the others are blue.
        title: says what is seen.

    Raises:
        OptionError: there are no vectors, or a number is nan or infinite.
        ShapeError: a vector does not have two numbers.
    """
    where = "viewer.vectors"
    not_empty(where, "vectors", dict(vectors))
    points = {
        str(name): numbers(where, f"vectors[{name!r}]", vector, "2") for name, vector in vectors.items()
    }
    for name, point in points.items():
        if point.shape != (2,):
            what = f"{name!r} has {point.shape[0]} numbers; an arrow in the plane has two"
            raise ShapeError(where=where, what=what, fix="choose two coordinates, vector[:2]")
        finite(where, f"vectors[{name!r}]", point)
    texts = {name: f"{name}\n{notes[name]}" if notes and name in notes else name for name in points}
    plane = Plane(numpy.stack(list(points.values())), title, names=list(texts.values()))
    paint = partial(_paint_vectors, plane=plane, points=points, texts=texts, colors=dict(colors or {}))
    seen = ", ".join(f"{texts[name]} ({point[0]:.1f}, {point[1]:.1f})" for name, point in points.items())
    return Picture(paint, plane.size, f"{title or 'Arrows in the plane'}: {seen}.".replace("\n", " "))


def _paint_vectors(
    sheet: Sheet, *, plane: Plane, points: dict[str, Array], texts: dict[str, str], colors: dict[str, str]
) -> None:
    plane.cross(sheet)
    shades = {name: colors.get(name, palette.RIGHT) for name in points}
    for name, point in points.items():
        sheet.arrow(plane(ORIGIN), plane(point), color=shades[name], width=2.0)
    strokes = [(plane(ORIGIN), plane(point)) for point in points.values()]
    wanted = [outward(plane, point, texts[name], shades[name]) for name, point in points.items()]
    write_beside(sheet, wanted, strokes=strokes, top=plane.top - 0.42)


def plane_points(where: str, name: str, given: Tensor) -> Array:
    """`given` as `n 2` points of the plane.

    Raises:
        ShapeError: they do not have two coordinates.
        OptionError: a coordinate is nan or infinite.
    """
    points = numbers(where, name, given, "n 2")
    if points.shape[1] != 2:
        what = f"{name} has shape {points.shape}; the plane needs (n, 2)"
        raise ShapeError(where=where, what=what, fix=f"choose two coordinates, {name}[:, :2]")
    finite(where, name, points)
    return points


def mixture(values: Tensor, weights: Tensor, words: Sequence[str], *, title: str = "") -> Picture:
    """A context as a sum: grey values, their weighted parts put end to end in blue, the context in orange.

    Args:
        values: `kv_len 2`.
        weights: `kv_len`, of one query.
        words: one for each value.
        title: says what is seen.

    Raises:
        ShapeError: the axes do not fit together.
        OptionError: a number is nan or infinite.
    """
    where = "viewer.mixture"
    points = plane_points(where, "values", values)
    shares = numbers(where, "weights", weights, "kv_len")
    finite(where, "weights", shares)
    names = labels(where, "words", words, len(points))
    same_shape(where, ("one column of values", points[:, 0]), ("weights", shares))
    ends = numpy.vstack([numpy.zeros((1, 2)), (shares[:, None] * points).cumsum(axis=0)])
    plane = Plane(numpy.vstack([points, ends]), title, names=names)
    texts = [f"{name}\n{share:.2f}" for name, share in zip(names, shares, strict=True)]
    paint = partial(_paint_mixture, plane=plane, points=points, ends=ends, texts=texts)
    terms = " + ".join(f"{share:.2f} {name}" for name, share in zip(names, shares, strict=True))
    alt = f"{title or 'A context'}: {terms} ends at ({ends[-1][0]:.1f}, {ends[-1][1]:.1f}), the context."
    return Picture(paint, plane.size, alt)


def _paint_mixture(sheet: Sheet, *, plane: Plane, points: Array, ends: Array, texts: list[str]) -> None:
    plane.cross(sheet)
    origin, corners = plane(ORIGIN), [plane(end) for end in ends]
    values = [(origin, plane(point)) for point in points]
    parts = list(pairwise(corners))
    for start, end in values:
        sheet.arrow(start, end, color="0.72", width=1.4, zorder=2)
    for start, end in parts:
        if abs(end[0] - start[0]) + abs(end[1] - start[1]) > 0.14:
            sheet.arrow(start, end, color=palette.RIGHT, width=2.2)
    sheet.arrow(origin, corners[-1], color=palette.WRONG, width=3.0, zorder=4)
    wanted = [outward(plane, point, text, palette.INK) for point, text in zip(points, texts, strict=True)]
    wanted.append(outward(plane, ends[-1], "context", palette.WRONG))
    write_beside(sheet, wanted, strokes=[*values, *parts, (origin, corners[-1])], top=plane.top - 0.42)
