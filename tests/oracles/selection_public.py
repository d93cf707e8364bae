"""Compares mechanisms that select or approximate with public code, in float64 where that code allows it.

    pip install --no-deps fla-core transformers performer-pytorch reformer-pytorch linformer nystrom-attention
    python -m tests.oracles.selection_public

It prints the largest difference for each, as a share of the largest number, and fails above a budget: 1e-6 where that
code computes in float32, 1e-9 else. fla-core's plain files are loaded one by one, since the package needs Triton;
packages that others import and that are not needed here are left out.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

from attnkit import masks
from attnkit.catalog import find
from attnkit.mechanisms.performer import drawn_vectors, performer


def leave_out(name, *attributes):
    module = ModuleType(name)
    for attribute in attributes:
        setattr(module, attribute, None)
    sys.modules.setdefault(name, module)


def naive(folder):
    """fla-core's plain file of a mechanism, on its own."""
    leave_out("fla.ops.utils", "prepare_chunk_offsets")
    leave_out("fla.ops.utils.pooling", "mean_pooling")
    sys.modules.setdefault("fla.ops", ModuleType("fla.ops"))
    path = Path(importlib.util.find_spec("fla").origin).parent / "ops" / folder / "naive.py"
    spec = importlib.util.spec_from_file_location(f"naive_{folder}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(*shape, seed=0, peak=3.0):
    return peak * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_token(tensor):
    """From heads before tokens to tokens before heads, or back."""
    return tensor.transpose(1, 2)


def native_sparse():
    """The two branches that fla-core writes out; its top_k holds the first, the own and the last block as ours does."""
    public, size, top_k = naive("nsa"), 8, 5
    query, key, value = drawn(2, 4, 100, 16), drawn(2, 2, 100, 16, seed=1), drawn(2, 2, 100, 12, seed=2)
    means = [side[:, :, :96].unflatten(2, (12, size)).mean(3) for side in (key, value)]
    means = [torch.cat([mean, mean[:, :, :1]], 2) for mean in means]  # a last block, never whole
    short, place = [by_token(mean) for mean in means], {"block_size": size, "scale": 0.25}
    spans = public.naive_nsa_compression(by_token(query), *short, **place)[0]
    chosen = public.naive_nsa_topk(by_token(query), short[0], top_k, **place)
    blocks = public.naive_nsa_selection(
        *map(by_token, (query, key, value.expand(2, 2, 100, 12))), chosen, **place
    )
    gates = torch.rand(2, 4, 100, 3, dtype=torch.float64)
    gates[..., 2] = 0
    expected = gates[..., :1] * by_token(spans) + gates[..., 1:2] * by_token(blocks)
    parts = {"gates": gates, "pool": torch.full((2, 2, size), 1 / size, dtype=torch.float64)}
    options = {"pool_tokens": size, "stride_tokens": size, "block_tokens": size, "top_k": top_k, "window": 1}
    return find("native_sparse")(query, key, value, parts=parts, **options), expected, 1e-6


def indexed():
    """The whole of it; that code computes in float32."""
    public = naive("dsa")
    query, key, value = drawn(2, 4, 100, 16), drawn(2, 4, 100, 16, seed=1), drawn(2, 4, 100, 16, seed=2)
    parts = {
        "index_query": drawn(2, 3, 100, 6, seed=3),
        "index_key": drawn(2, 1, 100, 6, seed=4),
        "index_weight": drawn(2, 3, 100, 1, seed=5),
    }
    index = by_token(parts["index_query"]), parts["index_key"][:, 0], by_token(parts["index_weight"])[..., 0]
    # of equal indices (no head fires) that code reads any: a positive head that always fires keeps them apart
    parts["index_weight"] = parts["index_weight"].abs()
    index = index[0], index[1], index[2].abs()
    expected = by_token(public.naive_dsa(*map(by_token, (query, key, value)), *index, topk=20))
    found = find("indexed")(query, key, value, parts=parts, top_k=20, index_heads=3, index_dim=6)
    positive = (by_token(index[0]) @ parts["index_key"].mT).relu().sum(1) > 0
    enough = (positive & masks.causal.dense(100, 100)).sum(-1) >= 20
    rows = enough | (torch.arange(100) < 20)  # rows in which the choice is one
    return found[by_rows(rows, found)], expected[by_rows(rows, expected)], 1e-6


def by_rows(rows, like):
    return rows[:, None, :, None].expand_as(like)


def hashed():
    """One chunk that holds all tokens, so that nothing is missed; rotations are ours, drawn by its own call."""
    leave_out("axial_positional_embedding", "AxialPositionalEmbedding")
    leave_out("product_key_memory", "PKM")
    from reformer_pytorch.reformer_pytorch import LSHAttention

    shared, value = drawn(2, 32, 8), drawn(2, 32, 8, seed=1)
    public = LSHAttention(
        bucket_size=16, n_hashes=3, causal=True, allow_duplicate_attention=False, attend_across_buckets=False
    )
    randn, generator = torch.randn, torch.Generator().manual_seed(0)
    rotations = randn(3, 8, 1, generator=generator, dtype=torch.float64)
    torch.randn = lambda *_, **__: rotations.permute(1, 0, 2)[None]
    try:
        expected = public(shared, value)[0]
    finally:
        torch.randn = randn
    tokens = shared[:, None]
    return find("hashed")(tokens, tokens, value[:, None], buckets=2, rounds=3, seed=0)[:, 0], expected, 1e-6


def nystrom():
    """transformers' core, begun as in the paper, at a length that landmarks divide."""
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    query, key, value = (drawn(2, 3, 24, 8, seed=seed) for seed in range(3))
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "num_landmarks": 4, "segment_means_seq_len": 24}
    public = NystromformerSelfAttention(
        NystromformerConfig(**sizes, attention_probs_dropout_prob=0.0)
    ).double()
    public.init_option = "exact"  # else the largest sum of the whole batch
    public.conv_kernel_size = None
    joined = dict(
        zip(
            ("query", "key", "value"),
            (by_token(side).flatten(2) for side in (query, key, value)),
            strict=True,
        )
    )
    for name, side in joined.items():
        line = getattr(public, name)
        line.register_forward_hook(lambda *_, side=side: side)
    expected = public(joined["query"])[0].unflatten(-1, (3, 8))
    return find("nystrom")(query, key, value, landmarks=4, iterations=6), by_token(expected), 1e-9


