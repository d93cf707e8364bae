"""Packed documents: several texts in one row of tokens, none of which reads another."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attnkit.errors import DtypeError
from attnkit.masks.area import Area, Cover
from attnkit.masks.mask import Mask
from attnkit.shapes import type_of, whole_numbers


@dataclass(frozen=True, eq=False)
class Documents(Mask):
    """A query reads the keys of its own document. A position outside of `ids` belongs to none."""

    ids: Tensor

    @property
    def batch(self) -> tuple[int, ...]:
        """The axes of `ids` before its last."""
        return tuple(self.ids.shape[:-1])

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The documents of one sample."""
        return Documents(self.ids[index]) if self.batch else self

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where both positions belong to one document."""
        axes = max(q_pos.dim(), kv_pos.dim())
        ids = self.ids.to(q_pos.device)

        def of(pos: Tensor) -> tuple[Tensor, Tensor]:
            pos = pos.reshape((1,) * (axes - pos.dim()) + pos.shape)
            return ids[..., pos.clamp(0, ids.shape[-1] - 1)], (pos >= 0) & (pos < ids.shape[-1])

        (q_ids, q_known), (kv_ids, kv_known) = of(q_pos), of(kv_pos)
        return (q_ids == kv_ids) & q_known & kv_known

    @cached_property
    def _run(self) -> Tensor:
        """The number of the run of equal ids that each position is in."""
        new = self.ids[..., 1:] != self.ids[..., :-1]
        return torch.nn.functional.pad(new.cumsum(-1), (1, 0))

    @cached_property
    def _one_run_each(self) -> bool:
        """Whether no document comes back after another has begun."""
        rows, runs = self.ids.reshape(-1, self.ids.shape[-1]), self._run.reshape(-1, self.ids.shape[-1])
        return all(row.unique().numel() == int(run[-1]) + 1 for row, run in zip(rows, runs, strict=True))

    def over(self, area: Area) -> Cover:
        """Ranges share a document, or are all of one."""
        length = self.ids.shape[-1]
        inside = (area.q_from >= 0) & (area.q_to <= length) & (area.kv_from >= 0) & (area.kv_to <= length)
        q_from, q_to, kv_from, kv_to = self._runs(area)
        every = inside & (q_from == q_to) & (kv_from == kv_to) & (q_from == kv_from)
        some = (q_from <= kv_to) & (kv_from <= q_to) if self._one_run_each else torch.ones_like(every)
        return Cover(some & area.alive, every)

    def _runs(self, area: Area) -> tuple[Tensor, ...]:
        run, last = self._run.to(area.q_from.device), self.ids.shape[-1] - 1
        ends = (area.q_from, area.q_to - 1, area.kv_from, area.kv_to - 1)
        return tuple(_entries(run, end.clamp(0, last)) for end in ends)

    def cuts(self, length: int) -> Tensor:
        """Where a document begins, in any sample."""
        new = (self.ids[..., 1:length] != self.ids[..., : length - 1]).reshape(-1, max(length, 1) - 1)
        return new.any(0).nonzero()[:, 0].cpu() + 1

    def __repr__(self) -> str:
        return f"documents(<{' x '.join(map(str, self.ids.shape))} ids>)"


def documents(ids: Tensor | Sequence[int]) -> Documents:
    """Keep keys of the query's own document.

    Args:
        ids: the document of each position, whole numbers `*batch len`.

    Raises:
        DtypeError: `ids` are no whole numbers.
    """
    numbers = whole_numbers(ids)
    if numbers is None or numbers.dim() == 0:
        raise DtypeError(
            where="masks.documents",
            what=f"ids are whole numbers (*batch, len), the document of each position; got {type_of(ids)}",
            fix="masks.documents([0, 0, 0, 1, 1])",
        )
    return Documents(numbers.clone())


def _entries(table: Tensor, places: Tensor) -> Tensor:
    """`table[..., places]`, where `places` (n,) may have the batch axes of the table in front."""
    if places.dim() <= 1:
        return table[..., places]
    return table.expand(*places.shape[:-1], -1).gather(-1, places)
