"""A request: one rule, on one query, key and value, checked. What backends are given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from attnkit.errors import DtypeError, ShapeError
from attnkit.masks import Full, Mask
from attnkit.normalizers import Normalizer
from attnkit.scores import ScoreStep
from attnkit.shapes import Keep, type_of


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
        q_at: the positions of the queries (q_len,) where they are not `q_start` and those that follow it.
        kv_at: the positions of the keys (kv_len,) where they are not 0 and those that follow it.
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
    q_at: Tensor | None = None
    kv_at: Tensor | None = None

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
        if self.q_at is not None:
            return self.q_at
        return torch.arange(self.q_start, self.q_start + self.q_len, device=self.query.device)

    @property
    def kv_pos(self) -> Tensor:
        """The positions of the keys (kv_len,)."""
        return torch.arange(self.kv_len, device=self.key.device) if self.kv_at is None else self.kv_at

    @property
    def keep(self) -> Keep | None:
        """The mask, with an axis of one for the heads; None when every key may be read.

        Raises:
            ShapeError: the mask is for another batch.
        """
        if isinstance(self.mask, Full):
            return None
        keep = self.mask.keep(self.q_pos[:, None], self.kv_pos[None, :])
        keep = keep.expand(*keep.shape[:-2], self.q_len, self.kv_len)
        self.check_batch(tuple(keep.shape[:-2]))
        return keep.unsqueeze(-3) if keep.dim() > 2 else keep

    def check_batch(self, masked: tuple[int, ...]) -> None:
        """Refuse a mask for the batch `masked`, unless it is this request's or the mask is for any.

        Raises:
            ShapeError: the mask is for another batch.
        """
        batch = tuple(self.query.shape[:-3])
        if masked not in ((), batch):
            raise ShapeError(
                where="Rule",
                what=f"the mask {self.mask!r} is for a batch of {masked}; query "
                f"{tuple(self.query.shape)} has the batch {batch}",
                fix="one entry a sample, in the order of the batch, and no axis of heads; "
                "a 0/1 padding mask becomes lengths by masks.lengths(padding.sum(-1).long())",
            )

    def rows(self, chosen: Tensor) -> "Request":
        """The same request for the queries at the indices `chosen` (n,) alone."""
        return replace(self, query=self.query.index_select(-2, chosen), q_at=self.q_pos[chosen])

    def columns(self, chosen: Tensor) -> "Request":
        """The same request with the keys and values at the indices `chosen` (n,) alone."""
        key, value = (tensor.index_select(-2, chosen) for tensor in (self.key, self.value))
        return replace(self, key=key, value=value, kv_at=self.kv_pos[chosen])


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
            axes = ", ".join(["None"] * (3 - tensor.dim()))
            _refuse(f"{name} {tuple(tensor.shape)} has no axis of heads", f"one head is {name}[{axes}]")
    if query.shape[-1] != key.shape[-1]:
        size = max(query.shape[-1], key.shape[-1])
        _refuse(
            _pair(named, "query", "key", "end in different head_dim"),
            f"project both to one size, for instance head_dim={size}",
        )
    if query.shape[-1] == 0:
        _refuse(_pair(named, "query", "key", "end in a head_dim of 0"), "project both to head_dim=1 or more")
    if key.shape[:-1] != value.shape[:-1]:
        _refuse(
            _pair(named, "key", "value", "differ before the last axis"),
            "each key needs its value: same batch, kv_heads and kv_len",
        )
    if query.shape[:-3] != key.shape[:-3]:
        _refuse(_pair(named, "query", "key", "have different batch axes"), _one_batch(query, key, value))
    _check_heads(named)


def _check_numbers(named: dict[str, Tensor]) -> None:
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise DtypeError(
                where="Rule",
                what=f"{name} must be a tensor of floats; got {type_of(tensor)}",
                fix=f"give a tensor; numbers become one by torch.as_tensor({name}).float()",
            )
        if tensor.is_nested:
            raise DtypeError(
                where="Rule",
                what=f"{name} is a nested tensor; attention needs one with axes (*batch, heads, len, size)",
                fix=f"torch.nested.to_padded_tensor({name}, 0.0), and masks.lengths for where padding begins",
            )
    if len({(tensor.dtype, tensor.device) for tensor in named.values()}) > 1:
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


def _one_batch(query: Tensor, key: Tensor, value: Tensor) -> str:
    if query.shape[:-3].numel() < key.shape[:-3].numel():
        wanted = (*key.shape[:-3], *query.shape[-3:])
        return f"query.expand{wanted} where the same queries are asked of a whole batch"
    wanted = [(*query.shape[:-3], *tensor.shape[-3:]) for tensor in (key, value)]
    return f"key.expand{wanted[0]} and value.expand{wanted[1]} where one memory serves a whole batch"


def _pair(named: dict[str, Tensor], first: str, second: str, trouble: str) -> str:
    return f"{first} {tuple(named[first].shape)} and {second} {tuple(named[second].shape)} {trouble}"


def _refuse(what: str, fix: str) -> NoReturn:
    raise ShapeError(where="Rule", what=what, fix=fix)
