"""What a cache is: the tensors of the tokens that were read, prepared, so that only new tokens are computed.

    every = cache.update(new)       before each call's attention: what can be read now

Tensors go by name, `batch heads len width`, so that a mechanism with more than key and value is cached like any other.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Cache(ABC):
    """The past of one layer.

    Attributes:
        length: how many tokens it has seen, in tokens.
        first: the position of the first token that can still be read.
    """

    length: int = 0
    first: int = 0

    @abstractmethod
    def update(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take in new tokens.

        Args:
            new: by name, `batch heads new_len width`.

        Returns:
            By the same names, every token that can be read, from position `first` on.
        """

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that it holds."""

    @abstractmethod
    def reset(self) -> None:
        """Forget every token."""

    @abstractmethod
    def reorder(self, samples: Tensor) -> None:
        """Take the past of other samples, as beam search does: sample i goes on from what was sample `samples[i]`."""

    @property
    def held_bytes(self) -> int:
        """What it holds, in bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())


class Growing(Cache):
    """Every token, for as long as there is memory.

    Example:
        >>> cache = Growing()
        >>> first = cache.update({"key": torch.zeros(1, 2, 3, 4)})
        >>> cache.update({"key": torch.zeros(1, 2, 1, 4)})["key"].shape
        torch.Size([1, 2, 4, 4])
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def update(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take in new tokens; every token so far can be read."""
        held = self._held
        self._held = {name: torch.cat([held[name], more], -2) if held else more for name, more in new.items()}
        self.length += next(iter(new.values())).shape[-2]
        return self._held

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that it holds."""
        return tuple(self._held.values())

    def reset(self) -> None:
        """Forget every token."""
        self._held, self.length = {}, 0

    def reorder(self, samples: Tensor) -> None:
        """Take the past of other samples."""
        self._held = {name: held.index_select(0, samples) for name, held in self._held.items()}
