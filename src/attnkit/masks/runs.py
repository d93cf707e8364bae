"""Runs of equal ids in a row of tokens, and whether a document that comes back meets itself somewhere else."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attnkit.masks.area import Area, spans

_LOOKED_UP_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class Runs:
    """Where the run of equal ids around each position begins and ends, `*batch len`.

    Attributes:
        ids: which document each position is of.
        begin: the first position of its run.
        end: the position after its run.
    """

    ids: Tensor
    begin: Tensor
    end: Tensor

    @classmethod
    def of(cls, ids: Tensor) -> "Runs":
        """The runs of `ids`, `*batch len`."""
        length = ids.shape[-1]
        places = torch.arange(length, device=ids.device).expand(ids.shape)
        if not ids.numel():
            return cls(ids, places, places)
        new = torch.ones_like(ids, dtype=torch.bool)
        new[..., 1:] = ids[..., 1:] != ids[..., :-1]
        last = new.roll(-1, -1)
        begin = (places * new).cummax(-1).values
        end = torch.where(last, places + 1, length).flip(-1).cummin(-1).values.flip(-1)
        return cls(ids, begin, end)

    @cached_property
    def come_back(self) -> bool:
        """Whether a document of any sample begins a second time."""
        first = self.begin == torch.arange(self.ids.shape[-1], device=self.ids.device)
        return int(first.sum()) > self._documents.unique().numel()

    @cached_property
    def _documents(self) -> Tensor:
        """The document of each position, numbered apart in each sample (samples, len)."""
        rows = self.ids.reshape(math.prod(self.ids.shape[:-1]), self.ids.shape[-1]).unique(
            return_inverse=True
        )[1]
        sample = torch.arange(rows.shape[0], device=rows.device)[:, None]
        return sample * (rows.max() + 1 if rows.numel() else 1) + rows

    @cached_property
    def _occurrences(self) -> Tensor:
        """The number of the document x len + position, sorted; a -1 before all."""
        length = self.ids.shape[-1]
        keys = self._documents * length + torch.arange(length, device=self.ids.device)
        return torch.nn.functional.pad(keys.flatten().sort().values, (1, 0), value=-1)

    def meet(self, area: Area, asked: Tensor) -> Tensor:
        """Whether a document has a query and a key in each area, no farther apart than `far`; False where not `asked`.

        The areas lie inside of the ids. Each run of queries looks up the last key of its document.
        """
        samples = torch.arange(math.prod(self.ids.shape[:-1]), device=asked.device)
        samples = samples.reshape(*self.ids.shape[:-1], 1)
        bounds = torch.broadcast_tensors(asked, samples, *(torch.as_tensor(b) for b in area[:4]), area.far)
        place = bounds[0].nonzero(as_tuple=True)
        sample, q_from, q_to, kv_from, kv_to, far = (bound[place] for bound in bounds[1:])
        met = torch.zeros_like(sample, dtype=torch.bool)
        longest = int((q_to - q_from).max()) if sample.numel() else 1
        few = max(_LOOKED_UP_AT_ONCE // longest, 1)
        for part in torch.arange(sample.numel(), device=sample.device).split(few):
            flat = (q_from[part], q_to[part], kv_from[part], kv_to[part], far[part])
            met[part] = self._meet(sample[part], *flat)
        return torch.zeros_like(bounds[0]).index_put(place, met)

    def _meet(
        self, sample: Tensor, q_from: Tensor, q_to: Tensor, kv_from: Tensor, kv_to: Tensor, far: Tensor
    ) -> Tensor:
        owner, query = self._first_of_runs(sample, q_from, q_to)
        length, document = self.ids.shape[-1], self._documents[sample[owner], query]
        seen = torch.searchsorted(self._occurrences, document * length + kv_to[owner] - 1, right=True)
        key = self._occurrences[seen - 1] - document * length  # below 0 where it is of another document
        hit = (key >= kv_from[owner]) & (query - key <= far[owner])
        return torch.zeros_like(sample, dtype=torch.bool).index_fill(0, owner[hit], True)

    def _first_of_runs(self, sample: Tensor, q_from: Tensor, q_to: Tensor) -> tuple[Tensor, Tensor]:
        """The first query of each run in each area: whose it is, and its position."""
        number, begins = self._numbered
        owner, run = spans(number[sample, q_from], number[sample, q_to - 1])
        return owner, begins[run].maximum(q_from[owner])

    @cached_property
    def _numbered(self) -> tuple[Tensor, Tensor]:
        """The number of each position's run, counted through all samples (samples, len), and where each run begins."""
        begin = self.begin.reshape(math.prod(self.begin.shape[:-1]), self.begin.shape[-1])
        new = begin == torch.arange(begin.shape[-1], device=begin.device)
        return new.flatten().cumsum(0).reshape(new.shape) - 1, begin[new]
