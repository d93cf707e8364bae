"""The hull of the values: a context is a mixture, so it never lies outside."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy
from torch import Tensor

from attnkit.errors import need
from attnkit.viewer import palette
from attnkit.viewer.arguments import Array, labels, not_empty
from attnkit.viewer.palette import Number
from attnkit.viewer.picture import Picture
from attnkit.viewer.plane import Plane, outward, plane_points, write_beside
from attnkit.viewer.sheet import Point, Sheet, text_width, widest
from attnkit.viewer.spread import apart

BESIDE = 0.8


def hull(
    values: Tensor, loops: Mapping[Any, Tensor], words: Sequence[str], *, title: str = "", key: str = ""
) -> Picture:
    """The polygon around the values, and closed loops of contexts inside it, from dark (first) to light (last).

    Args:
        values: `kv_len 2`.
        loops: a label and its points `n 2` each, in drawing order.
        words: one for each value.
        title: says what is seen.
        key: what the labels of the loops are, for instance "length of the query".

    Raises:
        ShapeError: the axes do not fit together.
        OptionError: there are no loops, or a number is nan or infinite.
    """
    where = "viewer.hull"
    points = plane_points(where, "values", values)
    names = labels(where, "words", words, len(points))
    not_empty(where, "loops", dict(loops))
    curves = {str(name): plane_points(where, f"loops[{name!r}]", loop) for name, loop in loops.items()}
    room = max(widest(list(curves)) + 0.35, text_width(key, size=palette.SMALL_SIZE)) + 0.1
    plane = Plane(numpy.vstack([points, *curves.values()]), title, names=names, beside=room)
    paint = partial(_paint, plane=plane, points=points, curves=curves, names=names, key=(key, room))
    opening = title or "Contexts stay in the hull of the values"
    alt = f"{opening}: {len(curves)} loops of contexts ({', '.join(curves)}) and the polygon of {', '.join(names)}."
    return Picture(paint, plane.size, alt)


def _paint(
    sheet: Sheet,
    *,
    plane: Plane,
    points: Array,
    curves: dict[str, Array],
    names: list[str],
    key: tuple[str, Number],
) -> None:
    sheet.title(plane.title)
    corners = [plane(point) for point in around(points)]
    sheet.paper.fill([x for x, _ in corners], [y for _, y in corners], color="0.95", zorder=0)
    middle = points.mean(axis=0)
    anchors = _loops(sheet, plane, curves, middle)
    _name_loops(sheet, anchors, x=plane((plane.high[0], 0.0))[0] + BESIDE, key=key[0])
    for point in points:
        sheet.dot(plane(point), color=palette.INK, size=7)
    sheet.text(plane(middle), "+", size=13)
    wanted = [
        outward(plane, point, name, palette.INK, origin=middle)
        for name, point in zip(names, points, strict=True)
    ]
    edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    write_beside(sheet, wanted, strokes=edges, top=plane.top - 0.42)


def around(points: Array) -> list[Array]:
    """The corners of the convex hull of `n 2` points, in order (Andrew's monotone chain)."""
    ordered = sorted(points.tolist())

    def half(run: list[list[Number]]) -> list[list[Number]]:
        chain: list[list[Number]] = []
        for point in run:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        return chain[:-1]

    return [numpy.array(point) for point in half(ordered) + half(ordered[::-1])] or [points[0]]


def _turn(a: Sequence[Number], b: Sequence[Number], c: Sequence[Number]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


Anchor = tuple[str, Point, Any]


def _loops(sheet: Sheet, plane: Plane, curves: dict[str, Array], middle: Array) -> list[Anchor]:
    """Draw each loop; return its name, a point on its right where a leader can start, and its colour."""
    matplotlib = need("matplotlib", extra="view", where="viewer")
    shades = matplotlib.colormaps["viridis"](numpy.linspace(0.05, 0.85, len(curves)))
    anchors = []
    for (name, loop), shade, angle in zip(
        curves.items(), shades, numpy.linspace(0.25, -1.1, len(curves)), strict=True
    ):
        sheet.line([plane(point) for point in (*loop, loop[0])], color=shade, width=2.2)
        away = loop - middle
        off = numpy.angle(numpy.exp(1j * (numpy.arctan2(away[:, 1], away[:, 0]) - angle)))
        anchors.append((name, plane(loop[int(numpy.abs(off).argmin())]), shade))
    return anchors


def _name_loops(sheet: Sheet, anchors: list[Anchor], *, x: Number, key: str) -> None:
    heights = apart([spot[1] for _, spot, _ in anchors], gap=0.24, low=0.8, high=sheet.height - 0.3)
    for (name, spot, shade), y in zip(anchors, heights, strict=True):
        sheet.line([spot, (x - 0.06, y)], color=shade, width=0.9, zorder=2)
        sheet.dot(spot, color=shade, size=5)
        sheet.text((x, y), name, ha="left")
    sheet.text(
        (x, min(heights) - 0.2), key, size=palette.SMALL_SIZE, color=palette.QUIET, ha="left", va="bottom"
    )
