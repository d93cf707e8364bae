"""Modules that many people trust, and right ones that look like bugs: `check` accuses none of them.

A row: a name, what makes it, and what is said of it.
"""

import torch
from torch import nn

import attnkit
from attnkit import Attention, all_mechanisms
from tests.conformance.lookalikes import LOOKALIKES

TORCH = nn.MultiheadAttention


def _layer(name):
    return Attention(24, 4, mechanism=name, **all_mechanisms()[name].examples[0])


OWN = tuple((f"Attention({name})", lambda name=name: _layer(name), {}) for name in all_mechanisms())
CLASSIC = (
    ("SelfAttention_v1", lambda: attnkit.SelfAttention(8, 6), {}),
    ("SelfAttention_v2", lambda: attnkit.SelfAttentionv2(8, 6), {}),
    ("CausalAttention", lambda: attnkit.CausalAttention(8, 6, 128, 0.1), {}),
    ("MultiHeadAttentionWrapper", lambda: attnkit.MultiHeadAttentionWrapper(8, 6, 128, 0.1, 2), {}),
    ("MultiHeadAttention", lambda: attnkit.MultiHeadAttention(8, 6, 128, 0.1, 2), {}),
    ("Attention, grouped, rotary", lambda: Attention(
        24, 4, mechanism="causal", num_kv_heads=2, positions=attnkit.positions.Rotary(), dropout=0.1), {}),
    ("Attention, a memory", lambda: Attention(24, 4, mechanism="full", memory_dim=18), {"cross": True}),
)  # fmt: skip
BY_TORCH = (
    ("batch first", lambda: TORCH(24, 4, batch_first=True), {}),
    ("time first, dropout", lambda: TORCH(24, 4, dropout=0.2), {}),
    ("without bias", lambda: TORCH(24, 4, bias=False, batch_first=True), {}),
    ("causal", lambda: TORCH(24, 4, batch_first=True), {"causal": True}),
    ("causal, time first", lambda: TORCH(24, 4), {"causal": True}),
    ("a memory", lambda: TORCH(24, 4, kdim=18, vdim=18, batch_first=True), {"cross": True}),
    ("a memory, time first", lambda: TORCH(24, 4, dropout=0.1), {"cross": True}),
    ("a key's bias", lambda: TORCH(24, 4, add_bias_kv=True, batch_first=True), {}),
    ("a zero key", lambda: TORCH(24, 4, add_zero_attn=True, batch_first=True), {}),
)


def _x(**options):
    from x_transformers.x_transformers import Attention as Theirs

    return Theirs(24, heads=4, dim_head=6, **options)


def _local(**options):
    from local_attention.transformer import LocalMHA

    return LocalMHA(dim=24, heads=4, dim_head=6, window_size=4, **options)


def _local_function(**options):
    from local_attention import LocalAttention

    return LocalAttention(dim=6, window_size=4, autopad=True, **options)


X_TRANSFORMERS = (
    ("plain", lambda: _x(), {}),
    ("causal", lambda: _x(causal=True, dropout=0.1), {}),
    ("fused", lambda: _x(flash=True), {}),
    ("fused, causal", lambda: _x(flash=True, causal=True), {}),
    ("grouped", lambda: _x(causal=True, kv_heads=2), {}),
    ("one head of keys", lambda: _x(one_kv_head=True), {}),
    ("normed", lambda: _x(qk_norm=True), {}),
    ("talking heads", lambda: _x(pre_talking_heads=True, post_talking_heads=True), {}),
    ("gated values", lambda: _x(gate_values=True), {}),
    ("sigmoid", lambda: _x(sigmoid=True), {}),
    ("memory keys", lambda: _x(num_mem_kv=2), {}),
    ("capped", lambda: _x(softclamp_logits=True), {}),
    ("a memory", lambda: _x(dim_context=18), {"cross": True}),
)
LOCAL = (
    ("LocalMHA", lambda: _local(), {}),
    ("LocalMHA, causal", lambda: _local(causal=True), {}),
    ("LocalMHA, prenorm", lambda: _local(causal=True, prenorm=True), {}),
    ("LocalMHA, normed", lambda: _local(causal=True, qk_rmsnorm=True), {}),
    ("LocalAttention", lambda: _local_function(), {}),
    ("LocalAttention, causal", lambda: _local_function(causal=True), {"causal": True}),
)


def seeded(make, seed=0):
    """The module, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


GROUPS = {
    "attnkit": (*OWN, *CLASSIC),
    "torch": BY_TORCH,
    "x-transformers": X_TRANSFORMERS,
    "local-attention": LOCAL,
    "look-alikes": LOOKALIKES,
}
TRUSTED = tuple(
    (f"{group}: {name}", make, said) for group, rows in GROUPS.items() for name, make, said in rows
)

# without a window that is causal, what fills up the last block is read: docs/decisions/check-findings.md
FILLED = dict.fromkeys(
    ("neutral_mask", "rows", "constant"), "what fills up a block is read where no mask is given"
)
DEAD = {"dead_row_junk": "where all is hidden it gives the mean, as many do"}
TURNED = {"decoding": "keys in its cache are turned again at each step, or scaled otherwise"}
WEAK = {"half": "float16 does not hold -1e9"}
EXPECTED = {
    "local-attention: LocalMHA, causal": TURNED,
    "local-attention: LocalMHA, prenorm": TURNED,
    "local-attention: LocalMHA, normed": TURNED,
    "local-attention: LocalMHA": FILLED,
    "local-attention: LocalAttention": FILLED,
    "look-alikes: query, key, value, mask": DEAD | WEAK,
    "look-alikes: a mask of whole numbers": DEAD,
}
