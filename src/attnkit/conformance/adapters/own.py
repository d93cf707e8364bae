"""How this project's layers are called; the tutorial's causal classes are causal without being told."""

from typing import Any

from torch import Tensor, nn

from attnkit.conformance.adapters.knowledge import Known
from attnkit.conformance.adapters.signatures import Signature
from attnkit.conformance.declared import Declared
from attnkit.layers import teaching
from attnkit.layers.attention import Attention

_CAUSAL = (teaching.CausalAttention, teaching.MultiHeadAttentionWrapper, teaching.MultiHeadAttention)
_CLASSIC = (teaching.SelfAttention, teaching.SelfAttentionv2, *_CAUSAL)


def known(module: nn.Module, declared: Declared) -> Known | None:
    """What is known of `module`; None where it is none of this project's."""
    if isinstance(module, Attention):
        return _layer(module)
    if isinstance(module, _CLASSIC):
        return _classic(module)
    return None


def _layer(module: Attention) -> Known:
    names = {name: name for name in ("query", "key", "value", "output") if hasattr(module, name)}
    decodes = module.is_causal and module.mechanism.settles
    said = {"causal": module.is_causal, "num_heads": module.num_heads, "num_kv_heads": module.num_kv_heads}
    reads_memory = not module.is_causal
    return Known(
        _call,
        module.d_model,
        module.memory_dim,
        reads_memory,
        True,
        decodes,
        names,
        said | {"dropout": module.dropout},
    )


def _call(module: nn.Module, x: Tensor, memory: Tensor | None, keep: Tensor | None, cache: Any) -> Any:
    if cache is None:
        return module(x, memory, mask=keep)
    held = cache.get("cache") or module.new_cache()  # pyright: ignore[reportCallIssue]
    return module(x, mask=keep, cache=held), {"cache": held}


def _classic(module: nn.Module) -> Known:
    own = dict(module.named_parameters())
    first = next(name for name in own if name.split(".")[-1] == "W_query" or name.endswith("W_query.weight"))
    # a bare parameter is (d_in, d_out), a linear layer's weight (d_out, d_in)
    d_in = own[first].shape[0 if first.endswith("W_query") else 1]
    names = {
        role: f"W_{role}"
        for role in ("query", "key", "value")
        if isinstance(getattr(module, f"W_{role}", None), nn.Module)
    }
    if isinstance(getattr(module, "out_proj", None), nn.Module):
        names["output"] = "out_proj"
    said: dict[str, Any] = {"causal": isinstance(module, _CAUSAL)}
    if isinstance(module, teaching.MultiHeadAttention):
        said["num_heads"] = module.num_heads
    drops = [part.p for part in module.modules() if isinstance(part, nn.Dropout)]
    if drops:
        said["dropout"] = drops[0]
    return Known(Signature.of(module), d_in, d_in, False, False, False, names, said)
