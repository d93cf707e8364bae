import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from attnkit import Attention, all_mechanisms, find
from attnkit.conformance.case import Skip
from attnkit.conformance.relations import precision
from attnkit.conformance.relations.precision import (
    DTYPES,
    FACTOR,
    explained,
    run_autocast,
    run_half,
    run_large,
    run_overflow,
    run_smooth,
    typical,
)
from tests.conformance.making import RIGHT, Steps, case_of, fault, findings

RUNS = [check.run for check in precision.CHECKS]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("make", "said"), RIGHT.values(), ids=RIGHT)
def test_right_targets_are_left_alone(run, make, said):
    assert findings(run, make(), **said) == []


@pytest.mark.parametrize("name", all_mechanisms())
def test_what_a_right_target_errs_is_explained_twice_over(name):
    # this is where FACTOR comes from: 1.5 is the largest of 990 right targets, kinds of numbers and seeds
    options = next(iter(find(name).examples), {})
    case = case_of(Attention(24, 4, mechanism=name, **options))
    for dtype in DTYPES:
        low = case.untouched.copied(dtype=dtype)
        x = case.tokens(seed=30).to(dtype)
        reference = replace(low, module=copy.deepcopy(low.module).double())
        with torch.no_grad():
            off = typical(low(x), reference(x.double()))
        assert off <= FACTOR / 2 * explained(case, reference, (x.double(), None, None), dtype)


class HalfWeights(Steps):
    def mix(self, weights, value):
        return super().mix(weights.bfloat16().to(weights), value)


class Float32Weights(Steps):
    def mix(self, weights, value):
        return super().mix(weights.float().to(weights), value)


def test_half_precision_inside_is_found_in_float64():
    (found,) = findings(run_smooth, HalfWeights())
    assert found.fault == "low-precision"
    assert found.measured > 5 * found.allowed


def test_float32_inside_is_no_fault():
    assert [fault(run, Float32Weights()) for run in RUNS] == [None] * len(RUNS)


class BareExponents(Steps):
    def normalise(self, scores):
        raised = scores.exp()
        return raised / raised.sum(-1, keepdim=True)


def test_exponents_that_overflow_are_found():
    (found,) = findings(run_large, BareExponents())
    assert found.fault == "low-precision"
    assert "100 times as large" in found.sentence


class FillTooLarge(Steps):
    def hide(self, scores, allowed):
        return scores.masked_fill(~allowed, -1e9)


class LosesBits(Steps):
    """Right in float64 and float32, and a hundredth off in float16."""

    def normalise(self, scores):
        raised = (scores - scores.amax(-1, keepdim=True) - 12).exp()
        return raised / raised.sum(-1, keepdim=True)


class LosesBitsBehindAMask(Steps):
    def hide(self, scores, allowed):
        coarse = (scores * 2).round() / 2 if scores.dtype == torch.float16 else scores
        return super().hide(scores if allowed.all() else coarse, allowed)


def test_a_number_that_half_precision_cannot_hold_is_found():
    (found,) = findings(run_half, FillTooLarge())
    assert (found.fault, found.path) == ("low-precision", "float16")
    assert "without overflow" in found.sentence


def test_more_error_than_rounding_explains_is_found():
    (found,) = findings(run_half, LosesBits())
    assert (found.fault, found.path) == ("low-precision", "float16")
    assert found.measured > found.allowed


def test_more_error_behind_a_mask_is_found():
    (found,) = findings(run_half, LosesBitsBehindAMask())
    assert found.path == "float16"
    assert "with a mask of keys" in found.sentence


class LargeBeforeScale(Steps):
    def score(self, query, key):
        return (
            ((query * 100) @ key.mT) / 100 * self.scale()
            if query.dtype == torch.float16
            else super().score(query, key)
        )


class LargeByFormula(Steps):
    """So in every precision: float16 is not made for it, and it hides nothing."""

    def score(self, query, key):
        return ((query * 1e4) @ key.mT) / 1e4 * self.scale()


def test_an_overflow_that_the_formula_does_not_explain_is_found():
    (found,) = findings(run_overflow, LargeBeforeScale())
    assert found.fault == "low-precision"
    assert "in float64 none is larger than" in found.sentence


def test_an_overflow_of_the_formula_itself_is_no_fault():
    assert fault(run_overflow, LargeByFormula()) is None
    with pytest.raises(Skip, match="too large for float16"):
        findings(run_half, LargeByFormula())


class OnlyUnderAutocast(Steps):
    def weigh(self, scores, allowed):
        noise = 0.5 if torch.is_autocast_enabled("cpu") else 0.0
        return super().weigh(scores, allowed) * (1 - noise)


def test_another_result_under_autocast_is_found():
    assert fault(run_autocast, OnlyUnderAutocast()) == "low-precision"


def test_a_type_that_a_target_refuses_is_no_fault():
    class Needs64(nn.Linear):
        def forward(self, x):
            assert x.dtype != torch.float16, "no half"
            return super().forward(x)

    with pytest.raises(Skip, match="AssertionError in float16"):
        findings(run_half, Needs64(24, 24), d_in=24)
