import math

import pytest
import torch
from torch.nn import functional

from attnkit import Attention
from attnkit.conformance import Skip
from attnkit.conformance.relations.influence import run_influence
from attnkit.conformance.relations.patterns import holes, in_words
from attnkit.conformance.relations.reads import Source, apart, by_gradients, moved
from tests.conformance.targets import Causal, Plain, case_of, faults, found


def patterned(rule, base: type[Plain] = Causal):
    return type("Patterned", (base,), {"pattern": lambda self, t, s: rule(t, s)})()


def weighed(rule, base: type[Plain] = Causal):
    return type("Weighed", (base,), {"weigh": lambda self, scores, allowed: rule(scores, allowed)})()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("said", [{}, {"causal": True}])
def test_right_attention_passes(seed, said):
    assert faults(run_influence, Causal(), seed=seed, **said) == []


def test_what_reads_the_future_leaks_and_the_sentence_says_which_output_reads_which_token():
    (finding,) = found(run_influence, Plain(), causal=True)
    assert finding.fault == "future-leak"
    assert "which is later" in finding.sentence
    assert finding.measured > 0.01 > finding.allowed
    assert [0, 6] in finding.data["pairs"]


def test_a_leak_of_one_token_is_found():
    (finding,) = found(run_influence, patterned(lambda t, s: s <= t + 1), causal=True)
    # by hand: each output reads one token that is later, but the last, which has none
    assert (finding.fault, finding.data["pairs"]) == ("future-leak", [[t, t + 1] for t in range(6)])


def test_a_mask_that_reads_the_future_alone_is_inverted():
    assert faults(run_influence, patterned(lambda t, s: s >= t), causal=True) == ["mask-inverted"]


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (lambda scores, allowed: scores.softmax(-1) * allowed, "mask-after-softmax"),
        (lambda scores, allowed: (scores + allowed).softmax(-1), "mask-added-as-number"),
        (lambda scores, allowed: scores.masked_fill(~allowed, -10).softmax(-1), "mask-fill-too-weak"),
        (lambda scores, allowed: scores.masked_fill(~allowed, -1e4).softmax(-1), "mask-fill-too-weak"),
        (
            lambda scores, allowed: scores.masked_fill(~allowed, -math.inf).softmax(-2).nan_to_num(),
            "softmax-wrong-axis",
        ),
    ],
)
def test_a_leak_is_called_by_what_causes_it(rule, fault):
    assert faults(run_influence, weighed(rule), causal=True) == [fault]


def test_a_window_of_another_size_than_declared_is_off():
    module = patterned(lambda t, s: (s <= t) & (t - s < 4))
    assert faults(run_influence, module, causal=True, window=4) == []
    for said in (3, 5):
        (finding,) = found(run_influence, module, causal=True, window=said)
        assert (finding.fault, finding.measured, finding.allowed) == ("window-off-by-one", 4.0, float(said))


def test_a_window_that_is_not_declared_is_described_and_not_accused():
    case = case_of(patterned(lambda t, s: (s <= t) & (t - s < 4)), causal=True)
    assert list(run_influence(case)) == []
    assert (case.facts["pattern"], case.facts["window"], case.facts["causal"]) == (
        "causal, window of 4",
        4,
        True,
    )


