"""Sparsemax, 1.5-entmax and top-k by hand, and against an oracle that searches for the threshold."""

import pytest
import torch

from attnkit.errors import OptionError
from attnkit.normalizers import Entmax15, Softmax, Sparsemax, TopK


def searched(x, power):
    """max(x - threshold, 0) ** power, with the threshold that 60 halvings find, for which the row sums to one.

    At max - 1 the largest number alone gives 1, so the sum is too high; at max it is 0.
    """
    low, high = x.amax(-1, keepdim=True) - 1, x.amax(-1, keepdim=True)
    for _ in range(60):
        middle = (low + high) / 2
        too_high = (x - middle).clamp(min=0).pow(power).sum(-1, keepdim=True) >= 1
        low, high = torch.where(too_high, middle, low), torch.where(too_high, high, middle)
    return (x - low).clamp(min=0).pow(power)


def rows(spread, count, seed=0):
    return spread * torch.randn(6, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 2, 5, 40, 700])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3, 1.0, 5.0])
def test_sparsemax_is_what_a_search_finds(spread, count):
    x = rows(spread, count)
    torch.testing.assert_close(Sparsemax()(x, None), searched(x, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 5, 40, 700])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3, 1.0, 5.0])
def test_entmax_is_what_a_search_finds(spread, count):
    x = rows(spread, count)
    torch.testing.assert_close(Entmax15()(x, None), searched(x / 2, 2), rtol=0, atol=1e-12)


def test_sparsemax_of_two_is_a_ramp():
    # both above: (1 + a - b) / 2; from a - b = 1 on, all for a
    weights = Sparsemax()(torch.tensor([[0.5, 0.0], [1.0, 0.0], [9.0, 0.0]]), None)
    assert weights.tolist() == [[0.75, 0.25], [1.0, 0.0], [1.0, 0.0]]


def test_entmax_of_two_by_hand():
    # half the scores are 0.6, 0.8 and -0.05; with the threshold 0 the squares of those above sum to 0.36 + 0.64 = 1
    weights = Entmax15()(torch.tensor([[1.2, 1.6, -0.1]], dtype=torch.float64), None)
    torch.testing.assert_close(weights, torch.tensor([[0.36, 0.64, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("normalizer", [Sparsemax(), Entmax15()], ids=repr)
def test_equal_scores_share_evenly(normalizer):
    weights = normalizer(torch.full((1, 8), 3.0), None)
    torch.testing.assert_close(weights, torch.full((1, 8), 1 / 8))


@pytest.mark.parametrize("normalizer", [Sparsemax(), Entmax15()], ids=repr)
def test_a_key_far_behind_weighs_exactly_nothing_and_gets_no_gradient(normalizer):
    scores = torch.tensor([[0.0, 0.2, -2.5]], dtype=torch.float64, requires_grad=True)
    weights = normalizer(scores, None)
    weights[0, 0].backward()
    assert weights[0, 2] == 0
    assert scores.grad[0, 2] == 0
    assert scores.grad[0, 0] > 0


@pytest.mark.parametrize("normalizer", [Sparsemax(), Entmax15()], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_long_rows_of_halves_are_reckoned_in_float32(normalizer, dtype):
    # 4,000 numbers near each other: a sum in half precision would stop growing at 256 or 2,048
    scores = rows(0.02, 4000).to(dtype)
    expected = normalizer(scores.double(), None)
    torch.testing.assert_close(normalizer(scores, None), expected.to(dtype))


def test_the_best_key_alone():
    assert TopK(1)(torch.tensor([[1.0, 3.0, 2.0]]), None).tolist() == [[0.0, 1.0, 0.0]]


def test_top_k_is_a_softmax_over_the_largest():
    scores = rows(3.0, 9)
    hidden = scores.argsort(-1).argsort(-1) < 9 - 4  # all but the four of highest rank
    torch.testing.assert_close(TopK(4)(scores, None), Softmax()(scores, ~hidden))


def test_top_k_counts_only_keys_that_may_be_read():
    # the best is hidden: the two best of the others share
    keep = torch.tensor([[True, False, True, True]])
    assert TopK(2)(torch.tensor([[2.0, 9.0, 2.0, 1.0]]), keep).tolist() == [[0.5, 0.0, 0.5, 0.0]]


def test_a_tie_at_the_last_place_keeps_all_that_tie():
    assert TopK(2)(torch.tensor([[5.0, 1.0, 1.0, 0.0]]), None).count_nonzero() == 3


@pytest.mark.parametrize("k", [9, 10, 10**9])
def test_more_than_there_are_is_a_softmax(k):
    scores = rows(3.0, 9)
    assert torch.equal(TopK(k)(scores, None), Softmax()(scores, None))


def test_keys_beyond_the_k_largest_get_no_gradient():
    scores = torch.tensor([[3.0, 2.0, 1.0]], requires_grad=True)
    TopK(2)(scores, None)[0, 0].backward()
    assert scores.grad[0, 2] == 0
    assert scores.grad[0, 0] > 0


@pytest.mark.messages
@pytest.mark.parametrize("k", [0, -1, 2.0, True, None, "3"])
def test_a_count_of_keys_that_is_none_is_refused(k):
    with pytest.raises(
        OptionError, match=r"TopK: k is how many keys(?s:.*); got (?s:.*)TopK\(1\) reads the best"
    ):
        TopK(k)
