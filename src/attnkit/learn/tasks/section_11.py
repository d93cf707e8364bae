"""Section 11: batches and dropout."""

import torch
from torch import Tensor

from attnkit.learn.agreement import close
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


def _own_random(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (torch.rand_like(weights) >= p) / (1 - p) if training else weights


def _scaled_in_evaluation(weights: Tensor, random: Tensor, p: float, training: bool) -> Tensor:
    return weights * (random >= p) if training else weights * (1 - p)


def _shrinks_in_evaluation(at: Sample) -> bool:
    """Whether weights come back times 1 - p outside training; in training, dropping is right but for the scale."""
    shrunk = close(at.got, at.want * (1 - _p(at)))
    return shrunk or (bool(at.inputs[3]) and close(at.got, at.want))


def _ignores_random(at: Sample) -> bool:
    """Whether, in training, other weights vanish than `random` says: by chance, or the same for any `random`."""
    _, random, p, training = at.inputs
    assert isinstance(random, Tensor)
    if not training:
        return True
    even = torch.ones_like(random)
    one, again, other = (at.call(even, numbers, p, True) for numbers in (random, random, 1 - random))
    return bool(_against(at) and (one == 0).any()) and (not close(one, again) or close(one, other))


def _against(at: Sample) -> int:
    """How many weights vanish or stay against what `random` says."""
    return int(((at.got == 0) != (at.want == 0)).sum())


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
            "scaled in evaluation",
            _scaled_in_evaluation,
            lambda at: (
                f"With training=False your weights come back times {number(1 - _p(at))}. They should come back "
                f"untouched: the division by {number(1 - _p(at))} is made in training."
            ),
            match=_shrinks_in_evaluation,
        ),
        Wrong(
            "own random",
            _own_random,
            lambda at: (
                f"You threw dice of your own: {_against(at)} of {at.got.numel()} weights vanish or stay against "
                "their number in `random`. Decide by those numbers, so that the same call gives the same "
                "answer."
            ),
            match=_ignores_random,
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
