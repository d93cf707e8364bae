"""Heat maps of weights as SVG, in the colours of the page around them, light or dark.

Rows are queries and columns are keys. Blue is what is read, stronger where it is more; orange is a weight below zero.
"""

import html
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from attnkit.atlas.draw import fitted, longest
from attnkit.atlas.sketch import SIZES, Sketch, sketched
from attnkit.mechanism import Mechanism
from attnkit_docs.sessions import told

TOKENS = 16
_BLUE, _ORANGE = "#3b8fd0", "#d9731a"  # each tells itself apart from white and from black
_NOTHING = 0.08
_LEAST = 5e-4  # below it no eye sees a colour
_SIDE, _MARGIN, _HEAD = 13, 24, 18


def sketch_of(mechanism: Mechanism, options: Mapping[str, Any]) -> tuple[Sketch, str]:
    """The weights of one sample, for inputs that are the same at each build, and the options in words.

    An option that says how long a text may be is raised to the length of the picture, as in `attnkit show`.
    """
    bound = mechanism.bind(options)
    length = min(TOKENS, longest(bound, SIZES) or TOKENS)
    used = fitted(bound, length).options
    return sketched(bound, length=length), told({name: used[name] for name in options})


def drawn(mechanism: Mechanism, options: Mapping[str, Any]) -> str:
    """HTML of one head under its options, or of the first and the last where heads differ by nature."""
    sketch, title = sketch_of(mechanism, options)
    several = len(sketch.heads) > 1
    maps = "".join(
        f"<figure>{_svg(weights, f'{mechanism.name}, {title}, head {head}')}<figcaption>"
        f"{f'head {head}' if several else ''} {_legend(weights)}</figcaption></figure>"
        for head, weights in zip(sketch.heads, sketch.weights, strict=True)
    )
    return f'<div class="weights"><code>{html.escape(title)}</code><div class="heads">{maps}</div></div>'


def thumbnail(mechanism: Mechanism) -> str:
    """SVG of the first head of the first example, without numbers."""
    weights = sketch_of(mechanism, mechanism.examples[0])[0].weights[0]
    return _svg(weights, f"weights of {mechanism.name}", side=6, numbered=False)


def _largest(weights: Tensor) -> float:
    """The weight of the strongest colour: 1, where the weights of a head are shares."""
    shares = weights.min() >= 0 and weights.max() <= 1
    return 1.0 if shares else weights.abs().max().item()


def _legend(weights: Tensor) -> str:
    largest = _largest(weights)
    ends = [(_BLUE, largest)] if weights.min() >= 0 else [(_ORANGE, -largest), (_BLUE, largest)]
    marks = "".join(f"{_swatch(colour, 1.0)} {end:.3g} " for colour, end in ends)
    return f'<span class="legend">{_swatch("currentColor", _NOTHING)} 0 {marks}</span>'


def _swatch(colour: str, strength: float) -> str:
    square = f'<rect width="10" height="10" fill="{colour}" fill-opacity="{strength}"/>'
    return f'<svg width="10" height="10" aria-hidden="true">{square}</svg>'


def _svg(weights: Tensor, label: str, *, side: int = _SIDE, numbered: bool = True) -> str:
    rows, columns = weights.shape
    largest = _largest(weights)
    left, top = (_MARGIN, _HEAD) if numbered else (0, 0)
    cells = "".join(
        _cell(weight, weight / largest, row, column, numbered)
        for row, line in enumerate(weights.tolist())
        for column, weight in enumerate(line)
    )
    ticks = _ticks(rows, columns) if numbered else ""
    width, height = left + columns * side + 1, top + rows * side + 1
    return (
        f'<svg role="img" aria-label="{html.escape(label)}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><g transform="translate({left} {top}) scale({side})">'
        f'<rect width="{columns}" height="{rows}" fill="currentColor" fill-opacity="{_NOTHING}"/>'
        f"{cells}{_lines(rows, columns)}</g>{ticks}</svg>"
    )


def _cell(weight: float, share: float, row: int, column: int, titled: bool) -> str:
    if abs(share) < _LEAST:
        return ""
    title = f"<title>query {row} reads key {column}: {weight:.3f}</title>" if titled else ""
    place = f'x="{column}" y="{row}" width="1" height="1"'
    colour = _BLUE if share > 0 else _ORANGE
    return f'<rect {place} fill="{colour}" fill-opacity="{abs(share):.3f}">{title}</rect>'


def _lines(rows: int, columns: int) -> str:
    path = "".join(f"M0 {row}h{columns}" for row in range(1, rows))
    path += "".join(f"M{column} 0v{rows}" for column in range(1, columns))
    return f'<path stroke="currentColor" stroke-opacity="0.15" stroke-width="0.04" d="{path}"/>'


def _ticks(rows: int, columns: int) -> str:
    across = "".join(
        f'<text x="{_MARGIN + (column + 0.5) * _SIDE}" y="{_HEAD - 5}" text-anchor="middle">{column}</text>'
        for column in range(0, columns, 5)
    )
    down = "".join(
        f'<text x="{_MARGIN - 6}" y="{_HEAD + (row + 0.5) * _SIDE + 4}" text-anchor="end">{row}</text>'
        for row in range(0, rows, 5)
    )
    return f'<g class="ticks" fill="currentColor">{across}{down}</g>'
