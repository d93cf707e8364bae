"""Caches of tokens: growing, static, sliding. Each holds the tensors that are read, by name, `batch heads len width`.

    growing    every token, for as long as there is memory
    static     every token, in memory laid out once
    sliding    the last window - 1 tokens, which is what the next one reads besides itself

Where gradients may be asked, nothing is written in place and a call copies what it reads; decode under
`torch.no_grad()`.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from attnkit.caches.cache import Cache, Read, check_same_tokens, check_samples
from attnkit.caches.forms import Form, Int8, Plain
from attnkit.caches.room import Room, laid_out, rows_of
from attnkit.errors import OptionError, ShapeError

_BLOCK_TOKENS = 64
_FORM = Plain()


class Kept(Cache):
    """Tokens that are kept as they are.

    Args:
        form: in what form; as they come when not given.
        batch: how many samples; as many as the first tokens have when not given.
    """

    def __init__(self, *, form: Form = _FORM, batch: int | None = None) -> None:
        self.form, self.fixed_batch = form, batch
        self._room = Room()

    def joined(self, new: dict[str, Tensor]) -> Read:
        """What can be read once `new` tokens have come; the cache stays as it is until this is kept.

        Args:
            new: by name, `batch heads new_len width`.

        Raises:
            ShapeError: the tokens do not go on from those that are held, or there is no room for them.
            OptionError: they have another dtype or device, or gradients are asked of them and cannot be.
        """
        stored = self.form.stored(new)
        self._check_batch(new)
        if self._room.buffers:
            check_same_tokens(type(self).__name__, self._room.buffers, stored)
        rows, held, first = self._taken(stored)
        return Read(self.form.read(rows, new), first, self.length + rows_of(new), held)

    def keep(self, read: Read) -> None:
        """Let the past be what `read` says."""
        self._room, self.length = read.held, read.length
        self.first = self.length - self._room.filled

    def update(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take in new tokens, and give every token that can be read; `joined` and `keep` in one."""
        read = self.joined(new)
        self.keep(read)
        return read.tensors

    @abstractmethod
    def _taken(self, new: dict[str, Tensor]) -> tuple[dict[str, Tensor], Room, int]:
        """The rows to read, the room to keep, and the position of the first row."""

    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that it holds, room that is reserved included."""
        return tuple(self._room.buffers.values())

    def reset(self) -> None:
        """Forget every token."""
        self._room, self.length, self.first = Room(), 0, 0

    def reorder(self, samples: Tensor) -> None:
        """Take the past of other samples; arguments and errors as in `Cache`."""
        chosen = check_samples(self, samples)
        if self.length:
            self._room = self._room.reordered(chosen)

    def _check_batch(self, new: dict[str, Tensor]) -> None:
        given = next(iter(new.values())).shape[0]
        if self.batch not in (None, given):
            raise ShapeError(
                where=type(self).__name__,
                what=f"the cache is for {self.batch} samples; these tokens are of {given}",
                fix="a cache for each batch; cache.reorder(samples) takes other samples from it",
            )


class Growing(Kept):
    """Every token, for as long as there is memory.

    Room is reserved ahead when tokens follow the first ones, at most half of what is filled or a block of 64 tokens.

    Args:
        form: in what form; as they come when not given.
        batch: how many samples; as many as the first tokens have when not given.

    Example:
        >>> cache = Growing()
        >>> first = cache.update({"key": torch.zeros(1, 2, 3, 4)})
        >>> cache.update({"key": torch.zeros(1, 2, 1, 4)})["key"].shape
        torch.Size([1, 2, 4, 4])
    """

    def _taken(self, new: dict[str, Tensor]) -> tuple[dict[str, Tensor], Room, int]:
        if not rows_of(new) and self.length:
            return self._room.rows(), self._room, 0
        filled = self._room.filled
        ahead = max(filled // 2, _BLOCK_TOKENS) if filled else 0
        room = self._room.appended(new, capacity=filled + rows_of(new) + ahead)
        return room.rows(), room, 0


class Quantised(Growing):
    """Every token, as int8 with one scale a row: `forms.Int8` tells how far off a number may be.

    Args:
        batch: how many samples; as many as the first tokens have when not given.
    """

    def __init__(self, *, batch: int | None = None) -> None:
        super().__init__(form=Int8(), batch=batch)


class Static(Kept):
    """Every token up to a limit, in memory that is laid out once, with the first tokens.

    Args:
        max_tokens: how many tokens it can take.
        form: in what form; as they come when not given.
        batch: how many samples; as many as the first tokens have when not given.

    Raises:
        OptionError: `max_tokens` is no whole number from 1 upwards.
    """

    def __init__(self, max_tokens: int, *, form: Form = _FORM, batch: int | None = None) -> None:
        super().__init__(form=form, batch=batch)
        self.max_tokens = counted("Static", "max_tokens", max_tokens)

    def _taken(self, new: dict[str, Tensor]) -> tuple[dict[str, Tensor], Room, int]:
        after = self.length + rows_of(new)
        if after > self.max_tokens:
            raise ShapeError(
                where="Static",
                what=f"the cache has room for {self.max_tokens} tokens and holds {self.length}; "
                f"{rows_of(new)} more do not fit",
                fix=f"new_cache(kind='static', max_tokens={after}), or cache.reset() to begin anew",
            )
        room = self._room.appended(new, capacity=self.max_tokens)
        return room.rows(), room, 0

    def reset(self) -> None:
        """Forget every token; the memory stays laid out."""
        self._room, self.length = Room(self._room.buffers), 0


class Sliding(Kept):
    """The last `window - 1` tokens: what a token reads besides itself where each reads `window` positions.

    It holds room for about twice as many, so that one token in a window copies and the others are only written.

    Args:
        window: how many positions a token reads, its own included.
        form: in what form; as they come when not given.
        batch: how many samples; as many as the first tokens have when not given.

    Raises:
        OptionError: `window` is no whole number from 1 upwards.
    """

    def __init__(self, window: int, *, form: Form = _FORM, batch: int | None = None) -> None:
        super().__init__(form=form, batch=batch)
        self.window = counted("Sliding", "window", window)

    def _taken(self, new: dict[str, Tensor]) -> tuple[dict[str, Tensor], Room, int]:
        past, first = self.window - 1, self.length - self._room.filled
        if self._room.takes(rows_of(new)):
            room = self._room.appended(new)
            return room.rows(), room.last(past), first
        rows = self._room.joined(new)
        kept = {name: tensor[..., max(rows_of(rows) - past, 0) :, :] for name, tensor in rows.items()}
        if torch.is_grad_enabled():  # a copy, or the view would hold on to every row
            copied = {name: tensor.clone() for name, tensor in kept.items()}
            return rows, Room(copied, 0, rows_of(kept)), first
        return rows, laid_out(kept, past + max(self.window, _BLOCK_TOKENS)), first


def counted(where: str, name: str, number: object) -> int:
    """`number` if it is a whole number from 1 upwards.

    Raises:
        OptionError: it is not.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise OptionError(
            where=where, what=f"{name} is a whole number from 1 upwards; got {number!r}", fix=f"{name}=512"
        )
    return number
