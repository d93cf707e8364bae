"""Decoders as Hugging Face saves them: GPT-2, Llama, Mistral, Qwen 3, Gemma 2, DeepSeek V3 without experts."""

from typing import Any

from torch import nn

from attnkit import masks, scores
from attnkit.masks import Mask
from attnkit.models.block import each
from attnkit.models.config import Config
from attnkit.models.decoder import Decoder
from attnkit.models.loading.kin import Loaded, grouped, norms, projections, stack, windows
from attnkit.models.loading.settings import Settings
from attnkit.models.loading.source import Source, State, precise
from attnkit.models.loading.turning import rotary, score_factor
from attnkit.rule import Rule

_GPT2_BENDS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
_GPT2 = {"attention.output": "attn.c_proj", "feed_forward.up": "mlp.c_fc", "feed_forward.down": "mlp.c_proj"}
_GPT2_NORMS = {"norms.attention": "ln_1", "norms.feed_forward": "ln_2"}
_NORMS = {"attention": "input_layernorm", "feed_forward": "post_attention_layernorm"}
_GEMMA_NORMS = {
    "attention": "input_layernorm",
    "after_attention": "post_attention_layernorm",
    "feed_forward": "pre_feedforward_layernorm",
    "after_feed_forward": "post_feedforward_layernorm",
}
_QUERY_EPS = 1e-6  # DeepSeek's norms of latents have this one, whatever rms_norm_eps says


