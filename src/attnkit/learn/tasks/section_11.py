"""Section 11: batches and dropout."""

from torch import Tensor

from attnkit.learn.properties import linear_in, no_nan
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.wording import extent, number

_draw = Draws(11)
_WEIGHTS, _RANDOM = _draw(3, 4, 5).softmax(-1), _draw.uniform(3, 4, 5)


def _rescaled(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (random >= p) / (1 - p) if training else weights


def _not_rescaled(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (random >= p) if training else weights


def _divided_by_p(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (random >= p) / p if training else weights


def _renormalised(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    if not training:
        return weights
    kept = weights * (random >= p)
    return kept / kept.sum(-1, keepdim=True).clamp_min(1e-9)


def _in_evaluation(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (random >= p) / (1 - p)


def _keeps_p(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (random < p) / p if training else weights


def _other_coins(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (random < 1 - p) / (1 - p) if training else weights


def _whole_keys(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (random[:, :1] >= p) / (1 - p) if training else weights


def _p(at: Sample) -> float:
    p = at.inputs[2]
    assert isinstance(p, float)
    return p


def _dropped(at: Sample) -> str:
    return f"{int((at.got == 0).sum())} of {at.got.numel()}"


DROPOUT = Task(
    name="dropout",
    section=11,
    stars=1,
    signature="dropout(weights, random, p, training) -> weights of the same shape",
    statement=(
        "In training, drop each weight whose number in `random` (uniform in [0, 1), same shape) is below p, "
        "and divide what is left so that the average stays. Otherwise give the weights back as they are."
    ),
    cases=((_WEIGHTS, _RANDOM, 0.3, True), (_WEIGHTS, _RANDOM, 0.3, False)),
    right=_rescaled,
    wrongs=(
        Wrong(
            "not rescaled",
            _not_rescaled,
            lambda at: (
                f"What is left is {number(1 - _p(at))} of what it should be: with p = {_p(at)}, a weight "
                f"comes through {number(1 - _p(at))} of the time, so its average shrinks to that. Divide by "
                "it."
            ),
        ),
        Wrong(
            "divided by p",
            _divided_by_p,
            lambda at: (
                f"You divided by p = {_p(at)}, and what is left is {number(at.got.sum() / at.want.sum())} "
                f"times too large. A weight comes through {number(1 - _p(at))} of the time: divide by that "
                "share."
            ),
        ),
        Wrong(
            "renormalised",
            _renormalised,
            lambda at: (
                "You made the rows sum to one again. After dropout they sum to one only on average (here "
                f"{extent(at.want.sum(-1))}), and that is on purpose."
            ),
        ),
        Wrong(
            "in evaluation",
            _in_evaluation,
            lambda at: (
                f"With training=False you still drop {_dropped(at)} weights. Outside training they come back "
                "untouched."
            ),
        ),
        Wrong(
            "keeps p",
            _keeps_p,
            lambda at: (
                f"You dropped {_dropped(at)} weights and kept a share p. p = {_p(at)} is the share to drop: "
                f"here {int((at.want == 0).sum())}."
            ),
        ),
        Wrong(
            "other coins",
            _other_coins,
            lambda at: (
                f"You dropped {_dropped(at)} weights, about the right share, but those with the highest "
                f"random numbers. The agreement here: below p = {_p(at)} means dropped."
            ),
        ),
        Wrong(
            "whole keys",
            _whole_keys,
            lambda at: (
                f"All {at.got.shape[-2]} queries of a sentence lose the same keys. Each of the "
                f"{at.got.numel()} weights has a random number of its own."
            ),
        ),
    ),
    hints=(
        "Compare `random` with p: that gives True and False, and times a weight they are 1 and 0. If 3 in "
        "10 weights vanish, what must the others be divided by so that the average stays?",
        "Keep where random >= p, and divide by 1 - p. Ask about `training` first.",
    ),
    solution="""\
def dropout(weights, random, p, training):
    if not training:
        return weights
    keep = random >= p
    return weights * keep / (1 - p)
""",
    properties=(no_nan, linear_in(0, "weights")),
)
