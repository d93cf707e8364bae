"""Differential attention: by hand, against the paper's equations, and what it becomes where lambda is 0."""

import math

import pytest
import torch
from torch.nn.functional import rms_norm

from attnkit import masks
from attnkit.errors import OptionError, ShapeError
from attnkit.mechanism import Sizes, learned
from attnkit.mechanisms import causal
from attnkit.mechanisms.differential import MECHANISM, differential
from attnkit.positions import Rotary
from tests.helpers import inputs
from tests.oracles import heads_equations

LAMBDAS = 0.5 * torch.randn(4, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def lambdas_for(wanted, lambda_init):
    """Vectors of 2 numbers that make lambda `wanted`: exp(ln(1 + wanted - lambda_init)) - exp(0) + lambda_init."""
    log = math.log(1 + wanted - lambda_init)
    return torch.tensor([[1.0, 0.0], [log, 5.0], [0.0, 1.0], [7.0, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("kv_heads", [6, 3, 1])
def test_it_is_what_the_equations_give(kv_heads):
    query, key, value = inputs(heads=6, kv_heads=kv_heads, dtype=torch.float64)
    context = MECHANISM(query, key, value, parts={"lambdas": LAMBDAS}, lambda_init=0.3)
    expected = heads_equations.differential(query, key, value, LAMBDAS, 0.3)
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-12)


def test_two_keys_by_hand():
    # d = 1, so the scale is 1. Q1 K1 scores ln 3 and 0: weights 3/4, 1/4. Q2 K2 scores 0 and 0: 1/2, 1/2.
    # lambda 1/2: 3/4 - 1/4 = 1/2 and 1/4 - 1/4 = 0, which mix (4, 0) and (0, 8) to (2, 0);
    # its root mean square is sqrt(2), so the norm gives (sqrt(2), 0), and 1 - lambda_init = 1/5 of that is left
    query = torch.tensor([[[[1.0, 1.0]]]], dtype=torch.float64)
    key = torch.tensor([[[[math.log(3.0), 0.0], [0.0, 0.0]]]], dtype=torch.float64)
    value = torch.tensor([[[[4.0, 0.0], [0.0, 8.0]]]], dtype=torch.float64)
    # exp(ln 0.7) - exp(0) + 0.8 = 0.5
    lambdas = torch.tensor([[1.0], [math.log(0.7)], [0.0], [0.0]], dtype=torch.float64)
    context = MECHANISM(query, key, value, parts={"lambdas": lambdas}, lambda_init=0.8)
    expected = torch.tensor([[[[math.sqrt(2) / 5, 0.0]]]], dtype=torch.float64)
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-5)  # the norm adds 1e-5 below the root


def test_where_lambda_is_0_it_is_a_causal_softmax_of_the_first_halves_normalised():
    query, key, value = inputs(dtype=torch.float64)
    context = MECHANISM(query, key, value, parts={"lambdas": lambdas_for(0.0, 0.8)}, lambda_init=0.8)
    first = causal.MECHANISM(query[..., :2], key[..., :2], value)
    torch.testing.assert_close(context, 0.2 * rms_norm(first, (8,), eps=1e-5), rtol=0, atol=1e-12)


def test_where_lambda_is_1_and_both_softmaxes_are_one_nothing_is_left():
    query, key, value = inputs(dtype=torch.float64)
    query, key = (torch.cat([half, half], -1) for half in (query[..., :2], key[..., :2]))
    context = MECHANISM(query, key, value, parts={"lambdas": lambdas_for(1.0, 0.8)}, lambda_init=0.8)
    assert context.abs().max() < 1e-10


def test_rows_of_weights_sum_to_one_less_lambda_and_some_are_negative():
    query, key, _ = inputs(dtype=torch.float64)
    weights = MECHANISM.weights(query, key, parts={"lambdas": lambdas_for(0.6, 0.8)}, lambda_init=0.8)
    torch.testing.assert_close(weights.sum(-1), torch.full((2, 3, 5), 0.4, dtype=torch.float64))
    assert weights.min() < -0.1


def test_the_halves_turn_by_themselves():
    # as two separate heads would: turned before, and then not
    query, key, value = inputs(dtype=torch.float64)
    rotary = Rotary(layout="pairs", base=10.0)
    context = MECHANISM(query, key, value, parts={"lambdas": LAMBDAS}, rotary=rotary)
    sides = {"query": (query, torch.arange(2, 7)), "key": (key, torch.arange(7))}
    turned = [
        torch.cat([rotary.rotate(side[..., :2], at), rotary.rotate(side[..., 2:], at)], -1)
        for side, at in sides.values()
    ]
    torch.testing.assert_close(
        context, MECHANISM(*turned, value, parts={"lambdas": LAMBDAS}), rtol=0, atol=1e-12
    )


def test_it_depends_on_distances_alone_where_it_turns():
    query, key, value = inputs(q_len=7, kv_len=7, dtype=torch.float64)
    rotary = Rotary(base=10.0)
    bound = MECHANISM.bind({"rotary": rotary})
    sizes, tensors = Sizes(3, 3, 4, 12), {"query": query, "key": key, "value": value, "lambdas": LAMBDAS}
    contexts = []
    for start in (0, 30):
        ready = bound.prepared(tensors, sizes, q_start=start, kv_start=start)
        contexts.append(bound.attended(ready, sizes, mask=None, q_start=0))
    torch.testing.assert_close(*contexts, rtol=0, atol=1e-11)


def test_a_layer_starts_with_a_lambda_near_lambda_init():
    (part,) = learned(MECHANISM.parts)
    shape = part.sizes(Sizes(6, 6, 128, 768), {"lambda_init": 0.8})
    assert shape == (4, 64)
    assert 0.05 < part.start(shape).std() < 0.15


def test_dropout_acts_on_the_weights():
    query, key, value = inputs(dtype=torch.float64)
    call = {"q_start": 2, "lambdas": LAMBDAS, "mask": masks.causal}
    nothing = differential(query, key, value, dropout=1.0, **call)
    assert torch.equal(nothing, torch.zeros_like(nothing))


def test_a_query_with_nothing_to_read_gives_zero_and_a_finite_gradient():
    query, key, value = inputs(dtype=torch.float64, grad=True)
    context = MECHANISM(query, key, value, parts={"lambdas": LAMBDAS}, q_start=-2)
    context.sum().backward()
    assert torch.equal(context[..., :2, :], torch.zeros(2, 3, 2, 8, dtype=torch.float64))
    assert all(tensor.grad.isfinite().all() for tensor in (query, key, value))
    assert torch.equal(query.grad[..., :2, :], torch.zeros(2, 3, 2, 4, dtype=torch.float64))


@pytest.mark.messages
@pytest.mark.parametrize("given", [0, 1.0, -0.2, None])
def test_a_start_of_lambda_outside_0_and_1_is_refused(given):
    (part,) = learned(MECHANISM.parts)
    with pytest.raises(
        OptionError, match=r"lambda_init is where lambda starts(?s:.*)got (?s:.*)layers counted from 1"
    ):
        part.sizes(Sizes(6, 6, 4, 24), {"lambda_init": given})


@pytest.mark.messages
def test_an_odd_head_is_refused():
    with pytest.raises(ShapeError, match=r"two halves, Q1 and Q2; got head_dim 3(?s:.*)head_dim=4"):
        MECHANISM(
            torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3), parts={"lambdas": LAMBDAS}
        )


@pytest.mark.messages
def test_a_layer_of_odd_heads_is_refused():
    (part,) = learned(MECHANISM.parts)
    with pytest.raises(ShapeError, match=r"got head_dim 5, which is odd(?s:.*)head_dim=6"):
        part.sizes(Sizes(6, 6, 5, 30), {"lambda_init": 0.8})


@pytest.mark.messages
def test_a_rotary_that_is_a_word_is_refused():
    with pytest.raises(
        OptionError, match=r"rotary is one of attnkit.positions; got 'halves'(?s:.*)Rotary\(\)"
    ):
        MECHANISM(*inputs(), parts={"lambdas": LAMBDAS}, rotary="halves")
