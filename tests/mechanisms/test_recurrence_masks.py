"""What a call's mask means for a recurrence, a state that goes on, and laws that a wrong recurrence breaks."""

from dataclasses import dataclass, replace

import pytest
import torch

from attnkit import masks, recurrence
from attnkit.catalog import all_mechanisms, find
from attnkit.errors import OptionError, ShapeError
from attnkit.laws import LawBrokenError, Trial
from attnkit.laws.universal import chunks_are_one, hidden_keys_do_not_matter, orders_agree
from attnkit.mechanism import sizes_of

RECURRENT = {name: found for name, found in all_mechanisms().items() if found.recurrence is not None}
NAMES = sorted(RECURRENT)


def piece(trial, start, stop):
    """The trial with some of its tokens alone."""
    tokens = trial.of_tokens("query") | trial.of_tokens("key")
    return trial.map(lambda name, t: t[..., start:stop, :] if name in tokens else t)


def advanced(trial, start, stop, state, mask):
    part = piece(trial, start, stop).tensors
    bound, sizes = trial.mechanism.bind(trial.options), sizes_of(part["query"], part["key"])
    prepared = bound.prepared(part, sizes, q_start=start, kv_start=start)
    return bound.advanced(prepared, sizes, state=state, mask=mask, kv_start=start)


