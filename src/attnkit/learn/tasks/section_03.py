"""Section 3: from scores to shares."""

import torch
from torch import Tensor

from attnkit.learn.properties import follows_exchange, no_nan, rows_sum_to_one
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.wording import extent, number

_draw = Draws(3)
# far from each other as well: exp overflows even where the mean of a row is taken off first; and the last row
# is safe with the largest score of all, but not with the largest of its sizes
_FAR = torch.tensor(
    [[1000.0, 0.0, 0.0, -9.0], [-1000.0, -1001.0, -1000.0, -1003.0], [300.0, -450.0, -1100.0, -500.0]],
    dtype=torch.float64,
)


def _exp_by(scores: Tensor, highest: Tensor | float) -> Tensor:
    return (scores - highest).exp()


def _whole_tensor(scores: Tensor) -> Tensor:
    parts = _exp_by(scores, scores.max())
    return parts / parts.sum()


def _overflow(scores: Tensor) -> Tensor:
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


def _global_max(scores: Tensor) -> Tensor:
    parts = _exp_by(scores, scores.max())
    return parts / parts.sum(-1, keepdim=True)


def _largest_size(scores: Tensor) -> Tensor:
    parts = _exp_by(scores, scores.abs().amax(-1, keepdim=True))
    return parts / parts.sum(-1, keepdim=True)


def _sums_lie_down(scores: Tensor) -> Tensor:
    parts = _exp_by(scores, scores.amax(-1, keepdim=True))
    return parts / parts.sum(-1)


def _nan_row(at: Sample) -> int:
    return int(at.got.isnan().any(-1).nonzero()[0, -1])


def _nan_rows(at: Sample) -> str:
    row = _nan_row(at)
    return f"row {row}, with scores from {extent(at.tensor(0)[row])},"


def _columns_sum_to_one(at: Sample) -> bool:
    """Whether the sums along an axis other than the last are one, as far as they are numbers at all."""
    return at.got.shape == at.want.shape and any(
        bool(finite.numel() and ((finite - 1).abs() < 1e-4).all())
        for finite in (sums[sums.isfinite()] for sums in (at.got.sum(0), at.got.sum(-2)))
    )


SOFTMAX = Task(
    name="softmax",
    section=3,
    stars=2,
    core=True,
    signature="softmax(scores) -> weights of the same shape; the last axis sums to one",
    statement=(
        "Turn each row of scores into shares that sum to one. A score of 1000 must not break it, and neither "
        "must a row of -1000s. Write it with exp: only numbers are judged here, so torch's own softmax passes "
        "too, and teaches you little."
    ),
    cases=((_draw(5, 7),), (_draw(4, 4),), (_draw(2, 3, 5),), (_FAR,)),
    right=lambda scores: scores.softmax(-1),
    wrongs=(
        Wrong(
            "over queries",
            lambda scores: scores.softmax(-2),
            lambda at: (
                f"Your columns sum to one, your rows do not ({extent(at.got.sum(-1))}): each key deals "
                "itself out among the queries. Each query should deal out its attention among the keys, "
                "along the last axis."
            ),
            match=_columns_sum_to_one,
        ),
        Wrong(
            "whole tensor",
            _whole_tensor,
            lambda at: (
                f"All {at.got.numel()} numbers together sum to one, and your rows to less "
                f"({extent(at.got.sum(-1))}). Every row should sum to one on its own."
            ),
        ),
        Wrong(
            "overflow",
            _overflow,
            lambda at: (
                f"Right for small scores, but {_nan_rows(at)} becomes nan: exp(1000) is infinite, exp(-1000) "
                "is 0, and neither can be divided. Adding the same number to a whole row changes no share: "
                "which number would bring every row to safety?"
            ),
        ),
        Wrong(
            "global max",
            _global_max,
            lambda at: (
                f"You subtract the largest score of all, {number(at.tensor(0).max())}; {_nan_rows(at)} is so "
                "far below it that its exps are all 0, and 0/0 is nan. Each row needs its own maximum."
            ),
        ),
        Wrong(
            "largest size",
            _largest_size,
            lambda at: (
                f"Right for small scores, but {_nan_rows(at)} becomes nan: without their signs the largest is "
                f"{number(at.tensor(0)[_nan_row(at)].abs().max())}, and with that taken off all exps are 0, and "
                "0/0 is nan. Take off the row's own largest score, as it is."
            ),
        ),
        Wrong(
            "sums lie down",
            _sums_lie_down,
            lambda at: (
                f"On a square of {at.got.shape[-1]} x {at.got.shape[-1]} it runs, but column j is divided by "
                f"the sum of row j, and your rows miss one ({extent(at.got.sum(-1))}). A sum that loses its "
                "axis lies down as a row; it should stand as a column, one number a row."
            ),
        ),
        Wrong(
            "no exp",
            lambda scores: scores / scores.sum(-1, keepdim=True),
            lambda at: (
                "You divided by the sum without exp, so scores below zero make shares below zero, or a sum "
                f"near zero and enormous ones (yours: {extent(at.got)}). exp makes every number positive "
                "first."
            ),
        ),
        Wrong(
            "logarithms",
            lambda scores: scores.log_softmax(-1),
            lambda at: (
                f"These are logarithms of weights ({extent(at.got)}), none above zero. One exp is missing at "
                "the end."
            ),
        ),
    ),
    hints=(
        "Three steps: make every number positive with exp; add up each row; divide. Try it on scores of "
        "1000 before you hand it in.",
        "Subtract from each row its own largest number before exp. The maximum and the sum of a row must "
        "keep their axis (keepdim) so that they stand as a column beside the rows.",
    ),
    solution="""\
def softmax(scores):
    highest = scores.amax(dim=-1, keepdim=True)
    parts = (scores - highest).exp()
    return parts / parts.sum(dim=-1, keepdim=True)
""",
    properties=(no_nan, rows_sum_to_one, follows_exchange({0: -1}, -1, "scores")),
)
