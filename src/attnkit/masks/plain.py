"""Masks that are the same for every sample."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.masks.mask import Mask


@dataclass(frozen=True)
class Full(Mask):
    """Every query reads every key."""

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True everywhere."""
        return torch.ones_like(kv_pos, dtype=torch.bool)

    def __repr__(self) -> str:
        return "full"


@dataclass(frozen=True)
class Causal(Mask):
    """A query reads its own position and those before it."""

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where the key is not later than the query."""
        return kv_pos <= q_pos

    def __repr__(self) -> str:
        return "causal"


full = Full()
causal = Causal()
