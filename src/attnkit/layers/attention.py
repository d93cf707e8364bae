"""A layer of any mechanism: projections, heads, attention, and one last projection.

    output = W_output(attend(W_query x, W_key memory, W_value memory))

What a mechanism learns besides belongs to the layer under the mechanism's own names, such as `layer.sink`. The trap for
readers who come from `nn.MultiheadAttention`: `mask` keeps where it is True, and weights are not returned;
`layers.weighing.weights_of` tells them.
"""

from typing import Any

import torch
from torch import Tensor, nn

from attnkit.caches import Cache, Kept, Read, Recurrent
from attnkit.layers.asked import as_mechanism
from attnkit.layers.caching import cache_for
from attnkit.layers.checks import as_mask, check_call, check_mask, check_mixing, check_parts, check_sizes
from attnkit.layers.interchange import copy_from_torch, sizes_from_torch, to_torch
from attnkit.layers.teaching import merge_heads, split_heads
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Projected, Sizes, learned, projections
from attnkit.positions import Positions
from attnkit.positions.position import numbered
from attnkit.rule import Rule
from attnkit.shapes import Memory, Output, Tokens


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
        check_sizes(d_model, num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, memory_dim=memory_dim)
        self.d_model, self.memory_dim = d_model, memory_dim or d_model
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads or num_heads
        self.head_dim = head_dim or d_model // num_heads
        self.sizes = Sizes(num_heads, self.num_kv_heads, self.head_dim, d_model)
        self.dropout, self.positions = dropout, positions
        self.mechanism = as_mechanism(mechanism)
        self.bound = self.mechanism.bind(options).fixed(self.sizes)
        check_mixing(self)
        check_parts(self, num_kv_heads)
        self._make_parameters(bias)
        self.is_causal = self.bound.is_causal(self.learned_tensors, self.sizes)
        self.reset_parameters()

    def _make_parameters(self, bias: bool) -> None:
        sizes, options = self.sizes, self.bound.options
        for part in self.projections:
            d_in = self.d_model if part.of == "query" else self.memory_dim
            width = sizes.of(part.heads, options) * sizes.of(part.width, options)
            self.add_module(part.name, nn.Linear(d_in, width, bias=bias if part.bias is None else part.bias))
        for part in learned(self.mechanism.parts):
            self.register_parameter(part.name, nn.Parameter(part.start(part.sizes(sizes, options))))
        self.output = nn.Linear(self.num_heads * self.head_dim, self.d_model, bias=bias)

    @property
    def projections(self) -> tuple[Projected, ...]:
        """What is computed from each token, query, key and value first."""
        return projections(self.mechanism.parts)

    @property
    def learned_tensors(self) -> dict[str, Tensor]:
        """What the mechanism learns besides projections, by name."""
        return {part.name: getattr(self, part.name) for part in learned(self.mechanism.parts)}

    def reset_parameters(self) -> None:
        """Draw the parameters anew, as `nn.MultiheadAttention` does: Xavier's uniform, and zero for what is added."""
        for part in self.projections:
            # two matrices with a norm between stand for one where a checkpoint has it so
            for layer in getattr(self, part.name).modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    if layer.bias is not None:
                        nn.init.constant_(layer.bias, part.bias_start)
                elif isinstance(layer, nn.RMSNorm):
                    layer.reset_parameters()
        self.output.reset_parameters()
        if self.output.bias is not None:
            nn.init.zeros_(self.output.bias)
        with torch.no_grad():
            for part in learned(self.mechanism.parts):
                parameter = getattr(self, part.name)
                parameter.copy_(part.start(tuple(parameter.shape)))

    def forward(
        self,
        x: Tokens,
        memory: Memory | None = None,
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
        check_mask(mask, x.shape[:-2], kv_len, cache)
        tensors = self._tensors(x, memory, cache, q_start=kv_len - x.shape[-2])
        if isinstance(cache, Recurrent):
            context, read = self._advanced(tensors, cache, mask)
        else:
            context, read = self._attended(tensors, cache, mask)
        output = self.output(merge_heads(context))
        if cache is not None and read is not None:
            cache.keep(read)  # last, so that an error anywhere leaves the cache as it was
        return output

    def _tensors(
        self, x: Tensor, memory: Tensor | None, cache: Cache | None, q_start: int
    ) -> dict[str, Tensor]:
        """What is computed from the new tokens, each by itself; a memory that a cache holds has no new ones."""
        read = x if memory is None else memory
        if memory is not None and cache is not None and cache.length:
            read = memory[..., :0, :]
        tensors = self._projected("query", x) | self._projected("key", read) | self.learned_tensors
        kv_start = q_start if memory is None else 0
        tensors = self.bound.prepared(tensors, self.sizes, q_start=q_start, kv_start=kv_start)
        if self.positions is not None:
            query, key = tensors["query"], tensors["key"]
            tensors["query"] = self.positions.rotate(query, numbered(query, q_start))
            tensors["key"] = self.positions.rotate(key, numbered(key, kv_start))
        return tensors

    def _attended(
        self, tensors: dict[str, Tensor], cache: Cache | None, mask: Mask | Tensor | None
    ) -> tuple[Tensor, Read | None]:
        """The context, and what the cache becomes."""
        read = None
        if isinstance(cache, Kept):
            read = cache.joined(
                {part.name: tensors[part.name] for part in self.projections if part.of == "key"}
            )
            tensors = tensors | read.tensors
        context = self.bound.attended(
            tensors,
            self.sizes,
            mask=as_mask(mask, read.first if read is not None else 0),
            q_start=tensors["key"].shape[-2] - tensors["query"].shape[-2],  # counted from the first key
            dropout=self.dropout if self.training else 0.0,
        )
        return context, read

    def _advanced(
        self, tensors: dict[str, Tensor], cache: Recurrent, mask: Mask | Tensor | None
    ) -> tuple[Tensor, Read]:
        """The context, and what the cache becomes."""
        context, state = self.bound.advanced(
            tensors, self.sizes, state=cache.state, mask=as_mask(mask, 0), kv_start=cache.length
        )
        return context, cache.after(state, tensors["key"].shape[-2])

    def _projected(self, side: str, tokens: Tensor) -> dict[str, Tensor]:
        """What is computed from each token of the "query" or the "key" side, split into heads."""
        options = self.bound.options
        return {
            part.name: part.then(
                split_heads(getattr(self, part.name)(tokens), self.sizes.of(part.heads, options))
            )
            for part in self.projections
            if part.of == side
        }

    def new_cache(
        self,
        *,
        batch: int | None = None,
        kind: str = "growing",
        max_tokens: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> Cache:
        """An empty cache for this layer.

        Args:
            batch: how many samples there will be; as many as the first call has when not given.
            kind: "growing", "static", "sliding" or "quantised"; a recurrence has its state, "state", by default too.
            max_tokens: how many tokens a static cache can take.
            dtype: in what numbers are held; they are converted back when they are read. As they come when not given.

        Raises:
            UnknownNameError: there is no such kind.
            OptionError: the kind is not for this mechanism, or an option not for this kind.
            DtypeError: `dtype` is none of floats.

        Example:
            >>> layer = Attention(24, 4, mechanism="sliding_window", window=3)
            >>> cache = layer.new_cache(kind="sliding")
            >>> layer(torch.randn(2, 5, 24), cache=cache).shape, cache.length, cache.first
            (torch.Size([2, 5, 24]), 5, 3)
        """
        return cache_for(self, kind, batch=batch, max_tokens=max_tokens, dtype=dtype)

    @classmethod
    def from_torch(
        cls, module: nn.MultiheadAttention, *, mechanism: str | Mechanism | Rule = "full", **options: Any
    ) -> "Attention":
        """A layer with the numbers of an `nn.MultiheadAttention`: equal outputs, batch first whatever `module` is.

        Args:
            module: with keys and values of one width, and without `add_bias_kv` and `add_zero_attn`.
            mechanism: what hides the future, and so on; all is read when not given, as there.
            options: those of the mechanism.

        Raises:
            OptionError: it is no such module, or one that does what no layer here does.

        Example:
            >>> module = nn.MultiheadAttention(24, 4, batch_first=True)
            >>> x = torch.randn(2, 7, 24)
            >>> torch.allclose(Attention.from_torch(module)(x), module(x, x, x)[0], atol=1e-5)
            True
        """
        layer = cls(**sizes_from_torch(module), mechanism=mechanism, **options)
        copy_from_torch(layer, module)
        return layer

    def to_torch(self, *, batch_first: bool = True) -> nn.MultiheadAttention:
        """An `nn.MultiheadAttention` with the numbers of this layer: equal outputs.

        Args:
            batch_first: whether it takes (batch, len, d_model), as this layer does, or (len, batch, d_model).

        Raises:
            OptionError: the layer does something that it cannot.
        """
        return to_torch(self, batch_first=batch_first)

    def extra_repr(self) -> str:
        """What `print(layer)` tells besides the projections."""
        told = [f"d_model={self.d_model}, num_heads={self.num_heads}, mechanism={self.mechanism.name!r}"]
        usual = {
            "num_kv_heads": self.num_heads,
            "head_dim": self.d_model // self.num_heads,
            "memory_dim": self.d_model,
            "dropout": 0.0,
            "positions": None,
        }
        more = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        return ", ".join(
            told + [f"{name}={value!r}" for name, value in {**more, **self.bound.options}.items()]
        )
