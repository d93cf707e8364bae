"""The cache of a recurrence: its state, of one size however long the past is."""

from typing import Any

from torch import Tensor

from attnkit.caches.cache import Cache, Read, check_samples


class Recurrent(Cache):
    """What a recurrence hands on from token to token.

    Attributes:
        state: a tuple of tensors with the batch in front, or None before the first token.

    Args:
        batch: how many samples; as many as the first tokens have when not given.
    """

    def __init__(self, *, batch: int | None = None) -> None:
        self.state: Any = None
        self.fixed_batch = batch

    def after(self, state: Any, new_len: int) -> Read:
        """The past with the `state` after `new_len` more tokens; the cache stays as it is until this is kept."""
        return Read({}, self.length + new_len, self.length + new_len, state)

    def keep(self, read: Read) -> None:
        """Let the past be what `read` says."""
        self.state, self.length, self.first = read.held, read.length, read.first

    def tensors(self) -> tuple[Tensor, ...]:
        """The state."""
        return () if self.state is None else tuple(self.state)

    def reset(self) -> None:
        """Forget every token."""
        self.state, self.length, self.first = None, 0, 0

    def reorder(self, samples: Tensor) -> None:
        """Take the past of other samples; arguments and errors as in `Cache`."""
        chosen = check_samples(self, samples)
        if self.state is not None:
            self.state = type(self.state)(*(part.index_select(0, chosen) for part in self.state))
