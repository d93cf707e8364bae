import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnkit import masks
from attnkit.errors import DtypeError, OptionError, ShapeError


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


@pytest.mark.messages
def test_a_python_and_between_masks_is_refused():
    with pytest.raises(
        OptionError, match=r"neither true nor false(?s:.*)& \| ~ where you wrote and, or, not"
    ):
        masks.causal and masks.full  # noqa: B018


@pytest.mark.messages
def test_a_tensor_next_to_a_mask_is_refused():
    with pytest.raises(OptionError, match=r"got Tensor(?s:.*)masks\.where\(lambda q, k: tensor"):
        masks.causal & torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.messages
@pytest.mark.parametrize("wrap", [lambda t, m: t & m, lambda t, m: t | m], ids=["and", "or"])
def test_a_tensor_before_a_mask_is_refused(wrap):
    with pytest.raises(OptionError, match=r"Mask [&|]: masks combine with masks; got Tensor"):
        wrap(torch.ones(2, 3, dtype=torch.bool), masks.causal)


@pytest.mark.messages
@pytest.mark.parametrize("other", [[3], [1, 2, 3]])
def test_masks_for_two_batches_do_not_combine(other):
    mask = masks.lengths([1, 2]) | masks.lengths(other)
    with pytest.raises(ShapeError, match=r"lengths\(\[1, 2\]\) is for a batch of \(2,\), lengths"):
        mask.dense(2, 3)


@pytest.mark.messages
@pytest.mark.parametrize("padding", [torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)])
def test_a_padding_mask_given_as_lengths_is_refused(padding):
    with pytest.raises(
        DtypeError, match=r"numbers of tokens, one a sample; got torch\.\w+ \(2, 3\)(?s:.*)padding\.sum\(-1\)"
    ):
        masks.lengths(padding)


@pytest.mark.messages
@pytest.mark.parametrize("given", [None, "ab", [[1], [1, 2]], [1.5], [1j]])
def test_what_holds_no_whole_numbers_is_no_lengths(given):
    with pytest.raises(DtypeError, match=r"kv_lengths are whole numbers of tokens, one a sample; got"):
        masks.lengths(given)


@pytest.mark.messages
def test_a_negative_length_is_refused():
    with pytest.raises(OptionError, match=r"at least 0 tokens; got -2"):
        masks.lengths([3, -2])


@pytest.mark.messages
def test_a_rule_that_answers_with_numbers_is_refused():
    def distance(q, k):
        return q - k

    with pytest.raises(
        DtypeError, match=r"distance must answer with a bool tensor(?s:.*)int64(?s:.*)comparison"
    ):
        masks.where(distance).dense(2, 3)


@pytest.mark.messages
@pytest.mark.parametrize("rule", [lambda q, k: q > k and k > 0, lambda q: q > 0], ids=["and", "one argument"])
def test_a_rule_that_fails_is_told_how_it_is_asked(rule):
    with pytest.raises(
        OptionError, match=r"q_pos \(2, 1\) and kv_pos \(1, 3\), and failed(?s:.*)not and, or, not, if"
    ):
        masks.where(rule).dense(2, 3)


@pytest.mark.messages
def test_a_table_that_is_too_small_is_told_which_rows_it_needs():
    table = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(
        OptionError, match=r"out of bounds(?s:.*)queries from kv_len - q_len on(?s:.*)q_start=0"
    ):
        masks.where(lambda q, k: table[q, k]).dense(2, 3)


@pytest.mark.messages
@pytest.mark.parametrize("shape", [(4, 3), (3,), (2,), (2, 2), (3, 2, 1, 4)], ids=str)
def test_a_rule_that_answers_with_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match=r"gave \([\d, ]+\) for positions of common shape \(2, 3\)"):
        masks.where(lambda q, k: torch.ones(shape, dtype=torch.bool)).dense(2, 3)


@pytest.mark.messages
def test_a_rule_that_cannot_be_called_is_refused():
    with pytest.raises(
        OptionError, match=r"got Tensor(?s:.*)masks\.where\(lambda q, k: tensor\[\.\.\., q, k\]\)"
    ):
        masks.where(torch.ones(2, 3).bool())
