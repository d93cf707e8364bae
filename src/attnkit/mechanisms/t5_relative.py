"""T5's relative positions: each head learns a number for each range of distances, and adds it to the score.

    score = query . key + table[bucket(k - q), h]

Near distances have a bucket each, far ones share. There is no scale: T5 starts with smaller projections instead. The
trap: a decoder of T5 has `bidirectional=False`, where all keys after the query share the bucket of distance 0, and its
encoder has `bidirectional=True`, with half the buckets for keys after the query; one table in the other's place still
runs. T5 also has one table for all its layers; here each layer owns one.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attnkit import masks, scores
from attnkit.errors import OptionError, ShapeError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, Sizes
from attnkit.mechanisms import alibi, unscaled
from attnkit.rule import Rule


def t5_relative(
    *,
    table: Tensor,
    num_buckets: int = 32,
    max_distance: int = 128,
    bidirectional: bool = False,
    mask: Mask = masks.causal,
) -> Rule:
    """The rule.

    Args:
        table: (num_buckets, num_heads), what is added to a score.
        num_buckets: how many ranges of distance are told apart, both directions together.
        max_distance: from this many tokens on, all keys share the last bucket.
        bidirectional: whether keys after the query have buckets of their own, for a mask that keeps them.
        mask: where each query looks.

    Raises:
        OptionError: there are too few buckets, or `max_distance` lies among those of one distance each.
        ShapeError: `table` has another number of rows.
    """
    if table.dim() == 2 and table.shape[0] != num_buckets:
        raise ShapeError(
            where="t5_relative",
            what=f"table {tuple(table.shape)} has {table.shape[0]} rows; num_buckets={num_buckets}",
            fix=f"num_buckets={table.shape[0]}, or a table of ({num_buckets}, num_heads)",
        )
    bias = scores.RelativeBias(table, bidirectional=bidirectional, max_distance=max_distance)
    return Rule(mask=mask, scores=(bias,), scale=1.0)


def _num_buckets(sizes: Sizes, options: Mapping[str, Any]) -> int:
    num_buckets = options["num_buckets"]
    if not isinstance(num_buckets, int) or isinstance(num_buckets, bool) or num_buckets < 2:
        raise OptionError(
            where="t5_relative",
            what=f"num_buckets is a whole number of ranges of distance, at least 2; got {num_buckets!r}",
            fix="num_buckets=32, as in T5",
        )
    return num_buckets


def _of_alibi(table: Tensor) -> Tensor:
    """The table that takes ALiBi's slope times the distance away, as far as each distance has a bucket."""
    buckets, heads = (torch.arange(size) for size in table.shape)
    return (-buckets[:, None] * scores.Alibi(len(heads)).slopes(heads)).to(table)


MECHANISM = Mechanism(
    name="t5_relative",
    family="score",
    summary="Each head learns a number for each range of distances, and adds it to the score.",
    formula=r"s_{qk} = q \cdot k + T[\mathrm{bucket}(k - q), h]",
    paper=Paper(
        "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        2019,
        "https://arxiv.org/abs/1910.10683",
        "section 2.1",
    ),
    rule=t5_relative,
    parts=(
        Learned("table", (_num_buckets, "num_heads"), meaning="what is added to a score, by bucket and head"),
    ),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(unscaled.MECHANISM, parts={"table": torch.zeros_like}),
        reduces_to(
            alibi.MECHANISM,
            parts={"table": _of_alibi},
            given=lambda tensors: {"query": tensors["query"] * tensors["query"].shape[-1] ** 0.5},
            num_buckets=32,
            max_distance=128,
            bidirectional=False,
        ),
    ),
    examples=(
        {"num_buckets": 4, "max_distance": 6},
        {"num_buckets": 32, "max_distance": 128},
        {"num_buckets": 8, "max_distance": 6, "bidirectional": True},
    ),
)
