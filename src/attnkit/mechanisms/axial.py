"""Axial attention: in a grid of tokens, each query reads the line through it along one axis.

    keep(q, k) = q_i = k_i on every axis i but `axis`          and k <= q where causal is True

The tokens of a grid (height, width) stand row after row: cell (y, x) is position `y * width + x`. One layer attends
along rows (`axis=1`), the next along columns (`axis=0`), and after both each token has heard of all. Public code
reshapes the tensor so that the other axes are a batch; that gives the same context. The paper's decoder reads whole
rows above its own by a shift of the input, which is a model's business: here `causal` means the order of the tokens.
Neighbours along the last axis are neighbours in the row of tokens, so that is the axis that backends skip most for.
"""

from collections.abc import Sequence

from attnkit import masks
from attnkit.laws import no_future_leak, reads_just, reduces_to, rows_sum_to_one, when
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import block_local, full
from attnkit.rule import Rule


def axial(*, grid: Sequence[int], axis: int, causal: bool = False) -> Rule:
    """The rule.

    Args:
        grid: how many cells each axis has, the slowest first, such as (height, width).
        axis: along which one a query reads, counted from 0.
        causal: whether it reads nothing after itself.
    """
    line = masks.along(grid, axis)
    return Rule(mask=masks.causal & line if causal else line)


def _cell(pos: int, grid: Sequence[int]) -> list[int]:
    cell: list[int] = []
    for count in reversed(grid):
        pos, place = divmod(pos, count)
        cell.insert(0, place)
    return [pos, *cell]


def _keep(q: int, k: int, *, grid: Sequence[int], axis: int, causal: bool = False) -> bool:
    apart = [place for place, (a, b) in enumerate(zip(_cell(q, grid), _cell(k, grid), strict=True)) if a != b]
    return apart in ([], [axis + 1]) and (not causal or k <= q)


MECHANISM = Mechanism(
    name="axial",
    family="where",
    summary="In a grid of tokens, each query reads the line through it along one axis.",
    formula=r"\mathrm{keep}(q, k) = [q_i = k_i \;\forall\, i \ne \mathrm{axis}]",
    paper=Paper(
        "Axial Attention in Multidimensional Transformers",
        2019,
        "https://arxiv.org/abs/1912.12180",
        "section 3.1",
    ),
    rule=axial,
    laws=(
        when(no_future_leak, causal=True),
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(full.MECHANISM, grid=(1, 7), axis=1, causal=False),
        reduces_to(full.MECHANISM, grid=(7, 1), axis=0, causal=False),
        reduces_to(block_local.MECHANISM, grid=(2, 4), axis=1, causal=True, theirs={"size": 4}),
    ),
    examples=(
        {"grid": (2, 4), "axis": 1},
        {"grid": (3, 3), "axis": 0},
        {"grid": (2, 2, 2), "axis": 1, "causal": True},
    ),
)
