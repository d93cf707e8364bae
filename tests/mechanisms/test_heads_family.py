"""Multi-head, grouped-query, multi-query and gated attention: who shares what, and by how much it is turned down."""

import pytest
import torch

from attnkit import masks
from attnkit.errors import ShapeError, UnknownNameError
from attnkit.mechanism import Sizes, projections
from attnkit.mechanisms import gated, grouped_query, multi_head, multi_query
from tests.helpers import inputs
from tests.oracles import heads_loops as loops

SIZES = Sizes(num_heads=6, num_kv_heads=3, head_dim=4, d_model=24)
CASES = [(multi_head, 6), (grouped_query, 3), (grouped_query, 2), (multi_query, 1)]


@pytest.mark.parametrize(("module", "kv_heads"), CASES, ids=str)
def test_it_is_what_rows_of_plain_numbers_give(module, kv_heads):
    query, key, value = inputs(heads=6, kv_heads=kv_heads, dtype=torch.float64)
    expected = loops.attended(query, key, value, loops.softmax)
    torch.testing.assert_close(module.MECHANISM(query, key, value), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("module", "held"), [(multi_head, 6), (grouped_query, 3), (multi_query, 1)])
def test_a_cache_holds_as_many_heads_as_key_and_value_have(module, held):
    # a layer of 6 heads that was told of 3 groups
    parts = {part.name: SIZES.of(part.heads, {}) for part in projections(module.MECHANISM.parts)}
    assert parts == {"query": 6, "key": held, "value": held}


def test_neighbouring_heads_share():
    # one key, so each head reads the value of its group whole: 0 0 1 1 2 2, not 0 1 2 0 1 2
    query, key = torch.ones(1, 6, 1, 4), torch.ones(1, 3, 1, 4)
    value = torch.tensor([0.0, 1.0, 2.0])[None, :, None, None]
    assert grouped_query.MECHANISM(query, key, value).flatten().tolist() == [0, 0, 1, 1, 2, 2]


def test_a_shared_key_learns_from_every_head_of_its_group():
    query, key, value = inputs(heads=6, kv_heads=3, dtype=torch.float64, grad=True)
    many = {"key": key, "value": value}
    many = {name: t.detach().repeat_interleave(2, -3).requires_grad_() for name, t in many.items()}
    grouped_query.MECHANISM(query, key, value).square().sum().backward()
    multi_head.MECHANISM(query.detach(), many["key"], many["value"]).square().sum().backward()
    for name, shared in {"key": key, "value": value}.items():
        summed = many[name].grad.unflatten(-3, (3, 2)).sum(-3)
        torch.testing.assert_close(shared.grad, summed, rtol=0, atol=1e-10)


@pytest.mark.messages
def test_multi_head_refuses_shared_keys():
    with pytest.raises(ShapeError, match=r"its own key; got 6 and 3 heads(?s:.*)grouped_query"):
        multi_head.MECHANISM(*inputs(heads=6, kv_heads=3))


@pytest.mark.messages
def test_multi_query_refuses_groups():
    with pytest.raises(
        ShapeError, match=r"all heads of the query read one key(?s:.*)of 3 heads(?s:.*)grouped_query"
    ):
        multi_query.MECHANISM(*inputs(heads=6, kv_heads=3))


def gates(*shape, seed=3):
    """Numbers between 0 and 1."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).sigmoid()


@pytest.mark.parametrize(("gating", "width"), [("elementwise", 8), ("headwise", 1)])
def test_a_gate_multiplies_what_was_read(gating, width):
    query, key, value = inputs(heads=6, kv_heads=3, dtype=torch.float64)
    gate = gates(2, 6, 5, width)
    context = gated.MECHANISM(query, key, value, parts={"gate": gate}, gating=gating)
    expected = loops.attended(query, key, value, loops.softmax) * gate
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-12)


def test_a_gate_by_hand():
    # two keys that score alike mix the values 1 and 3 to 2; a gate of 1/4 leaves 1/2
    query, key = torch.ones(1, 1, 1, 2), torch.ones(1, 1, 2, 2)
    value = torch.tensor([1.0, 3.0])[None, None, :, None]
    context = gated.MECHANISM(query, key, value, parts={"gate": torch.full((1, 1, 1, 1), 0.25)})
    assert context.item() == 0.5


def test_the_weights_of_gated_attention_are_those_before_the_gate():
    query, key, _ = inputs(dtype=torch.float64)
    weights = gated.MECHANISM.weights(query, key, parts={"gate": gates(2, 3, 5, 4)})
    torch.testing.assert_close(weights, grouped_query.MECHANISM.weights(query, key), rtol=0, atol=1e-12)


def test_a_layer_makes_a_gate_as_wide_as_asked():
    (gate,) = (part for part in projections(gated.MECHANISM.parts) if part.name == "gate")
    assert [SIZES.of(gate.width, {"gating": gating}) for gating in gated.GATINGS] == [4, 1]
    assert gate.then(torch.tensor(0.0)) == 0.5


def test_dropout_acts_on_the_weights_of_gated_attention():
    query, key, value = inputs(dtype=torch.float64)
    call = {"q_start": 2, "gate": gates(2, 3, 5, 8), "mask": masks.causal}
    assert torch.equal(gated.gated(query, key, value, dropout=1.0, **call), torch.zeros(2, 3, 5, 8).double())
    kept = gated.gated(query, key, value, dropout=0.0, **call)
    assert not torch.equal(gated.gated(query, key, value, dropout=0.5, **call), kept)


@pytest.mark.messages
def test_a_gate_of_another_width_is_refused():
    with pytest.raises(ShapeError, match=r"elementwise has 8 numbers a head here(?s:.*)headwise"):
        gated.MECHANISM(*inputs(), parts={"gate": torch.ones(2, 3, 5, 1)})


@pytest.mark.messages
def test_a_gating_that_nobody_knows_is_refused():
    with pytest.raises(UnknownNameError, match=r"no gating 'headwize'(?s:.*)did you mean 'headwise'"):
        gated.MECHANISM(*inputs(), parts={"gate": torch.ones(2, 3, 5, 1)}, gating="headwize")
