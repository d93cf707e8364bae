"""A trial of a mechanism: tensors of odd sizes, drawn peaked and by a seed, that a law can change and call it with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attnkit.masks import Mask
from attnkit.mechanism import Bound, Mechanism, Projected, Sizes, learned, projections, shared, sizes_of

D_VALUE = 8


class LawBrokenError(AssertionError):
    """A law does not hold for a mechanism."""


def check(holds: bool | Tensor, mechanism: Mechanism, claim: str) -> None:
    """Refuse a claim that does not hold.

    Raises:
        LawBrokenError: it does not.
    """
    if not holds:
        raise LawBrokenError(f"{mechanism.name}: {claim}")


@dataclass(frozen=True)
class Trial:
    """Inputs for one mechanism with its options.

    Attributes:
        mechanism: which one.
        options: its options.
        tensors: query, key, value and the tensors of its parts, by name.
        q_start: the position of the first query.
    """

    mechanism: Mechanism
    options: Mapping[str, Any]
    tensors: dict[str, Tensor]
    q_start: int | None = None

    @classmethod
    def of(
        cls,
        mechanism: Mechanism,
        options: Mapping[str, Any],
        *,
        q_len: int | None = None,
        kv_len: int = 7,
        seed: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> "Trial":
        """Fresh inputs of 2 samples and 6 heads on 3; as many queries as keys when `q_len` is not given."""
        bound, sizes = mechanism.bind(options), Sizes(6, 3, 4, 24)
        generator = torch.Generator().manual_seed(seed)
        tensors: dict[str, Tensor] = {}
        for part in projections(mechanism.parts):
            length = (q_len or kv_len) if part.of == "query" else kv_len
            usual = part.name == "value" and part.width == "head_dim"
            width = D_VALUE if usual else sizes.of(part.width, bound.options)
            shape = (2, sizes.of(part.heads, bound.options), length, width)
            tensors[part.name] = part.then(3 * torch.randn(shape, generator=generator, dtype=torch.float64))
        for part in learned(mechanism.parts):
            start = part.start(part.sizes(sizes, bound.options)).double()
            tensors[part.name] = start + 0.5 * torch.randn(
                start.shape, generator=generator, dtype=start.dtype
            )
        return cls(mechanism, options, {name: tensor.to(dtype) for name, tensor in tensors.items()})

    @property
    def context(self) -> Tensor:
        """What the mechanism makes of the inputs."""
        return self.called()

    def called(self, mask: Mask | None = None) -> Tensor:
        """The same under one more mask."""
        tensors, sizes, start = self._prepared()
        return self.bound.attended(tensors, sizes, mask=mask, q_start=start)

    @property
    def bound(self) -> Bound:
        """The mechanism with its options; `mask` may be one of them."""
        return self.mechanism.bind(self.options)

    @property
    def weights(self) -> Tensor:
        """How much each query reads of each key."""
        tensors, sizes, start = self._prepared()
        return self.bound.weighed(tensors, sizes, mask=None, q_start=start)

    @property
    def mixed(self) -> Tensor:
        """The values mixed by the weights, and finished as the mechanism does."""
        tensors, sizes, _ = self._prepared()
        weights, value = self.weights, tensors["value"]
        mixed = weights @ shared(value, weights.shape[-3])
        return self.bound.finished(mixed, tensors, sizes)

    def map(self, change: Callable[[str, Tensor], Tensor]) -> "Trial":
        """The same with every tensor changed by its name."""
        return replace(self, tensors={name: change(name, tensor) for name, tensor in self.tensors.items()})

    def of_tokens(self, side: str) -> frozenset[str]:
        """The names of tensors that have a row for each token of the "query", or of the "key"."""
        return frozenset(part.name for part in projections(self.mechanism.parts) if part.of == side)

    def part(self, name: str) -> Projected | None:
        """The description of a tensor that is projected."""
        return next((part for part in projections(self.mechanism.parts) if part.name == name), None)

    def rows(self, start: int, stop: int) -> "Trial":
        """The queries from `start` to `stop` (counted from the first) that read the keys up to the last of them.

        There are as many queries as keys.
        """
        queries, keys = self.of_tokens("query"), self.of_tokens("key")

        def cut(name: str, tensor: Tensor) -> Tensor:
            if name in queries:
                return tensor[..., start:stop, :]
            return tensor[..., :stop, :] if name in keys else tensor

        return replace(self.map(cut), q_start=start)

    def _prepared(self) -> tuple[dict[str, Tensor], Sizes, int]:
        query, key = self.tensors["query"], self.tensors["key"]
        start = key.shape[-2] - query.shape[-2] if self.q_start is None else self.q_start
        sizes = sizes_of(query, key)
        return self.bound.prepared(self.tensors, sizes, q_start=start), sizes, start