def gpt2(source: Source) -> Loaded:
    """GPT-2: learned positions, norms before each part, one matrix for query, key and value."""
    source.drop_prefix("transformer.", outside="lm_head.")
    source.skip(".attn.bias", ".attn.masked_bias")
    settings = source.settings
    settings.expect(scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    config = Config(
        d_model=settings.whole("n_embd"),
        num_layers=settings.whole("n_layer"),
        num_heads=settings.whole("n_head"),
        hidden=settings.whole("n_inner", default=4 * settings.whole("n_embd")),
        feed_forward=settings.chosen("activation_function", _GPT2_BENDS, default="gelu_new"),
        norm_eps=settings.number("layer_norm_epsilon", default=1e-5),
    )
    state = source.tensor("embedding.token.weight", "wte.weight")
    tied = settings.flag("tie_word_embeddings", default=True)
    head = source.other("unembedding.weight", "lm_head.weight", state["embedding.token.weight"], tied=tied)
    model = Decoder(
        config,
        vocabulary_size=settings.whole("vocab_size"),
        context_length=settings.whole("n_positions"),
        tied=not head,
    )
    state |= head | source.tensor("embedding.position.weight", "wpe.weight") | source.linear("norm", "ln_f")
    for layer in range(config.num_layers):
        state |= _gpt2_layer(source, f"blocks.{layer}", f"h.{layer}", config.d_model)
    return model, state


def _gpt2_layer(source: Source, ours: str, theirs: str, d_model: int) -> State:
    # their maps are stored the other way round, (from, to)
    weights = source.take(f"{theirs}.attn.c_attn.weight", d_model, 3 * d_model).mT.chunk(3)
    biases = source.take(f"{theirs}.attn.c_attn.bias", 3 * d_model).chunk(3)
    state: State = {}
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        state |= {f"{ours}.attention.{name}.weight": weight, f"{ours}.attention.{name}.bias": bias}
    turned = source.renamed(ours, theirs, _GPT2)
    state |= {name: tensor.mT if tensor.dim() == 2 else tensor for name, tensor in turned.items()}
    return state | source.renamed(ours, theirs, _GPT2_NORMS)


def llama(source: Source) -> Loaded:
    """Llama, Mistral and Qwen 3: rotary positions, RMS norms, grouped heads, a gated feed-forward layer."""
    settings = source.settings
    kind = settings.get("model_type")
    usual = grouped(settings) | {"positions": rotary(settings)}
    if kind == "qwen3":
        usual |= {"mechanism": "qk_norm", "eps": settings.number("rms_norm_eps")}
        layouts = [usual | {"mask": _window(window)} for window in _qwen3_windows(settings)]
    elif kind == "mistral" and settings.get("sliding_window", default=None) is not None:
        layouts = [usual | {"mechanism": "sliding_window", "window": settings.whole("sliding_window")}]
    else:
        layouts = [usual | {"mechanism": "causal"}]
    model, state = stack(source, layouts)
    for layer in range(model.config.num_layers):
        state |= norms(source, layer, _NORMS) | projections(source, layer)
        if kind == "qwen3":
            ours, theirs = f"blocks.{layer}.attention", f"layers.{layer}.self_attn"
            state |= source.tensor(f"{ours}.query_gain", f"{theirs}.q_norm.weight")
            state |= source.tensor(f"{ours}.key_gain", f"{theirs}.k_norm.weight")
    return model, state


def _qwen3_windows(settings: Settings) -> list[int | None]:
    layers = settings.whole("num_hidden_layers")
    if not settings.flag("use_sliding_window", default=False):
        return [None] * layers
    whole = min(settings.whole("max_window_layers", default=layers, least=0), layers)
    return windows(settings, ["full_attention"] * whole + ["sliding_attention"] * (layers - whole))


def _window(window: int | None) -> Mask:
    return masks.causal if window is None else masks.causal & masks.window(window)


def gemma2(source: Source) -> Loaded:
    """Gemma 2: soft-capped scores, windows in turn with whole layers, norms before and after each part."""
    settings = source.settings
    settings.expect(use_bidirectional_attention=False)
    layers = settings.whole("num_hidden_layers")
    in_turn = ["sliding_attention", "full_attention"] * layers
    capped = settings.get("attn_logit_softcapping", default=None) is not None
    steps = (scores.SoftCap(settings.number("attn_logit_softcapping")),) if capped else ()
    scale = settings.number("query_pre_attn_scalar") ** -0.5
    usual = grouped(settings) | {"positions": rotary(settings)}
    layouts = [
        usual | {"mechanism": Rule(mask=_window(window), scores=steps, scale=scale)}
        for window in windows(settings, in_turn[:layers])
    ]
    model, state = stack(source, layouts, norm_at="both")
    for layer in range(layers):
        state |= norms(source, layer, _GEMMA_NORMS) | projections(source, layer)
    # Gemma's norms multiply by one more than what is stored
    return model, state | {name: precise(tensor) + 1 for name, tensor in state.items() if "norm" in name}


def deepseek_v3(source: Source) -> Loaded:
    """DeepSeek V3 with latent attention, as far as its feed-forward layers have no experts."""
    settings, layers = source.settings, source.settings.whole("num_hidden_layers")
    if settings.whole("first_k_dense_replace", least=0) < layers:
        raise settings.refusal("some layers have experts", "first_k_dense_replace = num_hidden_layers")
    head_dim, rope_dim = settings.whole("qk_nope_head_dim"), settings.whole("qk_rope_head_dim")
    settings.expect(v_head_dim=head_dim, attention_bias=False)
    layout = {
        "mechanism": "latent",
        "kv_rank": settings.whole("kv_lora_rank"),
        "rope_dim": rope_dim,
        "rotary": rotary(settings, "pairs" if settings.flag("rope_interleave", default=True) else "halves"),
        "head_dim": head_dim,
    }
    model, state = stack(source, (layout,))
    if _has_narrow_queries(settings):
        _narrow_queries(model, settings.whole("q_lora_rank"), head_dim + rope_dim)
    for layer in range(layers):
        state |= norms(source, layer, _NORMS)
        state |= _latent(source, f"blocks.{layer}.attention", f"layers.{layer}.self_attn", layout)
    return model, state


def _has_narrow_queries(settings: Settings) -> bool:
    return settings.get("q_lora_rank", default=None) is not None


def _narrow_queries(model: Decoder, rank: int, width: int) -> None:
    """Make queries of a latent of their own, as values are: down, a norm, and up to all heads."""
    for block in each(model.blocks):
        down = nn.Linear(model.config.d_model, rank, bias=False)
        up = nn.Linear(rank, model.config.num_heads * width, bias=False)
        block.attention.query = nn.Sequential(down, nn.RMSNorm(rank, eps=_QUERY_EPS), up)


def _latent(source: Source, ours: str, theirs: str, layout: dict[str, Any]) -> State:
    rank, rope_dim, head_dim = (layout[name] for name in ("kv_rank", "rope_dim", "head_dim"))
    settings = source.settings
    d_model, heads = settings.whole("hidden_size"), settings.whole("num_attention_heads")
    state = source.linear(f"{ours}.output", f"{theirs}.o_proj")
    if _has_narrow_queries(settings):
        names = {"0": "q_a_proj", "1": "q_a_layernorm", "2": "q_b_proj"}
        state, last = state | source.renamed(f"{ours}.query", theirs, names), f"{ours}.query.2.weight"
    else:
        state, last = state | source.linear(f"{ours}.query", f"{theirs}.q_proj"), f"{ours}.query.weight"
    # latent attention has no scale of its own, so what multiplies scores goes into the queries
    state[last] = precise(state[last]) * score_factor(settings)
    down = source.take(f"{theirs}.kv_a_proj_with_mqa.weight", rank + rope_dim, d_model)
    state[f"{ours}.value.weight"], state[f"{ours}.key.weight"] = down.split([rank, rope_dim])
    gain = precise(source.take(f"{theirs}.kv_a_layernorm.weight", rank))
    up = precise(source.take(f"{theirs}.kv_b_proj.weight", heads * 2 * head_dim, rank)) * gain
    key_up, value_up = up.unflatten(0, (-1, 2 * head_dim)).split(head_dim, dim=1)
    return state | {f"{ours}.key_up": key_up.mT, f"{ours}.value_up": value_up.mT}
