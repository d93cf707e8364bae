import pytest
import torch
from torch import nn

from attnkit.conformance.case import Skip
from attnkit.conformance.relations import gradients
from attnkit.conformance.relations.gradients import Slopes, run_gradients, run_gradients_at_rest
from tests.conformance.making import RIGHT, CrossAttention, Steps, case_of, fault, findings


@pytest.mark.parametrize("run", [run_gradients, run_gradients_at_rest])
@pytest.mark.parametrize(("make", "said"), RIGHT.values(), ids=RIGHT)
def test_right_targets_are_left_alone(run, make, said):
    assert findings(run, make(), **said) == []


def test_a_slope_is_measured_to_seven_digits():
    # by hand: an affine map has the slope of its gradient, whatever the step
    case = case_of(nn.Sequential(nn.Linear(24, 24)), d_in=24)
    slopes = Slopes(case, case.untouched)
    for name, gradient in slopes.gradients().items():
        one = slopes.measured(name, gradient, 0)
        assert one.stepped == pytest.approx(one.given, rel=1e-7)


class BlockedWeights(Steps):
    def mix(self, weights, value):
        return super().mix(weights.detach(), value)


class BlockedMemory(CrossAttention):
    def project(self, x, read):
        return super().project(x, read.detach())


class Inference(Steps):
    @torch.no_grad()
    def forward(self, x, keep=None):
        return super().forward(x, keep)


@pytest.mark.parametrize(
    ("target", "said", "what"),
    [
        (BlockedWeights(), {}, "query.weight"),
        (BlockedMemory(memory_dim=18), {"cross": True, "memory_dim": 18}, "the memory"),
        (Inference(), {}, "the tokens"),
    ],
)
def test_a_gradient_that_does_not_arrive_is_found(target, said, what):
    (found,) = findings(run_gradients, target, **said)
    assert found.fault == "gradient-blocked"
    assert f"no gradient reaches {what}" in found.sentence


class HalfBlocked(Steps):
    def normalise(self, scores):
        raised = (scores - scores.amax(-1, keepdim=True)).exp()
        return raised / raised.sum(-1, keepdim=True).detach()


class WrongInTraining(Steps):
    def drop(self, weights):
        return weights + (weights - weights.detach()) * self.training


@pytest.mark.parametrize(("kind", "path"), [(HalfBlocked, ""), (WrongInTraining, "training")])
def test_a_wrong_gradient_is_found(kind, path):
    (found,) = findings(run_gradients, kind())
    assert (found.fault, found.path) == ("gradient-wrong", path)
    assert found.measured > 100 * gradients.RELATIVE


class WrongWithDropout(Steps):
    def drop(self, weights):
        if not self.training:
            return weights
        kept = weights * (torch.rand_like(weights) > self.dropout)
        return kept + (kept / (1 - self.dropout) - kept).detach()


def test_a_backward_pass_of_dropout_without_its_rescaling_is_found():
    assert fault(run_gradients, WrongWithDropout(dropout=0.3)) == "gradient-wrong"


class Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, numbers):
        return numbers.clone()

    @staticmethod
    def backward(ctx, grad):
        return grad * float("nan")


class NotFinite(Steps):
    def score(self, query, key):
        return Nothing.apply(super().score(query, key))


class RootOfDistance(Steps):
    """The slope of a root is infinite where two tokens are equal."""

    def score(self, query, key):
        return -((query[..., :, None, :] - key[..., None, :, :]) ** 2).sum(-1).sqrt()

    def project(self, x, read):
        query, _, value = super().project(x, read)
        return query, query, value


def test_a_gradient_that_is_not_finite_is_found():
    (found,) = findings(run_gradients, NotFinite())
    assert found.fault == "gradient-wrong"
    assert "is not finite" in found.sentence


def test_equal_tokens_find_roots_without_a_slope():
    assert fault(run_gradients_at_rest, RootOfDistance()) == "gradient-wrong"


class Frozen(Steps):
    def build(self):
        self.query.requires_grad_(False)


class Float32Inside(Steps):
    def normalise(self, scores):
        return scores.float().softmax(-1).to(scores)


def test_frozen_parameters_and_float32_inside_are_no_fault():
    assert fault(run_gradients, Frozen()) is None
    assert fault(run_gradients, Float32Inside()) is None


def test_a_backward_pass_that_is_refused_says_so():
    class InPlace(Steps):
        def normalise(self, scores):
            weights = scores.softmax(-1)
            with torch.no_grad():
                weights.mul_(1.0)
            return weights

    with pytest.raises(Skip, match="autograd refuses: one of the variables"):
        findings(run_gradients, InPlace())
