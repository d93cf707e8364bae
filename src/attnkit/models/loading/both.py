"""T5 as Hugging Face saves it: relative positions from one table that all layers share, no scale, no bias."""

from typing import Any

from attnkit import masks
from attnkit.models.block import each
from attnkit.models.config import Config
from attnkit.models.encoder import Encoder
from attnkit.models.encoder_decoder import EncoderDecoder
from attnkit.models.loading.settings import Settings
from attnkit.models.loading.source import Source, State

_BENDS = {"relu": "relu", "gated-gelu": "geglu", "gated-silu": "swiglu"}
_NAMES = {"query": "q", "key": "k", "value": "v", "output": "o"}
_TABLE = "embedding.token.weight"
_PLAIN = {"up": "wi", "down": "wo"}
_GATED = {"gate": "wi_0", "up": "wi_1", "down": "wo"}
_ENDLESS = 1 << 20  # relative positions have no last one


def t5(source: Source) -> tuple[EncoderDecoder, State]:
    """The encoder-decoder, and its state."""
    settings, state = source.settings, source.tensor(_TABLE, "shared.weight")
    tied, shared = settings.flag("tie_word_embeddings", default=True), state[_TABLE]
    scaled = settings.flag("scale_decoder_outputs", default=tied)
    # some files hold the table of a side again, and it may be another one
    own = source.other(f"encoder.{_TABLE}", "encoder.embed_tokens.weight", shared, tied=True)
    state |= (other := source.other(_TABLE, "decoder.embed_tokens.weight", shared, tied=True))
    if other and not own:
        own = {f"encoder.{_TABLE}": shared}
    head = source.other("unembedding.weight", "lm_head.weight", state[_TABLE], tied=tied)
    encoder = Encoder(
        _config(settings, settings.whole("num_layers"), bidirectional=True),
        vocabulary_size=settings.whole("vocab_size"),
        context_length=_ENDLESS,
        positions=None,
    )
    model = EncoderDecoder(
        encoder,
        _config(settings, settings.whole("num_decoder_layers", "num_layers"), bidirectional=False),
        vocabulary_size=settings.whole("vocab_size"),
        context_length=_ENDLESS,
        positions=None,
        memory={"mechanism": "unscaled", "mask": masks.full, "head_dim": settings.whole("d_kv")},
        tied=not head,
        logit_scale=settings.whole("d_model") ** -0.5 if scaled else 1.0,
    )
    if not own:
        encoder.embedding.token = model.embedding.token
    state |= own | head
    state |= _side(source, "encoder.", "encoder", encoder)
    return model, state | _side(source, "", "decoder", model)


def _config(settings: Settings, layers: int, *, bidirectional: bool) -> Config:
    layout: dict[str, Any] = {
        "mechanism": "t5_relative",
        "num_buckets": settings.whole("relative_attention_num_buckets"),
        "max_distance": settings.whole("relative_attention_max_distance", default=128),
        "bidirectional": bidirectional,
        "mask": masks.full if bidirectional else masks.causal,
        "head_dim": settings.whole("d_kv"),
    }
    return Config(
        d_model=settings.whole("d_model"),
        num_layers=layers,
        num_heads=settings.whole("num_heads"),
        attention=(layout,),
        hidden=settings.whole("d_ff"),
        feed_forward=settings.chosen("feed_forward_proj", _BENDS, default="relu"),
        norm="rms",
        norm_eps=settings.number("layer_norm_epsilon"),
        bias=False,
    )


def _side(source: Source, prefix: str, side: str, model: Encoder | EncoderDecoder) -> State:
    """The state of the encoder, or of the decoder; the table of positions is the first layer's, and all have it."""
    parts = {"attention": "SelfAttention", "memory": "EncDecAttention"}
    if side == "encoder":
        del parts["memory"]
    first = next(iter(each(model.blocks))).attention
    for block in each(model.blocks):
        block.attention.table = first.table
    state = source.linear(f"{prefix}norm", f"{side}.final_layer_norm")
    there = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    state |= source.tensor(f"{prefix}blocks.0.attention.table", there)
    for layer in range(len(model.blocks)):
        ours, theirs = f"{prefix}blocks.{layer}", f"{side}.block.{layer}.layer"
        for number, (name, part) in enumerate(parts.items()):
            state |= source.renamed(f"{ours}.{name}", f"{theirs}.{number}.{part}", _NAMES)
            state |= source.linear(f"{ours}.norms.{name}", f"{theirs}.{number}.layer_norm")
        last = f"{theirs}.{len(parts)}"
        state |= source.linear(f"{ours}.norms.feed_forward", f"{last}.layer_norm")
        maps = _PLAIN if model.config.feed_forward == "relu" else _GATED
        state |= source.renamed(f"{ours}.feed_forward", f"{last}.DenseReluDense", maps)
    return state
