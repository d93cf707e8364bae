"""Step by step, a chunk at a time and all at once are one recurrence: contexts, states and every gradient."""

import pytest
import torch

from attnkit import recurrence
from attnkit.recurrence.orders import stretch_size
from tests.recurrence.cases import KINDS, draw, some_state, tokens, with_gradients


def assert_equal(found, expected, tolerance=1e-10):
    assert found.keys() == expected.keys()
    for name, truth in expected.items():
        assert torch.isfinite(truth).all(), name
        torch.testing.assert_close(
            found[name], truth, rtol=tolerance, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("length", [0, 1, 3, 4, 13])
@pytest.mark.parametrize("kind", KINDS)
def test_the_three_orders_agree_and_so_do_their_gradients(kind, length):
    given = draw(kind, length)
    state = some_state(kind, given)
    steps = with_gradients(kind, given, order="steps", state=state)
    assert_equal(with_gradients(kind, given, order="parallel", state=state), steps)
    assert_equal(with_gradients(kind, given, order="chunked", state=state), steps)


@pytest.mark.parametrize("chunk_tokens", [1, 2, 8, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_a_chunk_changes_nothing(kind, chunk_tokens):
    given = draw(kind)
    found = with_gradients(kind, given, order="chunked", chunk_tokens=chunk_tokens)
    assert_equal(found, with_gradients(kind, given, order="steps"))


@pytest.mark.parametrize("pieces", [[1] * 13, [4, 4, 4, 1], [5, 0, 7, 1], [13]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_state_goes_on_where_an_earlier_call_stopped(kind, pieces):
    given = draw(kind)
    rule, state, contexts = kind(chunk_tokens=4), None, []
    for start, size in zip(torch.tensor([0, *pieces]).cumsum(0).tolist(), pieces, strict=False):
        context, state = rule.run(**tokens(given, slice(start, start + size)), state=state)
        contexts.append(context)
    whole, after = rule.run(**given)
    torch.testing.assert_close(torch.cat(contexts, dim=-2), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tuple(state), tuple(after), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_numerical_gradient(kind):
    given = draw(kind, 5, batch=(), heads=2, kv_heads=1)
    for name in ("decay", "beta"):
        if name in given:
            given[name] = 0.1 + 0.8 * given[name]  # a step to either side stays within 0 and 1
    state = some_state(kind, given)
    leaves = [x.requires_grad_() for x in (*given.values(), *state)]

    def run(*parts):
        named = dict(zip(given, parts, strict=False))
        return (context_and := kind(chunk_tokens=2).run(**named, state=type(state)(*parts[len(given) :])))[
            0
        ], *(context_and[1])

    assert torch.autograd.gradcheck(run, leaves)


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_second_derivative(kind):
    given = draw(kind, 3, batch=(), heads=1, kv_heads=1)
    leaves = [
        (0.1 + 0.8 * x if name in ("decay", "beta") else x / 3).requires_grad_() for name, x in given.items()
    ]
    rule = kind(chunk_tokens=2)
    assert torch.autograd.gradgradcheck(lambda *x: rule(**dict(zip(given, x, strict=True))), leaves)


@pytest.mark.parametrize("order", ["steps", "parallel", "chunked"])
def test_the_gradient_of_a_decay_of_zero_is_what_it_would_let_through(order):
    # by hand: context_1 = decay_1 * (query_1 key_0 value_0) + ..., so its derivative is 1 * 2 * 3
    gate = torch.zeros(1, 2, requires_grad=True)
    query, key = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[2.0], [0.0]]])
    recurrence.Decay()(query, key, torch.full((1, 2, 1), 3.0), decay=gate, order=order).sum().backward()
    assert gate.grad.tolist() == [[0.0, 6.0]]


@pytest.mark.parametrize("kind", [recurrence.Decay, recurrence.GatedLinear, recurrence.GatedDelta])
def test_decays_so_small_that_a_ratio_of_their_products_would_overflow_are_exact(kind):
    # 1e-30 ** 2 underflows in float32; whatever is read is what the last tokens wrote
    given = draw(kind, 40, dtype=torch.float32)
    given["decay"] = torch.full_like(given["decay"], 1e-30)
    found = with_gradients(kind, given, order="chunked", chunk_tokens=32)
    assert_equal(found, with_gradients(kind, given, order="steps"), tolerance=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_after_the_chunks_leaves_all_before_it_alone(kind):
    given, other = draw(kind), draw(kind, seed=7)
    changed = {
        name: torch.cat([tensor[:, :, :9], other[name][:, :, 9:]], dim=2) for name, tensor in given.items()
    }
    rule = kind(chunk_tokens=4)
    torch.testing.assert_close(rule(**changed)[:, :, :9], rule(**given)[:, :, :9], rtol=0, atol=0)


@pytest.mark.parametrize("order", ["parallel", "chunked"])
def test_chunks_take_no_steps(order, monkeypatch):
    def taken(self, memory, token):
        raise AssertionError

    monkeypatch.setattr(recurrence.Delta, "update", taken)
    recurrence.Delta()(**draw(recurrence.Delta), order=order)


def test_a_stretch_is_a_power_of_two_and_no_longer_than_its_limit():
    assert [stretch_size(length, 8) for length in (0, 1, 2, 3, 4, 5, 100)] == [1, 1, 2, 4, 4, 8, 8]
    assert stretch_size(100, None) == 128


class Counting(recurrence.Recurrence):
    """A reader's own: each token adds its value, whatever the key; there is no gate."""

    state_type = recurrence.DecayState

    def features(self, tokens):
        one = torch.ones_like(tokens.key[..., :1])
        return tokens._replace(query=torch.ones_like(tokens.query[..., :1]), key=one)

    def update(self, memory, token):
        return memory + token.value.unsqueeze(-2)

    def stretch(self, tokens):
        one = tokens.key
        return recurrence.Stretch((one @ one.mT).tril(), one, one, one[..., :1, :])


@pytest.mark.parametrize("order", ["steps", "parallel", "chunked"])
def test_a_recurrence_of_a_readers_own_runs_in_every_order(order):
    given = draw(recurrence.Linear, heads=3)
    context, state = Counting(chunk_tokens=4).run(**given, order=order)
    torch.testing.assert_close(context, given["value"].cumsum(-2))
    torch.testing.assert_close(state.memory.squeeze(-2), given["value"].sum(-2))


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_err_in_float32_as_steps_do(kind):
    # 15 is twice the largest ratio over 180 draws of up to 300 tokens (docs/decisions/recurrence-three-orders.md)
    given = draw(kind, 150, dtype=torch.float32)
    exact = with_gradients(kind, {name: tensor.double() for name, tensor in given.items()}, order="steps")
    steps = with_gradients(kind, given, order="steps")
    chunks = with_gradients(kind, given, order="chunked", chunk_tokens=64)
    for name, truth in exact.items():
        floor = torch.finfo(torch.float32).eps * truth.abs().max().item()
        budget = 15 * max((steps[name] - truth).abs().max().item(), floor)
        assert (chunks[name] - truth).abs().max().item() <= budget, name
