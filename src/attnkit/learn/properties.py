"""What holds for a right answer whatever the inputs: the clues about a mistake that has no name.

A property looks at a sample that is wrong and gives a sentence where it fails, None where it holds.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from attnkit.learn.agreement import close
from attnkit.learn.task import Property, Sample
from attnkit.learn.wording import number


def no_nan(sample: Sample) -> str | None:
    """No entry is nan or infinite."""
    bad = ~torch.isfinite(sample.got)
    if not bad.any():
        return None
    amount, place = int(bad.sum()), bad.nonzero()[0].tolist()
    return (
        f"{amount} of {bad.numel()} entries {'is' if amount == 1 else 'are'} nan or infinite, the first at "
        f"{place}: look for 0/0, 0 times infinity, exp of something large, or a row of minus infinities."
    )


def rows_sum_to_one(sample: Sample) -> str | None:
    """Each row sums to what it should: one, or zero for a row that may read nothing."""
    if sample.got.shape != sample.want.shape:
        return None
    sums, right = sample.got.sum(-1), sample.want.sum(-1)
    wrong = (sums - right).abs() > 1e-4
    if not wrong.any():
        return None
    place = wrong.nonzero()[0].tolist()
    index = tuple(place)
    return (
        f"Row {_place(place)} of your weights sums to {number(sums[index])}; it should sum to "
        f"{number(right[index])}."
    )


def hidden_keys_get_nothing(sample: Sample) -> str | None:
    """No weight where the mask, the second argument, is False."""
    leaked = (sample.got.abs() > 1e-6) & ~sample.tensor(1)
    if not leaked.any():
        return None
    row, column = leaked.nonzero()[0].tolist()[-2:]
    weight = sample.got[row, column]
    return (
        f"Query {row} gives the hidden key {column} a weight of {number(weight)}; a hidden key gets exactly "
        "0."
    )


def past_stays(words: int = 0) -> Property:
    """Outputs of (..., len, d) do not move when a later word of argument `words` changes."""

    def holds(sample: Sample) -> str | None:
        def attention(x: Tensor) -> Tensor:
            return sample.call(*sample.inputs[:words], x, *sample.inputs[words + 1 :])

        output, word, size = largest_leak(attention, sample.tensor(words))
        if size < 1e-6:
            return None
        return (
            f"Output {output} moves by {number(size)} when word {word} changes: the future reaches the past."
        )

    return holds


def largest_leak(attention: Callable[[Tensor], Tensor], x: Tensor) -> tuple[int, int, float]:
    """An output, a later word, and by how much the output moves when the word changes, where that is largest.

    Args:
        attention: maps words (..., len, d) to outputs (..., len, d_out).
        x: the words; each is moved by 3 in every coordinate, in turn.
    """
    before, found = attention(x), (0, 0, 0.0)
    for word in range(1, x.shape[-2]):
        moved = x.clone()
        moved[..., word, :] += 3.0
        change = (attention(moved) - before).abs().reshape(-1, *before.shape[-2:]).amax(dim=(0, -1))[:word]
        if change.max() > found[2]:
            found = (int(change.argmax()), word, float(change.max()))
    return found


def follows_exchange(axes: dict[int, int], out: int | None, noun: str) -> Property:
    """Exchanging places 0 and 1 on an axis of some arguments exchanges them on axis `out` of the answer.

    Args:
        axes: for each argument that changes, its axis.
        out: the axis of the answer that follows; None where the answer must stay as it is.
        noun: what is exchanged, in the plural.
    """

    def holds(sample: Sample) -> str | None:
        inputs = [
            _exchanged(sample.tensor(index), axes[index]) if index in axes else value
            for index, value in enumerate(sample.inputs)
        ]
        expected = sample.got if out is None else _exchanged(sample.got, out)
        answer = sample.call(*inputs)
        if close(answer, expected):
            return None
        off = number((answer - expected).abs().max())
        follow = (
            "nothing else should change"
            if out is None
            else "the answers should be exchanged too, and otherwise stay"
        )
        return (
            f"With {noun} 0 and 1 exchanged, {follow}; some number is off by {off}. Something depends on the "
            "place where it should not."
        )

    return holds


def linear_in(index: int, noun: str) -> Property:
    """Twice the argument gives twice the answer."""

    def holds(sample: Sample) -> str | None:
        inputs = list(sample.inputs)
        inputs[index] = 2 * sample.tensor(index)
        answer = sample.call(*inputs)
        if close(answer, 2 * sample.got):
            return None
        grows = f"yours grows by a factor of {number(answer.norm() / sample.got.norm())}"
        if grows.endswith(" 2"):
            grows = f"some number of yours is off by {number((answer - 2 * sample.got).abs().max())}"
        return f"Twice as long {noun} should give twice the answer; {grows}."

    return holds


def _exchanged(values: Tensor, axis: int) -> Tensor:
    """`values` with places 0 and 1 of `axis` exchanged."""
    order = torch.arange(values.shape[axis])
    order[:2] = order[:2].flip(0)
    return values.index_select(axis, order)


def _place(place: list[int]) -> str:
    return str(place[0]) if len(place) == 1 else str(place)
