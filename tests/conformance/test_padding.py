import math

import pytest
import torch
from torch import nn

from attnkit import Attention
from attnkit.conformance import Skip
from attnkit.conformance.relations.later import run_left_padding, run_nan_padding, run_stale
from attnkit.conformance.relations.padding import run_neutral, run_padding
from attnkit.conformance.relations.walking import both_ends
from tests.conformance.targets import Causal, Plain, case_of, faults, found


def keyed(rule, base=Plain):
    """Attention with another use of its mask of keys."""
    return type("Keyed", (base,), {"keys": lambda self, keep: rule(keep)})()


def weighed(rule, base=Plain):
    return type("Weighed", (base,), {"weigh": lambda self, scores, allowed: rule(scores, allowed)})()


def filled(value):
    return lambda scores, allowed: scores.masked_fill(~allowed, value).softmax(-1)


@pytest.mark.parametrize("base", [Plain, Causal])
@pytest.mark.parametrize("seed", range(3))
def test_right_attention_passes(base, seed):
    for run in (run_padding, run_neutral, run_stale):
        assert faults(run, base(), seed=seed, causal=base.causal) == []


@pytest.mark.parametrize("layout", [{"batch_first": True}, {"dropout": 0.1}])
def test_the_layer_of_torch_passes(layout):
    for run in (run_padding, run_neutral, run_stale):
        assert faults(run, nn.MultiheadAttention(24, 4, **layout)) == []


CAUSES = {
    "mask-ignored": [keyed(lambda keep: torch.ones(1, 1, 1, keep.shape[1], dtype=torch.bool))],
    "mask-inverted": [keyed(lambda keep: ~keep[:, None, None, :])],
    "mask-after-softmax": [weighed(lambda scores, allowed: scores.softmax(-1) * allowed)],
    "mask-added-as-number": [weighed(lambda scores, allowed: (scores + allowed).softmax(-1))],
    "mask-fill-too-weak": [
        *(weighed(filled(value)) for value in (0.0, -10.0, -100.0, -1e4)),
        weighed(lambda scores, allowed: (scores - 1e4 * ~allowed).softmax(-1)),
    ],
    "mask-wrong-axis": [
        keyed(lambda keep: keep[:, None, :, None]),
        keyed(lambda keep: keep[:, :4, None, None]),
        keyed(lambda keep: keep if keep.shape[0] == keep.shape[1] else keep[:, None, None, :]),
    ],
    "mask-wrong-row": [
        keyed(lambda keep: keep.roll(1, 0)[:, None, None, :]),
        keyed(lambda keep: keep[:1, None, None, :]),
        keyed(lambda keep: keep.repeat(4, 1).view(-1, 4, 1, keep.shape[1])),
        keyed(lambda keep: keep[None, :, None] if keep.shape[0] == 4 else keep[:, None, None, :]),
    ],
}


@pytest.mark.parametrize(
    ("fault", "module"), [(fault, module) for fault, modules in CAUSES.items() for module in modules]
)
@pytest.mark.parametrize("seed", range(2))
def test_a_mask_that_lets_tokens_through_is_called_by_what_causes_it(fault, module, seed):
    (finding,) = found(run_padding, module, seed=seed)
    assert finding.fault == fault
    assert finding.measured > finding.allowed


@pytest.mark.parametrize("fault", ["mask-ignored", "mask-inverted", "mask-after-softmax"])
def test_causal_attention_is_tested_by_padding_on_the_left(fault):
    steps = type(CAUSES[fault][0])
    module = type("Both", (steps, Causal), {})()
    assert faults(run_padding, module, causal=True) == [fault]


def test_finite_fills_that_no_score_beats_pass():
    for fill in (-1e9, torch.finfo(torch.float64).min):
        assert faults(run_padding, weighed(filled(fill))) == []


def test_weights_normalised_once_more_after_the_mask_pass():
    def weigh(scores, allowed):
        weights = scores.softmax(-1) * allowed
        return weights / weights.sum(-1, keepdim=True).clamp_min(1e-300)

    assert faults(run_padding, weighed(weigh)) == []


def test_outputs_of_hidden_tokens_may_be_anything():
    class Zero(Plain):
        def forward(self, x, memory=None, keep=None):
            output = super().forward(x, memory, keep)
            return output if keep is None else output * keep[..., None]

    assert faults(run_padding, Zero()) == []


def test_a_mask_that_hides_more_than_it_should_makes_blind():
    shortest = keyed(lambda keep: (keep & keep.all(0))[:, None, None, :])
    case = case_of(shortest)
    (finding,) = run_padding(case)
    assert finding.fault in ("blind", "dead-row-nan")


