"""Loading checkpoints that hold more than they need."""

from typing import Any

from torch import nn


def accept_stored_mask(layer: nn.Module) -> None:
    """Let `layer` load checkpoints that carry a `mask` for it, by leaving that entry out.

    Layers that keep their causal mask as a buffer store a float per pair of positions (4 MiB at a
    context of 1,024) and then cannot load at another context length. Here the mask is made anew in
    each call, and an old checkpoint's copy of it says nothing.
    """
    layer.register_load_state_dict_pre_hook(_drop_mask)


def _drop_mask(layer: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    state_dict.pop(f"{prefix}mask", None)
