"""Latent, differential, gated and sparse attention beside public code, on the same weights in float64.

Run it where the extra "hf" and the package entmax are installed:

    python -m tests.oracles.heads_public

It prints the largest difference of each, and fails where one is above 1e-10. So that float64 is used throughout, public
code is given angles in float64 and PyTorch's RMSNorm, and runs by PyTorch's fused attention. DiffLlama sums lambda in
float32, so that it is allowed 1e-6.
"""

import torch
from transformers import DeepseekV3Config, DiffLlamaConfig, Qwen3NextConfig
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek
from transformers.models.diffllama import modeling_diffllama as diffllama
from transformers.models.qwen3_next import modeling_qwen3_next as qwen

from attnkit import Attention, find, normalizers, positions

BATCH, LENGTH, WIDTH = 2, 7, 48


def causal_bias():
    """What transformers adds to scores, (batch, 1, len, len)."""
    hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    return torch.zeros(BATCH, 1, LENGTH, LENGTH, dtype=torch.float64).masked_fill(hidden, -torch.inf)


def random_(module):
    """Peaked weights, and gains that are not 1."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.double().eval()


def cos_sin(size):
    """Cosines and sines of the positions from 0 on, (batch, len, size), halves alike as transformers has them."""
    places = torch.arange(0, size, 2, dtype=torch.float64)
    angles = torch.arange(LENGTH)[:, None] * 10000.0 ** (-places / size)
    angles = torch.cat([angles, angles], -1).expand(BATCH, -1, -1)
    return angles.cos(), angles.sin()


@torch.no_grad()
def latent(x):
    """DeepSeek V3 beside `latent`, both forms of it."""
    config = DeepseekV3Config(
        hidden_size=WIDTH, num_attention_heads=6, num_key_value_heads=6, q_lora_rank=None, kv_lora_rank=10,
        qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8, rope_interleave=True, max_position_embeddings=64,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    theirs = deepseek.DeepseekV3Attention(config, 0)
    theirs.kv_a_layernorm = torch.nn.RMSNorm(10, eps=theirs.kv_a_layernorm.variance_epsilon)
    random_(theirs)
    expected = theirs(x, cos_sin(4), causal_bias())[0]
    found = []
    for absorbed in (False, True):
        ours = Attention(
            WIDTH, 6, head_dim=8, mechanism="latent", kv_rank=10, rope_dim=4, absorbed=absorbed
        ).double()
        ours.query.weight.copy_(theirs.q_proj.weight)
        ours.value.weight.copy_(theirs.kv_a_proj_with_mqa.weight[:10])
        ours.key.weight.copy_(theirs.kv_a_proj_with_mqa.weight[10:])
        up = theirs.kv_b_proj.weight.view(6, 16, 10).mT * theirs.kv_a_layernorm.weight[:, None]
        ours.key_up.copy_(up[..., :8])
        ours.value_up.copy_(up[..., 8:])
        ours.output.weight.copy_(theirs.o_proj.weight)
        found.append((ours(x) - expected).abs().max().item())
    return max(found)


@torch.no_grad()
def differential(x):
    """DiffLlama with grouped heads beside `differential`; it pairs head h with head h + 6, we put them side by side."""
    config = DiffLlamaConfig(hidden_size=WIDTH, num_attention_heads=12, num_key_value_heads=4, head_dim=4)
    config._attn_implementation = "sdpa"
    theirs = random_(diffllama.DiffLlamaAttention(config, 2))
    expected = theirs(x, cos_sin(4), causal_bias())[0]
    ours = Attention(
        WIDTH, 6, num_kv_heads=2, head_dim=8, mechanism="differential", lambda_init=theirs.lambda_init,
        rotary=positions.Rotary(base=10000.0),
    ).double()  # fmt: skip
    for name in ("query", "key", "value"):
        weight = getattr(theirs, f"{name[0]}_proj").weight
        getattr(ours, name).weight.copy_(weight.view(2, -1, 4, WIDTH).transpose(0, 1).reshape(-1, WIDTH))
    ours.lambdas.copy_(torch.stack([theirs.lambda_q1, theirs.lambda_k1, theirs.lambda_q2, theirs.lambda_k2]))
    ours.output.weight.copy_(theirs.o_proj.weight)
    return (ours(x) - expected).abs().max().item()


@torch.no_grad()
def gated(x):
    """Qwen3-Next beside `gated`, on its query and key, which it normalises and turns before."""
    config = Qwen3NextConfig(hidden_size=WIDTH, num_attention_heads=6, num_key_value_heads=3, head_dim=8)
    config._attn_implementation = "sdpa"
    theirs = random_(qwen.Qwen3NextAttention(config, 3))
    cos, sin = cos_sin(2)  # a quarter of each head turns
    expected = theirs(x, (cos, sin), causal_bias())[0]

    def heads(tokens, count):
        return tokens.view(BATCH, LENGTH, count, -1).transpose(1, 2)

    query, gate = heads(theirs.q_proj(x), 6).chunk(2, -1)
    query, key = theirs.q_norm(query), theirs.k_norm(heads(theirs.k_proj(x), 3))
    query, key = qwen.apply_rotary_pos_emb(query, key, cos, sin)
    parts = {"gate": gate.sigmoid()}
    context = find("gated")(query, key, heads(theirs.v_proj(x), 3), parts=parts)
    found = theirs.o_proj(context.transpose(1, 2).flatten(-2))
    return (found - expected).abs().max().item()


def sparse(x):
    """The package entmax beside our normalizers, with gradients."""
    import entmax

    worst = 0.0
    for ours, theirs in (
        (normalizers.Sparsemax(), entmax.sparsemax),
        (normalizers.Entmax15(), entmax.entmax15),
    ):
        for spread in (0.1, 1.0, 5.0):
            scores = [(spread * x).requires_grad_() for _ in range(2)]
            weights = [ours(scores[0], None), theirs(scores[1], dim=-1)]
            for each in weights:
                each.pow(3).sum().backward()
            gradients = (scores[0].grad - scores[1].grad).abs().max().item()
            worst = max(worst, (weights[0] - weights[1]).abs().max().item(), gradients)
    return worst


def main():
    """Print the largest difference of each."""
    torch.manual_seed(0)
    x = torch.randn(BATCH, LENGTH, WIDTH, dtype=torch.float64)
    for compare in (latent, differential, gated, sparse):
        difference = compare(x)
        print(f"{compare.__name__:<13} {difference:.1e}")
        assert difference < (1e-6 if compare is differential else 1e-10), compare.__name__


if __name__ == "__main__":
    main()
