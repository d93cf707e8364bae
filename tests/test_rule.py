import math

import pytest
import torch

from attnkit import Rule, masks
from attnkit.errors import BackendError, DtypeError, OptionError, ShapeError, UnknownNameError
from attnkit.normalizers import Normalizer, Softmax
from tests.helpers import inputs


class Evenly(Normalizer):
    """The same weight for every key, whatever the scores."""

    def __call__(self, scores, keep):
        return torch.ones_like(scores) / scores.shape[-1]


def halve(score, head, q_pos, kv_pos):
    return score / 2


def closer_is_better(score, head, q_pos, kv_pos):
    return score - (head + 1) * (q_pos - kv_pos).abs()


def test_a_row_by_hand():
    # scores ln 1 and ln 3 become weights 1/4 and 3/4: context 0.25 * 8 + 0.75 * 4 = 5
    query = torch.ones(1, 1, 1)
    key = torch.tensor([[[math.log(1)], [math.log(3)]]])
    value = torch.tensor([[[8.0], [4.0]]])
    torch.testing.assert_close(Rule()(query, key, value), torch.tensor([[[5.0]]]))


def test_the_scale_is_one_over_the_root_of_head_dim():
    query, key, value = inputs()
    torch.testing.assert_close(Rule()(query, key, value), Rule(scale=0.5)(query, key, value))


def test_another_scale_multiplies_the_scores():
    query, key, value = inputs()
    torch.testing.assert_close(Rule(scale=1.0)(query, key, value), Rule(scale=0.5)(2 * query, key, value))


def test_a_score_step_changes_the_scores_after_scaling():
    query, key, value = inputs()
    torch.testing.assert_close(Rule(scores=(halve,))(query, key, value), Rule(scale=0.25)(query, key, value))


def test_a_score_step_knows_head_and_positions():
    # equal scores: only the step tells the keys apart; the last query stands at key 6
    query, key = torch.zeros(2, 5, 4), torch.zeros(2, 7, 4)
    weights = Rule(scores=(closer_is_better,)).inspect(query, key).weights()
    distance = torch.arange(7).sub(6).abs()
    torch.testing.assert_close(weights[0, -1], (-1.0 * distance).softmax(-1))
    torch.testing.assert_close(weights[1, -1], (-2.0 * distance).softmax(-1))


def test_score_steps_run_in_the_order_given():
    def add_one(score, head, q_pos, kv_pos):
        return score + kv_pos

    query, key, value = inputs()
    both = Rule(scores=(halve, add_one))(query, key, value)
    other = Rule(scores=(add_one, halve))(query, key, value)
    assert (both - other).abs().max() > 0.01


def test_the_normalizer_makes_the_weights():
    query, key, value = inputs()
    torch.testing.assert_close(
        Rule(normalizer=Evenly())(query, key, value), value.mean(-2, keepdim=True).expand(-1, -1, 5, -1)
    )


def test_dropout_acts_only_when_training_is_said():
    query, key, value = inputs()
    torch.testing.assert_close(Rule(dropout=0.5)(query, key, value), Rule()(query, key, value))


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_dropout_keeps_the_mean(backend):
    # 4,000 heads of one query and equal values: the context is the sum of the kept weights over 1 - p
    query, key, value = torch.zeros(4000, 1, 4), torch.zeros(4000, 6, 4), torch.ones(4000, 6, 1)
    torch.manual_seed(0)
    context = Rule(dropout=0.25)(query, key, value, training=True, backend=backend).flatten()
    # one weight has variance (1/6)^2 * p / (1 - p); the mean of 4,000 sums of six: 4 standard errors
    spread = (6 * (1 / 6) ** 2 * 0.25 / 0.75) ** 0.5
    assert abs(context.mean().item() - 1) < 4 * spread / 4000**0.5
    assert abs(context.std().item() / spread - 1) < 0.1


def test_dropout_of_one_drops_everything():
    query, key, value = inputs()
    assert torch.equal(
        Rule(dropout=1.0)(query, key, value, training=True, backend="eager"), torch.zeros(2, 3, 5, 8)
    )


def test_a_generator_makes_dropout_repeatable():
    tensors, rule = inputs(), Rule(dropout=0.5)
    first, second, other = (
        rule(*tensors, training=True, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.compiled
def test_a_rule_runs_whole_under_compile():
    tensors, rule = inputs(), Rule(mask=masks.causal & masks.lengths([7, 4]))
    compiled = torch.compile(rule.__call__, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*tensors), rule(*tensors))


def test_explain_names_each_backend_and_the_chosen_one():
    explanation = Rule(mask=masks.causal).explain(*inputs())
    assert explanation.refusals == {"sdpa": None, "eager": None}
    assert explanation.chosen == "sdpa"
    assert str(explanation).splitlines() == [
        "Rule(mask=causal)",
        "on query (2, 3, 5, 4), key (2, 3, 7, 4), value (2, 3, 7, 8), float32, cpu, first query at position 2",
        "  sdpa   yes   <- chosen",
        "  eager  yes",
    ]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule(scores=(halve,)), "it knows no score steps"),
        (Rule(normalizer=Evenly()), "always normalises by softmax"),
    ],
)
def test_explain_gives_the_reason_of_a_refusal(rule, reason):
    explanation = rule.explain(*inputs())
    assert reason in explanation.refusals["sdpa"]
    assert explanation.chosen == "eager"


