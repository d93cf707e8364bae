import math
import re

import pytest
import torch

from attnkit import Rule, masks, scores
from attnkit.errors import BackendError, OptionError, ShapeError, UnknownNameError
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


def test_a_scale_of_zero_weighs_every_key_alike():
    query, key, value = inputs()
    torch.testing.assert_close(
        Rule(scale=0.0)(query, key, value), value.mean(-2, keepdim=True).expand(-1, -1, 5, -1)
    )


def test_a_first_query_at_position_zero_reads_the_first_key_alone():
    query, key, value = inputs()
    context = Rule(mask=masks.causal)(query, key, value, q_start=0)
    torch.testing.assert_close(context[..., 0, :], value[..., 0, :])


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
    def add_position(score, head, q_pos, kv_pos):
        return score + kv_pos

    query, key, _ = inputs()
    weights = Rule(scores=(halve, add_position), scale=1.0).inspect(query, key).weights()
    torch.testing.assert_close(weights, (query @ key.mT / 2 + torch.arange(7)).softmax(-1))


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


@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_a_compiled_rule_takes_other_lengths_without_another_compilation(backend):
    torch._dynamo.reset()
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph

    def attend(query, key, value, kv_lengths):
        rule = Rule(mask=masks.causal & masks.lengths(kv_lengths))
        return rule(query, key, value, backend=backend)

    compiled = torch.compile(attend, fullgraph=True, dynamic=True, backend=counted)
    for q_len, kv_len in ((5, 7), (6, 9), (3, 8)):
        tensors = *inputs(q_len=q_len, kv_len=kv_len), torch.tensor([kv_len, 2])
        torch.testing.assert_close(compiled(*tensors), attend(*tensors))
    assert len(graphs) == 1


@pytest.mark.compiled
def test_a_rule_is_exported_with_lengths_that_are_not_yet_known():
    class Padded(torch.nn.Module):
        def forward(self, query, key, value, kv_lengths):
            return Rule(mask=masks.causal & masks.lengths(kv_lengths))(query, key, value)

    length = torch.export.Dim("length", min=2, max=64)
    example = *inputs(q_len=7, kv_len=7), torch.tensor([7, 3])
    program = torch.export.export(
        Padded(), example, dynamic_shapes=({2: length}, {2: length}, {2: length}, None)
    )
    longer = *inputs(q_len=9, kv_len=9), torch.tensor([4, 9])
    torch.testing.assert_close(program.module()(*longer), Padded()(*longer))


def test_explain_names_each_backend_its_estimate_and_the_chosen_one():
    explanation = Rule(mask=masks.causal).explain(*inputs())
    assert [name for name, reason in explanation.refusals.items() if reason is None and name != "flex"] == [
        "sdpa",
        "tiled",
        "eager",
    ]
    assert explanation.chosen == "sdpa"
    told = re.sub(r"[\d.]+ us", "N us", str(explanation)).splitlines()
    assert told[:4] + told[5:] == [
        "Rule(mask=causal)",
        "on query (2, 3, 5, 4), key (2, 3, 7, 4), value (2, 3, 7, 8), float32, cpu, first query at position 2",
        "  sdpa   yes, about N us   <- chosen",
        "  tiled  yes, about N us",
        "  eager  yes, about N us",
    ]


@pytest.mark.parametrize(
    ("mask", "length", "chosen"),
    [
        (masks.causal, 4096, "sdpa"),
        (masks.full, 4096, "sdpa"),
        (masks.causal & masks.window(64), 4096, "tiled"),
        (masks.causal & masks.window(64), 64, "sdpa"),
    ],
)
def test_the_backend_with_the_smallest_estimate_is_chosen(mask, length, chosen):
    explanation = Rule(mask=mask).explain(*inputs(q_len=length, kv_len=length, batch=(1,), heads=1))
    assert explanation.chosen == chosen
    assert length == 64 or explanation.seconds[chosen] == min(explanation.seconds.values())


@pytest.mark.parametrize(
    ("mask", "chosen"), [(masks.causal, "sdpa"), (masks.causal & masks.window(256), "tiled")], ids=repr
)
def test_for_one_token_after_a_long_cache_reading_it_counts(mask, chosen):
    query, key, value = torch.randn(1, 8, 1, 64), torch.randn(1, 8, 8192, 64), torch.randn(1, 8, 8192, 64)
    assert Rule(mask=mask).explain(query, key, value).chosen == chosen


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (Rule(scores=(halve,)), "it knows those that add a bias, scores.Additive, and halve is none"),
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


def test_explain_knows_of_a_generator():
    explanation = Rule(dropout=0.5).explain(*inputs(), training=True, generator=torch.Generator())
    assert explanation.chosen == "eager"


