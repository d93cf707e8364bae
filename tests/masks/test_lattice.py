"""Neighbourhoods in a grid: the published rule by loops, and what they know of tiles."""

from itertools import product
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnkit import masks
from attnkit.errors import OptionError
from tests.masks.compositions import compositions, small
from tests.masks.test_tile_answers import PARTIAL, areas, kept, pairs_in, truth

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
few = settings(deadline=None, derandomize=True, max_examples=30)


@st.composite
def neighborhoods(draw):
    """Grids of one, two or three axes."""
    grid = draw(st.lists(small(1, 5), min_size=1, max_size=3))
    return masks.neighborhood(grid, [draw(small(1, count)) for count in grid])


@st.composite
def shapes(draw):
    """q_len, kv_len, q_start and the tile, of up to 24 positions, inside of the grid or not."""
    return {
        "q_len": draw(small(1, 24)),
        "kv_len": draw(small(1, 24)),
        "q_start": draw(st.none() | st.integers(-12, 24)),
        "tile": draw(st.tuples(small(1, 6), small(1, 6))),
    }


def by_loops(grid, window):
    """The rule as it was published: a centre that is held away from the borders, and so many to its left and right."""
    table = torch.zeros(prod(grid), prod(grid), dtype=torch.bool)
    cells = list(product(*map(range, grid)))
    for q, query in enumerate(cells):
        for k, key in enumerate(cells):
            kept = True
            for count, size, at, other in zip(grid, window, query, key, strict=True):
                left, right = size // 2, (size - 1) // 2
                centre = min(max(at, left), count - 1 - right)
                kept = kept and centre - left <= other <= centre + right
            table[q, k] = kept
    return table


@pytest.mark.parametrize(
    ("grid", "window"),
    [
        ((7,), (3,)),
        ((7,), (4,)),
        ((3, 4), (3, 3)),
        ((4, 3), (2, 3)),
        ((5, 2), (4, 1)),
        ((2, 3, 4), (2, 1, 3)),
        ((3, 2, 3), (1, 2, 2)),
        ((1, 1), (1, 1)),
    ],
)
def test_the_published_rule_is_kept(grid, window):
    mask = masks.neighborhood(grid, window)
    assert torch.equal(mask.dense(prod(grid), prod(grid)), by_loops(grid, window))


def test_a_corner_reads_as_many_keys_as_the_middle():
    # 3 x 3 of a grid 3 x 4: the corner's window is shifted to rows 0-2 and columns 0-2, cells 0 1 2, 4 5 6, 8 9 10
    mask = masks.neighborhood((3, 4), (3, 3))
    assert mask.dense(12, 12)[0].nonzero().flatten().tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert mask.dense(12, 12).sum(-1).unique().tolist() == [9]


def test_an_even_window_reaches_one_more_to_the_front():
    # position 3 of 7, window 4: from 3 - 2 up to 4
    assert masks.neighborhood((7,), (4,)).dense(7, 7)[3].nonzero().flatten().tolist() == [1, 2, 3, 4]


def test_positions_outside_of_the_grid_read_nothing_and_are_not_read():
    mask = masks.neighborhood((2, 2), (2, 2))
    assert mask.dense(6, 5, q_start=-1).int().tolist() == [[0] * 5] + [[1] * 4 + [0]] * 4 + [[0] * 5]
    assert mask.known_positions == 4


@few
@given(neighborhoods(), shapes())
def test_partial_is_never_said_in_vain(mask, shape):
    assert torch.equal(mask.tiles(**shape).table(), truth(mask, **shape))
    assert torch.equal((~mask).tiles(**shape).table(), truth(~mask, **shape))


@few
@given(neighborhoods(), compositions, st.booleans(), shapes())
def test_empty_and_full_are_never_wrong_next_to_others(mask, other, both, shape):
    mask = mask & other if both else mask | other
    told, true = mask.tiles(**shape).table(), truth(mask, **shape)
    assert ((told == true) | (told == PARTIAL)).all()


@few
@given(neighborhoods(), areas())
def test_answers_for_any_area_are_never_wrong(mask, area):
    for one in (mask, ~mask):
        inside, keep, (some, every) = pairs_in(area), kept(one), one.over(area)
        assert not ((inside & keep).any((-2, -1)) & ~some).any()
        assert not ((inside & ~keep).any((-2, -1)) & every).any()
        assert not (inside & keep & ~pairs_in(one.narrow(area))).any()
        assert not (inside & ~keep & ~pairs_in(one.narrow_hidden(area))).any()


@few
@given(neighborhoods(), st.integers(0, 20), small(1, 6))
def test_the_keys_of_a_few_queries_are_bounded_sharply(mask, q_from, q_len):
    # what decoding a few tokens fetches: from the first key that is read to the last
    area = masks.Area(*(torch.tensor([bound]) for bound in (q_from, q_from + q_len, 0, 99)))
    read = mask.dense(q_len, 99, q_start=q_from).any(0).nonzero().flatten()
    narrow = mask.narrow(area)
    assert narrow.alive.item() == (read.numel() > 0)
    if read.numel():
        assert (int(narrow.kv_from), int(narrow.kv_to) - 1) == (int(read[0]), int(read[-1]))


