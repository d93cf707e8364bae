"""The sketch of weights: what its marks mean, which heads it shows, and what it refuses."""

import re

import pytest
import torch

from attnkit import all_mechanisms, find, masks
from attnkit.atlas import Draw, Sketch, sketched
from attnkit.atlas.sketch import LONGEST, SIZES
from attnkit.errors import OptionError
from attnkit.laws import no_future_leak


def bound(name, **options):
    mechanism = find(name)
    return mechanism.bind(dict(mechanism.examples[0]) | options)


def rows(sketch):
    """The cells of each row of one head, two letters each."""
    lines, wide = str(sketch).splitlines()[1:], 2 * sketch.weights.shape[-1]
    return [[line[at : at + 2] for at in range(4, 4 + wide, 2)] for line in lines[: sketch.weights.shape[-2]]]


def test_a_cell_tells_the_share_of_the_largest_weight_of_its_row():
    # by hand: 0.2 of 0.8 is a quarter, 0.1 less, 0.5 more than half, 0.61 more than three quarters
    weights = torch.tensor([[[0.8, 0.2, 0.1, 0.0], [0.5, 0.8, 0.61, 0.25]]], dtype=torch.float64)
    assert rows(Sketch(weights, (0,))) == [["██", "▒▒", "░░", " ·"], ["▓▓", "██", "██", "▒▒"]]


def test_a_weight_below_zero_has_lines():
    weights = torch.tensor([[[1.0, -0.3, -0.7, -1.0]]], dtype=torch.float64)
    sketch = Sketch(weights, (0,))
    assert rows(sketch) == [["██", "--", "==", "=="]]
    assert "below zero" in sketch.legend


def test_a_row_that_reads_nothing_is_empty():
    assert rows(Sketch(torch.zeros(1, 1, 3, dtype=torch.float64), (0,))) == [[" ·", " ·", " ·"]]


def test_rows_that_sum_to_one_have_no_sums_beside_them():
    assert "sum of the row" not in sketched(bound("causal")).legend
    assert "sum of the row" in sketched(bound("off_by_one")).legend


def test_the_sum_of_a_row_stands_beside_it():
    sketch = Sketch(torch.tensor([[[0.25, 0.5], [0.0, 0.0]]], dtype=torch.float64), (0,))
    assert [line.split()[-1] for line in str(sketch).splitlines()[1:3]] == ["0.75", "0.00"]


@pytest.mark.parametrize("window", [1, 3, 5])
def test_what_is_marked_is_what_the_mask_keeps(window):
    sketch = sketched(bound("sliding_window", window=window))
    marked = [[cell != " ·" for cell in row] for row in rows(sketch)]
    assert marked == (masks.causal & masks.window(window)).dense(24, 24).tolist()


def test_the_weights_are_those_of_the_mechanism():
    sketch, drawn = sketched(bound("causal"), length=5), Draw.of(bound("causal"), SIZES, length=5)
    query, key = (drawn.tensors[name][0, 0] for name in ("query", "key"))
    scores = (query @ key.T / 4).masked_fill(
        ~torch.ones(5, 5).tril().bool(), -torch.inf
    )  # 4 is the root of 16
    torch.testing.assert_close(sketch.weights[0], scores.softmax(-1))


def test_one_head_is_shown_where_heads_differ_by_their_numbers_alone():
    assert sketched(bound("causal")).heads == (0,)
    assert "head" not in str(sketched(bound("causal")))


@pytest.mark.parametrize("name", ["alibi", "retention"])
def test_two_heads_are_shown_where_they_differ_by_nature(name):
    sketch = sketched(bound(name))
    assert sketch.heads == (0, 7)
    assert re.search(r"head 0 +head 7", str(sketch))


def test_heads_that_do_not_fit_beside_each_other_stand_below():
    lines = str(sketched(bound("alibi"), length=30)).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.strip() for line in lines if "head" in line] == ["head 0", "head 7"]


def test_a_draw_is_the_same_each_time():
    assert str(sketched(bound("talking_heads"))) == str(sketched(bound("talking_heads")))


@pytest.mark.parametrize("name", sorted(all_mechanisms()))
def test_every_mechanism_has_a_sketch_of_at_most_80_columns(name):
    for options in find(name).examples:
        sketch = sketched(find(name).bind(options))
        assert max(map(len, str(sketch).splitlines())) <= 80
        assert (sketch.weights != 0).any()


@pytest.mark.messages
@pytest.mark.parametrize("length", [0, LONGEST + 1])
def test_a_number_of_tokens_that_does_not_fit_is_refused(length):
    wanted = rf"from 1 to {LONGEST} tokens; got {length}\n  fix: length={LONGEST}"
    with pytest.raises(OptionError, match=wanted):
        sketched(bound("causal"), length=length)


@pytest.mark.messages
def test_more_tokens_than_a_mask_knows_are_refused():
    with pytest.raises(OptionError, match=r"the mask of documents knows 4 positions; got 5\n  fix: length=4"):
        sketched(bound("documents", ids=[0, 0, 1, 1]), length=5)


@pytest.mark.parametrize("name", [n for n, m in all_mechanisms().items() if no_future_leak in m.laws])
def test_what_comes_later_is_marked_as_none_where_nothing_leaks(name):
    weights = sketched(find(name).bind(find(name).examples[0])).weights
    assert (weights.triu(1) == 0).all()
