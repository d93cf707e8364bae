import pytest
import torch
from torch import nn

import attnkit as ak
from attnkit import learn
from attnkit.errors import OptionError, ShapeError
from attnkit.learn.xrays import influence


def test_a_causal_module_leaves_the_future_untouched():
    found = influence(ak.MultiHeadAttention(6, 4, 8, 0.0, 2), 6)
    assert torch.equal(found.triu(1), torch.zeros(8, 8))
    assert (found.tril() > 0).sum() == 36


def test_a_module_without_a_mask_reads_everything():
    assert (influence(ak.SelfAttentionv2(6, 4), 6) > 0).all()


def test_the_influence_of_a_linear_map_is_the_size_of_its_matrix():
    # output i moves with input i alone, by the matrix itself: its norm is the root of the sum of squares
    layer = nn.Linear(3, 2)
    torch.testing.assert_close(influence(layer, 3, length=4), layer.weight.norm() * torch.eye(4))


@pytest.mark.parametrize(
    "layer",
    [
        ak.SelfAttention(6, 4),
        ak.SelfAttentionv2(6, 4),
        ak.MultiHeadAttentionWrapper(6, 4, 8, 0.0, 2),
    ],
)
def test_the_width_of_known_modules_is_found_out(layer):
    assert learn.xray(layer).png().startswith(b"\x89PNG")


def test_an_xray_leaves_mode_and_random_state_alone():
    layer = ak.MultiHeadAttention(6, 4, 8, 0.5, 2).train()
    before = torch.get_rng_state()
    influence(layer, 6)
    assert layer.training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in layer.parameters())


def test_an_xray_is_taken_in_the_precision_of_the_module():
    assert influence(nn.Linear(3, 2).double(), 3, length=4).dtype == torch.float64


def test_dropout_does_not_blur_an_xray():
    layer = ak.MultiHeadAttention(6, 4, 8, 0.5, 2).train()
    assert torch.equal(influence(layer, 6), influence(layer, 6))


@pytest.mark.messages
def test_an_unknown_width_is_asked_for():
    with pytest.raises(OptionError, match=r"Identity has no W_query(?s:.*)learn\.xray\(module, d_in=16\)"):
        learn.xray(nn.Identity())


@pytest.mark.messages
def test_a_module_that_pools_its_tokens_is_refused():
    with pytest.raises(ShapeError, match=r"made \(1, 6\) of \(1, 8, 6\); one output a token"):
        influence(lambda x: x.mean(1), 6)


@pytest.mark.messages
def test_one_token_has_no_future():
    with pytest.raises(OptionError, match=r"one token has no future; got length=1"):
        influence(nn.Identity(), 6, length=1)
