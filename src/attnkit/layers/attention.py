"""A layer of any mechanism: projections, heads, attention, and one last projection.

    output = W_output(attend(W_query x, W_key memory, W_value memory))

What a mechanism learns besides belongs to the layer under the mechanism's own names, such as `layer.sink`. The trap for
readers who come from `nn.MultiheadAttention`: `mask` keeps where it is True, and weights are not returned;
`attnkit.watch` and `rule.inspect` show them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.caches import Cache, Growing, Recurrent
from attnkit.catalog import find
from attnkit.converters import Table
from attnkit.errors import OptionError
from attnkit.layers.checks import check_call, check_mixing, check_sizes, read_mask
from attnkit.layers.teaching import merge_heads, split_heads
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, Sizes, learned, projections
from attnkit.positions import Positions
from attnkit.rule import Rule
from attnkit.shapes import Output, Tokens


class Attention(nn.Module):
    """Self- or cross-attention by any mechanism of the catalogue, or by a rule.

    Maps (batch, len, d_model) to (batch, len, d_model).

    Args:
        d_model: numbers of a token.
        num_heads: heads of the query.
        mechanism: a name from the catalogue, a `Mechanism`, or a `Rule`.
        num_kv_heads: heads of key and value; as many as `num_heads` when not given.
        head_dim: numbers of a head; `d_model // num_heads` when not given.
        memory_dim: numbers of a token of the memory; `d_model` when not given.
        dropout: the share of weights to drop while training.
        bias: whether the projections add something.
        positions: turns query and key by where they stand, such as `positions.Rotary()`.
        options: those of the mechanism.

    Raises:
        UnknownNameError: there is no such mechanism or option.
        OptionError: a value means nothing, or one is missing.
        ShapeError: heads cannot share a width evenly.

    Example:
        >>> layer = Attention(24, 4, mechanism="sliding_window", window=3)
        >>> layer(torch.randn(2, 7, 24)).shape
        torch.Size([2, 7, 24])
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        mechanism: str | Mechanism | Rule,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        memory_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool = False,
        positions: Positions | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_sizes(d_model, num_heads, num_kv_heads, head_dim)
        self.d_model, self.memory_dim = d_model, memory_dim or d_model
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        self.head_dim = head_dim or d_model // num_heads
        self.dropout, self.positions = dropout, positions
        self.mechanism = as_mechanism(mechanism)
        self.bound = self.mechanism.bind(options)
        check_mixing(self)
        self._projections = projections(self.mechanism.parts)
        self._learned = learned(self.mechanism.parts)
        self._make_parameters(bias)
        self.is_causal = self.bound.is_causal(
            {p.name: getattr(self, p.name) for p in self._learned}, self.sizes
        )
        self.reset_parameters()

    def _make_parameters(self, bias: bool) -> None:
        sizes, options = self.sizes, self.bound.options
        for part in self._projections:
            d_in = self.d_model if part.of == "query" else self.memory_dim
            width = sizes.of(part.heads, options) * sizes.of(part.width, options)
            self.add_module(part.name, nn.Linear(d_in, width, bias=bias if part.bias is None else part.bias))
        for part in self._learned:
            self.register_parameter(part.name, nn.Parameter(part.start(part.sizes(sizes, options))))
        self.output = nn.Linear(self.num_heads * self.head_dim, self.d_model, bias=bias)

    @property
    def sizes(self) -> Sizes:
        """Widths and counts, as the mechanism is told them."""
        return Sizes(self.num_heads, self.num_kv_heads, self.head_dim, self.d_model)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, as `nn.MultiheadAttention` does: Xavier's uniform, and zero for what is added."""
        for part in self._projections:
            linear: nn.Linear = getattr(self, part.name)
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.constant_(linear.bias, part.bias_start)
        self.output.reset_parameters()
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)
        with torch.no_grad():
            for part in self._learned:
                parameter = getattr(self, part.name)
                parameter.copy_(part.start(tuple(parameter.shape)))

    def forward(
        self,
        x: Tokens,
        memory: Tokens | None = None,
        *,
        mask: Mask | Tensor | None = None,
        cache: Cache | None = None,
    ) -> Output:
        """One vector for each token of `x`.

        Args:
            x: (batch, len, d_model).
            memory: (batch, kv_len, memory_dim), what keys and values come from; `x` itself when not given.
            mask: what is hidden besides what the mechanism hides: a mask, or bools (batch, kv_len) that are True
                where there is a token. Keys in a cache are counted.
            cache: what `new_cache` made; the tokens of `x` follow those that it holds.

        Returns:
            (batch, len, d_model).

        Raises:
            ShapeError: axes do not fit together.
            DtypeError: `x` or `memory` holds no floats.
            OptionError: the mechanism cannot do this.
        """
        check_call(self, x, memory, cache)
        kv_len = x.shape[-2] if memory is None else memory.shape[-2]
        if cache is not None and memory is None:
            kv_len += cache.length
        hidden = read_mask(mask, x.shape[:-2], kv_len)
        tensors = self._tensors(x, memory, cache, q_start=kv_len - x.shape[-2])
        if isinstance(cache, Recurrent):
            context = self._advanced(tensors, cache, hidden)
        else:
            context = self._attended(tensors, cache, hidden)
        return self.output(merge_heads(context))

    def _tensors(
        self, x: Tensor, memory: Tensor | None, cache: Cache | None, q_start: int
    ) -> dict[str, Tensor]:
        """What is computed from the new tokens, each by itself; a memory that a cache holds has no new ones."""
        read = x if memory is None else memory
        if memory is not None and cache is not None and cache.length:
            read = memory[..., :0, :]
        tensors = self._projected("query", x) | self._projected("key", read)
        tensors |= {part.name: getattr(self, part.name) for part in self._learned}
        kv_start = q_start if memory is None else 0
        tensors = self.bound.prepared(tensors, self.sizes, q_start=q_start, kv_start=kv_start)
        if self.positions is not None:
            query, key = tensors["query"], tensors["key"]
            tensors["query"] = self.positions.rotate(query, _numbered(query, q_start))
            tensors["key"] = self.positions.rotate(key, _numbered(key, kv_start))
        return tensors

    def _attended(self, tensors: dict[str, Tensor], cache: Cache | None, hidden: Mask | None) -> Tensor:
        if cache is not None:
            keys = {part.name: tensors[part.name] for part in self._projections if part.of == "key"}
            tensors |= cache.update(keys)
            if isinstance(hidden, Table):
                hidden = Table(hidden.kept[..., cache.first :])
        return self.bound.attended(
            tensors,
            self.sizes,
            mask=hidden,
            q_start=tensors["key"].shape[-2] - tensors["query"].shape[-2],  # counted from the first key
            dropout=self.dropout if self.training else 0.0,
        )

    def _advanced(self, tensors: dict[str, Tensor], cache: Recurrent, hidden: Mask | None) -> Tensor:
        new = tensors["key"].shape[-2]
        if isinstance(hidden, Table):
            hidden = Table(hidden.kept[..., -new:])
        context, state = self.bound.advanced(tensors, self.sizes, state=cache.state, mask=hidden)
        cache.advance(state, new)
        return context

    def _projected(self, side: str, tokens: Tensor) -> dict[str, Tensor]:
        """What is computed from each token of the "query" or the "key" side, split into heads."""
        options = self.bound.options
        return {
            part.name: part.then(
                split_heads(getattr(self, part.name)(tokens), self.sizes.of(part.heads, options))
            )
            for part in self._projections
            if part.of == side
        }

    def new_cache(self) -> Cache:
        """An empty cache for this layer."""
        return Growing() if self.mechanism.recurrence is None else Recurrent()

    def extra_repr(self) -> str:
        """What `print(layer)` tells besides the projections."""
        told = [f"d_model={self.d_model}, num_heads={self.num_heads}, mechanism={self.mechanism.name!r}"]
        if self.num_kv_heads != self.num_heads:
            told.append(f"num_kv_heads={self.num_kv_heads}")
        told += [f"{name}={value!r}" for name, value in self.bound.options.items()]
        return ", ".join(told)


def _numbered(tokens: Tensor, start: int) -> Tensor:
    return torch.arange(start, start + tokens.shape[-2], device=tokens.device)


@dataclass(frozen=True)
class _Given:
    """What builds a rule that is there already; a class, so that layers can be pickled."""

    rule: Rule

    def __call__(self) -> Rule:
        return self.rule


def _mechanism_of(rule: Rule) -> Mechanism:
    return Mechanism(
        name="rule",
        family="where",
        summary="A rule of its own.",
        formula="",
        paper=Paper("", 0, ""),
        rule=_Given(rule),
    )


def as_mechanism(given: object) -> Mechanism:
    """The mechanism that a layer is asked for."""
    if isinstance(given, Mechanism):
        return given
    if isinstance(given, str):
        return find(given)
    if isinstance(given, Rule):
        return _mechanism_of(given)
    raise OptionError(
        where="Attention",
        what=f"mechanism is a name, a Mechanism or a Rule; got {type(given).__name__}",
        fix='mechanism="causal"; attnkit list tells every name',
    )
