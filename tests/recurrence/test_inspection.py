"""The weights of the parallel form, and what is said of them."""

import pytest
import torch

from attnkit import recurrence
from tests.recurrence.cases import KINDS, draw


def without_value(given):
    return {name: tensor for name, tensor in given.items() if name != "value"}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_times_value_is_the_context(kind):
    given = draw(kind)
    weights = kind().weights(**without_value(given))
    assert weights.shape == (2, 6, 13, 13)
    context = weights @ given["value"].repeat_interleave(2, dim=1)
    torch.testing.assert_close(context, kind()(**given, order="steps"), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_reads_a_later_one(kind):
    weights = kind().weights(**without_value(draw(kind)))
    assert torch.equal(weights, weights.tril())


def test_retention_weights_halve_with_every_token():
    one = torch.ones(1, 3, 1)
    weights = recurrence.Decay().weights(one, one, decay=torch.tensor([[0.5]]))
    assert weights.tolist() == [[[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]]]


def test_delta_weights_of_one_key_are_those_of_a_running_average():
    # with one key again and again, a beta of 1/4 keeps 3/4 of what was there
    one = torch.ones(1, 3, 1)
    weights = recurrence.Delta().weights(one, one, beta=torch.tensor([[0.25]]))
    expected = [[0.25, 0.0, 0.0], [0.1875, 0.25, 0.0], [0.140625, 0.1875, 0.25]]
    torch.testing.assert_close(weights[0], torch.tensor(expected))


def test_linear_weights_sum_to_one():
    weights = recurrence.Linear().weights(**without_value(draw(recurrence.Linear)))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 6, 13).double())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_pass_gradients_and_inspection_does_not(kind):
    given = {name: tensor.requires_grad_() for name, tensor in without_value(draw(kind)).items()}
    assert kind().weights(**given).requires_grad
    found = kind().inspect(**given).weights()
    assert not found.requires_grad
    torch.testing.assert_close(found, kind().weights(**given).detach())


def test_rows_are_rows_of_the_weights():
    found = recurrence.Linear().inspect(**without_value(draw(recurrence.Linear)))
    assert torch.equal(found.rows([4, -1]), found.weights()[:, :, [4, 12]])


def test_the_entropy_of_equal_weights_is_the_logarithm_of_their_number():
    same = torch.ones(1, 4, 2)
    entropy = recurrence.Linear().inspect(same, same).entropy()
    torch.testing.assert_close(entropy, torch.tensor([[1.0, 2.0, 3.0, 4.0]]).log())


def test_half_precision_is_looked_at_in_float32():
    given = without_value(draw(recurrence.Linear, dtype=torch.bfloat16))
    assert recurrence.Linear().inspect(**given).weights().dtype == torch.float32
    assert recurrence.Linear().weights(**given).dtype == torch.bfloat16