def test_nan_for_queries_that_have_keys_to_read_is_found():
    def weigh(scores, allowed):
        first = allowed[..., :1]  # an online softmax that starts from a block with nothing to read
        return scores.masked_fill(~allowed, -math.inf).softmax(-1) + torch.where(first, 0.0, math.nan)

    (finding,) = found(run_padding, weighed(weigh))
    assert (finding.fault, "have keys to read" in finding.sentence) == ("dead-row-nan", True)


def test_a_mask_only_in_training_is_skipped_in_evaluation():
    class OnlyInTraining(Plain):
        def keys(self, keep):
            return super().keys(keep if self.training else torch.ones_like(keep))

    (finding,) = found(run_padding, OnlyInTraining())
    assert (finding.fault, finding.path) == ("mask-skipped", "evaluation")


def test_what_mixes_samples_is_not_blamed_on_the_mask():
    class Mixing(Plain):
        def weigh(self, scores, allowed):
            weights = scores.masked_fill(~allowed, -math.inf).softmax(0)
            return weights.nan_to_num()

    assert faults(run_padding, Mixing()) == ["batch-crosstalk"]


def test_a_mask_that_keeps_everything_and_changes_outputs_is_found():
    flipped = keyed(lambda keep: ~keep[:, None, None, :])
    assert faults(run_neutral, flipped) == ["mask-inverted"]


def test_a_causal_mask_that_a_mask_of_keys_replaces_is_skipped():
    class Replaced(Causal):
        def allowed(self, q_len, kv_len, keep):
            return super().allowed(q_len, kv_len, None) if keep is None else self.keys(keep)

    assert faults(run_neutral, Replaced(), causal=True) == ["mask-skipped"]


class Held(Plain):
    """Keeps the first mask, or the last."""

    def __init__(self, first):
        super().__init__()
        self.first, self.held = first, None

    def forward(self, x, memory=None, keep=None):
        if self.first:
            self.held = keep if self.held is None else self.held
        else:
            self.held = self.held if keep is None else keep
        same = self.held is not None and self.held.shape == x.shape[:2]
        return super().forward(x, memory, self.held if same else keep)


@pytest.mark.parametrize(("first", "word"), [(True, "another mask"), (False, "no mask")])
def test_the_mask_of_an_earlier_call_is_stale(first, word):
    (finding,) = found(run_stale, Held(first))
    assert (finding.fault, word in finding.sentence) == ("mask-stale", True)


def test_padding_is_not_accused_of_what_is_stale():
    case = case_of(Held(first=True))
    assert [finding.fault for finding in run_stale(case)] == ["mask-stale"]
    with pytest.raises(Skip, match="the call before"):
        list(run_padding(case))


def test_a_target_without_a_mask_is_left_out():
    for run in (run_padding, run_neutral, run_stale, run_nan_padding):
        with pytest.raises(Skip, match="no mask of keys"):
            found(run, Plain(), mask=False)


def test_a_target_that_refuses_every_mask_is_left_out():
    def refuse(keep):
        raise ValueError

    for run in (run_padding, run_neutral, run_stale):
        with pytest.raises(Skip, match="refuses a mask"):
            found(run, keyed(refuse))


class Placed(Causal):
    """With absolute positions."""

    def forward(self, x, memory=None, keep=None):
        places = torch.arange(x.shape[1]).to(x)[:, None] / torch.arange(1, 25).to(x)
        return super().forward(x + places.sin(), memory, keep)


def test_left_padding_shifts_absolute_positions_that_are_said_to_be_relative():
    said = {"causal": True, "positions": "rotary"}
    assert faults(run_left_padding, Placed(), **said) == ["position-offset"]
    assert faults(run_left_padding, Attention(24, 4, mechanism="rotary"), **said) == []
    with pytest.raises(Skip, match="no relative positions"):
        found(run_left_padding, Placed(), causal=True)


def test_hidden_tokens_that_are_no_numbers_reach_a_product_with_zero():
    assert faults(run_nan_padding, Plain()) == ["mask-fill-too-weak"]

    class Cleaned(Plain):
        def forward(self, x, memory=None, keep=None):
            return super().forward(x if keep is None else torch.where(keep[..., None], x, 0.0), memory, keep)

    assert faults(run_nan_padding, Cleaned()) == []


def test_masks_differ_from_sample_to_sample_and_leave_each_something():
    for batch, length in ((3, 7), (4, 7), (5, 5), (2, 2), (1, 7)):
        keep = both_ends(batch, length)
        assert keep.any(-1).all()
        assert (~keep).any(-1).all()
        assert len({tuple(row) for row in keep.tolist()}) == batch
