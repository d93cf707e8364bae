"""Keep labels off each other: positions on a line, and boxes in the plane.

`apart` solves its problem exactly (least squares with a gap, by pooling neighbours that touch); `beside` tries places
around a point, the nearest first, until one is free.
"""

import math
from collections.abc import Sequence

from attnkit.viewer.palette import Number

Point = tuple[Number, Number]
Box = tuple[Point, Point]


def apart(wanted: Sequence[Number], *, gap: Number, low: Number, high: Number) -> list[Number]:
    """The positions nearest to `wanted`, in the same order, at least `gap` from each other, inside `low..high`.

    Where the space is too small for the gaps, the positions are spaced evenly over all of it.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gap = min(gap, (high - low) / max(len(order) - 1, 1))
    pools: list[tuple[Number, int]] = []
    for rank, index in enumerate(order):
        mean, size = wanted[index] - rank * gap, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    flat = [mean for mean, size in pools for _ in range(size)]
    ceiling = high - (len(order) - 1) * gap
    placed = [0.0] * len(order)
    for rank, index in enumerate(order):
        placed[index] = min(max(flat[rank], low), ceiling) + rank * gap
    return placed


def beside(tip: Point, away: Point, size: Point, *, taken: Sequence[Box], within: Box) -> Point:
    """The centre of a free box of `size` near `tip`: straight `away` from it if possible, else turned or farther off.

    Args:
        tip: the point that the box belongs to.
        away: the direction in which the box should lie.
        size: width and height of the box.
        taken: boxes (centre, size) that it must not overlap; a point has the size (0, 0).
        within: the two corners that it must stay between.
    """
    straight = math.atan2(away[1], away[0])
    first = None
    for farther in (0.0, 0.12, 0.25, 0.4, 0.6, 0.9):
        for turn in (0, 20, -20, 45, -45, 75, -75, 110, -110, 150, -150, 180):
            x, y = math.cos(straight + math.radians(turn)), math.sin(straight + math.radians(turn))
            reach = (
                min((size[0] / 2 + 0.07) / max(abs(x), 1e-9), (size[1] / 2 + 0.07) / max(abs(y), 1e-9))
                + farther
            )
            spot = (tip[0] + x * reach, tip[1] + y * reach)
            first = first or spot
            inside = all(
                within[0][i] <= spot[i] - size[i] / 2 and spot[i] + size[i] / 2 <= within[1][i]
                for i in (0, 1)
            )
            if inside and not any(overlap((spot, size), other) for other in taken):
                return spot
    return first or tip


def overlap(one: Box, other: Box, *, room: Number = 0.03) -> bool:
    """True where two boxes (centre, size) come nearer than `room` to each other."""
    return all(abs(one[0][i] - other[0][i]) < (one[1][i] + other[1][i]) / 2 + room for i in (0, 1))
