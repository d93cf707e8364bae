"""Llama in a GGUF file, under the names that Hugging Face gives its settings and tensors.

The trap: such files hold the rows of query and key in another order, for rotary positions that turn neighbouring
numbers. They are put back, so that the weights are those that Hugging Face has.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from attnkit.errors import OptionError
from attnkit.models.loading.gguf_file import MAGIC, GGUFFile
from attnkit.models.loading.settings import WHERE, Settings
from attnkit.models.loading.source import Source

_OUTER = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
_INNER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read_gguf(path: Path) -> Source:
    """The checkpoint in a GGUF file.

    Raises:
        OptionError: it is cut off or damaged, or its model is no Llama.
        MissingExtraError: gguf is not installed.
    """
    file = GGUFFile(path)
    told = Settings(f"the header of {path}", file.values)
    if told.get("general.architecture") != "llama":
        raise told.refusal(f"general.architecture is {told.get('general.architecture')!r:.80}", "'llama'")
    settings = _settings(told, tied="output.weight" not in file.tensors)
    tensors: dict[str, Tensor] = {}
    for name in file.tensors:
        theirs, tensor = _renamed(name), file.tensor(name)
        if theirs in tensors:
            raise OptionError(where=WHERE, what=f"{path} has two tensors {theirs!r}", fix="download it again")
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(
            theirs.split(".")[-2:][0]
        )
        tensors[theirs] = tensor if heads is None else _halves(tensor, settings[heads], settings["head_dim"])
    return Source(path, Settings(told.place, settings), tensors, _shown)


def _settings(told: Settings, *, tied: bool) -> dict[str, Any]:
    told.expect(**{"llama.rope.scaling.type": "none", "llama.expert_count": 0})
    heads, d_model = told.whole("llama.attention.head_count"), told.whole("llama.embedding_length")
    head_dim = told.whole("llama.attention.key_length", default=max(d_model // heads, 1))
    told.expect(**{"llama.rope.dimension_count": head_dim, "llama.attention.value_length": head_dim})
    tokens = told.get("tokenizer.ggml.tokens", default=())
    return {
        "model_type": "llama",
        "hidden_size": d_model,
        "num_hidden_layers": told.whole("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": told.whole("llama.attention.head_count_kv", default=heads),
        "head_dim": head_dim,
        "intermediate_size": told.whole("llama.feed_forward_length"),
        "hidden_act": "silu",
        "max_position_embeddings": told.whole("llama.context_length"),
        "rms_norm_eps": told.number("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": told.number("llama.rope.freq_base", default=10_000.0),
        "tie_word_embeddings": tied,
        "vocab_size": told.whole(
            "llama.vocab_size", default=len(tokens) if isinstance(tokens, list) else ...
        ),
    }


def _halves(weight: Tensor, heads: int, head_dim: int) -> Tensor:
    """Rows for rotary positions that turn one half with the other; a wrong shape is left to be refused later."""
    if weight.dim() != 2 or weight.shape[0] != heads * head_dim or head_dim % 2:
        return weight
    return weight.unflatten(0, (heads, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)


def _renamed(name: str) -> str:
    stem, _, ending = name.rpartition(".")
    if stem in _OUTER:
        return f"{_OUTER[stem]}.{ending}"
    block, _, part = stem.removeprefix("blk.").partition(".")
    return f"layers.{block}.{_INNER[part]}.{ending}" if stem.startswith("blk.") and part in _INNER else name


def _shown(name: str) -> str:
    """What a name was in the file."""
    stem, _, ending = name.rpartition(".")
    for theirs, ours in _OUTER.items():
        if stem == ours:
            return f"{theirs}.{ending}"
    layer, _, part = stem.removeprefix("layers.").partition(".")
    return next((f"blk.{layer}.{theirs}.{ending}" for theirs, ours in _INNER.items() if part == ours), name)
