"""A sketch of a mechanism's weights in text: a row for each query, a cell of two letters for each key.

    shade(q, k) = |weight(q, k)| / max_k |weight(q, k)|, in four steps

So a cell tells the share of the largest weight of its own row, and rows of small weights are as readable as others.
A weight below zero has lines instead of shades.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.atlas.draw import Draw, fitted, longest
from attnkit.errors import OptionError
from attnkit.mechanism import Bound, Sizes

SIZES = Sizes(num_heads=8, num_kv_heads=8, head_dim=16, d_model=128)
LONGEST = 34  # two letters a key, and the sum of the row, within 80 columns
_TOKENS = {1: 24, 2: 14}  # by how many heads stand side by side
_COLUMNS = 80
_SHADES, _BELOW = ("░░", "▒▒", "▓▓", "██"), ("--", "--", "==", "==")
_ZERO = " ·"
_TOLERANCE = 1e-9  # two heads whose weights differ by more are not alike


@dataclass(frozen=True, eq=False, repr=False)
class Sketch:
    """The weights of one head, or of two that differ by nature.

    Attributes:
        weights: `shown q_len kv_len`, float64.
        heads: the numbers of the heads that are shown, from 0.
    """

    weights: Tensor
    heads: tuple[int, ...]

    @property
    def sums_to_one(self) -> bool:
        """Whether every row that reads anything does."""
        sums = self.weights.sum(-1)
        reads = (self.weights != 0).any(-1)
        return bool(((sums - reads.double()).abs() <= 1e-6).all())

    @property
    def legend(self) -> str:
        """What the marks mean."""
        shades = " ".join(shade[0] for shade in _SHADES)
        told = f"{_ZERO.strip()} none  {shades} up to 1/4, 1/2, 3/4 and all of the row's largest weight"
        if (self.weights < 0).any():
            told += f"\n{_BELOW[0]} {_BELOW[2]} the same below zero, up to half and more"
        return told if self.sums_to_one else f"{told}\nright: the sum of the row"

    def __str__(self) -> str:
        blocks = [self._block(number) for number in range(len(self.heads))]
        beside = ["   ".join(row).rstrip() for row in zip(*blocks, strict=True)]
        if max(map(len, beside)) <= _COLUMNS:
            return "\n".join([*beside, self.legend])
        return "\n".join([*(line.rstrip() for block in blocks for line in block), self.legend])

    __repr__ = __str__

    def _block(self, number: int) -> list[str]:
        """The lines of one head, all of one width."""
        weights = self.weights[number]
        sums = [""] * weights.shape[0]
        if not self.sums_to_one:
            sums = [
                f" {round(total, 2) + 0.0:5.2f}" for total in weights.sum(-1).tolist()
            ]  # + 0.0: no "-0.00"
        rows = [
            f"{label}{_row(row)}{total}"
            for label, row, total in zip(_labels(*weights.shape), weights, sums, strict=True)
        ]
        head = f"head {self.heads[number]}" if len(self.heads) > 1 else ""
        top = f"    {_ticks(weights.shape[1])}"
        width = max(map(len, [*rows, top]))
        return [line.ljust(width) for line in ([f"    {head}"] if head else []) + [top, *rows]]


def sketched(bound: Bound, *, length: int | None = None) -> Sketch:
    """The weights of head 0; where heads differ though they are given the same, those of the first and the last.

    Args:
        bound: a mechanism and its options.
        length: how many tokens; as many as fit well, and as its mask knows, when not given.

    Raises:
        OptionError: the number of tokens does not fit a line, or is more than the mask knows.
    """
    known = longest(bound, SIZES)
    if length is not None and not 1 <= length <= min(LONGEST, known or LONGEST):
        knows = f"; the mask of {bound.mechanism.name} knows {known} positions" if known else ""
        raise OptionError(
            where="sketched",
            what=f"a sketch has from 1 to {LONGEST} tokens{knows}; got {length}",
            fix=f"length={min(LONGEST, known or LONGEST)}",
        )
    bound = fitted(bound, length or _TOKENS[1])
    heads = _distinct_heads(bound, min(_TOKENS[2], known or _TOKENS[2]))
    length = length or min(_TOKENS[len(heads)], known or LONGEST)
    drawn = Draw.of(bound, SIZES, length=length).weights()
    weights = drawn[(0,) * (drawn.dim() - 3)]
    return Sketch(weights[list(heads)].detach(), heads)


def _distinct_heads(bound: Bound, length: int) -> tuple[int, ...]:
    weights = Draw.of(bound, SIZES, length=length, alike=True).weights()
    first, last = weights[..., 0, :, :], weights[..., -1, :, :]
    return (0,) if torch.allclose(first, last, atol=_TOLERANCE) else (0, weights.shape[-3] - 1)


def _row(weights: Tensor) -> str:
    largest = weights.abs().max().clamp(min=1e-300)
    return "".join(map(_cell, (weights / largest).tolist()))


def _cell(share: float) -> str:
    if share == 0:
        return _ZERO
    step = min(int(abs(share) * len(_SHADES)), len(_SHADES) - 1)
    return _SHADES[step] if share > 0 else _BELOW[step]


def _labels(q_len: int, kv_len: int) -> list[str]:
    start = max(kv_len - q_len, 0)
    return [f"{start + row:>2}  " if row % 4 == 0 else "    " for row in range(q_len)]


def _ticks(kv_len: int) -> str:
    return "".join(f"{key:<8}" for key in range(0, kv_len, 4)).rstrip()
