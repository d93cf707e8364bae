import pytest
import torch

from attnkit.conformance.relations.softmax import run_rows
from tests.conformance.weighing import WithSink, case_of, faults, made, reason
from tests.mutants.base import Attention, rotated


def weighing(weigh):
    """A layer whose weights are `weigh(layer, scores, allowed)`."""
    return made(type("Weighing", (Attention,), {"weigh": weigh}))


def along(*axes):
    def weigh(layer, scores, allowed):
        raised = scores.exp()
        return raised / raised.sum(axes, keepdim=True)

    return weigh


@pytest.mark.parametrize("axes", [(-2,), (1,), (0,), (-1, -2)])
def test_a_softmax_over_another_axis_is_named(axes):
    assert faults(run_rows, case_of(weighing(along(*axes)), num_heads=4)) == ["softmax-wrong-axis"]


def test_a_softmax_over_keys_is_right():
    assert faults(run_rows, case_of(weighing(along(-1)), num_heads=4)) == []


@pytest.mark.parametrize(
    ("weigh", "fault"),
    [
        (lambda layer, scores, allowed: scores, "softmax-missing"),
        (lambda layer, scores, allowed: scores.sigmoid(), "softmax-missing"),
        (lambda layer, scores, allowed: scores.softmax(-1) * layer.head_dim**-0.5, "scale-after-softmax"),
        (
            lambda layer, scores, allowed: scores.exp() / (1 + scores.exp().sum(-1, keepdim=True)),
            "sink-wrong",
        ),
        (lambda layer, scores, allowed: scores.softmax(-1).bfloat16().to(scores), "low-precision"),
    ],
)
def test_rows_that_do_not_sum_to_one_say_why(weigh, fault):
    assert faults(run_rows, case_of(weighing(weigh), num_heads=4)) == [fault]


def test_a_mask_after_the_softmax_shows_in_all_rows_but_the_last():
    def weigh(layer, scores, allowed):
        return scores.softmax(-1).masked_fill(~allowed.tril(), 0)

    assert faults(run_rows, case_of(weighing(weigh), causal=True)) == ["mask-after-softmax"]


def test_a_turned_value_is_named_before_its_rows():
    class Turned(Attention):
        def turn(self, query, key, value, start):
            return rotated(query, 0), rotated(key, 0), rotated(value, 0)

    assert faults(run_rows, case_of(made(Turned), num_heads=4)) == ["position-on-value"]


def test_a_value_that_fades_by_place_is_no_missing_softmax():
    class Fading(Attention):
        def mix(self, weights, value):
            return weights @ (value * 0.9 ** torch.arange(value.shape[2]).to(value)[:, None])

    assert faults(run_rows, case_of(made(Fading))) == ["position-on-value"]


def test_what_dropout_explains_is_left_to_dropout():
    # 1 / (1 - 0.3) = 1.43
    case = case_of(weighing(lambda layer, scores, allowed: scores.softmax(-1) / 0.7), dropout=0.3)
    assert faults(run_rows, case) == ["dropout-not-rescaled"]


def test_a_block_that_is_filled_up_and_read_is_a_layout():
    def weigh(layer, scores, allowed):
        filled = torch.nn.functional.pad(scores, (0, -scores.shape[-1] % 8))
        return filled.softmax(-1)[..., : scores.shape[-1]]

    assert faults(run_rows, case_of(weighing(weigh))) == ["layout"]


def test_a_parameter_called_sink_is_meant():
    assert reason(run_rows, case_of(made(WithSink))) == "its weights need not sum to one"


def test_normalised_weights_that_are_declared_are_tested_whatever_the_names_are():
    assert faults(run_rows, case_of(made(WithSink), normalised=True)) == ["sink-wrong"]


def test_weights_that_are_declared_not_to_sum_to_one_are_not_accused():
    sigmoid = weighing(lambda layer, scores, allowed: scores.sigmoid())
    assert reason(run_rows, case_of(sigmoid, normalised=False)) == "its weights need not sum to one"
