import pytest
import torch
from torch import nn
from torch.nn import functional

from attnkit.conformance.case import Skip
from attnkit.conformance.relations.dropout import SIGMAS, run_dropout
from attnkit.conformance.relations.watching import Dropping
from tests.conformance.making import RIGHT, Steps, case_of, fault, findings

P = 0.3
SAID = {"dropout": P, "num_heads": 4}
DROPPING = {name: one for name, one in RIGHT.items() if one[1].get("dropout")}


@pytest.mark.parametrize(("make", "said"), DROPPING.values(), ids=DROPPING)
def test_right_dropout_is_left_alone(make, said):
    assert findings(run_dropout, make(), **said) == []


@pytest.mark.parametrize("p", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_right_dropout_of_any_share_is_left_alone(p, seed):
    assert findings(run_dropout, Steps(dropout=p), dropout=p, num_heads=4, seed=seed) == []


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_right_dropout_of_any_heads_is_left_alone(heads):
    assert findings(run_dropout, Steps(24, heads, dropout=P), dropout=P, num_heads=heads) == []


def dropping(drop):
    """Steps that drop weights this way in training, made by hand."""

    class ByHand(Steps):
        def drop(self, weights):
            return drop(self, weights) if self.training else weights

    return ByHand(dropout=P)


def kept(weights):
    return torch.rand_like(weights) > P


def test_dropout_that_never_acts_is_found():
    assert fault(run_dropout, dropping(lambda steps, weights: weights), **SAID) == "dropout-never"


def test_weights_that_are_kept_as_they_are_are_not_rescaled():
    (found,) = findings(run_dropout, dropping(lambda steps, weights: weights * kept(weights)), **SAID)
    assert found.fault == "dropout-not-rescaled"
    assert found.allowed == SIGMAS
    assert found.measured > 5 * SIGMAS


def test_one_head_tells_of_rescaling_too():
    class OneHead(Steps):
        def drop(self, weights):
            return weights * kept(weights) if self.training else weights

    assert fault(run_dropout, OneHead(24, 1), dropout=P, num_heads=1) == "dropout-not-rescaled"


def test_the_same_rescaled_is_right():
    assert fault(run_dropout, dropping(lambda steps, w: w * kept(w) / (1 - P)), **SAID) is None


class NormAfter(Steps):
    """The mean of what a norm gives is not what it gives of the mean, and no fault."""

    def finish(self, context, x):
        return functional.layer_norm(self.output(context) + x, (24,))


def test_a_norm_after_right_dropout_is_no_fault():
    assert fault(run_dropout, NormAfter(dropout=P), **SAID) is None


@pytest.mark.parametrize("shape", ["rows", "heads", "samples"])
def test_what_drops_together_is_found(shape):
    def one_mask(steps, weights):
        part = {"rows": weights[..., :1, :], "heads": weights[:, :1], "samples": weights[:1]}[shape]
        return weights * kept(part) / (1 - P)

    assert fault(run_dropout, dropping(one_mask), **SAID) == "dropout-shared"


def test_calls_that_drop_the_same_are_found():
    def seeded(steps, weights):
        drawn = torch.rand(weights.shape, generator=torch.Generator().manual_seed(1))
        return weights * (drawn > P) / (1 - P)

    assert fault(run_dropout, dropping(seeded), **SAID) == "dropout-shared"


class OfScores(Steps):
    def score(self, query, key):
        return functional.dropout(super().score(query, key), self.dropout, self.training)

    def drop(self, weights):
        return weights


class ToMinusInfinity(OfScores):
    def score(self, query, key):
        scores = Steps.score(self, query, key)
        return scores.masked_fill(~kept(scores), -torch.inf) if self.training else scores


@pytest.mark.parametrize("kind", [OfScores, ToMinusInfinity])
def test_a_dropout_of_scores_is_found(kind):
    assert fault(run_dropout, kind(dropout=P), **SAID) == "dropout-before-softmax"


class OthersOnly(Steps):
    """Nobody reads its own key, so that one key is not read at all."""

    def pattern(self, t, s):
        return super().pattern(t, s) & (t != s)


def test_a_target_that_does_not_read_one_key_is_no_fault():
    assert fault(run_dropout, OthersOnly(dropout=P), **SAID) is None


class Sticky(Steps):
    def drop(self, weights):
        self.dropout = self.dropout if self.training else 0.0
        return super().drop(weights)


def test_a_dropout_that_an_evaluation_ends_is_found():
    assert fault(run_dropout, Sticky(dropout=P), **SAID) == "dropout-sticky"


class MostlyDropped(Steps):
    def drop(self, weights):
        return functional.dropout(weights, 1 - P, self.training)


def test_dropping_what_should_be_kept_is_found():
    assert fault(run_dropout, MostlyDropped(dropout=P), **SAID) == "dropout-not-rescaled"


def test_a_dropout_that_nobody_declared_is_found_out():
    case = case_of(nn.MultiheadAttention(24, 4, dropout=P, batch_first=True))
    assert list(run_dropout(case)) == []
    assert case.facts["dropout"] == P


@pytest.mark.parametrize(
    ("target", "said", "reason"),
    [
        (Steps(), {}, "no dropout was declared"),
        (lambda query, key, value: value, {"num_heads": 3}, "a function has no mode"),
        (dropping(lambda steps, w: w * kept(w)), {}, "something is random in training"),
        (dropping(lambda steps, w: w * kept(w)), {"dropout": 0.0}, r"dropout=0\.0 was declared"),
    ],
)
def test_what_cannot_be_told_says_why(target, said, reason):
    with pytest.raises(Skip, match=reason):
        findings(run_dropout, target, **said)


def test_every_dropout_of_torch_is_seen_and_can_be_switched_off():
    x = torch.ones(2, 3, 5, 4)
    layer = nn.MultiheadAttention(4, 2, dropout=0.7, batch_first=True)
    mode = Dropping(lambda drop: True)
    with mode:
        assert torch.equal(functional.dropout(x, 0.1), x)
        assert torch.equal(torch.dropout(x, 0.2, True), x)
        assert torch.equal(nn.Dropout(0.3)(x), x)
        plain = functional.scaled_dot_product_attention(x, x, x, None, 0.4)
        assert torch.equal(plain, functional.scaled_dot_product_attention(x, x, x))
        assert torch.equal(*(layer(x[0], x[0], x[0])[0] for _ in range(2)))
        functional.dropout(x, 0.5, training=False)
    assert [drop.probability for drop in mode.seen] == [0.1, 0.2, 0.3, 0.4, 0.7, 0.7]
    assert mode.seen[0].of_pairs(5, 4)
    assert not mode.seen[0].of_pairs(5, 5)
    assert mode.seen[3].of_pairs(9, 9)  # a fused function drops weights, whatever their shape
