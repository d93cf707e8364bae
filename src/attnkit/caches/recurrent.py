"""The cache of a recurrence: its state, of one size however long the past is."""

from typing import Any

from torch import Tensor

from attnkit.caches.cache import Cache


class Recurrent(Cache):
    """What a recurrence hands on from token to token.

    Attributes:
        state: a tuple of tensors, or None before the first token.
    """

    def __init__(self) -> None:
        self.state: Any = None

    def advance(self, state: Any, tokens: int) -> None:
        """Put the `state` after so many more tokens in the place of the old one."""
        self.state = state
        self.length += tokens

    def update(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """A recurrence reads no token again: what comes back is what came."""
        return new

    def tensors(self) -> tuple[Tensor, ...]:
        """The state."""
        return () if self.state is None else tuple(self.state)

    def reset(self) -> None:
        """Forget every token."""
        self.state, self.length = None, 0

    def reorder(self, samples: Tensor) -> None:
        """Take the past of other samples."""
        if self.state is not None:
            self.state = type(self.state)(*(part.index_select(0, samples) for part in self.state))
