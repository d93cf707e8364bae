"""Layers of the family "score" beside those of transformers, with one set of weights.

    pip install transformers && python -m tests.oracles.score_transformers

prints how far each is away. T5, Swin Transformer V2, XLNet (whose relative shift is Transformer-XL's) and BLOOM's bias
are reckoned in float64; Gemma 2, Llama and Qwen3 take their softmax, their rotation or their norm in float32.
"""

import torch

import attnkit as ak
from attnkit import masks
from attnkit.mechanism import sizes_of
from attnkit.positions import Linear, Llama3, Yarn
from attnkit.rule import Rule

D_MODEL, HEADS, KV_HEADS, LENGTH = 24, 4, 2, 40
CAUSAL = torch.full((LENGTH, LENGTH), torch.finfo(torch.float64).min, dtype=torch.float64).triu(1)[None, None]


def off(ours, theirs):
    return (ours - theirs).abs().max().item()


def tokens():
    return 3 * torch.randn(2, LENGTH, D_MODEL, dtype=torch.float64)


def filled(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return module.double().eval()


def layer_of(theirs, names, mechanism, num_kv_heads=HEADS, **options):
    ours = ak.Attention(D_MODEL, HEADS, mechanism=mechanism, num_kv_heads=num_kv_heads, **options).double()
    for mine, name in zip(("query", "key", "value", "output"), names, strict=True):
        getattr(ours, mine).weight.data = getattr(theirs, name).weight.data
    return ours


def t5(decoder):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(
        d_model=D_MODEL, d_kv=D_MODEL // HEADS, num_heads=HEADS, is_decoder=decoder, dropout_rate=0.0
    )
    theirs = filled(T5Attention(config, has_relative_attention_bias=True, layer_idx=0))
    mask = masks.causal if decoder else masks.full
    ours = layer_of(theirs, "qkvo", "t5_relative", bidirectional=not decoder, mask=mask)
    ours.table.data = theirs.relative_attention_bias.weight.data
    x = tokens()
    return off(ours(x), theirs(x, mask=CAUSAL if decoder else None)[0])


def bloom(heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    added = build_alibi_tensor(torch.ones(1, LENGTH), heads, torch.float64)
    query, key = torch.zeros(1, heads, LENGTH, 4).double(), torch.zeros(1, heads, LENGTH, 4).double()
    theirs = (added.reshape(1, heads, 1, LENGTH) + CAUSAL).softmax(-1)
    return off(ak.find("alibi").weights(query, key), theirs)


def gemma2():
    from transformers import Gemma2Config
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    config = Gemma2Config(num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=6)

    class Layer(torch.nn.Module):
        head_dim, num_key_value_groups = config.head_dim, HEADS // KV_HEADS

    query = 9 * torch.randn(2, HEADS, LENGTH, 6).double()
    key, value = (torch.randn(2, KV_HEADS, LENGTH, 6).double() for _ in range(2))
    theirs, _ = eager_attention_forward(Layer().eval(), query, key, value, CAUSAL, softcap=5.0)
    return off(ak.find("softcap")(query, key, value, cap=5.0).transpose(1, 2), theirs)


def llama(scaling, parameters):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(
        hidden_size=128 * HEADS,
        num_attention_heads=HEADS,
        max_position_embeddings=64,
        rope_parameters={"rope_theta": 500.0, "rope_type": "default"} | parameters,
    )
    query, key = (torch.randn(2, HEADS, LENGTH, 128).double() for _ in range(2))
    # their table is made in float32, and so is the table here for inputs of float32
    query, key = query.float(), key.float()
    cos, sin = LlamaRotaryEmbedding(config)(query, torch.arange(LENGTH)[None])
    theirs = Rule(mask=masks.causal)(*apply_rotary_pos_emb(query, key, cos, sin), key)
    return off(ak.find("rotary")(query, key, key, theta=500.0, scaling=scaling), theirs)


def qwen3():
    from transformers import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding

    config = Qwen3Config(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=D_MODEL // HEADS,
    )
    config._attn_implementation = "eager"
    theirs = filled(Qwen3Attention(config, layer_idx=0))
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    turn = ak.positions.Rotary(base=config.rope_parameters["rope_theta"])
    ours = layer_of(theirs, names, "qk_norm", KV_HEADS, positions=turn)
    ours.query_gain.data, ours.key_gain.data = theirs.q_norm.weight.data, theirs.k_norm.weight.data
    x = tokens()
    places = torch.arange(LENGTH)
    cos, sin = (torch.cat([t, t], -1)[None] for t in turn.tables(places, rotary_dim=6, dtype=torch.float64))
    assert off(cos, Qwen3RotaryEmbedding(config)(x, places[None])[0]) < 1e-5
    return off(ours(x), theirs(x, position_embeddings=(cos, sin), attention_mask=CAUSAL)[0])


def swin():
    from transformers import Swinv2Config
    from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention

    theirs = (
        Swinv2SelfAttention(Swinv2Config(qkv_bias=False), D_MODEL, HEADS, window_size=(5, 8)).double().eval()
    )
    with torch.no_grad():
        theirs.logit_scale.copy_(torch.tensor([0.0, 2.0, 4.5, 9.0])[:, None, None])
        # its bias is 16 * sigmoid(network): one number for all pairs drops out of softmax
        theirs.continuous_position_bias_mlp[-1].weight.zero_()
    ours = ak.Attention(D_MODEL, HEADS, mechanism="cosine", mask=masks.full).double()
    for name in ("query", "key", "value"):
        getattr(ours, name).weight.data = getattr(theirs, name).weight.data
    ours.log_scale.data = theirs.logit_scale.data.flatten()
    ours.output.weight.data = torch.eye(D_MODEL).double()
    x = tokens()
    return off(ours(x), theirs(x)[0])


def xlnet():
    from transformers import XLNetConfig
    from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

    config = XLNetConfig(d_model=D_MODEL, n_head=HEADS, dropout=0.0, layer_norm_eps=1e-12)
    theirs = filled(XLNetRelativeAttention(config))
    distances = torch.arange(LENGTH, -LENGTH, -1.0).double()
    frequencies = 1 / torch.pow(10000, torch.arange(0, D_MODEL, 2.0).double() / D_MODEL)
    r = XLNetModel.positional_embedding(distances, frequencies).double()
    query, key, value = (torch.randn(LENGTH, 2, HEADS, 6).double() for _ in range(3))
    k_r = torch.einsum("ibh,hnd->ibnd", r, theirs.r)
    mixed = theirs.rel_attn_core(query, key, value, k_r.expand(-1, 2, -1, -1))
    parts = {
        "content_bias": theirs.r_w_bias.data,
        "distance_bias": theirs.r_r_bias.data,
        "projection": theirs.r.data.permute(1, 2, 0),
    }
    tensors = {n: t.permute(1, 2, 0, 3) for n, t in (("query", query), ("key", key), ("value", value))}
    bound = ak.find("transformer_xl_relative").bind({"mask": masks.full})
    sizes = sizes_of(tensors["query"], tensors["key"])
    ours = bound.attended(tensors | parts, sizes, mask=None, q_start=0)
    return off(ours.permute(2, 0, 1, 3), mixed)


def main():
    torch.manual_seed(0)
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    llama3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 16}
    llama3 |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    with torch.no_grad():
        found = {
            "T5, decoder": t5(decoder=True),
            "T5, encoder": t5(decoder=False),
            "BLOOM, 8 heads": bloom(8),
            "BLOOM, 6 heads": bloom(6),
            "Gemma 2": gemma2(),
            "Llama": llama(None, {}),
            "Llama, linear": llama(Linear(4.0), {"rope_type": "linear", "factor": 4.0}),
            "Llama, YaRN": llama(Yarn(4.0, original_tokens=16), yarn),
            "Llama 3": llama(Llama3(original_tokens=16), llama3),
            "Qwen3": qwen3(),
            "Swin Transformer V2": swin(),
            "XLNet": xlnet(),
        }
    for name, distance in found.items():
        print(f"{name:22} {distance:.1e}")


if __name__ == "__main__":
    main()
