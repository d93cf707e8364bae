"""How `nn.MultiheadAttention` is called, in both of its layouts. The trap: its masks hide where they are True."""

from typing import Any

import torch
from torch import Tensor, nn

from attnkit.conformance.adapters.knowledge import Known
from attnkit.conformance.declared import Declared


def known(module: nn.Module, declared: Declared) -> Known | None:
    """What is known of `module`; None where it is no `nn.MultiheadAttention`."""
    if not isinstance(module, nn.MultiheadAttention):
        return None
    causal = declared.causal and not declared.cross

    def call(module: nn.Module, x: Tensor, memory: Tensor | None, keep: Tensor | None, cache: Any) -> Any:
        read = x if memory is None else memory
        hidden = None
        if causal:
            hidden = torch.ones(x.shape[1], read.shape[1], dtype=torch.bool).triu(1)
        return _called(module, x, read, None if keep is None else ~keep, hidden)

    said = {"num_heads": module.num_heads, "dropout": module.dropout}
    one_memory = module.kdim == module.vdim
    return Known(call, module.embed_dim, module.kdim, one_memory, True, False, {"output": "out_proj"}, said)


def _called(module: nn.Module, x: Tensor, read: Tensor, ignore: Tensor | None, hidden: Tensor | None) -> Any:
    assert isinstance(module, nn.MultiheadAttention)
    more: dict[str, Any] = {"key_padding_mask": ignore, "attn_mask": hidden, "need_weights": False}
    if module.batch_first:
        return module(x, read, read, **more)
    x, read = x.transpose(0, 1), read.transpose(0, 1)
    return module(x, read, read, **more)[0].transpose(0, 1)
