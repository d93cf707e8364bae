"""FlexAttention reads converted masks as they are meant, and its block lists are those that it makes itself."""

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask, noop_mask

from attnkit import converters, masks

# PyTorch counts a mask_mod's arguments, which the type-checking hook hides
pytestmark = pytest.mark.compiled
IDS = torch.tensor([0] * 90 + [1] * 200 + [2] * 30 + [3] * 280)
MASKS = {
    "full": masks.full,
    "nothing": ~masks.full,
    "causal": masks.causal,
    "window": masks.causal & masks.window(200),
    "window and first": masks.causal & (masks.window(130) | masks.first(4)),
    "prefix": masks.causal | masks.first(150),
    "blocks": masks.blocks(96),
    "documents": masks.causal & masks.documents(IDS),
    "not": ~(masks.causal & masks.window(256)),
    "lengths": masks.lengths([600, 129, 0]),
    "documents of each sample": masks.documents(torch.stack([IDS, IDS.flip(0), IDS * 0])) & masks.causal,
    "two batch axes": masks.causal & masks.lengths(torch.tensor([[600, 300], [128, 5]])),
}
SIZES = {"square": (600, 600), "whole tiles": (256, 384), "fewer queries": (257, 600), "one query": (1, 500)}
LISTS = [name for name in BlockMask._TENSOR_ATTRS if "indices" in name or "num_blocks" in name]


def assert_same_lists(found, expected):
    assert found.seq_lengths == expected.seq_lengths
    assert found.BLOCK_SIZE == expected.BLOCK_SIZE
    for name in LISTS:
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype, name
        assert ours.is_contiguous(), name
        assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", MASKS)
def test_block_lists_are_those_of_create_block_mask(name, size):
    mask, (q_len, kv_len) = MASKS[name], SIZES[size]
    samples = torch.Size(mask.batch).numel() if mask.batch else None
    mask_mod = converters.to_flex(mask, q_start=kv_len - q_len)
    expected = create_block_mask(mask_mod, samples, None, q_len, kv_len, device="cpu")
    assert_same_lists(converters.block_mask(mask, q_len, kv_len), expected)


@pytest.mark.parametrize("q_start", [-100, 0, 77, 500])
def test_block_lists_follow_the_queries(q_start):
    mask = masks.causal & masks.window(150)
    expected = create_block_mask(
        converters.to_flex(mask, q_start=q_start), None, None, 300, 400, device="cpu"
    )
    assert_same_lists(converters.block_mask(mask, 300, 400, q_start=q_start), expected)


@pytest.mark.parametrize("tile", [64, 256])
def test_tiles_may_have_other_sizes(tile):
    mask = masks.causal & masks.window(150)
    expected = create_block_mask(
        converters.to_flex(mask), None, None, 600, 600, device="cpu", BLOCK_SIZE=tile
    )
    assert_same_lists(converters.block_mask(mask, 600, 600, tile=tile), expected)


def test_a_mask_that_can_only_be_asked_is_asked_where_exact():
    mask = masks.where(lambda q, k: (q - k < 200) & (k <= q))
    expected = create_block_mask(converters.to_flex(mask), None, None, 600, 600, device="cpu")
    assert_same_lists(converters.block_mask(mask, 600, 600, exact=True), expected)
    in_vain = converters.block_mask(mask, 600, 600)
    assert in_vain.kv_num_blocks.tolist() == [[[5] * 5]]  # every tile, partial as far as is known


def test_a_table_knows_its_tiles():
    mask = converters.from_sdpa(
        (masks.causal & masks.lengths([400, 90])).dense(400, 400)[:, None], batch=2, q_len=400, kv_len=400
    )
    expected = create_block_mask(converters.to_flex(mask), 2, None, 400, 400, device="cpu")
    assert_same_lists(converters.block_mask(mask, 400, 400), expected)


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_mod_keeps_what_the_mask_keeps(name):
    mask = MASKS[name]
    samples = torch.Size(mask.batch).numel() if mask.batch else None
    found = create_mask(converters.to_flex(mask, q_start=560), samples, None, 20, 590, device="cpu")
    assert torch.equal(found[:, 0], mask.dense(20, 590, q_start=560).reshape(-1, 20, 590))


def test_a_reader_s_own_mask_of_each_sample_becomes_a_mask_mod():
    ids = torch.stack([IDS, IDS.flip(0)])
    mask = masks.where(lambda q, k: ids[..., q] == ids[..., k])
    found = create_mask(converters.to_flex(mask), 2, None, 600, 600, device="cpu")
    assert torch.equal(found[:, 0], mask.dense(600, 600))


def test_a_mask_mod_comes_back():
    def mask_mod(b, h, q_idx, kv_idx):
        return (q_idx - kv_idx < 3) & (kv_idx <= q_idx)

    back = converters.from_flex(mask_mod)
    assert torch.equal(back.dense(5, 5), create_mask(mask_mod, None, None, 5, 5, device="cpu")[0, 0])
    assert torch.equal(back.dense(5, 5), (masks.causal & masks.window(3)).dense(5, 5))
    # its index 0 is the first query of its call: with 7 keys that query stands at position 2 only where q_start says so
    cached = converters.from_flex(mask_mod, q_start=2)
    assert torch.equal(cached.dense(5, 7), create_mask(mask_mod, None, None, 5, 7, device="cpu")[0, 0])


def test_a_mask_mod_of_each_sample_comes_back():
    starts = torch.tensor([0, 2, 4])

    def mask_mod(b, h, q_idx, kv_idx):
        return kv_idx >= starts[b]

    back = converters.from_flex(mask_mod, batch=3)
    assert torch.equal(back.dense(5, 6), create_mask(mask_mod, 3, None, 5, 6, device="cpu")[:, 0])
    assert torch.equal(back.sample((1,)).dense(5, 6), back.dense(5, 6)[1])


def test_the_mask_mod_that_keeps_everything_comes_back():
    assert converters.from_flex(noop_mask).dense(2, 3).all()
