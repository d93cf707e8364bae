"""What rounding does to mechanisms of the family "score", and what their options may be."""

import math

import pytest
import torch

import attnkit as ak
from attnkit.catalog import find
from attnkit.errors import OptionError, ShapeError, UnknownNameError
from attnkit.laws import Trial
from attnkit.mechanism import sizes_of
from attnkit.positions import Llama3, Yarn


def test_gates_of_100_000_tokens_are_known_well_in_float32():
    # all gates add up to about -100,000, where float32 numbers are 0.008 apart
    query, key, gates = (
        torch.zeros(1, 1, 1, 1),
        torch.zeros(1, 1, 100_000, 1),
        torch.rand(1, 1, 100_000, 1).log(),
    )
    weights = find("forgetting").weights(query, key, parts={"log_gate": gates})[0, 0, 0, -9:]
    kept = [math.exp(gates[0, 0, 100_000 - back :, 0].double().sum()) for back in range(60)]
    expected = torch.tensor(kept[8::-1]) / sum(kept)
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=0)


def test_the_gates_of_a_layer_are_reckoned_in_float32():
    layer = ak.Attention(24, 6, mechanism="forgetting").bfloat16()
    cache = layer.new_cache()
    layer(torch.randn(2, 7, 24).bfloat16(), cache=cache)
    assert {tensor.dtype for tensor in cache.tensors()} == {torch.bfloat16, torch.float32}


def test_a_gate_of_one_has_a_gradient():
    # the context of the last query rises by value_1 - value_0, weighed, when the gate between them closes
    gates = torch.zeros(1, 1, 2, 1, dtype=torch.float64, requires_grad=True)
    query, key = torch.zeros(1, 1, 1, 1).double(), torch.zeros(1, 1, 2, 1).double()
    value = torch.tensor([[[[1.0], [3.0]]]]).double()
    find("forgetting")(query, key, value, parts={"log_gate": gates}).sum().backward()
    # weights 1/2 and 1/2: d context / d log_gate_1 = w_0 * w_1 * (value_0 - value_1)
    assert gates.grad.flatten().tolist() == pytest.approx([0.0, 0.25 * (1.0 - 3.0)])


def test_the_length_of_a_key_survives_bfloat16():
    # half a squared length is about 300 here, where numbers of bfloat16 are 2 apart
    query, key = (3 * torch.randn(1, 1, 9, 64, dtype=torch.float64) for _ in range(2))
    query, key = query.bfloat16().double(), key.bfloat16().double()
    distances = (query.unsqueeze(-2) - key.unsqueeze(-3)).square().sum(-1) / 2
    bound = find("gaussian").bind({})
    sizes = sizes_of(query, key)
    tensors = bound.prepared({"query": query.bfloat16(), "key": key.bfloat16()}, sizes, q_start=0)
    rule = find("gaussian").rule()
    scores = tensors["query"].double() @ tensors["key"].double().mT * rule.scale
    expected = query.square().sum(-1, keepdim=True) / 2 - distances
    assert (scores - expected).abs().max() < 600 * 2**-16


def test_rotary_scores_depend_on_the_distance_alone():
    trial = Trial.of(find("rotary"), {"theta": 100.0, "layout": "pairs"})
    bound, sizes = trial.mechanism.bind(trial.options), sizes_of(trial.tensors["query"], trial.tensors["key"])
    scores = []
    for start in (0, 1000):
        tensors = bound.prepared(trial.tensors, sizes, q_start=start, kv_start=start)
        scores.append(tensors["query"] @ tensors["key"].repeat_interleave(2, -3).mT)
    torch.testing.assert_close(scores[1], scores[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scaling", [Yarn(4.0, original_tokens=64), Llama3(8.0, original_tokens=64)])
def test_rotary_takes_its_scaling_to_the_positions(scaling):
    options = {"theta": 100.0, "scaling": scaling}
    trial = Trial.of(find("rotary"), options)
    turn = ak.positions.Rotary(base=100.0, scaling=scaling)
    places = torch.arange(7)
    query, key = (turn.rotate(trial.tensors[name], places) for name in ("query", "key"))
    expected = find("causal")(query, key, trial.tensors["value"])
    torch.testing.assert_close(trial.context, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("cosine", {"max_scale": 0}, OptionError, r"above 0; got 0(?s:.*)max_scale=100\.0"),
        ("gaussian", {"bandwidth": -1.0}, OptionError, r"above 0; got -1\.0(?s:.*)head_dim \*\* 0\.25"),
        ("qk_norm", {"eps": 0.0}, OptionError, r"above 0; got 0\.0(?s:.*)eps=1e-6"),
        ("softcap", {"cap": 0.0}, OptionError, r"above 0; got 0\.0(?s:.*)SoftCap\(50\.0\)"),
        ("shaw_relative", {"max_distance": -1}, OptionError, r"from 0 upwards; got -1(?s:.*)max_distance=16"),
        ("t5_relative", {"num_buckets": 1.5}, OptionError, r"at least 2; got 1\.5(?s:.*)num_buckets=32"),
        ("t5_relative", {"max_distance": 3}, OptionError, r"above 16(?s:.*)max_distance=128"),
        ("rotary", {"layout": "half"}, UnknownNameError, r"no layout 'half'(?s:.*)did you mean 'halves'"),
        ("rotary", {"theta": 1}, OptionError, r"above 1; got 1(?s:.*)theta=10000\.0"),
    ],
)
def test_an_option_that_means_nothing_is_refused(name, options, error, text):
    with pytest.raises(error, match=text):
        Trial.of(find(name), options).context  # noqa: B018


@pytest.mark.messages
def test_a_table_of_another_distance_is_refused():
    trial = Trial.of(find("shaw_relative"), {"max_distance": 2})
    query, key, value = (trial.tensors[name] for name in ("query", "key", "value"))
    parts = {name: trial.tensors[name] for name in ("key_table", "value_table")}
    with pytest.raises(ShapeError, match=r"value_table \(5, 4\) has 5 rows(?s:.*)from -3 to 3"):
        find("shaw_relative")(query, key, value, parts=parts, max_distance=3)
    with pytest.raises(ShapeError, match=r"key_table \(5, 4\) has 5 rows(?s:.*)from -3 to 3"):
        find("shaw_relative").weights(query, key, parts=parts, max_distance=3)


@pytest.mark.messages
def test_a_table_of_other_buckets_is_refused():
    trial = Trial.of(find("t5_relative"), {})
    query, key, value = (trial.tensors[name] for name in ("query", "key", "value"))
    with pytest.raises(ShapeError, match=r"32 rows; num_buckets=16(?s:.*)num_buckets=32"):
        find("t5_relative")(query, key, value, parts={"table": trial.tensors["table"]}, num_buckets=16)
