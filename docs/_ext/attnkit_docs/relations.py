"""What becomes what: the laws `reduces_to` of all mechanisms, as a map that links to their pages.

Each column reduces to the ones at its left; the first is what nothing simpler is known for.
"""

import html
from collections.abc import Iterable, Mapping, Sequence

from attnkit.atlas import Reduction
from attnkit.mechanism import Mechanism

_LETTER, _PADDING, _HEIGHT, _ROW, _APART, _MARGIN = 6.65, 14, 24, 32, 34, 4

Box = tuple[float, float, float]  # left, top and width


def columns(reductions: Iterable[Reduction], order: list[str]) -> list[list[str]]:
    """The names in columns, each beside what it reduces to; those that no reduction names are left out."""
    targets: dict[str, set[str]] = {}
    for reduction in reductions:
        targets.setdefault(reduction.source, set()).add(reduction.target)
        targets.setdefault(reduction.target, set())
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = -1  # in a ring of mechanisms that become each other, the search ends here
            depths[name] = 1 + max(map(depth, targets[name]), default=-1)
        return depths[name]

    names = sorted(targets, key=order.index)
    found: list[list[str]] = [[] for _ in range(1 + max(map(depth, names), default=-1))]
    for name in names:
        found[depths[name]].append(name)
    return [_beside(column, found[:number], targets) for number, column in enumerate(found)]


def _beside(column: list[str], before: list[list[str]], targets: Mapping[str, set[str]]) -> list[str]:
    """The column sorted so that what goes to one target stands together."""
    places = {name: place / len(names) for names in before for place, name in enumerate(names)}

    def middle(name: str) -> float:
        known = [places[target] for target in targets[name] if target in places]
        return sum(known) / len(known) if known else 0.0

    return sorted(column, key=middle)


def drawn(reductions: Sequence[Reduction], mechanisms: Mapping[str, Mechanism]) -> str:
    """SVG of the map; each name leads to its page, each line says on what terms it holds."""
    order = sorted(mechanisms, key=lambda name: (mechanisms[name].family, name))
    laid = columns(reductions, order)
    tallest = max(map(len, laid), default=0)
    places: dict[str, Box] = {}
    left = _MARGIN
    for names in laid:
        width = _PADDING + _LETTER * max(map(len, names))
        above = (tallest - len(names)) / 2
        places |= {name: (left, _MARGIN + (above + n) * _ROW, width) for n, name in enumerate(names)}
        left += width + _APART
    lines = "".join(_line(reduction, places) for reduction in reductions)
    boxes = "".join(_box(mechanisms[name], *place) for name, place in places.items())
    return (
        f'<svg class="map" role="img" aria-label="Which mechanism becomes which" '
        f'width="{left - _APART + _MARGIN:.0f}" height="{2 * _MARGIN + tallest * _ROW}">'
        f"<style>{_pointed_at(places)}</style>{lines}{boxes}</svg>"
    )


def _pointed_at(names: Iterable[str]) -> str:
    """Styles that make the lines of a name strong while the reader points at it."""
    rules = (f'svg.map:has(a[href="{name}.html"]:hover) :is(.from-{name}, .to-{name})' for name in names)
    return f"{','.join(rules)}{{stroke:var(--pst-color-primary);stroke-opacity:1;stroke-width:2.5}}"


def _line(reduction: Reduction, places: Mapping[str, Box]) -> str:
    (x, y, _), (left, beside, width) = places[reduction.source], places[reduction.target]
    y, right, beside = y + _HEIGHT / 2, left + width, beside + _HEIGHT / 2
    bend = (x - right) / 2
    title = html.escape(f"{reduction.source} becomes {reduction.target}: {reduction.condition}")
    kind = f"line from-{reduction.source} to-{reduction.target}"
    path = f"M{x:.0f} {y}C{x - bend:.0f} {y} {right + bend:.0f} {beside} {right:.0f} {beside}"
    return f'<path class="{kind}" d="{path}"><title>{title}</title></path>'


def _box(mechanism: Mechanism, x: float, y: float, width: float) -> str:
    name = html.escape(mechanism.name)
    title = f"<title>{html.escape(mechanism.summary)}</title>"
    rect = f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{_HEIGHT}" rx="4"/>'
    text = f'<text x="{x + width / 2:.0f}" y="{y + _HEIGHT / 2 + 4}" text-anchor="middle">{name}</text>'
    return f'<a href="{name}.html">{title}{rect}{text}</a>'
