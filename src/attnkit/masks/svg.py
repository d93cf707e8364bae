"""The picture of a mask for notebooks: a small SVG in the colours of the page around it, light or dark."""

import html
from collections.abc import Sequence

from torch import Tensor

from attnkit.masks.grid import Grid

_BLUE = "#3b8fd0"  # tells itself apart from white and from black
_NOTHING = 0.08
_STRENGTHS = (0.4, 0.6, 0.8)
_LARGEST, _SIDE, _MARGIN, _HEAD = 384, 14, 64, 30


def picture(heading: str, titled: Sequence[tuple[str, Grid]], notes: Sequence[str]) -> str:
    """HTML of the grids side by side, each under its title, and the notes below."""
    figures = "".join(
        f'<div style="margin: 0 24px 8px 0"><div>{html.escape(title)}</div>{_svg(title, grid)}</div>'
        for title, grid in titled
    )
    told = "".join(f"<div>{note}</div>" for note in [*_legend(titled), *map(html.escape, notes)])
    style = "font: 12px/1.5 sans-serif; color: inherit; max-width: 960px"
    return (
        f'<div style="{style}"><div><b>{html.escape(heading)}</b></div>'
        f'<div style="display: flex; flex-wrap: wrap">{figures}</div><div>{told}</div></div>'
    )


def _legend(titled: Sequence[tuple[str, Grid]]) -> list[str]:
    """What the colours mean, where a cell is more than one pair."""
    if not titled or titled[-1][1].one_pair_each:
        return []
    some = "".join(_swatch(_BLUE, strength) for strength in _STRENGTHS)
    none, every = _swatch("currentColor", _NOTHING), _swatch(_BLUE, 1.0)
    return [f"{titled[-1][1].cell_size}; kept of it: {none} none {some} some {every} all"]


def _swatch(colour: str, strength: float) -> str:
    square = f'<rect width="10" height="10" fill="{colour}" fill-opacity="{strength}"/>'
    return f'<svg width="10" height="10" style="margin: 0 1px 0 4px">{square}</svg>'


def _svg(title: str, grid: Grid) -> str:
    rows, columns = grid.share.shape
    side = max(min(_SIDE, _LARGEST // max(rows, columns, 1)), 2)
    width, height = columns * side, rows * side
    box = f'<rect width="{columns}" height="{rows}" fill="currentColor" fill-opacity="{_NOTHING}"/>'
    cells = "".join(_level(level, chosen) for level, chosen in _levels(grid))
    lines = "" if side < 8 else _lines(rows, columns)
    return (
        f'<svg role="img" aria-label="{html.escape(title)}" xmlns="http://www.w3.org/2000/svg" '
        f'width="{width + _MARGIN + 40}" height="{height + _HEAD + 4}" font-family="sans-serif" font-size="11">'
        f'<g transform="translate({_MARGIN} {_HEAD}) scale({side})">{box}{cells}{lines}</g>'
        f'<g fill="currentColor" transform="translate({_MARGIN} {_HEAD})">{_ticks(grid, side)}</g></svg>'
    )


def _levels(grid: Grid) -> list[tuple[float, Tensor]]:
    """The cells of each strength of blue; what is kept in full is the strongest."""
    share = (grid.share * len(_STRENGTHS)).long().clamp(0, len(_STRENGTHS) - 1)
    some = ~grid.empty & ~grid.full
    levels = [(strength, some & (share == number)) for number, strength in enumerate(_STRENGTHS)]
    return [*levels, (1.0, grid.full)]


def _level(strength: float, chosen: Tensor) -> str:
    """One path of all runs of chosen cells."""
    padded = chosen.new_zeros(chosen.shape[0], chosen.shape[1] + 2)
    padded[:, 1:-1] = chosen
    begins, ends = (padded[:, 1:] & ~padded[:, :-1]).nonzero(), (~padded[:, 1:] & padded[:, :-1]).nonzero()
    runs = zip(begins.tolist(), ends[:, 1].tolist(), strict=True)
    path = "".join(f"M{begin} {row}h{end - begin}v1h{begin - end}z" for (row, begin), end in runs)
    return f'<path fill="{_BLUE}" fill-opacity="{strength}" d="{path}"/>' if path else ""


def _lines(rows: int, columns: int) -> str:
    path = "".join(f"M0 {row}h{columns}" for row in range(1, rows))
    path += "".join(f"M{column} 0v{rows}" for column in range(1, columns))
    return f'<path stroke="currentColor" stroke-opacity="0.15" stroke-width="0.04" d="{path}"/>'


def _ticks(grid: Grid, side: int) -> str:
    """Positions of a few queries, at the left, and keys, above; each beside the middle of its cell."""
    rows, columns = grid.share.shape
    told = ['<text x="-8" y="-18" text-anchor="end">queries</text><text x="0" y="-18">keys</text>']
    told += [
        f'<text x="{place * side + side / 2}" y="-5">{int(grid.kv_edges[place]):,}</text>'
        for place in range(0, columns, -(-56 // side))
    ]
    told += [
        f'<text x="-8" y="{place * side + side / 2 + 4}" text-anchor="end">{int(grid.q_edges[place]):,}</text>'
        for place in range(0, rows, 1 if side == _SIDE else -(-28 // side))
    ]
    return "".join(told)
