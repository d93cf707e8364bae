"""A request: one rule, on one query, key and value, checked. What backends are given."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import DtypeError, ShapeError
from attnkit.masks import Full, Mask
from attnkit.normalizers import Normalizer
from attnkit.scores import ScoreStep
from attnkit.shapes import Keep


@dataclass(frozen=True, eq=False)
class Request:
    """Everything that a backend needs to compute a context, known to fit together.

    Attributes:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`, where kv_heads divides heads.
        value: `*batch kv_heads kv_len d_value`.
        mask: where queries may look.
        steps: what happens to the scaled scores, in order.
        normalizer: how scores become weights.
        scale: multiplies the scores.
        dropout: the probability that acts in this call; 0 outside training.
        q_start: the position of the first query.
        generator: where dropout draws from; None is PyTorch's own.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Mask
    steps: Sequence[ScoreStep]
    normalizer: Normalizer
    scale: float
    dropout: float
    q_start: int
    generator: torch.Generator | None = None

    @property
    def q_len(self) -> int:
        """How many queries."""
        return self.query.shape[-2]

    @property
    def kv_len(self) -> int:
        """How many keys."""
        return self.key.shape[-2]

    @property
    def group(self) -> int:
        """How many query heads read each kv head."""
        return self.query.shape[-3] // max(self.key.shape[-3], 1)

    @property
    def q_pos(self) -> Tensor:
        """The positions of the queries (q_len,)."""
        return torch.arange(self.q_start, self.q_start + self.q_len, device=self.query.device)

    def keep(self, q_pos: Tensor) -> Keep | None:
        """The mask at `q_pos`, with an axis of one for the heads; None when every key may be read.

        Raises:
            ShapeError: the mask is for another batch.
        """
        if isinstance(self.mask, Full):
            return None
        keep = self.mask.at(q_pos, self.kv_len)
        batch = self.query.shape[:-3]
        if keep.shape[:-2] not in ((), batch):
            raise ShapeError(
                where="Rule",
                what=f"the mask {self.mask!r} is for a batch of {tuple(keep.shape[:-2])}; query "
                f"{tuple(self.query.shape)} has the batch {tuple(batch)}",
                fix="one entry a sample, in the order of the batch",
            )
        return keep.unsqueeze(-3) if keep.dim() > 2 else keep


def check_inputs(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Refuse a query, key and value that do not belong together.

    Raises:
        DtypeError: they are not float tensors of one dtype on one device.
        ShapeError: an axis is missing, or two that must be equal differ.
    """
    named = {"query": query, "key": key, "value": value}
    _check_numbers(named)
    for name, tensor in named.items():
        if tensor.dim() < 3:
            _refuse(f"{name} {tuple(tensor.shape)} has no axis of heads", f"one head is {name}.unsqueeze(-3)")
    if query.shape[-1] != key.shape[-1]:
        _refuse(_pair(named, "query", "key", "end in different head_dim"), _same_head_dim(query, key))
    if key.shape[:-1] != value.shape[:-1]:
        _refuse(
            _pair(named, "key", "value", "differ before the last axis"),
            "each key needs its value: same batch, kv_heads and kv_len",
        )
    if query.shape[:-3] != key.shape[:-3]:
        _refuse(
            _pair(named, "query", "key", "have different batch axes"),
            f"key.expand({', '.join(map(str, query.shape[:-3]))}, ...) where one memory serves a whole batch",
        )
    _check_heads(named)


def _check_numbers(named: dict[str, Tensor]) -> None:
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            given = str(tensor.dtype) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise DtypeError(
                where="Rule",
                what=f"{name} must be a tensor of floats; got {given}",
                fix=f"torch.as_tensor({name}).float()",
            )
    if len({tensor.dtype for tensor in named.values()}) > 1 or len({t.device for t in named.values()}) > 1:
        given = ", ".join(f"{name} {tensor.dtype} on {tensor.device}" for name, tensor in named.items())
        raise DtypeError(
            where="Rule",
            what=f"one dtype and one device for all; got {given}",
            fix="key.to(query), value.to(query)",
        )


def _check_heads(named: dict[str, Tensor]) -> None:
    heads, kv_heads = named["query"].shape[-3], named["key"].shape[-3]
    if heads != kv_heads and (kv_heads == 0 or heads % kv_heads):
        _refuse(
            _pair(named, "query", "key", f"have {heads} and {kv_heads} heads, which cannot be shared evenly"),
            "a number of kv heads that divides the query heads; the axes are (*batch, heads, len, head_dim)",
        )


def _same_head_dim(query: Tensor, key: Tensor) -> str:
    return f"project both to one size, for instance head_dim={max(query.shape[-1], key.shape[-1])}"


def _pair(named: dict[str, Tensor], first: str, second: str, trouble: str) -> str:
    return f"{first} {tuple(named[first].shape)} and {second} {tuple(named[second].shape)} {trouble}"


def _refuse(what: str, fix: str) -> None:
    raise ShapeError(where="Rule", what=what, fix=fix)
