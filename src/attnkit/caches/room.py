"""Room for tokens: tensors of which some rows are filled, so that one more token is written and nothing is copied.

    filled rows: start, ..., stop - 1        spare rows: stop, ..., capacity - 1

Spare rows belong to nobody: what is written there counts only when the room that `appended` gives is kept. Where
gradients may be asked nothing is written in place, since it may be needed for them; tokens are joined anew.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Room:
    """Tensors by name, `batch heads capacity width`.

    Attributes:
        buffers: the tensors, all of one capacity.
        start: the first row that is filled.
        stop: the row after the last that is filled.
    """

    buffers: dict[str, Tensor] = field(default_factory=dict)
    start: int = 0
    stop: int = 0

    @property
    def filled(self) -> int:
        """How many rows are filled."""
        return self.stop - self.start

    def rows(self) -> dict[str, Tensor]:
        """The rows that are filled, as views."""
        return {name: whole[..., self.start : self.stop, :] for name, whole in self.buffers.items()}

    def takes(self, count: int) -> bool:
        """Whether `count` rows more can be written in place."""
        if torch.is_grad_enabled() or not self.buffers:
            return False
        first = next(iter(self.buffers.values()))
        # PyTorch refuses to change a tensor of inference_mode outside of it
        usable = (
            torch.compiler.is_compiling() or torch.is_inference_mode_enabled() or not first.is_inference()
        )
        return usable and self.stop + count <= first.shape[-2]

    def appended(self, new: dict[str, Tensor], *, capacity: int = 0) -> "Room":
        """The room with the rows `new` after those that are filled.

        Args:
            new: by name, `batch heads new_len width`.
            capacity: how many rows to lay out if there is no spare room; no more than needed where that is more.
        """
        count = rows_of(new)
        if self.takes(count):
            for name, more in new.items():
                self.buffers[name][..., self.stop : self.stop + count, :].copy_(more)
            return Room(self.buffers, self.start, self.stop + count)
        joined = self.joined(new)
        if torch.is_grad_enabled() or capacity <= self.filled + count:
            return Room(joined, 0, self.filled + count)
        return laid_out(joined, capacity)

    def joined(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """The filled rows and the new ones, in tensors of their own where there are filled ones."""
        if not self.filled:
            return dict(new)
        return {name: torch.cat([rows, new[name]], -2) for name, rows in self.rows().items()}

    def last(self, count: int) -> "Room":
        """The room with its last `count` rows alone; nothing is copied."""
        return Room(self.buffers, max(self.start, self.stop - count), self.stop)

    def reordered(self, samples: Tensor) -> "Room":
        """The rows of other samples."""
        chosen = {name: whole.index_select(0, samples) for name, whole in self.buffers.items()}
        return Room(chosen, self.start, self.stop)


def laid_out(rows: dict[str, Tensor], capacity: int) -> Room:
    """A room of `capacity` rows, the first of which are `rows`."""
    count, buffers = rows_of(rows), {}
    for name, filled in rows.items():
        buffers[name] = filled.new_empty((*filled.shape[:-2], capacity, filled.shape[-1]))
        buffers[name][..., :count, :].copy_(filled)
    return Room(buffers, 0, count)


def rows_of(tensors: dict[str, Tensor]) -> int:
    """How many tokens the tensors have."""
    return next(iter(tensors.values())).shape[-2]
