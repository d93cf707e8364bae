"""How the attention of x-transformers and of local-attention is called: `mask` (batch, len) keeps where it is True."""

from typing import Any

from torch import Tensor, nn

from attnkit.conformance.adapters.knowledge import Known
from attnkit.conformance.declared import Declared


def known(module: nn.Module, declared: Declared) -> Known | None:
    """What is known of `module`; None where it is of neither library."""
    kind, library = type(module).__name__, type(module).__module__.split(".")[0]
    if (library, kind) == ("x_transformers", "Attention"):
        return _x_transformers(module)
    if (library, kind) == ("local_attention", "LocalMHA"):
        return _local(module)
    return None


def _x_transformers(module: Any) -> Known:
    def call(module: nn.Module, x: Tensor, memory: Tensor | None, keep: Tensor | None, cache: Any) -> Any:
        more = {"mask": keep} if memory is None else {"context": memory, "context_mask": keep}
        if cache is None:
            return module(x, **more)
        output, held = module(x, **more, cache=cache.get("cache"), return_intermediates=True)
        return output, {"cache": held}

    names = {"query": "to_q", "key": "to_k", "value": "to_v", "output": "to_out"}
    names = {role: name for role, name in names.items() if isinstance(getattr(module, name, None), nn.Module)}
    d_in, memory_dim = (getattr(getattr(module, name), "in_features", 0) for name in ("to_q", "to_k"))
    said = {"causal": bool(module.causal), "num_heads": module.heads}
    return Known(call, d_in, memory_dim or d_in, not module.causal, True, bool(module.causal), names, said)


def _local(module: Any) -> Known:
    def call(module: nn.Module, x: Tensor, memory: Tensor | None, keep: Tensor | None, cache: Any) -> Any:
        if cache is None:
            return module(x, mask=keep)
        output, held = module(
            x, mask=keep, cache=cache.get("cache"), return_cache=True
        )  # one token at a time
        return output, {"cache": held}

    said = {"causal": bool(module.causal), "num_heads": module.heads}
    d_in = module.to_qkv.in_features
    return Known(call, d_in, d_in, False, True, bool(module.causal), {"output": "to_out"}, said)
