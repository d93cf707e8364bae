"""Wrong answers that nobody foresaw get the sentence of `attnkit.check`, where they are attention or a part of it."""

import pytest
import torch

from attnkit.conformance import check
from attnkit.learn import diagnosing
from attnkit.learn.judging import judge
from attnkit.learn.tasks import TASKS

pytestmark = pytest.mark.slow  # whole checks

TASK = {task.name: task for task in TASKS}
WHOLE = [task for task in TASKS if task.whole]


@pytest.fixture(autouse=True)
def _without_haste(monkeypatch):
    """A busy machine must not change a verdict; one test below sets the limit itself."""
    monkeypatch.setattr(diagnosing, "SECONDS", 60.0)


def past(scores, diagonal=0):
    return torch.ones_like(scores, dtype=torch.bool).tril(diagonal)


def softmax(scores):
    return scores.masked_fill(~past(scores), -torch.inf).softmax(-1)


def many_heads(weigh=softmax, *, root=0.5, chosen=lambda q, k, v: (q, k, v)):
    """Right but for what is given."""

    def multi_head(x, W_query, W_key, W_value, W_out, num_heads):
        parts = chosen(x @ W_query, x @ W_key, x @ W_value)
        query, key, value = (part.unflatten(-1, (num_heads, -1)).transpose(1, 2) for part in parts)
        weights = weigh(query @ key.mT / query.shape[-1] ** root)
        return (weights @ value).transpose(1, 2).flatten(-2) @ W_out

    return multi_head


def crosses(
    weigh=lambda scores: scores.softmax(-1), *, root=lambda memory, q: q.shape[1] ** 0.5, roles=(0, 1, 2)
):
    def cross_attention(x, memory, *matrices):
        q, k, v = (matrices[role] for role in roles)
        return weigh((x @ q) @ (memory @ k).T / root(memory, q)) @ (memory @ v)

    return cross_attention


def scaled_after(scores):
    scores = scores.masked_fill(~past(scores), -torch.inf)
    return scores.softmax(-1) / 3


def heads_of(x, num_heads):
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def words_of(context):
    return context.transpose(1, 2).flatten(-2)


UNFORESEEN = [
    (
        "attend",
        lambda x: (x @ x.T).sigmoid() @ x,
        "5 equal tokens give another output than one of them, by 4",
    ),
    ("attend", lambda x: (x @ x.T).exp() @ x, "5 equal tokens give another output than one of them, by 4"),
    # all 36 weights together sum to one
    (
        "attend",
        lambda x: (x @ x.T).flatten().softmax(0).view(len(x), len(x)) @ x,
        "5 equal tokens give another output than one of them, by 0.8",
    ),
    # 1/6 is the square of 1/sqrt(6)
    (
        "multi_head",
        many_heads(root=1),
        "its scale is 0.1667 = 1/6 = 1/head_dim, as if scaled twice; expected 0.4082",
    ),
    (
        "multi_head",
        many_heads(root=-0.5),
        "its scale is 2.449 = sqrt(6) = sqrt(head_dim), where it should be divided",
    ),
    (
        "multi_head",
        many_heads(lambda scores: scores.softmax(-1) * past(scores)),
        "though the value of that token is not read: its score is",
    ),
    ("multi_head", many_heads(lambda scores: (scores + past(scores)).softmax(-1)), "near 1/e"),
    ("multi_head", many_heads(scaled_after), "they are multiplied after the softmax"),
    ("multi_head", many_heads(lambda scores: scores * past(scores)), "where a softmax gives 1"),
    (
        "multi_head",
        many_heads(chosen=lambda q, k, v: (k, k, v)),
        "no output depends on W_query: no gradient ever",
    ),
    ("multi_head", many_heads(lambda scores: softmax(scores).flip(1)), "heads"),
    (
        "cross_attention",
        crosses(root=lambda memory, q: len(memory) ** 0.5),
        "for two tokens and another for five: 1/sqrt(number of tokens)",
    ),
    ("cross_attention", crosses(lambda scores: scores), "where a softmax gives 1"),
    ("cross_attention", crosses(roles=(0, 1, 1)), "never on W_value: the keys are read for values"),
    ("cross_attention", crosses(lambda scores: scores.softmax(-1) / 2), "sum to 0.5, whatever is asked"),
    (
        "split_heads",
        lambda x, num_heads: heads_of(x, num_heads).flip(1),
        "contexts stand in the order [2, 1, 0]",
    ),
    (
        "split_heads",
        lambda x, num_heads: heads_of(x, num_heads)[:, :1].expand(-1, num_heads, -1, -1),
        "the heads' values are those of heads [0, 0, 0]",
    ),
    (
        "split_heads",
        lambda x, num_heads: heads_of(x, num_heads).flip(3),
        "number 0 of the context, of head 0, is number 5 of the values",
    ),
    ("merge_heads", lambda context: words_of(context.roll(1, 1)), "contexts stand in the order [2, 0, 1]"),
    (
        "merge_heads",
        lambda context: words_of(context.mean(1, keepdim=True).expand_as(context)),
        "made of numbers 0, 6, 12 of the values, of several heads",
    ),
    ("merge_heads", lambda context: words_of(context.flip(3)), "is number 5 of the values, not number 0"),
]


