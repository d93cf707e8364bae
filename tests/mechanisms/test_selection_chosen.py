"""The mask of what queries have chosen: its answers for tiles, and that every backend reads the same."""

import pytest
import torch

from attnkit import Rule, masks
from attnkit.catalog import find
from attnkit.masks import Area
from attnkit.mechanism.chosen import Chosen, EachHead, attended, by_blocks, highest
from tests.helpers import inputs


def drawn(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.4


@pytest.mark.parametrize("block_tokens", [1, 3, 20])
def test_answers_for_areas_are_those_for_pairs(block_tokens):
    table = drawn(70, -(-150 // block_tokens)) & drawn(70, 1, seed=1)
    table[16:48, 2:] = True
    table[48:] = False
    mask = Chosen(table, block_tokens, 3)
    pairs = mask.dense(80, 160, q_start=0)
    # how many pairs are kept before each edge: the pairs of an area are a difference of four
    before = torch.nn.functional.pad(pairs.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    edges = torch.cartesian_prod(*(torch.arange(0, size, 7) for size in (81, 81, 161, 161)))
    top, bottom, left, right = edges[(edges[:, 0] < edges[:, 1]) & (edges[:, 2] < edges[:, 3])].T
    kept = before[bottom, right] - before[top, right] - before[bottom, left] + before[top, left]
    some, every = mask.over(Area(top, bottom, left, right))
    assert bool((some | (kept == 0)).all())
    assert bool((~every | (kept == (bottom - top) * (right - left))).all())
    assert 0 < int(every.sum()) < int(some.sum()) < some.numel()


def test_tiles_in_which_nothing_is_chosen_are_empty():
    table = torch.zeros(32, 4, dtype=torch.bool)
    table[:16, 0] = table[16:, 3] = True
    tiles = Chosen(table, 16, 0).tiles(32, 64, tile=16, q_start=0)
    assert tiles.table().tolist() == [[2, 0, 0, 0], [0, 0, 0, 2]]


def test_a_query_that_is_not_in_the_table_reads_nothing():
    mask = Chosen(torch.ones(2, 3, dtype=torch.bool), 2, 5)
    assert mask.dense(4, 8, q_start=4).sum(-1).tolist() == [0, 6, 6, 0]


@pytest.mark.parametrize("backend", ["eager", "tiled", "sdpa"])
def test_every_backend_reads_what_is_chosen(backend):
    query, key, value = inputs(q_len=40, kv_len=70, dtype=torch.float64, grad=True)
    table = drawn(2, 3, 40, 18)
    rule = Rule(mask=EachHead(masks.causal & masks.lengths([70, 33]), 3) & Chosen(table, 4, 30))
    keep = table.repeat_interleave(4, -1)[..., :70] & masks.causal.dense(40, 70)
    keep = keep & masks.lengths([70, 33]).dense(40, 70).unsqueeze(1)
    scores = (query @ key.mT / 2).masked_fill(~keep, torch.finfo(query.dtype).min)
    expected = scores.softmax(-1).masked_fill(~keep, 0.0) @ value
    apart = [side.unsqueeze(-3) for side in (query, key, value)]
    context = rule(*apart, backend=backend).squeeze(-3)
    torch.testing.assert_close(context, expected)
    found = torch.autograd.grad(context.square().sum(), (query, key, value), retain_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), (query, key, value)))


def test_choosers_that_are_kv_heads_choose_for_the_heads_that_share_them():
    query, key, value = inputs(q_len=7, kv_len=7, heads=6, kv_heads=3, dtype=torch.float64)
    table = drawn(2, 3, 7, 4)
    place = {"block_tokens": 2, "mask": masks.causal, "q_start": 0}
    by_kv_head = attended(query, key, value, table, **place)
    by_head = attended(query, key, value, table.repeat_interleave(2, 1), **place)
    torch.testing.assert_close(by_kv_head, by_head)
    single = Rule(mask=masks.causal & Chosen(table[0, 2], 2, 0))
    expected = single(query[:1, 4:], key[:1, 2:], value[:1, 2:])
    torch.testing.assert_close(by_kv_head[:1, 4:], expected)


def test_memory_does_not_grow_with_the_square_of_the_length():
    # saved for the gradient: without tiles, one number a pair would be 4 * 4096 ** 2 bytes
    query, key, value = inputs(q_len=4096, kv_len=4096, batch=(1,), heads=1, grad=True)
    saved = []

    def pack(tensor):
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        find("block_top_k")(query, key, value, block_tokens=256, top_k=2)
    assert max(saved) <= 4096 * 16


def test_the_highest_are_chosen_and_nothing_hidden():
    scores = torch.tensor([[2.0, 2.0, 1.0, 2.0], [-torch.inf, 0.0, -torch.inf, -torch.inf]])
    assert highest(scores, 2).int().tolist() == [[0, 1, 0, 1], [0, 1, 0, 0]]


def test_blocks_are_filled_up_with_zeros():
    assert by_blocks(torch.arange(1, 6), 2).tolist() == [[1, 2], [3, 4], [5, 0]]
