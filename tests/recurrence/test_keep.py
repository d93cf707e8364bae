"""Tokens that are not kept: they read what there is, write nothing, and leave the memory as it is."""

import pytest
import torch
from torch.nn.functional import elu

from attnkit import recurrence
from attnkit.errors import DtypeError, OptionError, ShapeError, UnknownNameError
from tests.recurrence.cases import GATES, KINDS, draw, some_state, tokens, with_gradients

ORDERS = ["steps", "parallel", "chunked"]
# the first, the last, some in the middle, a whole chunk of 4; and another choice in the other sample
KEEP = torch.tensor([[0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 1, 0], [1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1]]).bool()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_contexts_and_state_are_those_of_the_kept_tokens_alone(kind, order):
    given = draw(kind)
    context, state = kind(chunk_tokens=4).run(**given, order=order, keep=KEEP)
    for sample, keep in enumerate(KEEP):
        alone = tokens({name: tensor[sample] for name, tensor in given.items()}, keep)
        expected, after = kind().run(**alone, order="steps")
        torch.testing.assert_close(context[sample][:, keep], expected, rtol=1e-10, atol=1e-10)
        for part, other in zip(state, after, strict=True):
            torch.testing.assert_close(part[sample], other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_is_not_kept_reads_the_memory_that_the_kept_ones_left(kind, order):
    given = draw(kind, heads=3)
    context = kind(chunk_tokens=4)(**given, order=order, keep=KEEP)
    for sample, place in (~KEEP).nonzero().tolist():
        before = tokens({name: tensor[sample] for name, tensor in given.items()}, slice(0, place))
        _, state = kind().run(**tokens(before, KEEP[sample, :place]), order="steps")
        query = given["query"][sample, :, place]
        if kind is recurrence.Linear:
            query = elu(query) + 1
            total = torch.einsum("hd,hd->h", query, state.normalizer)[:, None]
            total[total == 0] = 1.0  # nothing is kept before it
        else:
            total = 2.0  # the root of head_dim
        expected = torch.einsum("hd,hdv->hv", query, state.memory) / total
        torch.testing.assert_close(context[sample, :, place], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_the_orders_agree_on_kept_tokens_and_so_do_their_gradients(kind):
    given = draw(kind)
    state = some_state(kind, given)
    steps = with_gradients(kind, given, order="steps", state=state, keep=KEEP)
    for order in ("parallel", "chunked"):
        found = with_gradients(kind, given, order=order, state=state, keep=KEEP)
        torch.testing.assert_close(found, steps, rtol=1e-10, atol=1e-10)
    for name in ("key", "value", *GATES[kind]):
        gradient = steps[f"gradient of {name}"]
        hidden = ~KEEP[:, None, :].expand(gradient.shape[:3])
        assert gradient[hidden].abs().max() == 0, name
        assert gradient[~hidden].abs().max() > 0, name
    assert steps["gradient of query"][~KEEP[:, None, :].expand(2, 6, 13)].abs().max() > 0


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_kept_may_hold_nan(kind, order):
    given = draw(kind)
    hidden = ~KEEP[:, None, :, None]
    spoilt = {name: given[name].masked_fill(hidden, torch.nan) for name in ("key", "value")}
    found = with_gradients(kind, given | spoilt, order=order, keep=KEEP)
    expected = with_gradients(kind, given, order=order, keep=KEEP)
    for name, truth in expected.items():
        if name == "gradient of key":
            found[name] = found[name].masked_fill(hidden, 0.0)  # that of nan itself may be nan
        torch.testing.assert_close(found[name], truth, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_is_kept_the_state_stays_what_it_was(kind, order):
    given = draw(kind)
    state = some_state(kind, given)
    _, after = kind(chunk_tokens=4).run(**given, order=order, state=state, keep=torch.zeros(13).bool())
    assert all(torch.equal(*pair) for pair in zip(after, state, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_where_everything_is_kept_nothing_changes(kind):
    given = draw(kind)
    assert torch.equal(kind()(**given, keep=torch.ones(2, 13).bool()), kind()(**given))


@pytest.mark.parametrize("keep", [KEEP[0], KEEP[:1], KEEP[:, :1]], ids=["len", "1 len", "batch 1"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_axis_that_is_one_or_left_out_is_shared(kind, keep):
    given = draw(kind)
    torch.testing.assert_close(kind()(**given, keep=keep), kind()(**given, keep=keep.expand(2, 13).clone()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_goes_on_over_tokens_that_are_not_kept(kind):
    given = draw(kind)
    rule, state, contexts = kind(chunk_tokens=4), None, []
    for piece in (slice(0, 1), slice(1, 8), slice(8, 13)):
        context, state = rule.run(**tokens(given, piece), state=state, keep=KEEP[:, piece])
        contexts.append(context)
    whole, after = rule.run(**given, keep=KEEP)
    torch.testing.assert_close(torch.cat(contexts, -2), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tuple(state), tuple(after), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_what_is_not_kept_are_zero(kind):
    given = draw(kind)
    value = given.pop("value")
    weights = kind().weights(**given, keep=KEEP)
    assert (weights.transpose(1, 3)[~KEEP] == 0).all()
    context = kind()(**given, value=value, keep=KEEP)
    torch.testing.assert_close(weights @ value.repeat_interleave(2, 1), context, rtol=1e-10, atol=1e-10)
    assert torch.equal(kind().inspect(**given, keep=KEEP).weights(), weights)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_a_vmap_are_kept_as_those_of_a_batch(kind):
    given = draw(kind)
    mapped = torch.func.vmap(lambda inputs, keep: kind()(**inputs, keep=keep))(given, KEEP)
    torch.testing.assert_close(mapped, kind()(**given, keep=KEEP))


@pytest.mark.compiled
def test_keeping_compiles_in_one_graph():
    given = draw(recurrence.GatedDelta)
    compiled = torch.compile(recurrence.GatedDelta(chunk_tokens=8).run, fullgraph=True, backend="eager")
    expected = recurrence.GatedDelta(chunk_tokens=8)(**given, keep=KEEP)
    torch.testing.assert_close(compiled(**given, keep=KEEP)[0], expected)


@pytest.mark.messages
@pytest.mark.parametrize("keep", [KEEP.long(), KEEP.double(), [True] * 13], ids=["long", "double", "list"])
def test_what_is_kept_is_said_by_bools(keep):
    with pytest.raises(
        DtypeError, match=r"tensor of bools, True keeps; got(?s:.*)~padding where True is padding"
    ):
        recurrence.Linear()(**draw(recurrence.Linear), keep=keep)


@pytest.mark.messages
def test_what_is_kept_is_said_on_the_device_of_the_key():
    with pytest.raises(DtypeError, match=r"got keep on meta, key on cpu(?s:.*)keep.to\(key.device\)"):
        recurrence.Linear()(**draw(recurrence.Linear), keep=KEEP.to("meta"))


@pytest.mark.messages
@pytest.mark.parametrize("shape", [(), (13, 2), (2, 12), (2, 3, 13), (3, 13)], ids=str)
def test_what_is_kept_has_the_axes_of_batch_and_tokens(shape):
    message = (
        r"keep .* does not fit key \(2, 3, 13, 4\); it is \(\*batch, len\)(?s:.*)\(2, 13\); an axis is 1"
    )
    with pytest.raises(ShapeError, match=message):
        recurrence.Linear()(**draw(recurrence.Linear), keep=torch.ones(shape).bool())


@pytest.mark.messages
def test_a_gate_that_nobody_knows_is_corrected():
    one = torch.ones(3, 1)
    with pytest.raises(
        UnknownNameError, match=r"Decay: there is no gate 'decays'(?s:.*)did you mean 'decay'"
    ):
        recurrence.Decay()(**draw(recurrence.Linear), decays=one)
    with pytest.raises(UnknownNameError, match=r"no gate 'gamma'(?s:.*)one of beta, decay"):
        recurrence.GatedDelta()(**draw(recurrence.GatedDelta), gamma=one)
    with pytest.raises(OptionError, match="it takes no gate; got decay"):
        recurrence.Linear()(**draw(recurrence.Linear), decay=one)
