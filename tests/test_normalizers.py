import math

import torch

from attnkit.normalizers import Softmax

SCORES = torch.tensor([[0.0, math.log(3.0), 9.0]], dtype=torch.float64)


def test_softmax_by_hand():
    # exp gives 1 and 3, and the hidden third key nothing: 1/4 and 3/4
    keep = torch.tensor([[True, True, False]])
    torch.testing.assert_close(
        Softmax()(SCORES, keep), torch.tensor([[0.25, 0.75, 0.0]], dtype=torch.float64)
    )


def test_softmax_without_a_mask_is_torch_softmax():
    assert torch.equal(Softmax()(SCORES, None), SCORES.softmax(-1))


def test_a_row_with_nothing_to_read_is_zero_and_passes_no_gradient():
    scores = SCORES.clone().requires_grad_()
    weights = Softmax()(scores, torch.zeros(1, 3, dtype=torch.bool))
    weights.sum().backward()
    assert torch.equal(weights, torch.zeros(1, 3, dtype=torch.float64))
    assert torch.equal(scores.grad, torch.zeros(1, 3, dtype=torch.float64))


def test_a_hidden_key_weighs_nothing_however_low_the_others_score():
    # a fill of -1e4 in place of -inf would win here
    weights = Softmax()(torch.tensor([[-2e4, 0.0]]), torch.tensor([[True, False]]))
    assert weights.tolist() == [[1.0, 0.0]]


def test_large_scores_do_not_overflow():
    weights = Softmax()(torch.tensor([[1e4, 1e4 - 1]]), None)
    torch.testing.assert_close(weights, torch.tensor([[1 / (1 + math.exp(-1)), 1 / (1 + math.e)]]))
