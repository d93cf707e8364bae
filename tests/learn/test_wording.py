"""Numbers and shapes as they stand in a sentence."""

import pytest
import torch

from attnkit.learn.answers import kind_of
from attnkit.learn.wording import count, extent, given, number


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (12345.0, "12345"),
        (123456789.0, "1.23e+08"),
        (0.123456, "0.123"),
        (torch.tensor(True), "True"),
        (torch.tensor(2.0), "2"),
        (float("nan"), "nan"),
    ],
)
def test_a_number_has_three_digits_unless_it_is_whole(value, words):
    assert number(value) == words


@pytest.mark.parametrize(("values", "words"), [([0.5, 0.5], "0.5"), ([1.5, -2.0, 0.0], "-2 to 1.5")])
def test_an_extent_runs_from_the_smallest_to_the_largest(values, words):
    assert extent(torch.tensor(values)) == words


def test_inputs_are_listed_with_shapes_or_values():
    assert given(["scores", "p", "model"], [torch.zeros(4, 6), 0.3, "left out"]) == "scores (4, 6), p 0.3"


@pytest.mark.parametrize(("amount", "words"), [(1, "1 input"), (3, "3 inputs")])
def test_an_amount_has_its_noun(amount, words):
    assert count(amount, "input") == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        (3, "an int"),
        ("x", "a str"),
        ([1, 2], "a list of 2"),
        (print, "a function"),
        (int, "the class int"),
    ],
)
def test_a_value_is_named_with_its_article(value, words):
    assert kind_of(value) == words
