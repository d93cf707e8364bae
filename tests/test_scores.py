import pytest
import torch

from attnkit import Rule, masks
from attnkit.errors import OptionError
from attnkit.scores import ScoreStep
from tests.helpers import inputs


def closer_is_better(score, head, q_pos, kv_pos):
    return score - (head + 1) * (q_pos - kv_pos).abs().double()


def test_any_function_of_scores_and_places_is_a_step():
    assert isinstance(closer_is_better, ScoreStep)


def test_a_step_is_told_the_places_as_axes_that_broadcast():
    told = {}

    def spy(score, head, q_pos, kv_pos):
        told.update(head=head, q_pos=q_pos, kv_pos=kv_pos)
        return score

    Rule(scores=(spy,))(*inputs(), q_start=10)
    assert told["head"].tolist() == [[[0]], [[1]], [[2]]]
    assert told["q_pos"].tolist() == [[10], [11], [12], [13], [14]]
    assert told["kv_pos"].tolist() == [[0, 1, 2, 3, 4, 5, 6]]


def test_a_step_sees_the_scaled_scores():
    seen = []
    query, key, value = inputs(heads=6, kv_heads=3)
    Rule(scores=(lambda score, head, q_pos, kv_pos: seen.append(score) or score,))(
        query, key, value, backend="eager"
    )
    # head_dim 4: the scale is 1/2
    torch.testing.assert_close(seen[0], query @ key.repeat_interleave(2, dim=1).mT / 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_a_step_may_reckon_in_another_dtype(dtype):
    context = Rule(mask=masks.causal, scores=(closer_is_better,))(*inputs(dtype=dtype))
    assert context.dtype == dtype


def test_a_gradient_reaches_what_a_step_has_learned():
    slope = torch.tensor(0.5, requires_grad=True)
    rule = Rule(scores=(lambda score, head, q_pos, kv_pos: score - slope * (q_pos - kv_pos),))
    rule(*inputs()).square().sum().backward()
    assert slope.grad.abs() > 0


@pytest.mark.messages
@pytest.mark.parametrize(
    ("step", "given"),
    [
        (lambda score, head, q_pos, kv_pos: None, "NoneType"),
        (lambda score, head, q_pos, kv_pos: score.sum(-1), r"\(2, 3, 5\)"),
        (lambda score, head, q_pos, kv_pos: (q_pos - kv_pos).float(), r"\(5, 7\)"),
    ],
)
def test_a_step_that_does_not_give_one_score_for_each_is_refused(step, given):
    message = rf"step <lambda> gave {given} for scores \(2, 3, 5, 7\)(?s:.*)score \+ bias"
    with pytest.raises(OptionError, match=message):
        Rule(scores=(step,))(*inputs())


@pytest.mark.messages
def test_a_step_that_hides_by_bools_is_told_of_masks():
    with pytest.raises(OptionError, match=r"gave torch\.bool for scores(?s:.*)hides keys is a mask"):
        Rule(scores=(lambda score, head, q_pos, kv_pos: score > 0,))(*inputs())


@pytest.mark.messages
@pytest.mark.parametrize(
    "step",
    [lambda score, b, h, q_idx, kv_idx: score, lambda score: score],
    ids=["flex", "one"],
)
def test_a_step_of_other_arguments_is_told_which_it_gets(step):
    message = r"step \S+ is called as step\(score, head, q_pos, kv_pos\), and failed: (?s:.*)as in Alibi\(8\)"
    with pytest.raises(OptionError, match=message):
        Rule(scores=(step,))(*inputs())


def test_a_type_error_inside_of_a_step_is_its_own():
    def halve(score, head, q_pos, kv_pos):
        return score / "2"

    with pytest.raises(TypeError, match="unsupported operand"):
        Rule(scores=(halve,))(*inputs())
