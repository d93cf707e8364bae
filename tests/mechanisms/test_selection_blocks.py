"""Blocks that a query chooses: block_top_k, by hand, by loops over positions, and what it becomes."""

import math

import pytest
import torch

from attnkit import Rule, masks
from attnkit.catalog import find
from attnkit.errors import OptionError
from attnkit.mechanisms.block_top_k import block_top_k, chosen_blocks
from tests.helpers import inputs

MASKS = {
    "causal": masks.causal,
    "full": masks.full,
    "padding left": masks.causal & masks.where(lambda q, k: k >= 3),
    "padding right": masks.causal & masks.lengths([9, 4]),
    "documents": masks.causal & masks.documents([0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]),
}


def by_loops(query, key, value, *, block_tokens, top_k, mask):
    """Equations 2 to 6, one position after another: the mean of what may be read, the best blocks, a softmax."""
    context = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
    (batch, heads, q_len, head_dim), kv_len, group = (
        query.shape,
        key.shape[-2],
        query.shape[1] // key.shape[1],
    )
    keep = mask.dense(q_len, kv_len).expand(batch, q_len, kv_len)
    for b in range(batch):
        for h in range(heads):
            for row in range(q_len):
                q, k, v = query[b, h, row], key[b, h // group], value[b, h // group]
                blocks = {}
                for place in range(kv_len):
                    if keep[b, row, place]:
                        blocks.setdefault(place // block_tokens, []).append(place)
                own = (kv_len - q_len + row) // block_tokens
                gates = {
                    n: float(q @ sum(k[p] for p in places)) / len(places) for n, places in blocks.items()
                }
                best = sorted(blocks, key=lambda n, own=own, gates=gates: (n != own, -gates[n]))[:top_k]
                read = [place for n in best for place in blocks[n]]
                parts = [math.exp(float(q @ k[p]) / math.sqrt(head_dim)) for p in read]
                for part, place in zip(parts, read, strict=True):
                    context[b, h, row] += part / sum(parts) * v[place]
    return context


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(("block_tokens", "top_k"), [(2, 2), (3, 2), (4, 1), (1, 3), (16, 1)])
def test_blocks_are_those_of_the_equations(name, block_tokens, top_k):
    query, key, value = inputs(q_len=8, kv_len=11, heads=4, kv_heads=2, dtype=torch.float64)
    options = {"block_tokens": block_tokens, "top_k": top_k, "mask": MASKS[name]}
    expected = by_loops(query, key, value, **options)
    torch.testing.assert_close(block_top_k(query, key, value, q_start=3, **options), expected)


def test_blocks_are_chosen_by_hand():
    # blocks of 2: the means of keys are 1, 3 and -2, so a query of 2 has the gates 2, 6 and -4; block 3 is its own
    key = torch.tensor([1.0, 1.0, 5.0, 1.0, -2.0, -2.0, 0.0, 0.0]).reshape(1, 1, 8, 1)
    query = torch.tensor([2.0]).reshape(1, 1, 1, 1)
    table = chosen_blocks(query, key, block_tokens=2, top_k=2, q_start=7)
    assert table.flatten().tolist() == [False, True, False, True]
    table = chosen_blocks(-query, key, block_tokens=2, top_k=3, q_start=7)  # gates -2, -6, 4
    assert table.flatten().tolist() == [True, False, True, True]


def test_of_equal_gates_the_later_block_is_read():
    key = torch.ones(1, 1, 8, 1)
    table = chosen_blocks(torch.ones(1, 1, 1, 1), key, block_tokens=2, top_k=2, q_start=7)
    assert table.flatten().tolist() == [False, False, True, True]


def test_one_block_is_attention_in_blocks():
    query, key, value = inputs(q_len=7, kv_len=7, dtype=torch.float64)
    expected = Rule(mask=masks.causal & masks.blocks(3))(query, key, value)
    context = find("block_top_k")(query, key, value, block_tokens=3, top_k=1)
    torch.testing.assert_close(context, expected)


@pytest.mark.parametrize("name", MASKS)
def test_as_many_blocks_as_there_are_is_the_mask_itself(name):
    query, key, value = inputs(q_len=8, kv_len=11, heads=4, kv_heads=2, dtype=torch.float64)
    context = block_top_k(query, key, value, block_tokens=3, top_k=4, q_start=3, mask=MASKS[name])
    torch.testing.assert_close(context, Rule(mask=MASKS[name])(query, key, value))


def test_more_queries_than_are_looked_at_together_choose_alike():
    # 600 queries are looked at in three parts
    query, key, value = inputs(q_len=600, kv_len=600, batch=(1,), heads=1, dtype=torch.float64)
    options = {"block_tokens": 16, "top_k": 3}
    whole = find("block_top_k")(query, key, value, **options)
    last = find("block_top_k")(query[..., 590:, :], key, value, **options)
    torch.testing.assert_close(last, whole[..., 590:, :])


def test_gradients_are_those_of_softmax_over_what_is_chosen():
    # independent: a plain softmax under the table that was chosen, written out
    query, key, value = inputs(q_len=7, kv_len=7, dtype=torch.float64, grad=True)
    table = chosen_blocks(query, key, block_tokens=2, top_k=2, q_start=0)
    keep = table.repeat_interleave(2, -1)[..., :7] & masks.causal.dense(7, 7)
    scores = (query @ key.mT / 2).masked_fill(~keep, -torch.inf)
    expected = torch.autograd.grad((scores.softmax(-1) @ value).square().sum(), (query, key, value))
    context = find("block_top_k")(query, key, value, block_tokens=2, top_k=2)
    found = torch.autograd.grad(context.square().sum(), (query, key, value))
    torch.testing.assert_close(found, expected)


@pytest.mark.messages
@pytest.mark.parametrize("options", [{"block_tokens": 0, "top_k": 2}, {"block_tokens": 2, "top_k": 0}])
def test_numbers_that_count_nothing_are_refused(options):
    query, key, value = inputs()
    with pytest.raises(
        OptionError, match=r"block_top_k: \w+ is a whole number, at least 1; got 0(?s:.*)fix: \w+=4"
    ):
        find("block_top_k")(query, key, value, **options)
