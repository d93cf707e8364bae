"""What a mechanism needs besides query, key and value: tensors that a layer learns, and more projections of its tokens.

    Learned("sink", ("num_heads",))                                   a parameter of the layer
    Projected("gate", of="query", width="head_dim", then=sigmoid)     a linear map of each token, a head each

A mechanism only describes them. The layer owns them, and gives the tensors to the mechanism by name in each call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Extent = int | str | Callable[["Sizes", Mapping[str, Any]], int]


@dataclass(frozen=True)
class Sizes:
    """The widths and counts of a layer, or of the tensors that a mechanism is called with.

    Attributes:
        num_heads: heads of the query.
        num_kv_heads: heads of key and value; query head h reads kv head `h // (num_heads // num_kv_heads)`.
        head_dim: numbers of a head of the key.
        d_model: numbers of a token of the layer; `num_heads * head_dim` where there is no layer.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    d_model: int

    def of(self, extent: Extent, options: Mapping[str, Any]) -> int:
        """A number of axes or channels: said outright, named after a size or an option, or computed from them."""
        if isinstance(extent, int):
            return extent
        if callable(extent):
            return extent(self, options)
        return getattr(self, extent) if hasattr(self, extent) else options[extent]


@dataclass(frozen=True)
class Learned:
    """A tensor that training changes.

    Attributes:
        name: the argument of the mechanism that takes it, and the layer's name for it.
        shape: each axis a number, the name of a size or an option, or a function of both.
        start: its first value, made from its shape.
        meaning: what it is, in half a sentence.
    """

    name: str
    shape: tuple[Extent, ...]
    start: Callable[[tuple[int, ...]], Tensor] = torch.zeros
    meaning: str = ""

    def sizes(self, sizes: Sizes, options: Mapping[str, Any]) -> tuple[int, ...]:
        """Its shape in a layer of these `sizes`."""
        return tuple(sizes.of(extent, options) for extent in self.shape)


def unchanged(tokens: Tensor) -> Tensor:
    """The tokens themselves."""
    return tokens


@dataclass(frozen=True)
class Projected:
    """A linear map of each token: `*batch heads len width`. Named query, key or value it replaces the layer's own.

    Attributes:
        name: the argument of the mechanism that takes it, and the layer's name for it.
        of: "query", one row for each token that asks; or "key", one for each token that is read, kept in a cache.
        heads: how many heads it has.
        width: how many numbers a head has.
        then: what is done to the result, such as `torch.sigmoid`.
        bias: whether something is added; None does as the layer does.
        bias_start: the first value of what is added, where something is.
        meaning: what it is, in half a sentence.
    """

    name: str
    of: Literal["query", "key"]
    heads: Extent = "num_heads"
    width: Extent = 1
    then: Callable[[Tensor], Tensor] = unchanged
    bias: bool | None = None
    bias_start: float = 0.0
    meaning: str = ""


QUERY = Projected("query", of="query", heads="num_heads", width="head_dim")
KEY = Projected("key", of="key", heads="num_kv_heads", width="head_dim")
VALUE = Projected("value", of="key", heads="num_kv_heads", width="head_dim")


def projections(parts: tuple[Learned | Projected, ...]) -> tuple[Projected, ...]:
    """All linear maps of a layer whose mechanism has these `parts`: query, key and value first."""
    own = {part.name: part for part in parts if isinstance(part, Projected)}
    usual = {part.name: part for part in (QUERY, KEY, VALUE)}
    return tuple((usual | own).values())


def learned(parts: tuple[Learned | Projected, ...]) -> tuple[Learned, ...]:
    """Those of the `parts` that are parameters of their own."""
    return tuple(part for part in parts if isinstance(part, Learned))