def test_a_generator_that_nothing_draws_from_is_no_reason_to_leave_sdpa():
    assert Rule(dropout=0.5).explain(*inputs(), generator=torch.Generator()).chosen == "sdpa"


def test_a_list_of_steps_is_kept_as_a_tuple_so_that_a_rule_cannot_change():
    steps = [halve]
    rule = Rule(scores=steps)
    steps.append(halve)
    assert rule == Rule(scores=(halve,))
    assert hash(rule) == hash(Rule(scores=(halve,)))


def test_a_learned_scale_multiplies_the_query():
    # the fix that the message gives: d context / d scale reaches the parameter
    scale = torch.tensor(0.5, requires_grad=True)
    query, key, value = inputs()
    context = Rule(scale=1.0)(query * scale, key, value)
    torch.testing.assert_close(context, Rule(scale=0.5)(query, key, value))
    context.square().sum().backward()
    assert scale.grad.abs() > 0


def test_rules_of_equal_parts_are_equal():
    assert Rule(mask=masks.causal) == Rule(mask=masks.causal, normalizer=Softmax())
    assert Rule(mask=masks.causal) != Rule()


@pytest.mark.messages
def test_a_backend_insisted_on_never_falls_back():
    with pytest.raises(
        BackendError, match=r'backend="sdpa" cannot run this: of score steps it knows(?s:.*)explain'
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


@pytest.mark.messages
def test_a_tensor_given_as_mask_is_refused():
    with pytest.raises(
        OptionError,
        match=r"mask is one of attnkit\.masks; got Tensor(?s:.*)masks\.where(?s:.*)say q_start=0 in",
    ):
        Rule(mask=torch.ones(5, 7, dtype=torch.bool))


@pytest.mark.messages
@pytest.mark.parametrize("scores", [halve, (halve, 1), None], ids=["no comma", "a number", "None"])
def test_what_is_no_sequence_of_steps_is_refused(scores):
    with pytest.raises(OptionError, match=r"sequence of callables(?s:.*)scores=\(my_step,\), with the comma"):
        Rule(scores=scores)


@pytest.mark.messages
@pytest.mark.parametrize("dropout", [-0.1, 1.5, float("nan"), "0.1", None])
def test_a_dropout_that_is_no_share_is_refused(dropout):
    with pytest.raises(OptionError, match=r"Rule: dropout is the share of weights to drop, from 0 to 1; got"):
        Rule(dropout=dropout)


@pytest.mark.messages
@pytest.mark.parametrize("scale", [math.nan, math.inf, "0.5", torch.tensor(0.5)])
def test_a_scale_that_is_no_number_is_refused(scale):
    with pytest.raises(
        OptionError, match=r"scale is a finite number(?s:.*)Rule\(scale=1\.0\)\(query \* scale"
    ):
        Rule(scale=scale)


@pytest.mark.messages
@pytest.mark.parametrize("normalizer", [Softmax, torch.softmax])
def test_a_normalizer_without_its_brackets_is_refused(normalizer):
    with pytest.raises(
        OptionError, match=r"one of attnkit\.normalizers; got <(?s:.*)Softmax\(\), with the brackets"
    ):
        Rule(normalizer=normalizer)


@pytest.mark.messages
@pytest.mark.parametrize("q_start", [1.5, "1", torch.tensor([1, 2])])
def test_a_first_position_that_is_no_whole_number_is_refused(q_start):
    with pytest.raises(OptionError, match=r"q_start is one whole number(?s:.*)q_start=int\(position\)"):
        Rule(mask=masks.causal)(*inputs(), q_start=q_start)


@pytest.mark.messages
def test_a_backend_that_is_no_name_gets_the_list_of_names():
    with pytest.raises(UnknownNameError, match=r"no backend 3\n  fix: one of eager, flex, sdpa, tiled"):
        Rule()(*inputs(), backend=3)


@pytest.mark.messages
def test_a_generator_that_is_a_seed_is_refused():
    with pytest.raises(OptionError, match=r"got 3\n  fix: generator=torch.Generator"):
        Rule(dropout=0.1)(*inputs(), training=True, generator=3)


@pytest.mark.messages
def test_a_class_of_steps_is_no_step():
    with pytest.raises(OptionError, match=r"a value such as scores.Alibi\(8\)"):
        Rule(scores=(scores.Alibi,))


@pytest.mark.messages
@pytest.mark.parametrize("backend", ["eager", "sdpa", "tiled"])
def test_lengths_of_documents_are_not_taken_for_their_ids(backend):
    with pytest.raises(
        ShapeError, match=r"was told of 2 positions(?s:.*)has 7\n  fix: (?s:.*)repeat_interleave"
    ):
        Rule(mask=masks.causal & masks.documents([4, 3]))(*inputs(), backend=backend)
