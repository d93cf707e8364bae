"""Mechanisms that normalise otherwise, against rows of plain Python numbers; then by hand."""

import math

import pytest
import torch

from attnkit import masks, normalizers
from attnkit.errors import OptionError
from attnkit.mechanisms import (
    causal,
    entmax15,
    off_by_one,
    sigmoid,
    sink,
    sparsemax,
    stick_breaking,
    top_k,
)
from tests.helpers import inputs
from tests.oracles import heads_loops as loops

SINK = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, -3.0], dtype=torch.float64)
CASES = {
    "sigmoid": (sigmoid, {}, loops.sigmoid),
    "sigmoid with a shift": (
        sigmoid,
        {"shift": -1.5},
        lambda scores, _: loops.sigmoid([score - 1.5 for score in scores]),
    ),
    "sparsemax": (sparsemax, {}, loops.entmax(2)),
    "entmax15": (entmax15, {}, loops.entmax(1.5)),
    "top 1": (top_k, {"k": 1}, loops.top(1)),
    "top 3": (top_k, {"k": 3}, loops.top(3)),
    "off by one": (off_by_one, {}, lambda scores, _: loops.softmax(scores, beside=(0.0,))),
    "sink": (sink, {}, lambda scores, head: loops.softmax(scores, beside=(SINK[head].item(),))),
}


def rule_of(mechanism, **options):
    """The rule of a mechanism's options and parts."""
    return mechanism.MECHANISM.rule(**options)


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_rows_of_plain_numbers_give(name):
    module, options, weigh = CASES[name]
    query, key, value = inputs(heads=6, kv_heads=3, dtype=torch.float64)
    parts = {part.name: SINK for part in module.MECHANISM.parts}
    context = module.MECHANISM(query, key, value, parts=parts, **options)
    torch.testing.assert_close(context, loops.attended(query, key, value, weigh), rtol=0, atol=1e-12)


def rows(scores, **options):
    """A query of 1 and keys that are the scores, so that the value of key k is read with its weight."""
    key = torch.tensor(scores, dtype=torch.float64)[None, :, None]
    return torch.ones(1, 1, 1, dtype=torch.float64), key, torch.eye(len(scores), dtype=torch.float64)[None]


def test_sigmoid_by_hand():
    # exp(-ln 3) = 1/3 and exp(ln 3) = 3: 1 / (1 + 1/3) and 1 / (1 + 3); together they weigh one, and so do two more
    context = sigmoid.MECHANISM(*rows([math.log(3.0), -math.log(3.0)]))
    torch.testing.assert_close(context, torch.tensor([[[0.75, 0.25]]], dtype=torch.float64))


def test_a_shift_of_minus_log_n_makes_rows_of_zero_scores_sum_to_nearly_one():
    # n / (1 + n) with n keys that score 0
    context = sigmoid.MECHANISM(*rows([0.0] * 9), shift=-math.log(9.0))
    torch.testing.assert_close(context.sum(), torch.tensor(0.9, dtype=torch.float64))


def test_sparsemax_by_hand():
    # the threshold of those above it, 1 and 0.6, is (1.6 - 1) / 2 = 0.3; -0.2 lies below
    context = sparsemax.MECHANISM(*rows([1.0, -0.2, 0.6]))
    torch.testing.assert_close(context, torch.tensor([[[0.7, 0.0, 0.3]]], dtype=torch.float64))


def test_entmax_by_hand():
    # half the scores are 0.6, 0.8 and -0.05; with the threshold 0 the squares of those above sum to 0.36 + 0.64 = 1
    context = entmax15.MECHANISM(*rows([1.2, 1.6, -0.1]))
    torch.testing.assert_close(context, torch.tensor([[[0.36, 0.64, 0.0]]], dtype=torch.float64))


def test_top_k_by_hand():
    # ln 4 and ln 12 are the two largest: 4 / 16 and 12 / 16
    context = top_k.MECHANISM(*rows([math.log(4.0), 1.0, math.log(12.0), -5.0]), k=2)
    torch.testing.assert_close(context, torch.tensor([[[0.25, 0.0, 0.75, 0.0]]], dtype=torch.float64))


def test_off_by_one_by_hand():
    # exp gives 3 and 4: of 1 + 3 + 4
    context = off_by_one.MECHANISM(*rows([math.log(3.0), math.log(4.0)]))
    torch.testing.assert_close(context, torch.tensor([[[3 / 8, 4 / 8]]], dtype=torch.float64))


def test_a_sink_by_hand():
    # exp gives 3 and 4, and 5 for the sink: of 12
    parts = {"sink": torch.tensor([math.log(5.0)], dtype=torch.float64)}
    context = sink.MECHANISM(*rows([math.log(3.0), math.log(4.0)]), parts=parts)
    torch.testing.assert_close(context, torch.tensor([[[3 / 12, 4 / 12]]], dtype=torch.float64))


def test_low_scores_read_almost_nothing_with_one_more_in_the_denominator_and_all_without():
    query, key, value = rows([-20.0, -20.0])
    assert off_by_one.MECHANISM(query, key, value).sum() < 1e-8
    torch.testing.assert_close(causal.MECHANISM(query, key, value).sum().item(), 1.0)


@pytest.mark.parametrize("name", CASES)
def test_a_mask_of_ones_own_is_read_instead_of_causal(name):
    module, options, weigh = CASES[name]
    query, key, value = inputs(heads=6, dtype=torch.float64)
    parts = {part.name: SINK for part in module.MECHANISM.parts}
    context = rule_of(module, **options, **parts, mask=masks.full)(query, key, value)
    expected = loops.attended(query, key, value, weigh, keep=lambda q, k: True)
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("module", [sparsemax, entmax15, top_k, stick_breaking], ids=lambda m: m.__name__)
def test_their_normalizer_is_the_one_that_rules_are_made_of(module):
    kinds = {
        sparsemax: normalizers.Sparsemax,
        entmax15: normalizers.Entmax15,
        top_k: normalizers.TopK,
        stick_breaking: normalizers.StickBreaking,
    }
    assert type(rule_of(module, **module.MECHANISM.examples[0]).normalizer) is kinds[module]


@pytest.mark.messages
def test_a_shift_that_is_no_number_is_refused():
    with pytest.raises(
        OptionError, match=r"bias is one finite number(?s:.*)Sigmoid\(bias=-math.log\(kv_len\)\)"
    ):
        sigmoid.MECHANISM(*inputs(), shift=torch.zeros(3))


@pytest.mark.messages
def test_a_top_0_is_refused():
    with pytest.raises(OptionError, match=r"k is how many keys a query reads(?s:.*)got 0(?s:.*)TopK\(1\)"):
        top_k.MECHANISM(*inputs(), k=0)


@pytest.mark.messages
def test_top_k_without_k_says_what_it_is():
    with pytest.raises(
        OptionError, match=r"k is missing, how many keys a query reads(?s:.*)for instance k=2"
    ):
        top_k.MECHANISM(*inputs())
