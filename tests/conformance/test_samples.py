import random

import pytest
import torch
from torch import nn
from torch.nn import functional

from attnkit.conformance.case import Skip
from attnkit.conformance.relations.samples import run_determinism, run_samples
from tests.conformance.making import RIGHT, Steps, fault, findings


@pytest.mark.parametrize("run", [run_samples, run_determinism])
@pytest.mark.parametrize(("make", "said"), RIGHT.values(), ids=RIGHT)
def test_right_targets_are_left_alone(run, make, said):
    assert findings(run, make(), **said) == []


class Mixing(Steps):
    def finish(self, context, x):
        return super().finish(context + 0.1 * context.mean(0), x)


class OverSamples(Steps):
    def normalise(self, scores):
        return scores.softmax(0)


def test_a_sample_that_moves_with_others_is_found():
    (found,) = findings(run_samples, Mixing())
    assert found.fault == "batch-crosstalk"
    assert "sample 0 moves by" in found.sentence


def test_attention_over_samples_is_told_from_samples_that_mix():
    # torch's own layer is right, and reads (len, batch, d_in)
    module = nn.MultiheadAttention(24, 4)

    def call(module, x, memory, keep, cache):
        return module(x, x, x, need_weights=False)

    assert fault(run_samples, module, call=call, d_in=24) == "batch-time-swapped"


def test_a_softmax_over_samples_is_told_by_what_one_sample_gives():
    # alone each weight is 1, so that the output is affine in the tokens
    assert fault(run_samples, OverSamples()) == "softmax-wrong-axis"


class Noisy(Steps):
    noise = 0.0

    def score(self, query, key):
        return super().score(query, key) + self.noise * torch.randn(())


class NoisyWithoutGradient(Noisy):
    def score(self, query, key):
        self.noise = 0.0 if torch.is_grad_enabled() else 0.1
        return super().score(query, key) * (1 + self.noise * random.random())


class DropsAlways(Steps):
    def drop(self, weights):
        return functional.dropout(weights, 0.4)


class DropsByHand(Steps):
    def drop(self, weights):
        return weights * (torch.rand_like(weights) > 0.4)


def test_a_noise_is_found_and_is_no_dropout():
    target = Noisy()
    target.noise = 0.1
    assert fault(run_determinism, target) == "nondeterministic"


def test_a_noise_on_one_path_is_found_there():
    (found,) = findings(run_determinism, NoisyWithoutGradient())
    assert (found.fault, found.path) == ("nondeterministic", "evaluation without gradients")


def test_calls_that_agree_without_their_dropout_drop_in_evaluation():
    (found,) = findings(run_determinism, DropsAlways())
    assert found.fault == "dropout-in-eval"
    assert "without a dropout of 0.4 they do not" in found.sentence


@pytest.mark.parametrize(
    ("said", "called"), [({}, "nondeterministic"), ({"dropout": 0.4}, "dropout-in-eval")]
)
def test_a_dropout_made_by_hand_is_one_where_dropout_was_declared(said, called):
    assert fault(run_determinism, DropsByHand(), **said) == called


def test_a_function_that_drops_is_found():
    def drops(query, key, value):
        return functional.scaled_dot_product_attention(query, key, value, dropout_p=0.2)

    assert fault(run_determinism, drops, num_heads=3) == "dropout-in-eval"


def test_samples_are_not_compared_where_equal_calls_differ():
    with pytest.raises(Skip, match="equal calls differ"):
        findings(run_samples, DropsAlways())
