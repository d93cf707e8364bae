"""What a cache is: the past of one layer, prepared, so that only new tokens are computed.

    read = cache.joined(new)        what a call reads; the cache stays as it is
    cache.keep(read)                the call succeeded: now the new tokens belong to the past

The two are apart so that an error anywhere in a call leaves the cache as it was. The trap for readers who come from
transformers: a cache belongs to one layer, and a model has one for each of its layers.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.errors import OptionError, ShapeError
from attnkit.shapes import type_of, whole_numbers


@dataclass(frozen=True)
class Read:
    """What one call reads, and what its cache becomes when the call succeeds.

    Attributes:
        tensors: by name, every token that can be read, the new ones last: `batch heads len width`.
        first: the position of the first of them.
        length: how many tokens the cache will have seen.
        held: what it will hold.
    """

    tensors: dict[str, Tensor]
    first: int
    length: int
    held: Any


class Cache(ABC):
    """The past of one layer.

    Attributes:
        length: how many tokens it has seen, in tokens.
        first: the position of the first token that the next one can still read.
        fixed_batch: the batch that it was made for; None takes that of the first tokens.
    """

    length: int = 0
    first: int = 0
    fixed_batch: int | None = None

    @abstractmethod
    def keep(self, read: Read) -> None:
        """Let the past be what `read` says, after a call that succeeded."""

    @abstractmethod
    def tensors(self) -> tuple[Tensor, ...]:
        """Everything that it holds, room that is reserved included."""

    @abstractmethod
    def reset(self) -> None:
        """Forget every token."""

    @abstractmethod
    def reorder(self, samples: Tensor) -> None:
        """Take the past of other samples, as beam search does: sample i goes on from what was sample `samples[i]`.

        Args:
            samples: (new_batch,), whole numbers; the batch may shrink or grow by it.

        Raises:
            OptionError: they are no whole numbers that count the samples, or not as many as the batch is fixed to.
        """

    @property
    def batch(self) -> int | None:
        """How many samples it is for; None where nothing says so yet."""
        held = self.tensors()
        return held[0].shape[0] if len(held) else self.fixed_batch

    @property
    def held_bytes(self) -> int:
        """What it holds, in bytes, room that is reserved included."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())

    def __repr__(self) -> str:
        seen = f"{self.length} tokens, {self.held_bytes} bytes"
        return f"<{type(self).__name__} cache: {seen}>"


def check_samples(cache: Cache, samples: object) -> Tensor:
    """The `samples` of a `reorder` as whole numbers on the device of what is held.

    Raises:
        OptionError: they are none, or there is no such sample.
    """
    where, batch = f"{type(cache).__name__}.reorder", cache.batch
    numbers = whole_numbers(samples)
    if numbers is None or numbers.dim() != 1 or not isinstance(samples, Tensor):
        shape = f" {tuple(samples.shape)}" if isinstance(samples, Tensor) else ""
        raise OptionError(
            where=where,
            what=f"samples are whole numbers (new_batch,), a tensor; got {type_of(samples)}{shape}",
            fix="samples=torch.tensor([0, 0, 1]): two go on from sample 0, one from sample 1",
        )
    if batch is None:
        return numbers
    # other devices say so themselves, and would have to be waited for here
    if numbers.device.type == "cpu" and any(not 0 <= number < batch for number in numbers.tolist()):
        raise OptionError(
            where=where,
            what=f"samples count the {batch} samples that the cache holds from 0; got {numbers.tolist()}",
            fix=f"numbers from 0 to {batch - 1}",
        )
    if cache.fixed_batch not in (None, numbers.shape[0]):
        raise OptionError(
            where=where,
            what=f"the cache was made for batch={cache.fixed_batch}; got {numbers.shape[0]} samples",
            fix="leave batch out of new_cache where it changes",
        )
    return numbers.to(cache.tensors()[0].device, torch.int64)


def check_same_tokens(where: str, held: dict[str, Tensor], new: dict[str, Tensor]) -> None:
    """Refuse `new` tensors that do not go on from those `held`.

    Raises:
        ShapeError: names, samples, heads or widths differ.
        OptionError: dtypes or devices differ.
    """
    if held.keys() != new.keys():
        raise ShapeError(
            where=where,
            what=f"it holds {', '.join(held)}; these tokens have {', '.join(new)}",
            fix="a cache for each layer: cache=layer.new_cache()",
        )
    for name, more in new.items():
        old = held[name]
        if old.dim() != more.dim() or old.shape[:-2] != more.shape[:-2] or old.shape[-1] != more.shape[-1]:
            raise ShapeError(
                where=where,
                what=f"it holds {name} {tuple(old.shape)}; {tuple(more.shape)} differs in more than len, axis -2",
                fix="a cache for each layer and each batch: cache=layer.new_cache()",
            )
        if (old.dtype, old.device) != (more.dtype, more.device):
            raise OptionError(
                where=where,
                what=f"it holds {name} as {old.dtype} on {old.device}; these tokens are {more.dtype} on {more.device}",
                fix=f"autocast in all calls or in none, or new_cache(dtype={old.dtype}), which converts; "
                "a layer that moved needs a new cache",
            )
