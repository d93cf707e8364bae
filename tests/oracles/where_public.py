"""Where to look, against public code: Longformer and BigBird of transformers, and local-attention.

    pip install transformers local-attention
    python -m tests.oracles.where_public

Prints the largest difference of the contexts; Longformer computes its softmax in float32, whatever it is given. BigBird
of transformers reads other blocks than the mechanism: what it reads, and how often, is told to a rule here, and that
rule agrees with it.
"""

import sys
from importlib import import_module

import torch

from attnkit import Rule, masks
from attnkit.catalog import find


def heads(tokens, num_heads):
    return tokens.unflatten(-1, (num_heads, -1)).transpose(-2, -3)


def longformer(window, num_global, length=24, num_heads=3):
    """How far `global_local` is from Longformer, whose second set of projections is made the first."""
    module = import_module("transformers.models.longformer.modeling_longformer")
    config = module.LongformerConfig(
        hidden_size=12,
        num_attention_heads=num_heads,
        attention_window=[window],
        attention_probs_dropout_prob=0,
    )
    theirs = module.LongformerSelfAttention(config, 0).double().eval()
    for name in ("query", "key", "value"):
        getattr(theirs, f"{name}_global").load_state_dict(getattr(theirs, name).state_dict())
    x = 3 * torch.randn(2, length, 12, dtype=torch.float64)
    is_global = (torch.arange(length) < num_global).expand(2, length)
    found = theirs(
        x,
        attention_mask=is_global.double() * 10000,
        is_index_masked=torch.zeros(2, length, dtype=torch.bool),
        is_index_global_attn=is_global,
        is_global_attn=num_global > 0,
    )[0]
    query, key, value = (heads(getattr(theirs, name)(x), num_heads) for name in ("query", "key", "value"))
    ours = find("global_local")(query, key, value, window=window // 2 + 1, num_global=num_global)
    return (heads(found, num_heads) - ours).abs().max().item()


def read_by_bigbird(drawn, blocks, size):
    """How often each query reads each key: its neighbours, the first and the last block, and those that were drawn."""
    table = torch.zeros(blocks, blocks)
    for block in range(blocks):
        if block in (0, blocks - 1):
            table[block] = 1
            continue
        table[block, [0, blocks - 1, block - 1, block, block + 1]] = 1
        for other in drawn[block - 1]:
            table[block, int(other)] += 1
    return table.repeat_interleave(size, 0).repeat_interleave(size, 1)


def bigbird(training, size=4, length=64, num_heads=2):
    """How far BigBird is from a rule that is told what it reads; and how often its queries read block 0 at most."""
    module = import_module("transformers.models.big_bird.modeling_big_bird")
    config = module.BigBirdConfig(
        hidden_size=8,
        num_attention_heads=num_heads,
        block_size=size,
        num_random_blocks=2,
        attention_probs_dropout_prob=0,
    )
    theirs = module.BigBirdBlockSparseAttention(config, seed=0).double().train(training)
    listened, draw = [], theirs._bigbird_block_rand_mask_with_head

    def listening(*args, **options):
        listened.append(draw(*args, **options))
        return listened[-1]

    theirs._bigbird_block_rand_mask_with_head = listening
    x = 3 * torch.randn(1, length, 8, dtype=torch.float64)
    everything = torch.ones(1, length, dtype=torch.float64)
    blocked, band, start, end = module.BigBirdModel.create_masks_for_block_sparse_attn(everything, size)
    found, _ = theirs(x, band, start, end, blocked, blocked)
    query, key, value = (heads(getattr(theirs, name)(x), num_heads) for name in ("query", "key", "value"))
    off = 0.0
    for head in range(num_heads):
        times = read_by_bigbird(listened[0][head], length // size, size).double()
        rule = Rule(
            mask=masks.where(lambda q, k, times=times: times[q, k] > 0),
            scores=(lambda score, head, q, k, times=times: score + times[q, k].clamp(min=1).log(),),
        )
        ours = rule(*(tensor[:, head : head + 1] for tensor in (query, key, value)))
        off = max(off, (heads(found, num_heads)[:, head : head + 1] - ours).abs().max().item())
    return off, int(times[:, 0].max())


def local_attention(size, look_backward, causal, length=24):
    """How far `memory` (causal), or segments with both neighbours, are from local-attention."""
    theirs = import_module("local_attention").LocalAttention(
        size, causal=causal, look_backward=look_backward, use_rotary_pos_emb=False, autopad=True
    )
    query, key, value = (3 * torch.randn(2, 3, length, 4, dtype=torch.float64) for _ in range(3))
    if causal:
        ours = find("memory")(query, key, value, segment=size, memory_tokens=look_backward * size)
    else:
        around = masks.segments(size, before=look_backward * size, after=size)
        ours = Rule(mask=around)(query, key, value)
    return (theirs(query, key, value) - ours).abs().max().item()


def main():
    torch.manual_seed(0)
    say = sys.stdout.write
    for window, num_global in ((4, 1), (6, 3), (8, 0)):
        say(f"longformer, window {window}, {num_global} global: {longformer(window, num_global):.1e}\n")
    for training in (True, False):
        off, times = bigbird(training)
        mode = "training" if training else "evaluation"
        say(f"bigbird of transformers in {mode}: {off:.1e}; reads block 0 up to {times} times\n")
    for size, back, causal in ((4, 1, True), (4, 0, True), (5, 2, True), (4, 1, False)):
        off = local_attention(size, back, causal)
        say(f"local-attention, {size} a window, {back} back, causal {causal}: {off:.1e}\n")


if __name__ == "__main__":
    main()