def performer_full():
    """The features of that code with ours as its projection, without the number that it adds."""
    leave_out("axial_positional_embedding", "AxialPositionalEmbedding")
    from performer_pytorch.performer_pytorch import linear_attention, softmax_kernel

    query, key, value = (drawn(2, 3, 20, 8, seed=seed, peak=1.0) for seed in range(3))
    vectors = {"projection_matrix": drawn_vectors(32, 8, 0), "eps": 0.0}
    features = [
        softmax_kernel(side, is_query=asks, **vectors) for side, asks in ((query, True), (key, False))
    ]
    found = performer(query, key, value, features=32, q_start=0, mask=masks.full)
    return found, linear_attention(*features, value), 1e-9


def linformer():
    """The layer of that code, with its last map taken away."""
    from linformer.linformer import LinformerSelfAttention

    public = LinformerSelfAttention(24, 20, k=5, heads=3).double()
    public.to_out = torch.nn.Identity()
    x = drawn(2, 17, 24)
    query, key, value = (
        by_token(line(x).unflatten(-1, (3, 8))) for line in (public.to_q, public.to_k, public.to_v)
    )
    parts = {"key_map": public.proj_k.T, "value_map": public.proj_v.T}
    found = find("linformer")(query, key, value, parts=parts, rank=5, context_length=20)
    return found, by_token(public(x).unflatten(-1, (3, 8))), 1e-9


def main():
    torch.manual_seed(0)
    for compare in (native_sparse, indexed, hashed, nystrom, performer_full, linformer):
        found, expected, budget = compare()
        off = ((found - expected).abs().max() / expected.abs().max()).item()
        print(f"{compare.__name__:<16} {off:.1e}")
        assert off <= budget, f"{compare.__name__} is {off:.2g} away"


if __name__ == "__main__":
    main()
