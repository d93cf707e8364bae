"""Section 15: finding a head in a trained model."""

from torch import Tensor

from attnkit.learn.agreement import close
from attnkit.learn.properties import linear_in, no_nan
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.wording import number, shape

_draw = Draws(151)


def _beside(weights: Tensor, offset: int) -> Tensor:
    """The weights `offset` beside the diagonal: (layers, heads, about len)."""
    return weights.diagonal(offset, -2, -1)


def _averaged_first(weights: Tensor) -> Tensor:
    return _beside(weights.mean(1, keepdim=True), -1).mean(-1).expand(weights.shape[:2]).clone()


def _wrapped_sum(weights: Tensor) -> Tensor:
    """The weights beside the diagonal and, for word 0, the one of the last word, added up."""
    return _beside(weights, -1).sum(-1) + weights[..., 0, -1]


def _wraps(at: Sample) -> bool:
    total, length = _wrapped_sum(at.tensor(0)), at.tensor(0).shape[-1]
    return close(at.got, total / length) or close(at.got, total / (length - 1))


PREVIOUS_WORD_SCORE = Task(
    name="previous_word_score",
    section=15,
    stars=2,
    signature="previous_word_score(weights) -> (layers, heads), from weights (layers, heads, len, len)",
    statement=(
        "For every head, how much a word reads the word before it, on average over the words that have one: "
        "1 means always."
    ),
    cases=((_draw(2, 3, 6, 6).softmax(-1),), (_draw(4, 4, 4, 4).softmax(-1),)),
    right=lambda weights: _beside(weights, -1).mean(-1),
    wrongs=(
        Wrong(
            "next",
            lambda weights: _beside(weights, 1).mean(-1),
            lambda at: (
                "You read above the diagonal: head 0 of layer 0 reads the next word with "
                f"{number(at.got[0, 0])}, and the word before with {number(at.want[0, 0])}. Rows ask, "
                "columns are read."
            ),
        ),
        Wrong(
            "itself",
            lambda weights: _beside(weights, 0).mean(-1),
            lambda at: (
                f"You read the diagonal: how much a word reads itself ({number(at.got[0, 0])} in head 0 of "
                f"layer 0). The word before is one column to the left ({number(at.want[0, 0])})."
            ),
        ),
        Wrong(
            "first counted",
            lambda weights: _beside(weights, -1).sum(-1) / weights.shape[-1],
            lambda at: (
                f"You divided by {at.tensor(0).shape[-1]} words, and only {at.tensor(0).shape[-1] - 1} have "
                f"a word before them: a perfect head would get {number(1 - 1 / at.tensor(0).shape[-1])}. "
                "Leave word 0 out."
            ),
        ),
        Wrong(
            "wraps around",
            lambda weights: _wrapped_sum(weights) / weights.shape[-1],
            lambda at: (
                "You count word 0 too, and there i - 1 is -1, the last word, which word 0 of head 0 reads with "
                f"{number(at.tensor(0)[0, 0, 0, -1])}. Word 0 has no word before it: begin at word 1."
            ),
            match=_wraps,
        ),
        Wrong(
            "largest",
            lambda weights: _beside(weights, -1).amax(-1),
            lambda at: (
                f"You took the largest weight ({number(at.got[0, 0])} in head 0 of layer 0): one word that looks "
                f"back makes a perfect head. The average is asked for, {number(at.want[0, 0])} there."
            ),
        ),
        Wrong(
            "first two axes",
            lambda weights: weights.diagonal(-1).mean(-1),
            lambda at: (
                f"Shape {shape(at.got)} came back, not {shape(at.want)}: diagonal works on the first two axes, "
                "here layers and heads, unless it is told others. The square of words is the last two."
            ),
        ),
        Wrong(
            "summed",
            lambda weights: _beside(weights, -1).sum(-1),
            lambda at: (
                f"You have sums, up to {number(at.got.max())}, and they grow with the sentence. Take the "
                "mean, so that 1 means always."
            ),
        ),
        Wrong(
            "heads averaged",
            _averaged_first,
            lambda at: (
                f"You averaged the heads first: all {at.tensor(0).shape[1]} of layer 0 get "
                f"{number(at.got[0, 0])}, and a perfect head among twelve that never look back would drown "
                "at 0.083. Average over words only."
            ),
        ),
        Wrong(
            "word zero",
            lambda weights: weights[..., 1:, 0].mean(-1),
            lambda at: (
                f"You read column 0, how much everybody reads the first word ({number(at.got[0, 0])} in head "
                "0 of layer 0): that finds the sinks. The column moves with the row."
            ),
        ),
    ),
    hints=(
        "Where in the square (len, len) stands the weight with which word i reads word i - 1? Colour these "
        "cells: which line do they make?",
        "tensor.diagonal takes an offset and the two axes of the square. Then a mean over what it gives.",
    ),
    solution="""\
def previous_word_score(weights):
    previous = weights.diagonal(offset=-1, dim1=-2, dim2=-1)
    return previous.mean(dim=-1)
""",
    properties=(no_nan, linear_in(0, "weights")),
)
