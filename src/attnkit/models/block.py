"""One block of a transformer: attention, a memory if there is one, and a feed-forward layer, each added to its input.

pre    x = x + part(norm(x))
post   x = norm(x + part(x))
both   x = x + norm(part(norm(x)))
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attnkit.caches import Cache
from attnkit.errors import OptionError
from attnkit.masks import Mask
from attnkit.models.config import Config
from attnkit.models.parts import FeedForward

Pasts = Sequence[tuple[Cache, Cache | None]]


class Block(nn.Module):
    """A layer of a transformer; maps (batch, len, d_model) to the same.

    Args:
        config: what it is made of.
        layer: which one it is, counted from 0; its layout of attention follows.
        usual: the mechanism of a layer where `config` says none.
        memory: how a memory is read, as `Attention` is given it; None where there is none.
    """

    def __init__(
        self, config: Config, layer: int, *, usual: str = "causal", memory: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        self.norm_at = config.norm_at
        self.attention = config.attention_of(layer, usual)
        self.memory = None if memory is None else config.attention_by(memory)
        self.feed_forward = FeedForward(
            config.d_model, config.hidden or 4 * config.d_model, config.feed_forward, bias=config.bias
        )
        parts = (
            ["attention", "memory", "feed_forward"] if memory is not None else ["attention", "feed_forward"]
        )
        names = parts if config.norm_at != "both" else parts + [f"after_{part}" for part in parts]
        self.norms = nn.ModuleDict({name: config.new_norm() for name in names})
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Mask | Tensor | None = None,
        memory_mask: Mask | Tensor | None = None,
        caches: tuple[Cache, Cache | None] | None = None,
    ) -> Tensor:
        """The tokens after this layer.

        Args:
            x: (batch, len, d_model).
            memory: (batch, kv_len, d_model), for a block that reads one.
            mask: what the tokens may not read of each other, as in `Attention`.
            memory_mask: what they may not read of the memory.
            caches: of the tokens, and of the memory where there is one.

        Raises:
            OptionError: there is a memory and the block reads none, or the other way round.
        """
        check_memory_of(self, memory)
        own, read = caches or (None, None)
        x = self._added("attention", x, lambda x: self.attention(x, mask=mask, cache=own))
        if self.memory is not None:
            attend = self.memory
            x = self._added("memory", x, lambda x: attend(x, memory, mask=memory_mask, cache=read))
        return self._added("feed_forward", x, self.feed_forward)

    def _added(self, name: str, x: Tensor, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.norm_at == "post":
            return self.norms[name](x + self.dropout(part(x)))
        new = part(self.norms[name](x))
        if self.norm_at == "both":
            new = self.norms[f"after_{name}"](new)
        return x + self.dropout(new)


def each(blocks: nn.ModuleList) -> list[Block]:
    """The blocks of a stack."""
    return [block for block in blocks if isinstance(block, Block)]


def stack(config: Config, usual: str, memory: Mapping[str, Any] | None = None) -> nn.ModuleList:
    """The blocks of a model; arguments as in `Block`."""
    return nn.ModuleList(
        Block(config, layer, usual=usual, memory=memory) for layer in range(config.num_layers)
    )


def through(
    blocks: nn.ModuleList,
    x: Tensor,
    memory: Tensor | None = None,
    *,
    caches: Pasts | None = None,
    checkpointing: bool = False,
    **masks: Mask | Tensor | None,
) -> Tensor:
    """The tokens after all blocks; arguments as in `Block`.

    Args:
        blocks: the stack.
        x: (batch, len, d_model).
        memory: (batch, kv_len, d_model), for blocks that read one.
        caches: those of each block.
        checkpointing: whether what is in a block is computed again for gradients, which saves memory for time. Not
            where caches are read.
        masks: of the tokens, and of the memory.

    Raises:
        OptionError: there are not as many caches as blocks.
    """
    if caches is None:
        for block in blocks:
            if checkpointing and torch.is_grad_enabled():
                x = checkpoint(partial(block, **masks), x, memory, use_reentrant=False)
            else:
                x = block(x, memory, **masks)
        return x
    if len({id(own) for own, _ in caches}) != len(blocks) or len(caches) != len(blocks):
        raise OptionError(
            where="caches",
            what=f"each of {len(blocks)} layers has a cache of its own; got {len({id(own) for own, _ in caches})}",
            fix="caches=model.new_caches()",
        )
    for block, own in zip(blocks, caches, strict=True):
        x = block(x, memory, caches=own, **masks)
    return x


def check_memory_of(block: Block, memory: Tensor | None) -> None:
    """Refuse a memory that a block does not read, and a block that has none to read.

    Raises:
        OptionError: one of the two.
    """
    if (block.memory is None) == (memory is None):
        return
    raise OptionError(
        where="Block",
        what="this block reads a memory, and there is none"
        if memory is None
        else "this block reads no memory, and one is given",
        fix='Block(config, layer, memory={"mechanism": "full"}) reads one, block(x, memory)',
    )
