"""A request: one rule, on one query, key and value, checked. What backends are given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnkit.errors import ShapeError
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
        scale: multiplies the scores, above 0; a rule's scale of 0 or less is in the query.
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
    def mapped(self) -> bool:
        """Whether `torch.func.vmap` hides an axis of the query, the key or the value."""
        return any(_is_mapped(tensor) for tensor in (self.query, self.key, self.value))

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
        """Refuse a mask for the batch `masked`, unless it is this request's or the mask is for any; or for fewer keys.

        Raises:
            ShapeError: the mask is for another batch, or was not told of every key.
        """
        known = self.mask.known_positions
        if known is not None and self.kv_len > known:
            raise ShapeError(
                where="Rule",
                what=f"the mask {self.mask!r} was told of {known} positions; key {tuple(self.key.shape)} has "
                f"{self.kv_len}",
                fix="masks.documents needs an id for each key, masks.neighborhood a grid with a cell for each; where "
                "the ids are the lengths of documents: "
                "masks.documents(torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)))",
            )
        batch = tuple(self.query.shape[:-3])
        if masked and masked != batch:
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


def _is_mapped(tensor: Tensor) -> bool:
    # torch has no public way to ask
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    if torch.compiler.is_compiling():
        return False
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False
