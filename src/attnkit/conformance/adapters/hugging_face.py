"""How the attention modules of transformers are called: what their model computes for them is computed here.

    masks       (batch, 1, q_len, kv_len), added to scores: 0 keeps, the least number of the precision hides
    causal      lies in the mask; a module says by `is_causal` whether its model makes it so
    positions   rotary tables by the class of the module's own file; ALiBi by that file's own function

The trap: such a module alone hides nothing. Its model makes the mask, and so does this file.
"""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.conformance.adapters.knowledge import Known
from attnkit.conformance.declared import Declared
from attnkit.conformance.subject import TargetError

_MEMORIES = ("key_value_states", "encoder_hidden_states")
_CACHES = ("cache", "past_key_values", "past_key_value", "layer_past")
_WIDTHS = ("hidden_size", "embed_dim", "d_model", "dim", "n_embd")
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head", "encoder_attention_heads")


def known(module: nn.Module, declared: Declared) -> Known | None:
    """What is known of `module`; None where it is no attention of transformers."""
    if type(module).__module__.split(".")[0] != "transformers":
        return None
    way = _Way.of(module, declared)
    d_in = declared.d_in or _width(module)
    if not d_in:
        return None
    said = {"causal": way.causal}
    return Known(
        way, d_in, d_in, bool(way.memory), bool(way.mask), bool(way.cache), _projections(module), said
    )


@dataclass(frozen=True)
class _Way:
    """How one module is called.

    Attributes:
        names: the arguments of its forward.
        causal: whether its model hides later tokens.
        window: how many tokens its model lets each read; None for all.
        memory: the name of the memory; "" where it reads none.
        mask: the name of the mask.
        cache: the name of what it goes on from.
    """

    names: tuple[str, ...]
    causal: bool
    window: int | None
    memory: str
    mask: str
    cache: str

    @classmethod
    def of(cls, module: nn.Module, declared: Declared) -> "_Way":
        names = tuple(_forward(module))
        cross = declared.cross or "CrossAttention" in type(module).__name__
        causal = not cross and (declared.causal or _is_causal(module))
        memory = next((name for name in _MEMORIES if name in names), "")
        mask = next((name for name in ("attention_mask", "mask") if name in names), "")
        cache = (
            next((name for name in _CACHES if name in names), "")
            if causal and _layer_index(module) is not None
            else ""
        )
        return cls(names, causal, _window(module) if causal else None, memory, mask, cache)

    def __call__(
        self, module: nn.Module, x: Tensor, memory: Tensor | None, keep: Tensor | None, cache: Any
    ) -> Any:
        """Call the module as its model does."""
        held, start = None, 0
        if cache is not None:
            held = cache["cache"] if "cache" in cache else _new_cache()
            start = int(held.get_seq_length(_layer_index(module)))
        given: dict[str, Any] = {} if memory is None else {self.memory: memory}
        kv_len = start + x.shape[1] if memory is None else memory.shape[1]
        if self.mask:
            given[self._mask_name(memory)] = self._mask(x, keep, start, kv_len)
        places = torch.arange(start, start + x.shape[1]).expand(x.shape[0], -1)
        given |= {
            name: make(module, x, places, kv_len) for name, make in _POSITIONS.items() if name in self.names
        }
        if type(module).__name__ == "FalconAttention" and given.get("alibi") is not None:
            given[self.mask] = _with_alibi(module, given[self.mask], given["alibi"])
        if "residual" in self.names:  # Bloom adds what it is given
            given["residual"] = torch.zeros_like(x)
        if held is not None:
            given[self.cache] = held
        output = module(x, **given)
        return output if cache is None else (output, {"cache": held})

    def _mask_name(self, memory: Tensor | None) -> str:
        other = "encoder_attention_mask"
        return other if memory is not None and other in self.names else self.mask

    def _mask(self, x: Tensor, keep: Tensor | None, start: int, kv_len: int) -> Tensor | None:
        """The mask that is added, as transformers' models make it; none where nothing is hidden."""
        if keep is None and not self.causal:
            return None
        kept = torch.ones(x.shape[0], 1, x.shape[1], kv_len, dtype=torch.bool)
        if self.causal:
            distance = start + torch.arange(x.shape[1])[:, None] - torch.arange(kv_len)
            kept = kept & (distance >= 0)
            if self.window is not None:
                kept = kept & (distance < self.window)
        if keep is not None:
            kept = kept & keep[:, None, None, :kv_len]
        return torch.zeros(kept.shape, dtype=x.dtype).masked_fill(~kept, torch.finfo(x.dtype).min)


