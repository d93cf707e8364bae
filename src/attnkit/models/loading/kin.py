"""What Llama and its kin share: rotary positions, RMS norms, grouped heads, a gated feed-forward layer, few biases."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnkit.models.config import Config
from attnkit.models.decoder import Decoder
from attnkit.models.loading.settings import Settings
from attnkit.models.loading.source import Source, State

Loaded = tuple[Decoder, State]
_BENDS = {"silu": "swiglu", "gelu_pytorch_tanh": "geglu"}
_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
_FEED_FORWARD = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


def stack(source: Source, layouts: Sequence[Mapping[str, Any]], *, norm_at: str = "pre") -> Loaded:
    """The model, and all of its state but the norms of layers and attention.

    Args:
        source: the checkpoint.
        layouts: how layers attend, in turn.
        norm_at: where norms stand.
    """
    source.drop_prefix("model.", outside="lm_head.")
    source.skip(".rotary_emb.inv_freq")
    settings = source.settings
    gemma = settings.get("model_type") == "gemma2"
    tied = settings.flag("tie_word_embeddings", default=gemma)
    state = source.tensor("embedding.token.weight", "embed_tokens.weight")
    head = source.other("unembedding.weight", "lm_head.weight", state["embedding.token.weight"], tied=tied)
    config = _config(settings, layouts, norm_at)
    capped = settings.get("final_logit_softcapping", default=None) is not None
    model = Decoder(
        config,
        vocabulary_size=settings.whole("vocab_size"),
        context_length=settings.whole("max_position_embeddings"),
        positions=None,
        tied=not head,
        embedding_scale=config.d_model**0.5 if gemma else 1.0,
        logit_cap=settings.number("final_logit_softcapping") if capped else None,
    )
    state |= head | source.linear("norm", "norm")
    for layer in range(config.num_layers):
        state |= source.renamed(f"blocks.{layer}.feed_forward", f"layers.{layer}.mlp", _FEED_FORWARD)
    return model, state


def grouped(settings: Settings) -> dict[str, Any]:
    """How many heads key and value have, how wide they are, and whether projections add something."""
    heads = settings.whole("num_attention_heads")
    usual = settings.whole("hidden_size") // heads
    return {
        "num_kv_heads": settings.whole("num_key_value_heads", default=heads),
        "head_dim": settings.whole("head_dim", default=usual),
        "bias": settings.flag("attention_bias", default=False),
    }


def windows(settings: Settings, usual: Sequence[str]) -> list[int | None]:
    """The window of each layer, None where it reads all before it.

    Args:
        settings: of the model.
        usual: the kind of each layer where they do not say it.
    """
    kinds = settings.get("layer_types", default=usual)
    known = ("sliding_attention", "full_attention")
    layers = settings.whole("num_hidden_layers")
    if not isinstance(kinds, list) or len(kinds) != layers or any(kind not in known for kind in kinds):
        raise settings.refusal(
            f"layer_types is {kinds!r:.80}", f"{' or '.join(known)} for each of {layers} layers"
        )
    return [settings.whole("sliding_window") if kind == known[0] else None for kind in kinds]


def projections(source: Source, layer: int) -> State:
    """The state of a layer's projections."""
    return source.renamed(f"blocks.{layer}.attention", f"layers.{layer}.self_attn", _PROJECTIONS)


def norms(source: Source, layer: int, names: Mapping[str, str]) -> State:
    """The state of a layer's norms."""
    return source.renamed(f"blocks.{layer}.norms", f"layers.{layer}", names)


def _config(settings: Settings, layouts: Sequence[Mapping[str, Any]], norm_at: str) -> Config:
    gemma = settings.get("model_type") == "gemma2"
    return Config(
        d_model=settings.whole("hidden_size"),
        num_layers=settings.whole("num_hidden_layers"),
        num_heads=settings.whole("num_attention_heads"),
        attention=layouts,
        hidden=settings.whole("intermediate_size"),
        feed_forward=settings.chosen("hidden_activation" if gemma else "hidden_act", _BENDS),
        norm="rms",
        norm_at=norm_at,
        norm_eps=settings.number("rms_norm_eps"),
        bias=settings.flag("mlp_bias", default=False),
    )
