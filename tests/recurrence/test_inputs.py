"""Inputs of every kind that PyTorch has: dtypes, strides, batches, and what maps, compiles or casts a call."""

import pytest
import torch

from attnkit import recurrence
from tests.recurrence.cases import KINDS, draw, some_state

HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_float32_and_rounded_once(kind, dtype):
    given = draw(kind, dtype=dtype)
    context, state = kind().run(**given)
    expected, after = kind().run(**{name: tensor.float() for name, tensor in given.items()})
    assert torch.equal(context, expected.to(dtype))
    assert all(torch.equal(*pair) for pair in zip(state, after, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_gates_may_be_more_precise_than_the_rest(kind):
    # 0.999 is 1 in bfloat16: after 100 tokens it would have forgotten nothing
    given = draw(kind, 100, dtype=torch.bfloat16)
    fine = {
        name: torch.full_like(x, 0.999, dtype=torch.float32) for name, x in given.items() if name == "decay"
    }
    found = kind()(**{**given, **fine})
    expected = kind()(**{name: tensor.float() for name, tensor in (given | fine).items()})
    assert torch.equal(found, expected.bfloat16())


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_does_not_reach_the_memory(kind):
    given = draw(kind, dtype=torch.float32)
    plain = kind().run(**given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        context, state = kind().run(**given)
    assert torch.equal(context, plain[0])
    assert all(torch.equal(*pair) for pair in zip(state, plain[1], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_that_are_not_contiguous_make_no_difference(kind):
    given = draw(kind)
    turned = {name: tensor.mT.contiguous().mT for name, tensor in given.items()}
    torch.testing.assert_close(kind()(**turned), kind()(**given))


@pytest.mark.parametrize("batch", [(), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_batch_axes_will_do(kind, batch):
    given = draw(kind, batch=batch)
    context, state = kind(chunk_tokens=4).run(**given)
    assert context.shape == (*batch, 6, 13, 5)
    assert state.memory.shape == (*batch, 3, 4, 5)
    if batch == (2, 3):
        alone = kind()(**{name: tensor[1, 2] for name, tensor in given.items()})
        torch.testing.assert_close(context[1, 2], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_no_heads_are_no_trouble(kind):
    assert kind()(**draw(kind, heads=0, kv_heads=0)).shape == (2, 0, 13, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_batch_heads_and_length_of_one_size_are_not_mixed_up(kind):
    given = draw(kind, 3, batch=(3,), heads=3)
    context = kind()(**given)
    alone = {name: tensor[1:2, 2:3] for name, tensor in given.items()}
    torch.testing.assert_close(context[1:2, 2:3], kind()(**alone))


@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrence_runs_where_its_inputs_are(kind):
    context, state = kind().run(**draw(kind, dtype=torch.float32) | {})
    assert context.device == state.memory.device == torch.device("cpu")
    given = {name: tensor.to("meta") for name, tensor in draw(kind).items()}
    assert kind()(**given).device.type == "meta"


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_vmap_are_samples_of_a_batch(kind):
    given = draw(kind)
    state = some_state(kind, given)
    rule = kind(chunk_tokens=4)
    mapped = torch.func.vmap(lambda inputs, before: rule.run(**inputs, state=before))(given, state)
    whole = rule.run(**given, state=state)
    torch.testing.assert_close(mapped[0], whole[0])
    torch.testing.assert_close(tuple(mapped[1]), tuple(whole[1]))


def assert_compiles(kind, lengths, backend):
    torch._dynamo.reset()
    rule = kind(chunk_tokens=8)
    compiled = torch.compile(rule.run, fullgraph=True, backend=backend)
    for length in lengths:
        given = {name: tensor.requires_grad_() for name, tensor in draw(kind, length).items()}
        (found, state), (expected, after) = compiled(**given), rule.run(**given)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(tuple(state), tuple(after))
        gradients = [torch.autograd.grad(x.square().sum(), list(given.values())) for x in (found, expected)]
        torch.testing.assert_close(*gradients)


@pytest.mark.compiled
@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrence_compiles_in_one_graph(kind):
    assert_compiles(kind, [13], "eager")


@pytest.mark.compiled
def test_another_length_compiles_too_and_one_token_as_well():
    assert_compiles(recurrence.GatedDelta, [13, 6, 1], "eager")


@pytest.mark.compiled
def test_the_backward_pass_is_compiled_with_the_forward_pass():
    assert_compiles(recurrence.GatedLinear, [13], "aot_eager")


@pytest.mark.compiled
def test_a_recurrence_is_exported():
    class Layer(torch.nn.Module):
        def forward(self, query, key, value, decay, beta):
            return recurrence.GatedDelta(chunk_tokens=8)(query, key, value, decay=decay, beta=beta)

    given = draw(recurrence.GatedDelta)
    program = torch.export.export(Layer(), tuple(given.values()))
    torch.testing.assert_close(program.module()(*given.values()), Layer()(**given))


def test_recurrences_are_values():
    assert recurrence.Delta(scale=2.0) == recurrence.Delta(scale=2.0) != recurrence.Delta()
    assert hash(recurrence.Decay()) == hash(recurrence.Decay())
    assert repr(recurrence.GatedDelta()) == "GatedDelta(chunk_tokens=64, scale=None)"
