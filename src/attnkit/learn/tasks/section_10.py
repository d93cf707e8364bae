"""Section 10: hiding the future."""

import math

import torch
from torch import Tensor

from attnkit.learn.agreement import close
from attnkit.learn.properties import hidden_keys_get_nothing, no_nan, rows_sum_to_one
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.wording import extent, number

_draw = Draws(10)


def _keeps(q_len: int, kv_len: int, past: int) -> Tensor:
    """Query i keeps the keys up to i + `past`: bool (q_len, kv_len)."""
    return torch.ones(q_len, kv_len, dtype=torch.bool).tril(past)


def _first_row(at: Sample) -> str:
    """What query 0 of the sample may read and what it should, counted."""
    return f"query 0 keeps {int(at.got[0].sum())} of {at.got.shape[1]} keys"


CAUSAL_MASK = Task(
    name="causal_mask",
    section=10,
    stars=2,
    core=True,
    signature="causal_mask(q_len, kv_len) -> bool (q_len, kv_len), True keeps",
    statement=(
        "True where a query may read a key: its own word and those before it. The queries are the last q_len "
        "of the kv_len words, so the last query stands at the last key."
    ),
    cases=((5, 5), (2, 5), (1, 4)),
    right=lambda q_len, kv_len: _keeps(q_len, kv_len, kv_len - q_len),
    wrongs=(
        Wrong(
            "inverted",
            lambda q_len, kv_len: ~_keeps(q_len, kv_len, kv_len - q_len),
            lambda at: (
                f"True and False are exchanged: {_first_row(at)}, all of them in its future. Here True means "
                '"may be read".'
            ),
        ),
        Wrong(
            "sees next",
            lambda q_len, kv_len: _keeps(q_len, kv_len, kv_len - q_len + 1),
            lambda at: (
                "Off by one: word 0 may read word 1. Section 14 trains a model with just this mask: 100 % "
                "right in training, about 12 % right when the future is not there to be read."
            ),
        ),
        Wrong(
            "not itself",
            lambda q_len, kv_len: _keeps(q_len, kv_len, kv_len - q_len - 1),
            lambda at: (
                "No word may read itself, and word 0 is left with 0 words to read. The diagonal belongs to "
                "the past."
            ),
        ),
        Wrong(
            "start aligned",
            lambda q_len, kv_len: _keeps(q_len, kv_len, 0),
            lambda at: (
                f"Right on a square. With {at.got.shape[0]} queries and {at.got.shape[1]} keys your query 0 "
                f"reads key 0 alone; the queries are the last {at.got.shape[0]} of the {at.got.shape[1]} "
                f"words, so it may read {int(at.want[0].sum())}."
            ),
        ),
        Wrong(
            "shifted back",
            lambda q_len, kv_len: _keeps(q_len, kv_len, q_len - kv_len),
            lambda at: (
                f"Right on a square. With {at.got.shape[0]} queries and {at.got.shape[1]} keys your diagonal "
                f"moved {at.got.shape[1] - at.got.shape[0]} places to the left, not to the right: "
                f"{_first_row(at)}, and it may read {int(at.want[0].sum())}. The shift has the wrong sign."
            ),
        ),
        Wrong(
            "upper",
            lambda q_len, kv_len: torch.ones(q_len, kv_len, dtype=torch.bool).triu(kv_len - q_len),
            lambda at: (
                f"This is the upper triangle: {_first_row(at)}, itself and its future; it should keep "
                f"{int(at.want[0].sum())}, itself and its past."
            ),
        ),
        Wrong(
            "all true",
            lambda q_len, kv_len: torch.ones(q_len, kv_len, dtype=torch.bool),
            lambda at: (
                f"Everything is kept: {_first_row(at)}, and it should keep {int(at.want[0].sum())}. Nothing "
                "hides the future."
            ),
        ),
    ),
    hints=(
        "Write the mask for 5 words on paper: which cells of the square are True? Then for the last 2 of 5 "
        "words: cut the last 2 rows off the square.",
        "torch.tril keeps a lower triangle, and its `diagonal` says where it begins. For the last 2 of 5 "
        "words it begins 3 places further to the right.",
    ),
    solution="""\
def causal_mask(q_len, kv_len):
    everything = torch.ones(q_len, kv_len, dtype=torch.bool)
    return everything.tril(diagonal=kv_len - q_len)
""",
)

