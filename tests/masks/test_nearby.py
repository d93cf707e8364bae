"""Segments, bands and the first queries: what they keep, and what they know of tiles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnkit import masks
from attnkit.errors import OptionError
from tests.masks.compositions import combined, compositions, small
from tests.masks.test_tile_answers import PARTIAL, areas, kept, pairs_in, shapes, truth

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
few = settings(deadline=None, derandomize=True, max_examples=60)

NEW = (
    st.builds(masks.segments, small(1, 5), before=small(0, 6), after=small(0, 6)),
    small(1, 6).map(masks.band),
    small(1, 9).map(masks.first_queries),
)
new = st.one_of(*NEW)


@st.composite
def beside(draw):
    """One of them, or its opposite, next to any other mask."""
    mask, other = draw(new), draw(compositions)
    mask = ~mask if draw(st.booleans()) else mask
    return mask & other if draw(st.booleans()) else mask | other


def rows(mask, *sizes, **options):
    return mask.dense(*sizes, **options).int().tolist()


def test_a_segment_reads_the_positions_before_it_and_after_it():
    # segments are 0-2, 3-5 and 6-8; the second reads from 3 - 2 up to 5 + 1
    expected = [[1, 1, 1, 1, 0, 0, 0]] * 3 + [[0, 1, 1, 1, 1, 1, 1]] * 3 + [[0, 0, 0, 0, 1, 1, 1]]
    assert rows(masks.segments(3, before=2, after=1), 7, 7) == expected


def test_a_query_before_the_first_key_stands_in_a_segment_too():
    # position -1 is in the segment -2 to -1, which reads until 1
    assert rows(masks.segments(2, after=2), 2, 3, q_start=-1) == [[1, 1, 0], [1, 1, 1]]


def test_a_band_reads_as_far_before_as_after():
    assert rows(masks.band(2), 4, 4) == [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_the_first_queries_are_counted_by_position():
    # 2 queries at positions 1 and 2 of 3 keys: one of them is among the first 2
    assert rows(masks.first_queries(2), 2, 3) == [[1, 1, 1], [0, 0, 0]]


@few
@given(small(1, 5), small(1, 12), st.integers(-6, 9), small(1, 12))
def test_what_they_are_in_words_of_others(size, q_len, q_start, kv_len):
    shape = {"q_len": q_len, "kv_len": kv_len, "q_start": q_start}
    twins = {
        "a segment is a block": (masks.segments(size), masks.blocks(size)),
        "a causal band is a window": (masks.causal & masks.band(size), masks.causal & masks.window(size)),
        "a band is segments of one": (masks.band(size), masks.segments(1, before=size - 1, after=size - 1)),
        "a band is a window both ways": (
            masks.band(size),
            masks.window(size) & masks.where(lambda q, k: k - q < size),
        ),
        "first queries are first keys": (
            masks.first_queries(size),
            masks.where(lambda q, k: masks.first(size).keep(k, q)),
        ),
    }
    for name, (one, other) in twins.items():
        assert torch.equal(one.dense(**shape), other.dense(**shape)), name


@few
@given(new, shapes())
def test_partial_is_never_said_in_vain_of_one_alone(mask, shape):
    assert torch.equal(mask.tiles(**shape).table(), truth(mask, **shape))
    assert torch.equal((~mask).tiles(**shape).table(), truth(~mask, **shape))


@few
@given(new, combined("half-planes", 2, "&"), shapes())
def test_full_is_never_missed_next_to_half_planes(mask, other, shape):
    both = mask & other
    told, true = both.tiles(**shape).table(), truth(both, **shape)
    assert torch.equal(told == 2, true == 2)


@few
@given(new, shapes())
def test_partial_is_never_said_in_vain_of_one_that_is_causal(mask, shape):
    both = masks.causal & mask
    assert torch.equal(both.tiles(**shape).table(), truth(both, **shape))


@few
@given(beside(), shapes())
def test_empty_and_full_are_never_wrong(mask, shape):
    told, true = mask.tiles(**shape).table(), truth(mask, **shape)
    assert ((told == true) | (told == PARTIAL)).all()


@few
@given(beside(), areas())
def test_answers_for_any_area_are_never_wrong(mask, area):
    inside, keep, (some, every) = pairs_in(area), kept(mask), mask.over(area)
    assert not ((inside & keep).any((-2, -1)) & ~some).any()
    assert not ((inside & ~keep).any((-2, -1)) & every).any()
    assert not (inside & keep & ~pairs_in(mask.narrow(area))).any()
    assert not (inside & ~keep & ~pairs_in(mask.narrow_hidden(area))).any()


@few
@given(new, st.integers(-9, 9))
def test_one_that_says_it_is_relative_is(mask, shift):
    here = mask.dense(9, 9, q_start=0)
    moved = mask.keep(torch.arange(9)[:, None] + shift, torch.arange(9) + shift).expand(9, 9)
    assert torch.equal(here, moved) or not mask.relative
    assert mask.relative == (isinstance(mask, masks.Segments) and mask.size == 1)


def test_a_segment_is_where_tiles_had_better_start_anew():
    assert masks.segments(3, before=5).cuts(9).tolist() == [3, 6]
    assert masks.band(3).cuts(9).tolist() == []


def test_a_million_tokens_of_segments_with_a_memory_keep_what_can_be_counted_by_hand():
    # 1,000 segments of 1,000, a tile each: the segment itself is partial, the one before it full, but for the first
    mask = masks.causal & masks.segments(1000, before=1000)
    tiles = mask.tiles(1_000_000, 1_000_000, tile=1000)
    assert (tiles.num_partial, tiles.num_full) == (1000, 999)


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (masks.segments(4, before=2), "segments(4, before=2, after=0)"),
        (masks.band(3), "band(3)"),
        (masks.segments(1, before=2), "segments(1, before=2, after=0)"),
        (masks.first_queries(2), "first_queries(2)"),
    ],
)
def test_a_mask_reads_as_it_was_written(mask, text):
    assert repr(mask) == text
    again = eval(text, {name: getattr(masks, name) for name in ("segments", "band", "first_queries")})
    assert again == mask


@pytest.mark.messages
@pytest.mark.parametrize("reach", ["before", "after"])
@pytest.mark.parametrize("number", [-1, 2.0, True, "3"])
def test_a_reach_that_is_no_count_is_refused(reach, number):
    with pytest.raises(
        OptionError, match=rf"{reach} is a whole number of positions from 0 (?s:.*){reach}=0 st"
    ):
        masks.segments(4, **{reach: number})


@pytest.mark.messages
@pytest.mark.parametrize("make", [masks.segments, masks.band, masks.first_queries])
@pytest.mark.parametrize("number", [0, -1, 2.0, True])
def test_a_size_that_is_no_count_is_refused(make, number):
    with pytest.raises(
        OptionError, match=rf"masks\.{make.__name__}: size is a whole number from 1 upwards; got"
    ):
        make(number)
