import math

import pytest
import torch
from torch import nn

from attnkit import Attention
from attnkit.conformance import Skip
from attnkit.conformance.relations.dead_rows import run_dead_row_junk, run_dead_rows
from tests.conformance.targets import Causal, Plain, case_of, faults, found


def weighed(rule, base=Plain):
    return type("Weighed", (base,), {"weigh": lambda self, scores, allowed: rule(scores, allowed)})()


def plain(scores, allowed):
    return scores.masked_fill(~allowed, -math.inf).softmax(-1)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Plain(), {}),
        (Causal(), {"causal": True}),
        (Plain(memory_dim=18), {"cross": True}),
        (Attention(24, 4, mechanism="causal"), {"causal": True}),
        (Attention(24, 4, mechanism="linear"), {}),
        (nn.MultiheadAttention(24, 4, batch_first=True), {}),
    ],
)
def test_right_attention_passes(module, said):
    assert faults(run_dead_rows, module, **said) == []


def test_a_plain_softmax_gives_nan():
    (finding,) = found(run_dead_rows, weighed(plain))
    # by hand: 7 outputs of one of the 3 samples have no key
    assert (finding.fault, finding.measured, finding.data["spread"]) == ("dead-row-nan", 7.0, False)
    assert "7 of 21 outputs are not finite" in finding.sentence


def test_causal_rows_before_the_first_kept_token_are_dead():
    def weigh(scores, allowed):
        weights = plain(scores, allowed)
        alive = allowed.any(-1, keepdim=True) | ~allowed.any(-1, keepdim=True).any(-2, keepdim=True)
        return (
            weights.masked_fill(~allowed & ~alive, math.nan)
            .where(alive, math.nan)
            .where(allowed.any(-1, keepdim=True).any(-2, keepdim=True), 0.0)
        )

    (finding,) = found(run_dead_rows, weighed(weigh, Causal), causal=True)
    assert (finding.fault, "left of a causal text" in finding.sentence) == ("dead-row-nan", True)
    assert finding.measured == 3.0  # the 3 tokens of padding


def test_a_gradient_of_nan_is_found_where_outputs_are_finite():
    def weigh(scores, allowed):
        added = torch.zeros(()).to(scores).masked_fill(~allowed, -math.inf)
        return (scores + added).softmax(-1).nan_to_num()

    (finding,) = found(run_dead_rows, weighed(weigh))
    assert (finding.fault, "the gradient of the tokens" in finding.sentence) == ("dead-row-nan", True)


@pytest.mark.parametrize("path", ["training", "evaluation without gradients"])
def test_nan_on_one_path_is_found_and_the_path_is_named(path):
    class There(Plain):
        def weigh(self, scores, allowed):
            here = self.training if path == "training" else not torch.is_grad_enabled()
            return plain(scores, allowed) if here else super().weigh(scores, allowed)

    (finding,) = found(run_dead_rows, There())
    assert (finding.fault, finding.path) == ("dead-row-nan", path)


def test_a_fill_that_overflows_in_float64_alone_is_no_fault():
    def weigh(scores, allowed):
        filled = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        weights = filled.float().softmax(-1).to(scores)  # from float64 the fill becomes minus infinity
        return weights.masked_fill(~allowed, 0)

    assert faults(run_dead_rows, weighed(weigh)) == []


def test_two_fills_that_add_up_to_minus_infinity_give_nan():
    def weigh(scores, allowed):
        least = torch.finfo(scores.dtype).min * (~allowed).to(scores)
        return (scores + least + least).softmax(-1)

    assert faults(run_dead_rows, weighed(weigh)) == ["dead-row-nan"]


@pytest.mark.parametrize("fill", [-1e9, -1e30])
@pytest.mark.parametrize("base", [Plain, Causal])
def test_the_mean_of_hidden_values_is_junk(fill, base):
    module = weighed(lambda scores, allowed: scores.masked_fill(~allowed, fill).softmax(-1), base)
    assert faults(run_dead_rows, module, causal=base.causal) == []
    (finding,) = found(run_dead_row_junk, module, causal=base.causal)
    assert (finding.fault, finding.measured > 0.01) == ("dead-row-junk", True)


def test_a_constant_is_no_junk():
    class Constant(Plain):
        def weigh(self, scores, allowed):
            return super().weigh(scores, allowed)

        def forward(self, x, memory=None, keep=None):
            output = super().forward(x, memory, keep)
            return output if keep is None else torch.where(keep.any(-1)[:, None, None], output, 7.0)

    for module in (Plain(), Constant()):
        assert faults(run_dead_row_junk, module) == []


def test_junk_is_looked_for_in_memories_too():
    module = type(weighed(lambda scores, allowed: scores.masked_fill(~allowed, -1e9).softmax(-1)))(18)
    assert faults(run_dead_row_junk, module, cross=True) == ["dead-row-junk"]


def test_libraries_that_leave_it_open_are_not_accused():
    with pytest.raises(Skip, match="leaves open"):
        found(run_dead_row_junk, nn.MultiheadAttention(24, 4, batch_first=True))


def test_a_target_that_refuses_such_a_mask_is_left_out():
    class Refusing(Plain):
        def keys(self, keep):
            if not keep.any(-1).all():
                raise ValueError
            return super().keys(keep)

    with pytest.raises(Skip, match="refuses a mask that hides every key"):
        found(run_dead_rows, Refusing())


def test_junk_is_not_looked_for_where_the_mask_is_wrong_anyway():
    case = case_of(Plain())
    case.facts["mask fault"] = "mask-ignored"
    with pytest.raises(Skip, match="wrong anyway"):
        list(run_dead_row_junk(case))
