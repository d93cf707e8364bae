"""What a recurrence refuses: each message says what was given, what holds, and what to write instead."""

import pytest
import torch

from attnkit import recurrence
from attnkit.errors import DtypeError, OptionError, ShapeError, UnknownNameError
from tests.recurrence.cases import KINDS, draw

pytestmark = pytest.mark.messages


def refused(error, kind, match, *, order="chunked", state=None, **changed):
    """`kind` is called with usual inputs but for what is `changed`; the message reads as `match` says."""
    given = {**draw(kind), **changed}
    with pytest.raises(error, match=match):
        kind().run(**given, order=order, state=state)


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [(recurrence.Decay, -0.25, 0.5), (recurrence.GatedLinear, 0.0, 1.5), (recurrence.GatedDelta, 0.0, 2.0)],
)
def test_a_decay_beyond_0_and_1_names_its_extremes(kind, low, high):
    gate = 0.5 * draw(kind)["decay"]
    gate.flatten()[0], gate.flatten()[1] = low, high
    message = rf"decay is the share .* keeps, from 0 to 1; got values from {low:.4g} to {high:.4g}(?s:.*)sigmoid\(\)"
    refused(OptionError, kind, message, decay=gate)


def test_a_beta_beyond_1_names_its_extremes():
    gate = torch.full((3, 1), 2.0)
    refused(
        OptionError, recurrence.Delta, r"beta is the share .* got values from 2 to 2(?s:.*)sigmoid", beta=gate
    )


def test_a_decay_that_is_no_number_is_refused():
    refused(OptionError, recurrence.Decay, "got values from nan", decay=torch.full((3, 1), torch.nan))


def test_a_logarithm_of_a_decay_is_recognised():
    gate = draw(recurrence.Decay)["decay"].log()
    refused(OptionError, recurrence.Decay, r"logarithms: decay=log_decay.exp\(\)", decay=gate)


def test_a_gate_that_is_missing_is_asked_for():
    message = r"decay is missing, the share of the memory(?s:.*)torch.full\(\(3, 1\), 0.9\)"
    refused(OptionError, recurrence.Decay, message, decay=None)
    refused(OptionError, recurrence.GatedDelta, r"GatedDelta: beta is missing", beta=None)


def test_a_gate_that_is_not_taken_is_refused():
    gate = torch.ones(3, 1)
    refused(
        OptionError,
        recurrence.Linear,
        "Linear: it takes no gate; got decay(?s:.*)leave decay out",
        decay=gate,
    )
    refused(OptionError, recurrence.Delta, "it takes beta; got decay(?s:.*)GatedDelta fade", decay=gate)
    refused(OptionError, recurrence.Decay, "it takes decay; got beta(?s:.*)GatedDelta correct", beta=gate)


def test_a_gate_of_another_type_is_refused():
    refused(
        DtypeError, recurrence.Decay, r"tensor of floats; got float(?s:.*)torch.full\(\(3, 1\)", decay=0.9
    )
    refused(DtypeError, recurrence.Decay, r"got torch.int64", decay=torch.ones(3, 1, dtype=torch.long))
    message = r"one device for all; got decay on meta, key on cpu(?s:.*)decay.to\(key.device\)"
    refused(DtypeError, recurrence.Decay, message, decay=torch.ones(3, 1, device="meta"))


@pytest.mark.parametrize("shape", [(13,), (2, 13, 3), (2, 6, 13), (2, 3, 13, 4), (1, 2, 3, 13)], ids=str)
def test_a_decay_of_the_wrong_shape_is_told_the_right_one(shape):
    message = (
        r"does not fit key \(2, 3, 13, 4\); it is \(\*batch, kv_heads, len\)(?s:.*)\(2, 3, 13\); or \(3, 1\)"
    )
    refused(ShapeError, recurrence.Decay, message, decay=torch.ones(shape))


@pytest.mark.parametrize("shape", [(3, 13), (2, 3, 13), (3, 13, 5)], ids=str)
def test_a_decay_of_channels_of_the_wrong_shape_is_told_the_right_one(shape):
    message = r"it is \(\*batch, kv_heads, len, head_dim\)(?s:.*)\(2, 3, 13, 4\); or \(3, 1, 1\)"
    refused(ShapeError, recurrence.GatedLinear, message, decay=torch.ones(shape))


@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_are_refused(kind):
    value = torch.ones(2, 3, 13, 5, dtype=torch.long)
    message = rf"{kind.__name__}: value must be a tensor of floats; got torch.int64(?s:.*)as_tensor\(value\).float\(\)"
    refused(DtypeError, kind, message, value=value)