@pytest.mark.parametrize(
    "rule",
    [
        lambda t, s: (s <= t) & (t // 3 == s // 3),
        lambda t, s: (s <= t) & ((t - s) % 2 == 0),
        lambda t, s: (s <= t) & ((t - s < 2) | (s == 0)),
    ],
)
def test_patterns_with_holes_by_design_are_not_accused(rule):
    assert faults(run_influence, patterned(rule), causal=True) == []


def test_a_token_that_nobody_reads_makes_blind():
    (finding,) = found(run_influence, patterned(lambda t, s: (s <= t) & ((s != 2) | (t == 2))), causal=True)
    assert (finding.fault, finding.data["pairs"]) == ("blind", [[t, 2] for t in range(3, 7)])


def test_an_output_that_does_not_read_its_own_token_is_blind():
    assert faults(run_influence, patterned(lambda t, s: s != t, Plain)) == ["blind"]
    assert faults(run_influence, patterned(lambda t, s: (s < t) | (s + t == 0)), causal=True) == ["blind"]


def test_a_hole_in_a_declared_window_is_blind():
    module = patterned(lambda t, s: (s <= t) & (t - s < 4) & (t - s != 2))
    (finding,) = found(run_influence, module, causal=True, window=4)
    assert finding.fault == "blind"
    assert all(t - s == 2 for t, s in finding.data["pairs"])


def test_a_mask_that_is_missing_in_evaluation_alone_is_skipped_there():
    class OnlyInTraining(Causal):
        def pattern(self, t, s):
            return super().pattern(t, s) | (not self.training)

    (finding,) = found(run_influence, OnlyInTraining(), causal=True)
    assert (finding.fault, finding.path) == ("mask-skipped", "evaluation")


def test_a_hard_choice_made_before_the_mask_leaks():
    def weigh(scores, allowed):
        least = scores.topk(2, -1).values[..., -1:]
        hidden = scores.masked_fill(~allowed, -math.inf).masked_fill(scores < least, -1e4)
        return hidden.masked_fill(~allowed, -math.inf).softmax(-1)

    assert faults(run_influence, weighed(weigh), causal=True) == ["future-leak"]


def test_dropout_that_acts_in_evaluation_is_no_leak():
    rule = lambda scores, allowed: functional.dropout(  # noqa: E731
        scores.masked_fill(~allowed, -math.inf).softmax(-1), 0.3
    )
    assert faults(run_influence, weighed(rule), causal=True) == []


def test_a_target_whose_equal_calls_differ_is_left_out():
    class Noisy(Causal):
        count = 0

        def forward(self, x, memory=None, keep=None):
            Noisy.count += 1
            return super().forward(x) + Noisy.count

    with pytest.raises(Skip, match="equal calls differ"):
        found(run_influence, Noisy(), causal=True)


def test_cross_attention_is_left_to_another_check():
    with pytest.raises(Skip, match="reads a memory"):
        found(run_influence, Plain(), cross=True)


def test_saturated_weights_make_nobody_blind():
    module = Plain()
    with torch.no_grad():
        module.query.weight *= 20  # scores of some hundreds: all but one weight are zero
    assert faults(run_influence, module) == []


def test_replacing_and_gradients_see_the_same_pairs():
    source = Source(case_of(Attention(24, 4, mechanism="sliding_window", window=3)))
    keys = source.keys(2, 6)
    t, s = torch.arange(6)[:, None], torch.arange(6)
    band = ((s <= t) & (t - s < 3)).expand(2, 6, 6)
    assert torch.equal(moved(source, keys) > 0, band)
    assert torch.equal(by_gradients(source, keys) > 0, band)


def test_outputs_are_infinitely_apart_where_one_is_not_finite():
    one = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    other = torch.tensor([[[1.0, math.nan], [3.0, 8.0]]])
    assert apart(one, other).tolist() == [[math.inf, 1.0]]
    assert apart(other, other).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (lambda t, s: s + t >= 0, "reads all"),
        (lambda t, s: s <= t, "causal"),
        (lambda t, s: s >= t, "reads later tokens alone"),
        (lambda t, s: (t - s).abs() < 3, "reads 2 tokens before and 2 after its own"),
        (lambda t, s: (s <= t) & (s % 2 == 0), "causal, a pattern of its own"),
        (lambda t, s: s % 3 == 0, "a pattern of its own"),
    ],
)
def test_patterns_are_described(rule, text):
    assert in_words(rule(torch.arange(7)[:, None], torch.arange(7)))[0] == text


def test_a_full_table_has_no_holes():
    full = torch.ones(7, 7, dtype=torch.bool)
    assert holes(full, causal=False, window=None) == []
    assert holes(full.tril(), causal=True, window=None) == []