def test_many_cells_are_judged_without_a_table():
    # 1,024 x 1,024 cells, a tile is a row of them: each row reads 7 rows, so there are 7 x 1,024 partial tiles
    tiles = masks.neighborhood((1024, 1024), (7, 7)).tiles(1 << 20, 1 << 20, tile=1024)
    assert (tiles.num_partial, tiles.num_full) == (7 * 1024, 0)
    tiles = masks.neighborhood((1024, 1024), (7, 1024)).tiles(1 << 20, 1 << 20, tile=1024)
    assert (tiles.num_partial, tiles.num_full) == (0, 7 * 1024)


@st.composite
def lines(draw):
    """A line along an axis of a grid of one, two or three."""
    grid = draw(st.lists(small(1, 4), min_size=1, max_size=3))
    return masks.along(grid, draw(st.integers(0, len(grid) - 1)))


def test_a_line_keeps_the_cells_that_differ_on_its_axis_alone():
    # cell (1, 0, 1) of a grid 2 x 3 x 2 is position 7; its lines hold 1 and 7, then 7, 9 and 11, then 6 and 7
    expected = ([1, 7], [7, 9, 11], [6, 7])
    for axis, positions in enumerate(expected):
        row = masks.along((2, 3, 2), axis).dense(1, 12, q_start=7)[0]
        assert row.nonzero().flatten().tolist() == positions


@few
@given(st.lists(small(1, 4), min_size=1, max_size=3))
def test_a_line_is_a_neighborhood_as_long_as_its_axis_and_one_cell_wide(grid):
    total = prod(grid)
    for axis, count in enumerate(grid):
        window = [count if other == axis else 1 for other in range(len(grid))]
        line = masks.along(grid, axis).dense(total, total)
        assert torch.equal(line, masks.neighborhood(grid, window).dense(total, total))


def test_a_line_goes_on_in_the_next_grid():
    # a grid of 2 x 2 and one cell more, which is the first of the next one
    assert masks.along((2, 2), 0).dense(1, 5).int().tolist() == [[0, 0, 0, 0, 1]]


@few
@given(lines(), shapes())
def test_empty_and_full_are_never_wrong_of_a_line(mask, shape):
    told, true = mask.tiles(**shape).table(), truth(mask, **shape)
    assert ((told == true) | (told == PARTIAL)).all()
    assert torch.equal(told == 2, true == 2)


def test_it_reads_as_it_was_written():
    mask = masks.neighborhood([3, 4], [3, 1])
    assert repr(mask) == "neighborhood((3, 4), (3, 1))"
    assert mask == masks.neighborhood((3, 4), (3, 1))


@pytest.mark.messages
@pytest.mark.parametrize(
    ("grid", "window", "text"),
    [
        ((3, 4), (3,), r"grid \(3, 4\) has 2 axes, window \(3,\) has 1\n  fix: grid=\(height, width\)"),
        (
            (3, 4),
            (3, 5),
            r"at most as long as its axis; got window \(3, 5\) for grid \(3, 4\)\n  fix: window=\(3, 4\)",
        ),
        (
            (3, 0),
            (1, 1),
            r"grid has one whole number from 1 upwards for each axis; got \(3, 0\)\n  fix: grid=",
        ),
        (12, (3,), r"grid has one whole number from 1 upwards for each axis; got 12"),
        ((), (), r"grid has one whole number from 1 upwards for each axis; got \(\)"),
        ((3, 4), (True, 1), r"window has one whole number from 1 upwards for each axis; got \(True, 1\)"),
        ((3, 4), "33", r"window has one whole number from 1 upwards for each axis; got '33'"),
    ],
)
def test_what_is_no_grid_is_refused(grid, window, text):
    with pytest.raises(OptionError, match=rf"masks\.neighborhood: (?s:.*){text}"):
        masks.neighborhood(grid, window)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("grid", "axis", "text"),
    [
        (
            (3, 4),
            2,
            r"one of the 2 axes of grid \(3, 4\), counted from 0; got 2\n  fix: axis=1 is along the row",
        ),
        ((3, 4), -1, r"counted from 0; got -1"),
        ((3, 4), True, r"counted from 0; got True"),
        ((3, 4), (0, 1), r"counted from 0; got \(0, 1\)"),
        ((3, -4), 0, r"grid has one whole number from 1 upwards for each axis; got \(3, -4\)"),
    ],
)
def test_a_line_along_no_axis_is_refused(grid, axis, text):
    with pytest.raises(OptionError, match=rf"masks\.along: (?s:.*){text}"):
        masks.along(grid, axis)