@pytest.mark.parametrize(("name", "function", "words"), UNFORESEEN)
def test_a_mistake_that_nobody_foresaw_gets_the_sentence_of_check(name, function, words):
    verdict = judge(TASK[name], function)
    assert verdict.kind == "unnamed"
    assert f"{TASK[name].whole.setting}: " in verdict.text
    assert words in verdict.text
    assert verdict.text.endswith((".", "`."))


@pytest.mark.parametrize("task", WHOLE, ids=lambda task: task.name)
def test_an_exercise_that_check_can_take_has_three_mistakes_here(task):
    assert sum(name == task.name for name, _, _ in UNFORESEEN) >= 3


@pytest.mark.parametrize("task", WHOLE, ids=lambda task: task.name)
def test_check_finds_nothing_in_a_right_answer(task):
    report = check(task.whole.around(task.right), **task.whole.said)
    assert report.ok, report


def test_the_line_that_most_likely_does_it_is_pointed_to():
    def late(x, W_query, W_key, W_value, W_out, num_heads):
        query, key, value = (heads_of(x @ W, num_heads) for W in (W_query, W_key, W_value))
        scores = query @ key.mT / query.shape[-1] ** 0.5
        mask = past(scores)
        weights = scores.softmax(-1) * mask
        return words_of(weights @ value) @ W_out

    line = late.__code__.co_firstlineno + 4
    text = judge(TASK["multi_head"], late).text
    assert text.endswith(f" Look at line {line}, `weights = scores.softmax(-1) * mask`.")


def test_what_to_declare_were_it_meant_is_left_out():
    assert "say scale=" in check(TASK["multi_head"].whole.around(many_heads(root=1)), causal=True).diagnosis
    assert "say scale=" not in judge(TASK["multi_head"], many_heads(root=1)).text


def test_what_makes_no_number_wrong_is_not_told():
    # in float16 it raises, for -1e9 is no number there; what is wrong is the diagonal
    def skips_its_own_place(scores):
        return scores.masked_fill(torch.eye(*scores.shape, dtype=torch.bool), -1e9).softmax(-1)

    text = judge(TASK["cross_attention"], crosses(skips_its_own_place)).text
    assert text.startswith("With words of memory 0 and 1 exchanged")


def test_where_check_finds_nothing_the_first_number_is_told():
    text = judge(TASK["multi_head"], many_heads(lambda scores: softmax(scores.abs()))).text
    assert "numbers are right. The first that is not" in text


def test_nan_is_told_by_the_exercise_itself():
    def hides_its_own_place(scores):
        return scores.masked_fill(~past(scores, -1), -torch.inf).softmax(-1)

    text = judge(TASK["multi_head"], many_heads(hides_its_own_place)).text
    assert "nan or infinite, the first at [0, 0, 0]" in text


def test_a_matrix_in_the_wrong_place_is_not_called_unused():
    text = judge(TASK["cross_attention"], crosses(roles=(1, 1, 2))).text
    assert "numbers are right. The first that is not" in text


def test_an_answer_that_fails_on_other_sizes_is_told_by_its_numbers():
    def knows_two_lengths(x):
        return (2 * x @ x.T).softmax(-1) @ x if len(x) in (4, 6) else x[len(x)]

    assert "numbers are right. The first that is not" in judge(TASK["attend"], knows_two_lengths).text


def test_check_has_little_time(monkeypatch):
    monkeypatch.setattr(diagnosing, "SECONDS", 1e-9)
    assert "numbers are right. The first that is not" in judge(TASK["multi_head"], many_heads(root=1)).text