def test_six_mechanisms_are_recurrences():
    assert {"linear", "retention", "gated_linear", "delta", "state_space", "gated_delta"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_padding_on_the_left_changes_nothing_for_the_tokens_after_it(name):
    trial = Trial.of(RECURRENT[name], {})
    padded = trial.called(masks.where(lambda q, k: k >= 3))
    torch.testing.assert_close(padded[..., 3:, :], piece(trial, 3, 7).context, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_padding_on_the_right_changes_nothing_for_the_tokens_before_it(name):
    trial = Trial.of(RECURRENT[name], {})
    padded = trial.called(masks.lengths([7, 4]))
    torch.testing.assert_close(padded[0], trial.context[0])
    torch.testing.assert_close(padded[1, :, :4], trial.context[1, :, :4])
    assert (padded[1, :, 4:] - trial.context[1, :, 4:]).abs().max() > 0.01


@pytest.mark.parametrize("name", NAMES)
def test_causal_hides_nothing_more(name):
    trial = Trial.of(RECURRENT[name], {})
    for mask in (masks.full, masks.causal):
        assert torch.equal(trial.called(mask), trial.context)
    mask = masks.lengths([7, 4])
    assert torch.equal(trial.called(masks.causal & mask), trial.called(mask))


@pytest.mark.parametrize("name", NAMES)
def test_weights_under_a_mask_are_those_of_its_context(name):
    trial, mask = Trial.of(RECURRENT[name], {}), masks.lengths([7, 4])
    query, key, value = (trial.tensors[part] for part in ("query", "key", "value"))
    parts = {part: t for part, t in trial.tensors.items() if part not in ("query", "key", "value")}
    weights = trial.mechanism.weights(query, key, mask=mask, parts=parts)
    assert (weights[1, :, :, 4:] == 0).all()
    context = weights @ value.repeat_interleave(2, 1)
    torch.testing.assert_close(context, trial.called(mask), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_goes_on_under_a_mask_that_counts_all_tokens(name):
    # the mask hides tokens 2 and 5; a state comes in between them, at 4
    trial, mask = Trial.of(RECURRENT[name], {}), masks.where(lambda q, k: (k != 2) & (k != 5))
    first, state = advanced(trial, 0, 4, None, mask)
    second, _ = advanced(trial, 4, 7, state, mask)
    torch.testing.assert_close(torch.cat([first, second], -2), trial.called(mask), rtol=1e-10, atol=1e-10)


def test_a_mask_that_hides_a_token_from_itself_and_all_later_ones_is_padding():
    # the earlier queries, which could read it by the mask, cannot by the recurrence
    trial = Trial.of(find("linear"), {})
    odd = masks.where(lambda q, k: (k != 3) | (q < k))
    torch.testing.assert_close(trial.called(odd), trial.called(masks.where(lambda q, k: k != 3)))


def test_a_window_as_long_as_the_text_hides_nothing():
    trial = Trial.of(find("linear"), {})
    assert torch.equal(trial.called(masks.window(7)), trial.context)


def test_a_layers_state_has_no_axis_of_queries():
    _, state = advanced(Trial.of(find("linear"), {}), 0, 4, None, None)
    assert state.memory.shape == (2, 3, 4, 8)


MESSAGE = r"hides a token from some of the later ones alone; a recurrence writes(?s:.*)fix: masks.lengths\(\[5, 3\]\)"


@pytest.mark.messages
@pytest.mark.parametrize(
    "mask",
    [
        masks.window(3),
        masks.causal & masks.window(6),
        masks.documents([0, 0, 0, 1, 1, 1, 1]),
        masks.where(lambda q, k: (q != 6) | (k != 2)),
        masks.where(lambda q, k: q > k),
    ],
    ids=str,
)
def test_a_mask_that_is_no_padding_is_refused(mask):
    trial = Trial.of(find("delta"), {})
    with pytest.raises(OptionError, match=rf"^delta: .* {MESSAGE}"):
        trial.called(mask)


@pytest.mark.messages
def test_a_window_is_refused_by_the_first_token_that_would_have_to_forget():
    trial, mask, state = Trial.of(find("delta"), {}), masks.window(3), None
    for place in range(3):
        _, state = advanced(trial, place, place + 1, state, mask)
    with pytest.raises(OptionError, match=MESSAGE):
        advanced(trial, 3, 4, state, mask)


@pytest.mark.messages
def test_a_recurrence_has_no_query_start():
    trial = Trial.of(find("delta"), {})
    message = (
        r"delta: the query and the key of a token stand at one position; got q_start=2(?s:.*)comes as a state"
    )
    with pytest.raises(OptionError, match=message):
        replace(trial, q_start=2).called()
    with pytest.raises(OptionError, match=message):
        _ = replace(trial, q_start=2).weights
    with pytest.raises(ShapeError, match="are not of the same tokens"):
        Trial.of(find("delta"), {}, q_len=5).called()


@dataclass(frozen=True, kw_only=True)
class Lasting(recurrence.Decay):
    """Its chunks fade too little."""

    def stretch(self, tokens):
        return super().stretch(tokens._replace(decay=tokens.decay.sqrt()))


@dataclass(frozen=True, kw_only=True)
class Deaf(recurrence.Decay):
    """Its chunks pass no gradient to the decay."""

    def stretch(self, tokens):
        return super().stretch(tokens._replace(decay=tokens.decay.detach()))


@dataclass(frozen=True, kw_only=True)
class Forgetful(recurrence.Decay):
    """Its state is half of its memory."""

    def to_state(self, memory):
        return super().to_state(memory / 2)


@dataclass(frozen=True, kw_only=True)
class Nosy(recurrence.Decay):
    """It reads values that are not kept."""

    def run(self, query, key, value, *, keep=None, **given):
        context, state = super().run(query, key, value, keep=keep, **given)
        return context + 1e-3 * value.sum(-2, keepdim=True).repeat_interleave(2, 1), state


@pytest.mark.parametrize(
    ("kind", "law", "claim"),
    [
        (Lasting, orders_agree, "context is .* away from steps"),
        (Deaf, orders_agree, "gradient"),
        (Forgetful, chunks_are_one, "away from all at once"),
        (Nosy, hidden_keys_do_not_matter, "keys that a mask hides"),
    ],
)
def test_a_wrong_recurrence_breaks_a_law(kind, law, claim):
    wrong = replace(find("state_space"), recurrence=lambda: kind(scale=1.0))
    with pytest.raises(LawBrokenError, match=claim):
        law(wrong)
    law(replace(find("state_space"), recurrence=lambda: recurrence.Decay(scale=1.0)))
