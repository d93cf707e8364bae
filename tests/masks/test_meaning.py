"""What each mask keeps, pair by pair, worked by hand; and that it answers however it is asked."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnkit import masks


def rows(mask, *sizes, **options):
    return mask.dense(*sizes, **options).int().tolist()


def test_full_keeps_every_key():
    assert rows(masks.full, 2, 3) == [[1, 1, 1], [1, 1, 1]]


def test_the_last_query_of_causal_stands_at_the_last_key():
    # 2 queries, 4 keys: the queries are positions 2 and 3
    assert rows(masks.causal, 2, 4) == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_q_start_puts_the_first_query_elsewhere():
    assert rows(masks.causal, 2, 4, q_start=0) == [[1, 0, 0, 0], [1, 1, 0, 0]]


def test_causal_with_more_queries_than_keys_leaves_the_first_without_a_key():
    # 3 queries, 2 keys: positions -1, 0, 1
    assert rows(masks.causal, 3, 2) == [[0, 0], [1, 0], [1, 1]]


def test_lengths_keep_the_first_keys_of_each_sample():
    assert rows(masks.lengths([0, 2]), 1, 3) == [[[0, 0, 0]], [[1, 1, 0]]]


def test_lengths_may_have_any_batch_axes():
    assert masks.lengths(torch.tensor([[1, 2, 3], [0, 1, 2]])).dense(5, 4).shape == (2, 3, 5, 4)


def test_where_asks_the_reader():
    # q_pos is 1 and 2: the same parity as the key
    assert rows(masks.where(lambda q, k: (q - k) % 2 == 0), 2, 3) == [[0, 1, 0], [1, 0, 1]]


def test_where_may_differ_from_sample_to_sample():
    ids = torch.tensor([[0, 0, 1], [0, 1, 1]])
    same = masks.where(lambda q, k: ids[..., q] == ids[..., k])
    assert rows(same, 3, 3) == [[[1, 1, 0], [1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1], [0, 1, 1]]]


@given(st.integers(0, 6), st.integers(0, 6), st.integers(-3, 9), st.integers(0, 7))
def test_combining_masks_is_boolean_algebra(q_len, kv_len, q_start, shift):
    first, second = masks.causal, masks.where(lambda q, k: (q + k) % 3 != shift % 3)
    a, b = (mask.dense(q_len, kv_len, q_start=q_start) for mask in (first, second))
    combined = {
        "and": (first & second, a & b),
        "or": (first | second, a | b),
        "not": (~first, ~a),
        "all": (~(first & ~second) | masks.full, torch.ones_like(a)),
    }
    for name, (mask, expected) in combined.items():
        assert torch.equal(mask.dense(q_len, kv_len, q_start=q_start), expected), name


def test_a_batch_axis_survives_combination():
    both = masks.causal & masks.lengths([1, 3])
    assert rows(both, 2, 3) == [[[1, 0, 0], [1, 0, 0]], [[1, 1, 0], [1, 1, 1]]]


def test_many_lengths_read_as_their_number():
    assert repr(masks.lengths([5] * 9)) == "lengths(<9 samples>)"


@pytest.mark.parametrize(
    "mask", [masks.full, ~masks.causal, masks.lengths([4, 1]), masks.causal & masks.lengths([4, 1])], ids=repr
)
def test_positions_may_have_any_number_of_axes(mask):
    # three tiles of 2 queries and 5 keys, as axes (3, 2, 1) and (3, 1, 5); a sample's axis stands before them
    q_pos = torch.tensor([[0, 1], [2, 3], [4, 5]])[..., None]
    kv_pos = torch.arange(5).expand(3, 1, 5)
    found = mask.keep(q_pos, kv_pos).expand(*mask.dense(6, 5, q_start=0).shape[:-2], 3, 2, 5)
    torch.testing.assert_close(found.flatten(-3, -2), mask.dense(6, 5, q_start=0))


@pytest.mark.parametrize("mask", [masks.causal & masks.lengths([4, 1]), masks.causal | masks.where(torch.eq)])
def test_a_mask_answers_for_one_pair_of_positions(mask):
    # as FlexAttention asks: no axes at all
    q_pos, kv_pos = torch.tensor(3), torch.tensor(2)
    assert torch.equal(mask.keep(q_pos, kv_pos), mask.dense(4, 5, q_start=0)[..., 3, 2])


def test_a_batch_without_samples_has_no_lengths():
    assert masks.lengths([]).dense(2, 3).shape == (0, 2, 3)


def test_more_tokens_than_keys_are_all_keys():
    assert rows(masks.lengths([9]), 1, 3) == [[[1, 1, 1]]]


def test_a_tensor_of_lengths_is_not_looked_at():
    # below 0 there is nothing to read
    assert rows(masks.lengths(torch.tensor([-2, 1])), 1, 2) == [[[0, 0]], [[1, 0]]]


def test_each_sample_of_a_vmap_may_have_its_length():
    lengths = torch.tensor([1, 3])
    found = torch.func.vmap(lambda one: masks.lengths(one).dense(2, 3))(lengths)
    assert torch.equal(found, masks.lengths(lengths).dense(2, 3))


def test_padding_in_front_is_told_by_where():
    # the fix that `lengths` gives for padding that does not come last
    padding = torch.tensor([[0, 1, 1], [1, 1, 1]])
    mask = masks.where(lambda q, k: padding.bool()[..., k])
    assert rows(mask, 2, 3) == [[[0, 1, 1], [0, 1, 1]], [[1, 1, 1], [1, 1, 1]]]


def test_a_table_with_a_row_a_query_is_read_from_q_start_zero():
    # the fix that a tensor in place of a mask gets
    tensor = torch.tensor([[1, 0, 1], [0, 1, 0]]).bool()
    mask = masks.where(lambda q, k: tensor[..., q, k])
    assert torch.equal(mask.dense(2, 3, q_start=0), tensor)


def test_a_mask_reads_as_it_was_written():
    mask = masks.causal & (masks.lengths([1, 3]) | ~masks.full)
    assert repr(mask) == "(causal & (lengths([1, 3]) | ~full))"


@pytest.mark.parametrize("again", [copy.deepcopy, lambda mask: pickle.loads(pickle.dumps(mask))])
def test_a_copied_mask_keeps_the_same_keys(again):
    mask = masks.causal & masks.lengths([1, 3])
    assert torch.equal(again(mask).dense(2, 3), mask.dense(2, 3))


def test_dense_lives_where_it_is_asked_to():
    assert masks.lengths([1]).dense(2, 3, device=torch.device("cpu")).device.type == "cpu"
    assert masks.causal.dense(2, 3, device=torch.device("meta")).device.type == "meta"
    assert masks.lengths([1]).dense(2, 3, device=torch.device("meta")).device.type == "meta"


def test_a_window_counts_the_querys_own_position_and_alone_sees_the_future():
    assert rows(masks.window(2), 3, 3) == [[1, 1, 1], [1, 1, 1], [0, 1, 1]]


def test_dilated_with_causal_reads_count_keys_a_step_apart():
    # query 6 reads 6, 4 and 2, not 0: 3 keys
    assert rows(masks.causal & masks.dilated(2, 3), 1, 7) == [[0, 0, 1, 0, 1, 0, 1]]


@given(st.integers(1, 5), st.integers(-3, 9))
def test_dilated_by_one_is_a_window(count, q_start):
    expected = masks.window(count).dense(4, 6, q_start=q_start)
    assert torch.equal(masks.dilated(1, count).dense(4, 6, q_start=q_start), expected)


def test_strided_reads_every_stride_th_key_from_its_own_position():
    assert rows(masks.strided(3), 1, 8) == [[0, 1, 0, 0, 1, 0, 0, 1]]


def test_the_sparse_transformers_pattern_is_its_two_halves():
    # l = 3, from the paper: A1 = {i - l, ..., i}, A2 = {j <= i: (i - j) mod l = 0}
    expected = [[int(j <= i and (i - j <= 3 or (i - j) % 3 == 0)) for j in range(9)] for i in range(9)]
    assert rows(masks.causal & (masks.window(3) | masks.strided(3)), 9, 9) == expected


def test_blocks_begin_at_position_0():
    assert rows(masks.blocks(2), 3, 5) == [[0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_a_prefix_is_read_by_all_and_the_rest_is_causal():
    assert rows(masks.prefix(2), 3, 3) == [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert rows(masks.prefix(2), 3, 4, q_start=0) == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]


def test_each_sample_may_have_its_prefix():
    alone = [masks.causal, masks.prefix(1), masks.prefix(3)]
    together = masks.prefix([0, 1, 3])
    assert torch.equal(together.dense(4, 4), torch.stack([mask.dense(4, 4) for mask in alone]))


def test_a_position_outside_of_the_ids_belongs_to_no_document():
    assert rows(masks.documents([5, 5]), 3, 3, q_start=-1) == [[0, 0, 0], [1, 1, 0], [1, 1, 0]]
    assert rows(masks.documents([5, 5]), 1, 3) == [[0, 0, 0]]


def test_no_ids_are_no_documents():
    assert rows(masks.documents([]), 2, 2) == [[0, 0], [0, 0]]
    assert masks.documents([]).tiles(2, 2).num_empty == 1


def test_two_packings_keep_what_is_together_in_both():
    both = masks.documents([0, 0, 1, 1]) & masks.documents([0, 1, 1, 1, 9])
    assert rows(both, 4, 5, q_start=0) == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0]]


@pytest.mark.parametrize("length", [None, 40])
def test_each_block_draws_as_many_blocks_as_it_can_and_none_twice(length):
    mask = masks.random_blocks(2, 3, seed=5, length=length)
    found = mask.dense(40, 40).reshape(20, 2, 20, 2)
    blocks = found[:, 0, :, 0]
    assert torch.equal(found, blocks[:, None, :, None].expand_as(found))  # whole blocks
    among = torch.arange(1, 21) if length is None else torch.full((20,), 20)
    assert torch.equal(blocks.sum(-1), among.clamp(max=3))
    assert length or not blocks.triu(1).any()


def test_drawn_blocks_do_not_change_as_the_text_grows():
    mask = masks.random_blocks(2, 2, seed=1)
    assert torch.equal(mask.dense(30, 30)[:11, :11], mask.dense(11, 11))
    assert torch.equal(mask.dense(30, 30)[10:11, :11], mask.dense(1, 11))


def test_blocks_are_drawn_evenly_and_another_seed_draws_others():
    # 2,000 blocks draw 2 of the first 10 each from 4,000: 400 a block, standard deviation about 18
    block = torch.arange(2000)[:, None]
    counts = sum(
        masks.random_blocks(1, 2, seed=seed, length=10).keep(block, torch.arange(10)).sum(0)
        for seed in (0, 1)
    )
    assert counts.sum() == 8000
    assert (counts - 800).abs().max() < 5 * 25
    first, second = (masks.random_blocks(1, 2, seed=seed, length=10).dense(50, 10) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_a_batch_is_found_by_asking_a_function_of_ones_own():
    table = torch.ones(2, 3, 4, 4, dtype=torch.bool)
    assert masks.where(lambda q, k: table[..., q, k]).batch == (2, 3)
    assert masks.where(lambda q, k: q > k).batch == ()


def test_masks_of_numbers_are_equal_by_value_and_masks_of_tensors_are_themselves():
    one, two = (masks.causal & (masks.window(n) | masks.random_blocks(2, 3)) for n in (4, 4))
    assert one == two
    assert len({one, two, masks.causal & (masks.window(5) | masks.random_blocks(2, 3))}) == 2
    assert masks.lengths([1]) != masks.lengths([1])
    assert len({masks.documents([1]), masks.documents([1])}) == 2


def test_a_mask_keeps_the_numbers_it_was_made_with():
    ids, counts = torch.tensor([0, 0, 1]), torch.tensor([1, 2])
    documents, lengths = masks.documents(ids), masks.lengths(counts)
    ids.fill_(0), counts.fill_(0)
    assert rows(documents, 3, 3) == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert rows(lengths, 1, 2) == [[[1, 0]], [[1, 1]]]


EVERY_KIND = [
    masks.full,
    masks.causal & (masks.window(3) | masks.first(1)),
    ~masks.causal & masks.lengths([3, 5]),
    masks.prefix([2, 3]) & masks.dilated(2, 2),
    masks.causal & masks.documents([[0, 0, 1, 1, 1, 2, 2], [0, 1, 1, 1, 0, 0, 0]]),
    masks.blocks(3) | masks.random_blocks(2, 2, seed=3) | masks.random_blocks(2, 2, length=7),
    masks.where(lambda q, k: (q * k) % 3 == 0) | masks.strided(4),
]


@pytest.mark.parametrize("mask", EVERY_KIND, ids=repr)
def test_a_mask_can_be_asked_pair_by_pair_under_vmap(mask):
    # as FlexAttention asks: positions without axes, and a sample that is a number of its own
    vmap, at = torch.func.vmap, torch.arange(7)
    expected = mask.dense(7, 7, q_start=0)
    found = vmap(vmap(mask.keep, in_dims=(None, 0)), in_dims=(0, None))(at, at)  # 7 x 7 x batch
    found = found.movedim((0, 1), (-2, -1))
    assert torch.equal(found.expand_as(expected), expected)


@pytest.mark.compiled
@pytest.mark.parametrize("mask", [mask for mask in EVERY_KIND if mask.batch], ids=repr)
def test_a_sample_may_be_a_number_that_is_traced(mask):
    at = torch.arange(7)
    ask = torch.func.vmap(lambda b, q, k: mask.sample((b,)).keep(q, k), in_dims=(None, None, 0))
    ask = torch.func.vmap(torch.func.vmap(ask, in_dims=(None, 0, None)), in_dims=(0, None, None))
    assert torch.equal(ask(torch.arange(2), at, at), mask.dense(7, 7, q_start=0))


@pytest.mark.compiled
@pytest.mark.parametrize("mask", EVERY_KIND, ids=repr)
def test_a_mask_can_be_traced(mask):
    traced = torch.compile(lambda q, k: mask.keep(q, k), fullgraph=True, backend="eager")
    q_pos, kv_pos = torch.arange(7)[:, None], torch.arange(7)
    assert torch.equal(traced(q_pos, kv_pos), mask.keep(q_pos, kv_pos))


def test_tables_may_be_made_while_tracing():
    def kept(ids, counts):
        return (masks.documents(ids) & masks.lengths(counts) & masks.prefix(counts)).dense(3, 3)

    given = torch.tensor([[0, 0, 1], [0, 1, 1]]), torch.tensor([2, 3])
    assert torch.equal(torch.func.vmap(kept)(*given), kept(*given))