_HOLES = torch.tensor(
    [[1, 0, 0, 1, 0, 0], [1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool
)


def _filled(scores: Tensor, mask: Tensor, fill: float) -> Tensor:
    return scores.masked_fill(~mask, fill)


def _hidden_share(at: Sample) -> str:
    """The weight that all hidden keys of query 0 get together."""
    return number(at.got[0][~at.tensor(1)[0]].sum())


def _spoiled(at: Sample) -> Tensor:
    """The rows that read something and hide a score below zero: bool (q_len,)."""
    scores, mask = at.tensor(0), at.tensor(1)
    return ((scores < 0) & ~mask).any(-1) & mask.any(-1)


def _times_infinity(at: Sample) -> bool:
    """Whether the spoiled rows alone are wrong, and are nan, or zeros that came after a nan."""
    if at.got.shape != at.want.shape:
        return False
    spoiled, alive = _spoiled(at), at.tensor(1).any(-1)
    lost = at.got[spoiled]
    return bool((lost.isnan() | (lost == 0)).all()) and close(
        at.got[alive & ~spoiled], at.want[alive & ~spoiled]
    )


def _below_zero(at: Sample) -> str:
    """The first hidden score below zero of a spoiled row, with its place."""
    row = int(_spoiled(at).nonzero()[0, 0])
    hidden = at.tensor(0)[row][~at.tensor(1)[row]]
    return f"row {row} is lost: its hidden score {number(hidden[hidden < 0][0])}"


def _dead_row(at: Sample) -> int:
    """The number of the row that may read nothing."""
    return int((~at.tensor(1).any(-1)).nonzero()[0, 0])


MASKED_WEIGHTS = Task(
    name="masked_weights",
    section=10,
    stars=2,
    core=True,
    signature=(
        "masked_weights(scores, mask) -> weights (q_len, kv_len), from scores and a bool mask, True keeps"
    ),
    statement=(
        "Softmax over the keys that the mask keeps; a hidden key gets exactly 0. A query that may read "
        "nothing gets a row of zeros."
    ),
    cases=((_draw(4, 6), _HOLES), (_draw(3, 5), _keeps(3, 5, 2)), (_draw(4, 4), _keeps(4, 4, 0))),
    right=lambda scores, mask: _filled(scores, mask, -math.inf).softmax(-1).nan_to_num(),
    wrongs=(
        Wrong(
            "zero fill",
            lambda scores, mask: _filled(scores, mask, 0.0).softmax(-1),
            lambda at: (
                f"The hidden keys of query 0 still get {_hidden_share(at)} together: you gave them a score "
                "of 0 (or of -1e-9, which is nearly 0), and exp(0) is 1. Which score has an exp of 0?"
            ),
        ),
        Wrong(
            "after softmax",
            lambda scores, mask: scores.softmax(-1) * mask,
            lambda at: (
                f"Row 0 of your weights sums to {number(at.got[0].sum())}: the hidden weights went out after "
                "the softmax, and had already taken their part of the sum. Hide before you share out."
            ),
        ),
        Wrong(
            "added",
            lambda scores, mask: (scores + mask.double()).softmax(-1),
            lambda at: (
                "You added the mask as numbers: kept scores rise by 1, and the hidden keys of query 0 still "
                f"get {_hidden_share(at)} together. True and False say who plays; they are no amounts."
            ),
        ),
        Wrong(
            "inverted",
            lambda scores, mask: _filled(scores, ~mask, -math.inf).softmax(-1).nan_to_num(),
            lambda at: (
                f"You hide what the mask keeps: the hidden keys of query 0 get {_hidden_share(at)} together. "
                "Here True keeps; masked_fill fills where it finds True, so it wants the opposite."
            ),
        ),
        Wrong(
            "times infinity",
            lambda scores, mask: torch.where(mask, scores, scores * -math.inf).softmax(-1).nan_to_num(),
            lambda at: (
                f"You multiplied, and {_below_zero(at)} times minus infinity is plus infinity. Set the hidden "
                "scores to minus infinity, whatever they were."
            ),
            match=_times_infinity,
        ),
        Wrong(
            "dead row nan",
            lambda scores, mask: _filled(scores, mask, -math.inf).softmax(-1),
            lambda at: (
                f"Right but for row {_dead_row(at)}, which may read nothing: it is nan (0/0), and one nan "
                "spoils every layer above. Such a row should be all zeros."
            ),
        ),
        Wrong(
            "dead row even",
            lambda scores, mask: _filled(scores, mask, -1e9).softmax(-1),
            lambda at: (
                f"Right but for row {_dead_row(at)}, which may read nothing and now reads "
                f"{extent(at.got[_dead_row(at)])} of every key: when all scores are equally low, it is a "
                "tie. Such a row should be all zeros."
            ),
        ),
        Wrong(
            "over queries",
            lambda scores, mask: _filled(scores, mask, -math.inf).softmax(-2).nan_to_num(),
            lambda at: (
                f"Your rows do not sum to one ({extent(at.got.sum(-1))}), your columns do: the softmax runs "
                "over the queries. It should run over the keys, the last axis."
            ),
        ),
    ),
    hints=(
        "Change the scores before the softmax, not the weights after it. What must a score be so that its "
        "exp is 0?",
        "Fill the hidden scores with minus infinity, then softmax. One kind of row comes out as nan: put "
        "zeros there.",
    ),
    solution="""\
def masked_weights(scores, mask):
    hidden = scores.masked_fill(~mask, -torch.inf)
    weights = hidden.softmax(dim=-1)
    return weights.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
""",
    properties=(no_nan, rows_sum_to_one, hidden_keys_get_nothing),
)
