"""What masks say of tiles, against the mask written out: never wrong, and where it is promised, exact."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnkit import masks
from attnkit.masks.area import Area
from tests.masks.compositions import BATCH, combined, compositions, pairs, small

# under the type-checking hook, beartype draws which entry of a list it looks at
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

EMPTY, PARTIAL, FULL = 0, 1, 2
few = settings(deadline=None, derandomize=True, max_examples=60)
fewer = settings(few, max_examples=25)


@st.composite
def shapes(draw):
    """q_len, kv_len, q_start (before the first key, among them, beyond the last) and the tile."""
    return {
        "q_len": draw(small(1, 17)),
        "kv_len": draw(small(1, 17)),
        "q_start": draw(st.none() | st.integers(-12, 24)),
        "tile": draw(st.tuples(small(1, 6), small(1, 6))),
    }


def truth(mask, q_len, kv_len, q_start, tile):
    """The state of each tile, from the mask written out."""
    dense = mask.dense(q_len, kv_len, q_start=q_start)
    tiles = [row.split(tile[1], -1) for row in dense.split(tile[0], -2)]
    states = [[part.any((-2, -1)).int() + part.all(-1).all(-1).int() for part in row] for row in tiles]
    return torch.stack([torch.stack(row, -1) for row in states], -2)


@few
@given(compositions, shapes())
def test_empty_and_full_are_never_wrong(mask, shape):
    told, true = mask.tiles(**shape).table(), truth(mask, **shape)
    assert told.shape == (*mask.batch, *true.shape[-2:])
    assert ((told == true) | (told == PARTIAL)).all()


@few
@given(combined("exact", 3, "&"), shapes())
def test_partial_is_never_said_in_vain_of_what_is_combined_by_and(mask, shape):
    assert torch.equal(
        mask.tiles(**shape).table(), truth(mask, **shape).expand_as(mask.tiles(**shape).table())
    )


@few
@given(pairs(), shapes())
def test_partial_is_never_said_in_vain_of_two_half_planes(mask, shape):
    assert torch.equal(mask.tiles(**shape).table(), truth(mask, **shape))


@few
@given(combined("half-planes", 2, "&"), st.builds(masks.dilated, small(1, 4), small(1, 4)), shapes())
def test_partial_is_never_said_in_vain_of_half_planes_and_one_dilated_window(mask, dilated, shape):
    assert torch.equal((mask & dilated).tiles(**shape).table(), truth(mask & dilated, **shape))


@few
@given(combined("blocks", 0, ""), shapes())
def test_partial_is_never_said_in_vain_of_blocks(mask, shape):
    assert torch.equal(mask.tiles(**shape).table(), truth(mask, **shape))


@st.composite
def areas(draw):
    """Five areas, with a band or without; each sample has its own, or all share them."""
    shape = draw(st.sampled_from([(), BATCH]))

    def numbers(lowest, highest):
        size = torch.Size((*shape, 5)).numel()
        drawn = draw(st.lists(st.integers(lowest, highest), min_size=size, max_size=size))
        return torch.tensor(drawn).reshape(*shape, 5)

    q_from, kv_from, near = numbers(-4, 15), numbers(0, 15), numbers(-9, 9)
    box = (q_from, q_from + numbers(-1, 7), kv_from, kv_from + numbers(-1, 7))
    return Area(*box, near, near + numbers(-1, 9)) if draw(st.booleans()) else Area(*box)


def pairs_in(area):
    """Which of the queries from -8 and keys from 0 each area holds, and their positions."""
    q_pos, kv_pos = torch.arange(-8, 24)[:, None], torch.arange(24)[None, :]
    q_from, q_to, kv_from, kv_to, near, far = (torch.as_tensor(b)[..., None, None] for b in area)
    inside = (q_from <= q_pos) & (q_pos < q_to) & (kv_from <= kv_pos) & (kv_pos < kv_to)
    return inside & (near <= q_pos - kv_pos) & (q_pos - kv_pos <= far)


def kept(mask):
    """The mask written out for those pairs, with an axis for the areas."""
    return mask.dense(32, 24, q_start=-8).unsqueeze(-3)


@few
@given(compositions, areas())
def test_answers_for_any_area_are_never_wrong(mask, area):
    inside = pairs_in(area)
    some, every = mask.over(area)
    true_some = (inside & kept(mask)).any((-2, -1))
    assert not (true_some & ~some).any()
    assert not ((inside & ~kept(mask)).any((-2, -1)) & every).any()


@few
@given(compositions, areas())
def test_narrow_holds_every_kept_pair_and_narrow_hidden_every_hidden_one(mask, area):
    inside, keep = pairs_in(area), kept(mask)
    assert not (inside & keep & ~pairs_in(mask.narrow(area))).any()
    assert not (inside & ~keep & ~pairs_in(mask.narrow_hidden(area))).any()


@few
@given(areas())
def test_a_tight_area_holds_the_same_pairs_and_each_bound_is_reached(area):
    inside, tight = pairs_in(area), area.tight()
    assert torch.equal(pairs_in(tight), inside)
    assert torch.equal(area.alive, inside.any((-2, -1)))
    q_pos, kv_pos = torch.arange(-8, 24)[:, None], torch.arange(24)[None, :]
    for bound, pos, lowest in zip(
        tight,
        (q_pos, q_pos + 1, kv_pos, kv_pos + 1, q_pos - kv_pos, q_pos - kv_pos),
        (True, False) * 3,
        strict=True,
    ):
        own = torch.where(inside, pos, 99 if lowest else -99)
        reached = own.amin((-2, -1)) if lowest else own.amax((-2, -1))
        assert torch.equal(bound[area.alive], reached[area.alive])


@fewer
@given(areas(), areas())
def test_a_hull_holds_both_areas(one, two):
    assert not ((pairs_in(one) | pairs_in(two)) & ~pairs_in(one.hull(two))).any()


@fewer
@given(compositions, shapes())
def test_a_sample_of_a_mask_is_a_slice_of_its_answers(mask, shape):
    sizes = {name: shape[name] for name in ("q_len", "kv_len", "q_start")}
    dense = mask.dense(**sizes)
    assert tuple(dense.shape[:-2]) == mask.batch
    for index in itertools.product(*map(range, mask.batch)):
        one = mask.sample(index)
        assert one.batch == ()
        assert torch.equal(one.dense(**sizes), dense[index])
        assert torch.equal(mask.tiles(**shape).of(index).table(), one.tiles(**shape).table())


@fewer
@given(compositions, shapes())
def test_tiles_for_all_samples_at_once_are_those_that_any_keeps(mask, shape):
    own = mask.tiles(**shape)
    told, true = masks.refine(mask, own.q_edges, own.kv_edges).table(), truth(mask, **shape)
    samples = true.reshape(-1, *true.shape[-2:])
    merged = (samples > EMPTY).any(0).int() + (samples == FULL).all(0).int()
    assert ((told == merged) | (told == PARTIAL)).all()


@few
@given(combined("relative", 3, "&|~"), small(1, 9), st.integers(-9, 9), small(0, 7))
def test_a_relative_mask_knows_the_distance_alone(mask, q_len, q_start, shift):
    assert mask.relative
    moved = mask.keep(torch.arange(q_start, q_start + q_len)[:, None] + shift, torch.arange(9) + shift)
    assert torch.equal(moved.expand(q_len, 9), mask.dense(q_len, 9, q_start=q_start))


@few
@given(compositions)
def test_a_mask_that_is_not_the_same_along_diagonals_does_not_say_that_it_is_relative(mask):
    dense = mask.dense(9, 9)
    if not torch.equal(dense[..., 1:, 1:], dense[..., :-1, :-1]):
        assert not mask.relative


@fewer
@given(compositions, small(0, 17))
def test_cuts_are_rising_positions_inside(mask, length):
    cuts = mask.cuts(length)
    assert torch.equal(cuts, cuts.unique())
    assert ((cuts > 0) & (cuts < length)).all()


@pytest.mark.parametrize(
    ("mask", "length", "expected"),
    [
        (masks.documents([0, 0, 4, 4, 4, 0]), 6, [2, 5]),
        (masks.documents([0, 0, 4]), 6, [2, 3]),
        (masks.documents([[0, 0, 4], [1, 2, 2]]), 2, [1]),
        (masks.blocks(3), 9, [3, 6]),
        (masks.causal & masks.blocks(3) | ~masks.documents([1, 1]), 7, [2, 3, 6]),
        (masks.causal & masks.window(3), 9, []),
    ],
)
def test_cuts_are_where_a_pattern_starts_anew(mask, length, expected):
    assert mask.cuts(length).tolist() == expected
