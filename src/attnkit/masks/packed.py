"""Packed documents: several texts in one row of tokens, none of which reads another.

    documents(ids): ids[q] = ids[k]

The ids are one a token. Where the lengths of the texts are known, `torch.arange(n).repeat_interleave(lengths)` are
the ids; flash-attn's `cu_seqlens` are the cumulated lengths. A position outside of the ids belongs to no document and
reads nothing: lengths that are given in place of ids are taken for ids, and leave zeros.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attnkit.errors import DtypeError
from attnkit.masks.area import Area
from attnkit.masks.mask import Mask
from attnkit.masks.runs import Runs
from attnkit.shapes import type_of, whole_numbers


@dataclass(frozen=True, eq=False)
class Documents(Mask):
    """A query reads the keys of its own document."""

    ids: Tensor

    @property
    def batch(self) -> tuple[int, ...]:
        """The axes of `ids` before its last."""
        return tuple(self.ids.shape[:-1])

    @property
    def known_positions(self) -> int:
        """One for each id."""
        return self.ids.shape[-1]

    def sample(self, index: tuple[int, ...]) -> Mask:
        """The documents of one sample."""
        return Documents(self.ids[index]) if self.batch else self

    def keep(self, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """True where both positions belong to one document."""
        axes, length = max(q_pos.dim(), kv_pos.dim()), self.ids.shape[-1]
        ids = (
            self.ids.to(q_pos.device) if length else self.ids.new_zeros((*self.batch, 1), device=q_pos.device)
        )

        def of(pos: Tensor) -> tuple[Tensor, Tensor]:
            pos = pos.reshape((1,) * (axes - pos.dim()) + pos.shape)
            return ids[..., pos.clamp(0, max(length - 1, 0))], (pos >= 0) & (pos < length)

        (q_ids, q_known), (kv_ids, kv_known) = of(q_pos), of(kv_pos)
        return (q_ids == kv_ids) & q_known & kv_known

    @cached_property
    def _runs(self) -> Runs:
        return Runs.of(self.ids)

    def narrow(self, area: Area) -> Area:
        """No position outside of the ids; where no document comes back, none outside of those that both sides have."""
        length = self.ids.shape[-1]
        area = area.within(q_from=0, q_to=length, kv_from=0, kv_to=length)
        if not length or self._runs.come_back:
            return area
        begin, end = self._runs.begin, self._runs.end
        return area.within(
            q_from=_entries(begin, area.kv_from),
            q_to=_entries(end, area.kv_to - 1),
            kv_from=_entries(begin, area.q_from),
            kv_to=_entries(end, area.q_to - 1),
        )

    def narrow_hidden(self, area: Area) -> Area:
        """Nothing is hidden where all queries and all keys are of one document."""
        length = self.ids.shape[-1]
        if not length:
            return area
        ends = (area.q_from, area.q_to - 1, area.kv_from, area.kv_to - 1)
        inside = (area.q_from >= 0) & (area.q_to <= length) & (area.kv_from >= 0) & (area.kv_to <= length)
        q_run, q_last, kv_run, kv_last = (_entries(self._runs.begin, end) for end in ends)
        same = _entries(self.ids, area.q_from) == _entries(self.ids, area.kv_from)
        return area.unless(inside & (q_run == q_last) & (kv_run == kv_last) & same)

    def some(self, area: Area) -> Tensor:
        """Whether a document has a query and a key; one that comes back is looked up.

        A query that is a key reads itself. Else all queries stand on one side of all keys, and the nearest key of a
        document to its first query decides.
        """
        area = self.narrow(area)
        if not self._runs.come_back:
            return area.alive
        itself = (area.near <= 0) & (area.far >= 0)
        return area.alive & (itself | self._runs.meet(area, area.alive & ~itself))

    def joined(self, other: Mask) -> "Documents | None":
        """With other documents: those of which both positions are in one document here and there."""
        if not isinstance(other, Documents):
            return None
        length = min(self.ids.shape[-1], other.ids.shape[-1])
        here, there = self.ids[..., :length], other.ids[..., :length].to(self.ids.device)
        here, there = (ids.unique(return_inverse=True)[1] for ids in torch.broadcast_tensors(here, there))
        return Documents(here * (there.max() + 1) + there if there.numel() else here)

    def cuts(self, length: int) -> Tensor:
        """Where a document begins, in any sample, or the ids end."""
        ids, end = self.ids[None, ..., :length], self.ids.shape[-1]
        begins = (ids[..., 1:] != ids[..., :-1]).flatten(0, -2).any(0).nonzero()[:, 0].cpu() + 1
        return torch.cat([begins, begins.new_tensor([end])]) if 0 < end < length else begins

    def __repr__(self) -> str:
        return f"documents(<{' x '.join(map(str, self.ids.shape))} ids>)"


def documents(ids: Tensor | Sequence[Any]) -> Documents:
    """Keep keys of the query's own document.

    Args:
        ids: the document of each position, whole numbers `*batch len`, not lengths; positions that they do not reach
            read nothing. A document may come back after another.

    Raises:
        DtypeError: `ids` are no whole numbers, one a position.

    Example:
        >>> documents([7, 7, 4]).dense(3, 3).int().tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    numbers = whole_numbers(ids)
    if numbers is None or numbers.dim() == 0:
        padding = isinstance(ids, Tensor) and ids.dtype == torch.bool
        shape = f" {tuple(ids.shape)}" if isinstance(ids, Tensor) else ""
        raise DtypeError(
            where="masks.documents",
            what=f"ids are whole numbers (*batch, len), the document of each position; got {type_of(ids)}{shape}",
            fix="padding that is True at real tokens is for masks.lengths(padding.sum(-1))"
            if padding
            else "masks.documents([0, 0, 0, 1, 1]), or torch.arange(n).repeat_interleave(lengths) of n lengths",
        )
    return Documents(numbers.clone())


def _entries(table: Tensor, places: Tensor) -> Tensor:
    """`table[..., places]`, the nearest entry outside; `places` may have the batch axes of the table in front."""
    places = places.clamp(0, table.shape[-1] - 1)
    table = table.to(places.device)
    if places.dim() <= 1:
        return table[..., places]
    return table.expand(*places.shape[:-1], -1).gather(-1, places)
