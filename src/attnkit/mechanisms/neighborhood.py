"""Neighbourhood attention: in a grid of tokens, each query reads the cells around it.

    keep(q, k) = start(q_i) <= k_i < start(q_i) + w_i on every axis i,   start(x) = clamp(x - w // 2, 0, n - w)

At the border the window is shifted to stay in the grid, so every query reads the same number of keys; a window that is
cut at the border, as of a convolution with padding, is another thing. NATTEN's `kernel_size` is `window`, and an even
one reaches one more to the front, as there. Its dilation, stride and causal axes are not here, nor the paper's bias by
relative position, which is a score step.
"""

from collections.abc import Sequence

from attnkit import masks
from attnkit.laws import reads_just, reduces_to, rows_sum_to_one
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import axial, full
from attnkit.rule import Rule


def neighborhood(*, grid: Sequence[int], window: Sequence[int]) -> Rule:
    """The rule.

    Args:
        grid: how many cells each axis has, the slowest first, such as (height, width).
        window: how many cells a query reads on each axis, at most those of the grid.
    """
    return Rule(mask=masks.neighborhood(grid, window))


def _keep(q: int, k: int, *, grid: Sequence[int], window: Sequence[int]) -> bool:
    kept = True
    for count, size in zip(reversed(grid), reversed(window), strict=True):
        (q, at), (k, other) = divmod(q, count), divmod(k, count)
        start = min(max(at - size // 2, 0), count - size)
        kept = kept and other in range(start, start + size)
    return kept


MECHANISM = Mechanism(
    name="neighborhood",
    family="where",
    summary="In a grid of tokens, each query reads the cells around it.",
    formula=r"\mathrm{keep}(q, k) = [s(q_i) \le k_i < s(q_i) + w_i \;\forall i],"
    r"\; s(x) = \mathrm{clamp}(x - \lfloor w / 2 \rfloor, 0, n - w)",
    paper=Paper(
        "Neighborhood Attention Transformer", 2022, "https://arxiv.org/abs/2204.07143", "section 3.1"
    ),
    rule=neighborhood,
    laws=(
        rows_sum_to_one,
        reads_just(_keep),
        reduces_to(full.MECHANISM, grid=(1, 7), window=(1, 7)),
        reduces_to(axial.MECHANISM, grid=(2, 4), window=(1, 4), theirs={"grid": (2, 4), "axis": 1}),
        reduces_to(axial.MECHANISM, grid=(2, 4), window=(2, 1), theirs={"grid": (2, 4), "axis": 0}),
    ),
    examples=(
        {"grid": (2, 4), "window": (2, 3)},
        {"grid": (7,), "window": (3,)},
        {"grid": (3, 3), "window": (2, 2)},
    ),
)
