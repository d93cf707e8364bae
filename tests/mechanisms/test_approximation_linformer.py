"""Linformer: by hand, against the equation as one product, its padding and what it refuses."""

import pytest
import torch

from attnkit import Rule, masks
from attnkit.catalog import find
from attnkit.errors import OptionError, ShapeError
from tests.helpers import inputs

LINFORMER = find("linformer")


def parts_of(rank, context_length):
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(2, rank, context_length, generator=generator, dtype=torch.float64)
    return {"key_map": drawn[0], "value_map": drawn[1]}


def test_it_is_equation_7():
    # independent: each head by itself, sums written as loops
    query, key, value = inputs(heads=4, kv_heads=2, dtype=torch.float64)
    parts = parts_of(3, 9)
    context = LINFORMER(query, key, value, parts=parts, rank=3, context_length=9)
    for b, h in torch.cartesian_prod(torch.arange(2), torch.arange(4)).tolist():
        k, v = key[b, h // 2], value[b, h // 2]
        keys = [sum(parts["key_map"][r, n] * k[n] for n in range(7)) for r in range(3)]
        values = [sum(parts["value_map"][r, n] * v[n] for n in range(7)) for r in range(3)]
        for row in range(5):
            scores = [torch.exp(query[b, h, row] @ short / 2) for short in keys]
            expected = sum(s * short for s, short in zip(scores, values, strict=True)) / sum(scores)
            torch.testing.assert_close(context[b, h, row], expected)


def test_two_tokens_are_mixed_by_hand():
    # E = (1, 1): one key is left, so its weight is 1; F = (2, -1): the context is 2 * 5 - 3 = 7
    query, value = torch.ones(1, 1, 1, 1), torch.tensor([5.0, 3.0]).reshape(1, 1, 2, 1)
    parts = {"key_map": torch.ones(1, 2), "value_map": torch.tensor([[2.0, -1.0]])}
    assert LINFORMER(query, value, value, parts=parts, rank=1, context_length=2).item() == 7.0
    weights = LINFORMER.weights(query, value, value=value, parts=parts, rank=1, context_length=2)
    assert weights.flatten().tolist() == [2.0, -1.0]


def test_padding_is_as_if_it_were_cut_off():
    query, key, value = inputs(dtype=torch.float64)
    parts = parts_of(3, 7)
    padded = LINFORMER(query, key, value, parts=parts, mask=masks.lengths([7, 4]), rank=3, context_length=7)
    cut = LINFORMER(query, key[:, :, :4], value[:, :, :4], parts=parts, q_start=0, rank=3, context_length=7)
    torch.testing.assert_close(padded[1], cut[1])


def test_an_identity_under_padding_is_attention_under_padding():
    query, key, value = inputs(dtype=torch.float64)
    eye = {"key_map": torch.eye(7).double(), "value_map": torch.eye(7).double()}
    mask = masks.lengths([7, 4])
    context = LINFORMER(query, key, value, parts=eye, mask=mask, rank=7, context_length=7)
    torch.testing.assert_close(context, Rule(mask=mask)(query, key, value))


def test_a_sample_of_padding_alone_reads_nothing():
    query, key, value = inputs(dtype=torch.float64)
    mask = masks.lengths([7, 0])
    context = LINFORMER(query, key, value, parts=parts_of(3, 7), mask=mask, rank=3, context_length=7)
    assert context[0].any()
    assert not context[1].any()


@pytest.mark.messages
@pytest.mark.parametrize("mask", [masks.causal, masks.causal & masks.lengths([7, 4]), masks.window(3)])
def test_a_causal_mask_is_refused_in_words(mask):
    query, key, value = inputs()
    with pytest.raises(OptionError, match=r"linformer: .*hides keys from some queries alone(?s:.*)performer"):
        LINFORMER(query, key, value, parts=parts_of(3, 7), mask=mask, rank=3, context_length=7)


def test_a_function_that_hides_the_same_keys_from_all_is_padding():
    query, key, value = inputs(dtype=torch.float64)
    options = {"parts": parts_of(3, 7), "rank": 3, "context_length": 7}
    by_function = LINFORMER(query, key, value, mask=masks.where(lambda q, k: (k < 4) & (q > -1)), **options)
    by_length = LINFORMER(query, key, value, mask=masks.lengths([4, 4]), **options)
    torch.testing.assert_close(by_function, by_length)


@pytest.mark.messages
def test_a_text_that_is_too_long_says_what_to_write():
    query, key, value = inputs()
    with pytest.raises(ShapeError, match=r"has 7 tokens, more than context_length=6(?s:.*)context_length=7"):
        LINFORMER(query, key, value, parts=parts_of(3, 6), rank=3, context_length=6)
