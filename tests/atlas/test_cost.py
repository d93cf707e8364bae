"""What a mechanism costs: numbers by hand, pairs against dense masks, and how they grow."""

import pytest
import torch
from hypothesis import given, settings

from attnkit import all_mechanisms, find, masks
from attnkit.atlas import Draw, costs, kept_pairs, layer_of, why_undecodable
from attnkit.atlas.counter import _run, counted
from attnkit.errors import OptionError
from attnkit.mechanism import Sizes
from tests.masks.compositions import compositions


def bound(name, **options):
    mechanism = find(name)
    return mechanism.bind(dict(mechanism.examples[0]) | options)


def test_causal_attention_costs_two_products_a_pair():
    # by hand: 512 * 513 / 2 pairs, 8 heads, 64 products and 64 sums for the score, as many for the mixture
    (row,) = costs(bound("causal"), [512]).rows
    assert row.pairs == 512 * 513 / 2
    assert row.operations == 512 * 513 / 2 * 8 * 256


def test_a_delta_rule_costs_its_state_for_each_token():
    # by hand: 8 heads of 64 x 64 numbers, written and read, a product and a sum each
    (row,) = costs(bound("delta"), [100]).rows
    assert row.operations == 100 * 4 * 8 * 64 * 64
    assert row.cache_bytes == 4 * 8 * 64 * 64


def test_a_function_costs_the_products_that_it_runs():
    # by hand: all 32 x 32 pairs of 8 heads are scored and mixed, and heads are mixed twice, 8 by 8, for each pair
    (row,) = costs(bound("talking_heads"), [32]).rows
    assert row.operations == 32 * 32 * (8 * 256 + 2 * 2 * 8 * 8)


def test_a_cache_of_keys_and_values_holds_their_bytes():
    # by hand: key and value, 8 heads of 64 numbers of 4 bytes each, so 4,096 a token
    for row in costs(bound("causal"), [1, 100]).rows:
        assert row.cache_bytes == 4096 * row.length
    (row,) = costs(bound("multi_query"), [100]).rows
    assert row.cache_bytes == 4096 / 8 * 100


def test_parameters_are_those_of_a_layer():
    # by hand: four projections of 512 x 512, and one sink a head
    assert costs(bound("causal"), [8]).parameters == 4 * 512 * 512
    assert costs(bound("sink"), [8]).parameters == 4 * 512 * 512 + 8


@pytest.mark.parametrize(("name", "power"), [("causal", 2), ("talking_heads", 2), ("delta", 1)])
def test_the_power_is_that_of_the_length(name, power):
    assert costs(bound(name)).power == pytest.approx(power, abs=0.01)


@pytest.mark.parametrize("window", [3, 400])
def test_a_window_is_linear_though_its_first_rows_are_shorter(window):
    assert costs(bound("sliding_window", window=window)).is_linear


def test_what_is_quadratic_is_not_called_linear_because_it_starts_small():
    # by hand: a window of 64 and every 256th key: at 512 tokens nearly all pairs are the window's
    small = bound("alibi", mask=masks.causal & (masks.window(64) | masks.strided(256)))
    assert not costs(small).is_linear


def test_a_mask_that_knows_few_positions_tells_no_growth():
    found = costs(bound("documents", ids=[0, 0, 1, 1, 1]))
    assert found.power is None
    assert not found.is_linear
    assert [(row.length, row.pairs) for row in found.rows] == [(5, 3 + 6)]  # by hand: 1 + 2, and 1 + 2 + 3


@pytest.mark.messages
def test_a_length_that_a_mask_does_not_know_is_refused():
    with pytest.raises(OptionError, match=r"knows 5 positions; got a length of 6\n  fix: lengths up to 5"):
        costs(bound("documents", ids=[0, 0, 1, 1, 1]), [6])


def test_what_reads_the_future_is_said_not_to_decode():
    found = costs(bound("full"), [8])
    assert "reads the future" in found.undecodable
    assert found.rows[0].cache_bytes is None


# under the type-checking hook, beartype draws which entry of a list it looks at
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@settings(deadline=None, derandomize=True, max_examples=60)
@given(compositions)
def test_pairs_are_those_of_the_dense_mask(mask):
    length = min(200, mask.known_positions or 200)
    dense = mask.dense(length, length)
    assert kept_pairs(mask, length) == dense.sum() / dense[..., 0, 0].numel()


@pytest.mark.parametrize(
    "mask",
    [
        masks.causal & masks.window(150),
        masks.causal & (masks.window(3) | masks.strided(7)),
        ~masks.blocks(100),
    ],
)
def test_pairs_are_counted_across_tiles(mask):
    assert kept_pairs(mask, 300) == mask.dense(300, 300).sum()


def test_pairs_of_samples_are_their_mean():
    assert kept_pairs(masks.lengths([3, 5]), 5) == (15 + 25) / 2


@pytest.mark.parametrize("name", ["talking_heads", "additive", "shaw_relative", "differential"])
def test_what_is_counted_without_computing_is_what_runs(name):
    drawn = Draw.of(bound(name), Sizes(8, 8, 16, 128), length=40).to(torch.float32)
    assert counted(drawn) == _run(drawn) > 0


def test_fused_attention_inside_of_a_function_is_counted():
    # by hand: 40 x 40 pairs of 8 heads of 16; the fused code counts what it computes, hidden pairs included
    drawn = Draw.of(bound("gated"), Sizes(8, 8, 16, 128), length=40).to(torch.float32)
    assert counted(drawn) == 40 * 40 * 8 * 4 * 16


@pytest.mark.parametrize("name", sorted(all_mechanisms()))
def test_every_mechanism_has_a_cost(name):
    found = costs(find(name).bind(find(name).examples[0]), [7])
    assert found.rows[0].operations > 0
    assert (found.undecodable is None) == (found.rows[0].cache_bytes is not None)


def test_what_decodes_says_no_reason():
    assert why_undecodable(layer_of(bound("causal"))) is None