def test_two_dtypes_are_refused():
    message = r"one dtype and one device for all; got query torch.float64 .* value torch.float32(?s:.*)\.to\(query\)"
    refused(DtypeError, recurrence.Linear, message, value=torch.ones(2, 3, 13, 5))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": (13, 4)}, r"query \(13, 4\) has no axis of heads(?s:.*)query\[None\]"),
        ({"query": (2, 6, 13, 3)}, r"key \(2, 3, 13, 4\) end in different head_dim(?s:.*)project both"),
        ({"query": (2, 6, 13, 0), "key": (2, 3, 13, 0)}, "end in a head_dim of 0"),
        ({"query": (1, 6, 13, 4)}, "have different batch axes(?s:.*)expand"),
        ({"query": (2, 6, 1, 4)}, "are not of the same tokens; a recurrence writes and reads(?s:.*)state="),
        ({"query": (2, 4, 13, 4)}, "have 4 and 3 heads, which cannot be shared evenly(?s:.*)divides"),
        ({"value": (2, 3, 12, 5)}, r"value \(2, 3, 12, 5\) differ before the last axis(?s:.*)same batch"),
    ],
)
def test_axes_that_do_not_fit_are_named(changed, message):
    tensors = {name: torch.ones(shape, dtype=torch.float64) for name, shape in changed.items()}
    refused(ShapeError, recurrence.Linear, message, **tensors)


def test_a_state_of_another_recurrence_is_refused():
    _, state = recurrence.Delta().run(**draw(recurrence.Delta))
    message = r"state is a DecayState, what an earlier run gave; got DeltaState(?s:.*)recurrence.run"
    refused(OptionError, recurrence.Decay, message, state=state)
    refused(OptionError, recurrence.Decay, "got Tensor", state=state.memory)


def test_a_state_of_another_batch_is_refused():
    _, state = recurrence.Linear().run(**draw(recurrence.Linear, batch=(7,)))
    message = (
        r"state.memory is \(7, 3, 4, 5\); these inputs need \(2, 3, 4, 5\)(?s:.*)the batch, heads, head_dim"
    )
    refused(ShapeError, recurrence.Linear, message, state=state)
    _, own = recurrence.Linear().run(**draw(recurrence.Linear))
    message = r"state.normalizer is \(7, 3, 4\); these inputs need \(2, 3, 4\)"
    refused(ShapeError, recurrence.Linear, message, state=own._replace(normalizer=state.normalizer))


def test_a_state_in_half_precision_is_refused():
    _, state = recurrence.Delta().run(**draw(recurrence.Delta, dtype=torch.float32))
    half = recurrence.DeltaState(state.memory.half())
    message = r"state.memory is torch.float16 on cpu; .* torch.float64 on cpu(?s:.*)DeltaState\(\*\(part.to"
    refused(DtypeError, recurrence.Delta, message, state=half)


def test_an_order_that_is_not_known_is_corrected():
    refused(
        UnknownNameError, recurrence.Delta, "no order 'chunk'(?s:.*)did you mean 'chunked'", order="chunk"
    )


@pytest.mark.parametrize("size", [0, 3, 48, -2, 2.0, None])
def test_a_chunk_is_a_power_of_two(size):
    with pytest.raises(OptionError, match=rf"power of two: 1, 2, 4, ...; got {size}(?s:.*)chunk_tokens=64"):
        recurrence.Linear(chunk_tokens=size)


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), "1"])
def test_a_scale_is_a_finite_number(scale):
    with pytest.raises(
        OptionError, match=r"scale is a finite number(?s:.*)Delta\(scale=1.0\)\(query \* scale"
    ):
        recurrence.Delta(scale=scale)


def test_retention_has_at_least_one_head():
    with pytest.raises(OptionError, match=r"num_heads is 1, 2, 3, ...; got 0(?s:.*)retention_decay\(8\)"):
        recurrence.retention_decay(0)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_entropy_is_refused_where_rows_do_not_sum_to_one(kind):
    given = draw(kind)
    del given["value"]
    message = rf"entropy has no meaning for {kind.__name__}: its rows .* do not sum to one(?s:.*)weights\(\) and rows"
    with pytest.raises(OptionError, match=message):
        kind().inspect(**given).entropy()


def test_a_log_sum_exp_is_refused():
    given = draw(recurrence.Linear)
    with pytest.raises(OptionError, match=r"lse has no meaning for Linear: it has no softmax"):
        recurrence.Linear().inspect(given["query"], given["key"]).lse()


def test_rows_count_the_tokens():
    given = draw(recurrence.Linear)
    found = recurrence.Linear().inspect(given["query"], given["key"])
    with pytest.raises(
        OptionError, match=r"count the 13 tokens from 0, or from -1 backwards; got \[13\](?s:.*)rows"
    ):
        found.rows([13])
