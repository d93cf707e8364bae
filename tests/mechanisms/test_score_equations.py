"""Each mechanism of the family "score" against its paper's equation, pair by pair."""

import pytest
import torch

import attnkit as ak
from attnkit import masks
from attnkit.catalog import find
from attnkit.laws import Trial
from tests.oracles import score_equations as oracle

NAMES = sorted(oracle.SCORES)
CASES = [
    pytest.param(name, options, id=f"{name}-{number}")
    for name in NAMES
    for number, options in enumerate(find(name).examples)
]
MASKS = {"causal": lambda q, k: k <= q, "full": lambda q, k: True}


def written(name, trial, options, keep):
    moved = (
        oracle.shaw_value(trial.tensors, options) if name == "shaw_relative" else lambda value, q, k: value
    )
    return oracle.attend(oracle.SCORES[name], trial.tensors, options, keep=keep, value_of=moved)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_context_is_that_of_the_equation(name, options):
    trial = Trial.of(find(name), options, q_len=5)
    expected = written(name, trial, options, MASKS["causal"])
    torch.testing.assert_close(trial.context, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("t5_relative", "forgetting")])
def test_the_context_is_that_of_the_equation_where_keys_follow_the_query(name):
    options = find(name).examples[0]
    trial = Trial.of(find(name), options | {"mask": masks.full}, q_len=5)
    expected = written(name, trial, options, MASKS["full"])
    torch.testing.assert_close(trial.context, expected, rtol=1e-9, atol=1e-9)


def test_t5_has_buckets_for_keys_after_the_query():
    options = {"num_buckets": 8, "max_distance": 6, "bidirectional": True}
    trial = Trial.of(find("t5_relative"), options | {"mask": masks.full}, q_len=5)
    expected = written("t5_relative", trial, options, MASKS["full"])
    torch.testing.assert_close(trial.context, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_decodes_with_a_cache_what_it_computes_at_once(name):
    options = find(name).examples[0]
    layer = ak.Attention(24, 6, mechanism=name, num_kv_heads=3, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    cache = layer.new_cache()
    pieces = [layer(x[:, start:stop], cache=cache) for start, stop in ((0, 3), (3, 4), (4, 7))]
    torch.testing.assert_close(torch.cat(pieces, 1), layer(x), rtol=1e-9, atol=1e-9)
