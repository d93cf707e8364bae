"""Converted masks mean in each library what they mean here: both compute, and the results agree."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from attnkit import Rule, converters, masks
from attnkit.masks import Area
from tests.helpers import inputs

MASKS = {
    "full": masks.full,
    "causal": masks.causal,
    "a window": masks.causal & (masks.window(3) | masks.first(1)),
    "where": masks.where(lambda q, k: (q + k) % 3 != 1),
    "lengths": masks.lengths([5, 7]),
    "causal lengths": masks.causal & masks.lengths([6, 3]),
    "an empty sample": masks.lengths([0, 4]),
}
SIZES = {"square": (7, 7), "fewer queries": (5, 7), "one query": (1, 7)}
NEVER_EMPTY = [name for name in MASKS if name != "an empty sample"]


@pytest.fixture(params=MASKS)
def mask(request):
    return MASKS[request.param]


@pytest.fixture(params=SIZES)
def lengths(request):
    return SIZES[request.param]


@pytest.mark.parametrize("dtype", [None, torch.float64], ids=["bool", "added"])
def test_sdpa_computes_the_rule_with_the_mask_that_it_is_given(mask, lengths, dtype):
    query, key, value = inputs(q_len=lengths[0], kv_len=lengths[1], dtype=torch.float64)
    given_mask = converters.to_sdpa(mask, *lengths, dtype=dtype)
    found = scaled_dot_product_attention(query, key, value, attn_mask=given_mask)
    torch.testing.assert_close(found, Rule(mask=mask)(query, key, value, backend="eager"))


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float16], ids=str)
def test_a_mask_of_sdpa_comes_back(mask, lengths, dtype):
    given_mask = converters.to_sdpa(mask, *lengths, dtype=dtype)
    back = converters.from_sdpa(given_mask, batch=2, q_len=lengths[0], kv_len=lengths[1])
    assert torch.equal(back.dense(*lengths), mask.dense(*lengths))


def test_the_smallest_float_hides_as_minus_infinity_does():
    added = torch.tensor([[0.0, torch.finfo(torch.bfloat16).min], [-torch.inf, 0.0]], dtype=torch.bfloat16)
    for table in (added, added.float()):  # a mask in one precision is often used in another
        kept = converters.from_sdpa(table, batch=3, q_len=2, kv_len=2).dense(2, 2)
        assert kept.tolist() == [[True, False], [False, True]]


def test_rows_of_a_tensor_are_queries_wherever_these_stand():
    # row 0 is for the first query: at position kv_len - q_len = 2, and at 9 where q_start says so
    kept = torch.tensor([[True, False, True], [False, True, True]]).repeat(1, 2)[:, :4]
    default = converters.from_sdpa(kept, batch=1, q_len=2, kv_len=4)
    late = converters.from_sdpa(kept, batch=1, q_len=2, kv_len=4, q_start=9)
    assert torch.equal(default.dense(2, 4), kept)
    assert torch.equal(late.dense(2, 4, q_start=9), kept)
    assert not late.dense(2, 4).any()


def test_one_row_is_for_every_query():
    padding = torch.tensor([[True, True, False], [True, False, False]])[:, None, None, :]
    back = converters.from_sdpa(padding, batch=2, q_len=5, kv_len=3)
    assert torch.equal(back.dense(5, 3), masks.lengths([2, 1]).dense(5, 3))


def test_a_mask_is_read_once_so_that_later_writing_does_not_reach_it():
    kept = torch.ones(2, 3, dtype=torch.bool)
    back = converters.from_sdpa(kept, batch=1, q_len=2, kv_len=3)
    kept[:] = False
    assert back.dense(2, 3).all()


def multihead(q_len, kv_len):
    """A layer, its inputs, and what its heads compare: query (2, 3, q_len, 4) and key (2, 3, kv_len, 4)."""
    layer = torch.nn.MultiheadAttention(12, 3, batch_first=True, dtype=torch.float64)
    x, memory = (
        3 * torch.randn(2, q_len, 12, dtype=torch.float64),
        3 * torch.randn(2, kv_len, 12, dtype=torch.float64),
    )
    w_query, w_key, _ = layer.in_proj_weight.detach().chunk(3)
    sides = ((x, w_query), (memory, w_key))
    query, key = ((side @ weight.T).unflatten(-1, (3, 4)).transpose(1, 2) for side, weight in sides)
    return layer, x, memory, query, key


@pytest.mark.parametrize("name", NEVER_EMPTY)
def test_multihead_attention_weighs_as_the_rule_does(name, lengths):
    mask = MASKS[name]
    layer, x, memory, query, key = multihead(*lengths)
    ignored = converters.to_multihead(mask, *lengths, num_heads=3)
    _, weights = layer(x, memory, memory, attn_mask=ignored, average_attn_weights=False)
    torch.testing.assert_close(weights.detach(), Rule(mask=mask).inspect(query, key).weights())


def test_multihead_attention_reads_converted_padding():
    padding = masks.lengths([5, 3])
    layer, x, memory, query, key = multihead(5, 7)
    ignored = converters.to_key_padding(padding, 7)
    _, weights = layer(x, memory, memory, key_padding_mask=ignored, average_attn_weights=False)
    torch.testing.assert_close(weights.detach(), Rule(mask=padding).inspect(query, key).weights())


def test_a_mask_of_multihead_attention_comes_back(mask, lengths):
    ignored = converters.to_multihead(mask, *lengths, num_heads=3)
    back = converters.from_multihead(ignored, batch=2, num_heads=3, q_len=lengths[0], kv_len=lengths[1])
    assert torch.equal(back.dense(*lengths), mask.dense(*lengths))


def test_both_masks_of_multihead_attention_come_back_as_one():
    ignored = converters.to_multihead(masks.causal, 5, 7, num_heads=3)
    padding = converters.to_key_padding(masks.lengths([4, 6]), 7)
    back = converters.from_multihead(
        ignored, key_padding_mask=padding, batch=2, num_heads=3, q_len=5, kv_len=7
    )
    assert torch.equal(back.dense(5, 7), (masks.causal & masks.lengths([4, 6])).dense(5, 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_four_axis_mask_added_as_hugging_face_does_gives_the_rule(mask, lengths, dtype):
    # what the eager attention of each of its models does: the mask is added, then comes the softmax
    query, key, _ = inputs(q_len=lengths[0], kv_len=lengths[1])
    added = converters.to_hugging_face(mask, *lengths, dtype=dtype)
    weights = (query @ key.mT * 4**-0.5 + added).softmax(-1)
    expected = Rule(mask=mask).inspect(query, key).weights()
    told = mask.dense(*lengths).any(
        -1, keepdim=True
    )  # a row with nothing to read is the mean there, zeros here
    told = told[:, None] if told.dim() == 3 else told
    torch.testing.assert_close(weights * told, expected, atol=1e-6, rtol=1e-5)


def test_a_four_axis_mask_of_hugging_face_comes_back(mask, lengths):
    added = converters.to_hugging_face(mask, *lengths, dtype=torch.bfloat16)
    back = converters.from_hugging_face(added, batch=2, q_len=lengths[0], kv_len=lengths[1])
    assert torch.equal(back.dense(*lengths), mask.dense(*lengths))


@pytest.mark.parametrize("padding", [[[0, 0, 1], [1, 1, 1]], [[1, 0, 0], [1, 1, 0]], [[1, 0, 1], [0, 0, 0]]])
def test_padding_comes_back_wherever_it_is(padding):
    padding = torch.tensor(padding)
    back = converters.from_hugging_face(padding, batch=2, q_len=2, kv_len=3)
    assert torch.equal(converters.to_padding(back, 3), padding)
    assert torch.equal(back.dense(4, 3), padding.bool()[:, None].expand(2, 4, 3))


def test_padding_that_only_a_look_can_tell_is_looked_at():
    odd = masks.where(lambda q, k: (k % 2 == 1) | (q < -1))
    assert converters.to_padding(odd, 4).tolist() == [0, 1, 0, 1]


def test_a_llama_weighs_the_keys_that_the_converted_mask_keeps():
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=12, num_attention_heads=3, num_hidden_layers=1, intermediate_size=5, vocab_size=11
    )
    config._attn_implementation = "eager"
    model = transformers.LlamaModel(config).eval()
    tokens, padding = torch.arange(14).reshape(2, 7) % 11, torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7])
    rule = masks.causal & converters.from_hugging_face(padding, batch=2, q_len=7, kv_len=7)
    weights = model(tokens, attention_mask=padding, output_attentions=True).attentions[0]
    kept = rule.dense(7, 7)
    told = kept.any(-1)  # a row of padding has nothing to read
    assert torch.equal((weights > 0).all(1)[told], kept[told])
    four = converters.to_hugging_face(rule, 7, 7, dtype=torch.float32)
    again = model(tokens, attention_mask=four, position_ids=None, output_attentions=True).attentions[0]
    torch.testing.assert_close(again.transpose(1, 2)[told], weights.transpose(1, 2)[told])


numbers = st.integers(-3, 9)


@given(st.data(), st.sampled_from([(1, 6), (5, 6), (5, 1), (1, 1)]), st.sampled_from([(), (2,)]))
def test_a_table_counts_what_it_keeps(data, shape, batch):
    kept = (
        torch.rand(*batch, *shape, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
        > 0.4
    )
    mask = converters.Table(kept, q_start=data.draw(st.integers(-2, 3)))
    q_from, q_to, kv_from, kv_to = (data.draw(numbers) for _ in range(4))
    kv_from = max(kv_from, 0)
    area = Area(*(torch.tensor([edge]) for edge in (q_from, q_to, kv_from, kv_to)))
    inside = mask.keep(
        torch.arange(q_from, max(q_to, q_from))[:, None], torch.arange(kv_from, max(kv_to, kv_from))[None]
    )
    assert torch.equal(mask.some(area), inside.flatten(-2).any(-1)[..., None])
    assert torch.equal(mask.every(area), inside.flatten(-2).all(-1)[..., None])


def test_a_table_answers_for_areas_that_differ_from_sample_to_sample():
    mask = converters.Table(torch.tensor([[[True, False]], [[True, True]]]).expand(2, 2, 2))
    zero = torch.zeros(2, 1, dtype=torch.int64)
    area = Area(zero, zero + 2, zero, torch.tensor([[1], [2]]))
    assert mask.every(area).tolist() == [[True], [True]]
