"""Softmax, and softmax with a sink: one more term in the sum below, that no key gets.

    weight_k = exp(score_k) / (sum_j exp(score_j) + exp(sink))

A sink lets a head say "nothing here": its rows sum to less than one. A row with nothing to read is zero either way.
"Sink" also names the first tokens of a text, that models read when they have nothing to say; to keep those
readable is a mask, `masks.first(4)`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import DtypeError, ShapeError
from attnkit.normalizers.normalizer import Normalizer, hide
from attnkit.shapes import Keep, Scores, Weights, type_of


@dataclass(frozen=True, eq=False)
class Softmax(Normalizer):
    """exp(score), divided by its sum over the keys that may be read. Rows sum to one, or to zero.

    With a sink they sum to less. Two are equal when their sinks are one and the same tensor.

    Attributes:
        sink: (heads,) learned logits, one for each query head; none when not given. Gradients reach it.

    Raises:
        DtypeError: `sink` holds no floats.
        ShapeError: `sink` has not one axis; or at the call: the scores have another number of heads.

    Example:
        >>> Softmax()(torch.zeros(1, 2), torch.tensor([[True, False]])).tolist()
        [[1.0, 0.0]]
        >>> Softmax(sink=torch.zeros(1))(torch.zeros(1, 1, 3), None).tolist()
        [[[0.25, 0.25, 0.25]]]

    Source: the sink is that of gpt-oss, 2025, https://arxiv.org/abs/2508.10925
    """

    sink: Tensor | None = None

    def __post_init__(self) -> None:
        if self.sink is not None:
            _check_sink(self.sink)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Softmax) and type(other) is type(self) and other.sink is self.sink

    def __hash__(self) -> int:
        return hash((type(self), id(self.sink)))

    def __repr__(self) -> str:
        return "Softmax()" if self.sink is None else f"Softmax(sink of {self.sink.shape[0]} heads)"

    @property
    def rows_sum_to_one(self) -> bool:
        """True without a sink."""
        return self.sink is None

    def parameters(self) -> tuple[Tensor, ...]:
        """The sink, if there is one."""
        return () if self.sink is None else (self.sink,)

    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""
        if self.sink is None:
            return _shown(hide(scores, keep).softmax(dim=-1), keep)
        heads = scores.shape[-3] if scores.dim() > 2 else None
        if heads != self.sink.shape[0]:
            raise ShapeError(
                where="Softmax",
                what=f"a sink of {self.sink.shape[0]} heads, for scores {tuple(scores.shape)} of {heads or 'no'} heads",
                fix="sink holds one number for each query head; scores are (*batch, heads, q_len, kv_len)",
            )
        return _softmax_beside(scores, keep, self.sink.to(scores)[:, None, None])


@dataclass(frozen=True)
class SoftmaxOne(Normalizer):
    """Softmax with one added to the sum below: a sink of 0. A row of low scores may read nothing.

    It is what `nn.MultiheadAttention(add_zero_attn=True)` computes by a key and a value of zeros.

    Example:
        >>> SoftmaxOne()(torch.zeros(1, 3), None).tolist()
        [[0.25, 0.25, 0.25]]

    Source: Miller 2023, https://www.evanmiller.org/attention-is-off-by-one.html
    """

    def __call__(self, scores: Scores, keep: Keep | None) -> Weights:
        """The weights, in the shape and dtype of `scores`; a row with nothing to read is all zeros."""
        return _softmax_beside(scores, keep, scores.new_zeros(()))


def softmax_sink(normalizer: Normalizer) -> tuple[bool, Tensor | float | None]:
    """Whether `normalizer` is a softmax, and its sink: (heads,) logits, one number for all, or None.

    A subclass is not taken for what it is made from, since it may normalise otherwise.

    Example:
        >>> softmax_sink(Softmax()), softmax_sink(SoftmaxOne())
        ((True, None), (True, 0.0))
    """
    if type(normalizer) is Softmax:
        return True, normalizer.sink
    return (True, 0.0) if type(normalizer) is SoftmaxOne else (False, None)


def _softmax_beside(scores: Tensor, keep: Tensor | None, sink: Tensor) -> Tensor:
    """Softmax with `sink` as one more score, whose weight is dropped."""
    column = sink.expand(*scores.shape[:-1], 1)
    return _shown(torch.cat([hide(scores, keep), column], dim=-1).softmax(dim=-1)[..., :-1], keep)


def _shown(weights: Tensor, keep: Tensor | None) -> Tensor:
    # turns the 0/0 of an empty row into zeros, and stops its gradient
    return weights if keep is None else weights.masked_fill(~keep, 0.0)


def _check_sink(sink: object) -> None:
    if not isinstance(sink, Tensor) or not sink.is_floating_point():
        raise DtypeError(
            where="Softmax",
            what=f"sink is a tensor of floats, one for each query head; got {type_of(sink)}",
            fix="sink=torch.zeros(num_heads), or a layer's torch.nn.Parameter; SoftmaxOne() is a sink of 0 for all",
        )
    if sink.dim() != 1:
        raise ShapeError(
            where="Softmax",
            what=f"sink has one axis (heads,); got {tuple(sink.shape)}",
            fix="sink=torch.zeros(num_heads); one number for all heads is sink.expand(num_heads)",
        )