def _forward(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module.forward).parameters


def _inner(module: nn.Module, name: str) -> Any:
    """An attribute of the module, or of the only part that has it: some wrap the attention itself."""
    found = [getattr(part, name) for part in module.modules() if hasattr(part, name)]
    return found[0] if found else None


def _is_causal(module: nn.Module) -> bool:
    if _inner(module, "is_causal") is not None:
        return bool(_inner(module, "is_causal"))
    # those that do not say so are told by what only a decoder has
    return bool(_inner(module, "is_decoder")) or bool({"layer_past", "alibi"} & set(_forward(module)))


def _window(module: nn.Module) -> int | None:
    window = _inner(module, "sliding_window")
    config = _inner(module, "config")
    if not hasattr(module, "sliding_window") and not getattr(config, "layer_types", None):
        window = getattr(config, "sliding_window", None)  # one window for all layers, told by the model alone
    return window if isinstance(window, int) and window > 0 else None


def _layer_index(module: nn.Module) -> int | None:
    index = _inner(module, "layer_idx")
    return _inner(module, "layer_id") if index is None else index


def _width(module: nn.Module) -> int:
    config = _inner(module, "config")
    config = getattr(config, "text_config", None) or config
    own = (_inner(module, name) for name in ("embed_dim", "hidden_size", "d_model"))
    told = (getattr(config, name, None) for name in _WIDTHS)
    return next((width for width in (*own, *told) if isinstance(width, int)), 0)


def _projections(module: nn.Module) -> dict[str, str]:
    """The submodules of each role where the usual names are there once each."""
    usual = {
        "query": ("q_proj", "query", "q", "q_lin"),
        "key": ("k_proj", "key", "k", "k_lin"),
        "value": ("v_proj", "value", "v", "v_lin"),
        "output": ("o_proj", "out_proj", "o", "out_lin", "dense", "c_proj"),
    }
    own = [name for name, _ in module.named_modules() if name]
    found = {}
    for role, names in usual.items():
        matches = [name for name in own if name.split(".")[-1] in names]
        if len(matches) == 1:
            found[role] = matches[0]
    return found


def _new_cache() -> Any:
    return importlib.import_module("transformers").DynamicCache()


def _beside(module: nn.Module) -> dict[str, Any]:
    """What the file of the module's class holds."""
    return vars(importlib.import_module(type(module).__module__))


def _rotary(module: nn.Module, x: Tensor, places: Tensor, kv_len: int) -> Any:
    found = [kind for name, kind in _beside(module).items() if name.endswith("RotaryEmbedding")]
    config = _inner(module, "config")
    if not found or config is None:
        if _forward(module)["position_embeddings"].default is None:
            return None
        raise TargetError(
            where="check",
            what=f"nothing tells the position_embeddings of {type(module).__name__}",
            fix="check(module, call=lambda module, x, memory, keep, cache: module(x, position_embeddings=...))",
        )
    text = [kind for kind in found if "Vision" not in kind.__name__] or found
    table = text[0](config)
    if "layer_type" in inspect.signature(table.forward).parameters:
        kind = _inner(module, "layer_type") or config.layer_types[_layer_index(module) or 0]
        return table(x, places, kind)
    return table(x, places)


def _alibi(module: nn.Module, x: Tensor, places: Tensor, kv_len: int) -> Tensor | None:
    config = _inner(module, "config")
    if getattr(config, "alibi", True) is False:
        return None
    make = _beside(module)["build_alibi_tensor"]
    return make(torch.ones(x.shape[0], kv_len, dtype=torch.long), _inner(module, "num_heads"), x.dtype)


def _with_alibi(module: nn.Module, mask: Tensor, alibi: Tensor) -> Tensor:
    """Falcon's model adds ALiBi to the mask, since the fused path of its attention reads nothing else."""
    bias = alibi.view(mask.shape[0], -1, 1, mask.shape[-1]) / _inner(module, "head_dim") ** 0.5
    return bias.masked_fill(mask < -1, torch.finfo(mask.dtype).min)


def _ids(module: nn.Module, x: Tensor, places: Tensor, kv_len: int) -> Tensor:
    return places


_POSITIONS = {"position_embeddings": _rotary, "alibi": _alibi, "position_ids": _ids}
