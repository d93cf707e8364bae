"""When two answers count as the same numbers."""

import math

import pytest
import torch

from attnkit.learn.agreement import close


@pytest.mark.parametrize(
    ("other", "same"),
    [(10_000.5, True), (10_002.0, False), (math.nan, False), (math.inf, False)],
)
def test_numbers_agree_to_one_part_in_ten_thousand(other, same):
    assert close(torch.tensor(10_000.0), torch.tensor(other)) is same


def test_nan_agrees_with_nan():
    assert close(torch.tensor([math.nan, 1.0]), torch.tensor([math.nan, 1.0]))


def test_one_number_does_not_agree_with_many():
    assert not close(torch.tensor([1.0]), torch.tensor([1.0, 1.0]))


def test_true_agrees_with_one():
    assert close(torch.tensor([True, False]), torch.tensor([1.0, 0.0]))