def test_a_rule_reads_as_it_was_written():
    rule = Rule(mask=masks.causal, scale=2.0, dropout=0.5)
    assert repr(rule) == "Rule(mask=causal, scale=2.0, dropout=0.5)"


def test_rules_of_equal_parts_are_equal():
    assert Rule(mask=masks.causal) == Rule(mask=masks.causal, normalizer=Softmax())
    assert Rule(mask=masks.causal) != Rule()


@pytest.mark.messages
def test_a_backend_insisted_on_never_falls_back():
    with pytest.raises(
        BackendError, match=r'backend="sdpa" cannot run this: it knows no score steps(?s:.*)explain'
    ):
        Rule(scores=(halve,))(*inputs(), backend="sdpa")


@pytest.mark.messages
def test_sdpa_refuses_a_generator_that_it_would_not_use():
    with pytest.raises(BackendError, match=r"draws from PyTorch's own generator alone"):
        Rule(dropout=0.5)(*inputs(), training=True, generator=torch.Generator(), backend="sdpa")


@pytest.mark.messages
def test_an_unknown_backend_is_corrected():
    with pytest.raises(UnknownNameError, match=r"no backend 'spda'\n  fix: did you mean 'sdpa'\?"):
        Rule()(*inputs(), backend="spda")


def shaped(**changes):
    shapes = {"query": (2, 3, 5, 4), "key": (2, 3, 7, 4), "value": (2, 3, 7, 8)} | changes
    return [torch.ones(shape) for shape in shapes.values()]


@pytest.mark.messages
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            shaped(key=(2, 3, 7, 3)),
            r"query \(2, 3, 5, 4\) and key \(2, 3, 7, 3\) end in different head_dim(?s:.*)head_dim=4",
        ),
        (
            shaped(value=(2, 3, 6, 8)),
            r"key \(2, 3, 7, 4\) and value \(2, 3, 6, 8\) differ before the last axis",
        ),
        (
            shaped(key=(1, 3, 7, 4), value=(1, 3, 7, 8)),
            r"different batch axes(?s:.*)key\.expand\(2, \.\.\.\)",
        ),
        (shaped(key=(2, 2, 7, 4), value=(2, 2, 7, 8)), r"have 3 and 2 heads, which cannot be shared evenly"),
        (
            shaped(query=(5, 4), key=(7, 4), value=(7, 8)),
            r"query \(5, 4\) has no axis of heads(?s:.*)query\.unsqueeze\(-3\)",
        ),
    ],
)
def test_axes_that_do_not_fit_are_named(tensors, message):
    with pytest.raises(ShapeError, match=message):
        Rule()(*tensors)


@pytest.mark.messages
def test_a_mask_for_another_batch_is_refused():
    with pytest.raises(
        ShapeError, match=r"lengths\(\[1, 2, 3\]\) is for a batch of \(3,\)(?s:.*)has the batch \(2,\)"
    ):
        Rule(mask=masks.lengths([1, 2, 3]))(*inputs())


@pytest.mark.messages
def test_a_batch_of_one_mask_is_not_spread_over_the_batch():
    with pytest.raises(ShapeError, match=r"is for a batch of \(1,\)"):
        Rule(mask=masks.lengths([3]))(*inputs(), backend="eager")


@pytest.mark.messages
def test_whole_numbers_are_refused():
    query, key, value = inputs()
    with pytest.raises(DtypeError, match=r"key must be a tensor of floats; got torch\.int64(?s:.*)float\(\)"):
        Rule()(query, key.long(), value)


@pytest.mark.messages
def test_two_dtypes_are_refused():
    query, key, value = inputs()
    with pytest.raises(
        DtypeError, match=r"one dtype and one device(?s:.*)torch\.float64 on cpu(?s:.*)key\.to\(query\)"
    ):
        Rule()(query, key.double(), value)


@pytest.mark.messages
def test_a_tensor_given_as_mask_is_refused():
    with pytest.raises(OptionError, match=r"mask is one of attnkit\.masks; got Tensor(?s:.*)masks\.where"):
        Rule(mask=torch.ones(5, 7, dtype=torch.bool))


@pytest.mark.messages
def test_a_single_step_without_its_comma_is_refused():
    with pytest.raises(OptionError, match=r"sequence of callables(?s:.*)scores=\(my_step,\), with the comma"):
        Rule(scores=halve)


@pytest.mark.messages
@pytest.mark.parametrize("dropout", [-0.1, 1.5, float("nan")])
def test_a_dropout_that_is_no_share_is_refused(dropout):
    with pytest.raises(OptionError, match=r"share from 0 to 1; got"):
        Rule(dropout=dropout)
