"""Labels pushed apart: on a line exactly, in the plane by trying."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as some

from attnkit.viewer.spread import apart, beside, overlap


def test_labels_that_do_not_touch_stay_where_they_are():
    assert apart([1.0, 5.0, 3.0], gap=1.0, low=0.0, high=9.0) == [1.0, 5.0, 3.0]


def test_two_labels_in_one_place_part_evenly():
    assert apart([2.0, 2.0], gap=1.0, low=0.0, high=9.0) == pytest.approx([1.5, 2.5])


def test_labels_too_many_for_the_room_share_it_evenly():
    assert apart([4.0, 4.0, 4.0], gap=100.0, low=0.0, high=8.0) == pytest.approx([0.0, 4.0, 8.0])


@given(some.lists(some.floats(0, 10), min_size=1, max_size=12))
def test_labels_keep_their_gap_their_order_and_their_room(wanted):
    placed = apart(wanted, gap=0.5, low=0.0, high=10.0)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    heights = [placed[i] for i in order]
    assert all(b - a >= 0.5 - 1e-9 for a, b in pairwise(heights))
    assert heights[0] >= -1e-9
    assert heights[-1] <= 10 + 1e-9


def test_a_free_label_lies_straight_away_from_its_point():
    x, y = beside((2.0, 2.0), (1.0, 0.0), (0.4, 0.2), taken=[], within=((0, 0), (4, 4)))
    assert (x, y) == pytest.approx((2.0 + 0.2 + 0.07, 2.0))


def test_a_label_gives_way_to_one_that_was_there_before():
    size = (0.4, 0.2)
    first = beside((2.0, 2.0), (1.0, 0.0), size, taken=[], within=((0, 0), (4, 4)))
    second = beside((2.0, 2.0), (1.0, 0.0), size, taken=[(first, size)], within=((0, 0), (4, 4)))
    assert not overlap((first, size), (second, size))


def test_a_label_stays_on_the_card():
    x, _ = beside((3.95, 2.0), (1.0, 0.0), (0.4, 0.2), taken=[], within=((0, 0), (4, 4)))
    assert x + 0.2 <= 4.0
