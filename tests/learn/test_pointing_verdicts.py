"""Wrong answers as beginners write them: each gets the verdict that names its mistake, or a hint after the error."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from attnkit.learn.judging import judge
from attnkit.learn.tasks import TASKS

TASK = {task.name: task for task in TASKS}


def softmax_of(size, axis):
    def shares(scores):
        parts = (scores - size(scores)).exp()
        return parts / parts.sum(axis, keepdim=True)

    return shares


def backwards(q_len, kv_len):
    return torch.ones(q_len, kv_len, dtype=torch.bool).tril(q_len - kv_len)


def times_minus_infinity(scores, mask):
    return torch.where(mask, scores, scores * float("-inf")).softmax(-1)


def drops_by_own_dice(weights, random, p, training):
    keep = torch.rand(weights.shape, dtype=weights.dtype) > p
    return weights * keep / (1 - p) if training else weights


def drops_as_it_was_done_once(weights, random, p, training):
    return weights * (random >= p) if training else weights * (1 - p)


def counts_from_one(lengths, kv_len):
    return (torch.arange(1, kv_len + 1) < lengths[:, None]).unsqueeze(1)


def one_head(x, q, k, v, out, num_heads):
    query, key, value = x @ q, x @ k, x @ v
    scores = query @ key.mT / (key.shape[-1] // num_heads) ** 0.5
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ value @ out


def many_heads(x, q, k, v, out, num_heads):
    return TASK["multi_head"].right(x, q, k, v, out, num_heads)


def cosine_attend(x):
    unit = x / x.norm(dim=-1, keepdim=True)
    return (unit @ unit.T).softmax(-1) @ x


def wraps_around(weights):
    length = weights.shape[-1]
    return sum(weights[:, :, i, i - 1] for i in range(length)) / length


def crosses(x, memory, q, k, v, *, by=None):
    scores = (x @ q) @ (memory @ k).T / (by or q.shape[1]) ** 0.5
    return scores.softmax(-1) @ (memory if v is None else memory @ v)


@pytest.mark.parametrize(
    ("name", "function", "mistake", "words"),
    [
        (
            "softmax",
            softmax_of(lambda scores: scores.abs().max(-1, keepdim=True).values, -1),
            "largest size",
            "row 1, with scores from -1003 to -1000, becomes nan: without their signs the largest is 1003",
        ),
        ("softmax", softmax_of(lambda scores: 0, 0), "over queries", "Your columns sum to one"),
        (
            "softmax",
            softmax_of(lambda scores: scores.max(), 0),
            "over queries",
            "Your columns sum to one",
        ),
        (
            "softmax",
            softmax_of(lambda scores: scores.amax(-1, keepdim=True), -2),
            "over queries",
            "Your columns sum to one",
        ),
        ("scaled_scores", lambda query, key: (query @ key.mT).softmax(-1), "already weights", "sum to 1"),
        ("causal_mask", backwards, "shifted back", "The shift has the wrong sign"),
        ("masked_weights", times_minus_infinity, "times infinity", "times minus infinity is plus infinity"),
        ("dropout", drops_by_own_dice, "own random", "Decide by those numbers"),
        (
            "dropout",
            lambda weights, random, p, training: functional.dropout(weights, p, training),
            "own random",
            "Decide by those numbers",
        ),
        ("dropout", drops_as_it_was_done_once, "scaled in evaluation", "come back times 0.7. They should"),
        (
            "padding_mask",
            counts_from_one,
            "one too few",
            "You keep 2 positions of sentence 0, which has 3 words",
        ),
        (
            "split_heads",
            lambda x, num_heads: torch.stack(x.chunk(num_heads, -1)),
            "heads first",
            "heads stand before sentences: (3, 2, 5, 4), and (2, 3, 5, 4)",
        ),
        (
            "merge_heads",
            lambda context: context.transpose(2, 3).reshape(context.shape[0], context.shape[2], -1),
            "wrong transpose",
            "words changed places with head_dim",
        ),
        (
            "merge_heads",
            lambda context: torch.cat(context.unbind(1)[::-1], -1),
            "heads reversed",
            "4 numbers of head 2. Head 0 comes first",
        ),
        ("multi_head", one_head, "one head", "one head of 12 numbers, where num_heads = 3"),
        (
            "multi_head",
            lambda x, q, k, v, out, num_heads: many_heads(x, q, k, v, out.T, num_heads),
            "output turned",
            "W_out went in turned round",
        ),
        (
            "multi_head",
            lambda x, *rest: x + many_heads(x, *rest),
            "words added",
            "You added x itself: with d_in = d_out = 6 it runs",
        ),
        ("attend", lambda x: x + (x @ x.T).softmax(-1) @ x, "word added", "the context plus x itself"),
        ("attend", cosine_attend, "cosine", "the lengths of the words"),
        (
            "previous_word",
            lambda n: (50 * torch.ones(n, n).tril(-1), torch.eye(n)),
            "all the past",
            "Position 7 reads all 7 positions before it alike, each with 0.143",
        ),
        (
            "previous_word",
            lambda n: (torch.eye(n), 50 * torch.ones(n, n).triu()),
            "all the past",
            "Each key should answer in one place only",
        ),
        ("previous_word_score", wraps_around, "wraps around", "begin at word 1"),
        (
            "previous_word_score",
            lambda weights: weights.diagonal(-1, -2, -1).amax(-1),
            "largest",
            "The average is asked for",
        ),
        (
            "previous_word_score",
            lambda weights: weights.diagonal(-1).mean(-1),
            "first two axes",
            "Shape (6, 6) came back, not (2, 3): diagonal works on the first two axes",
        ),
        (
            "cross_attention",
            lambda x, memory, q, k, v: crosses(x, memory, k, q, v),
            "matrices exchanged",
            "Who asks goes through W_query",
        ),
        (
            "cross_attention",
            lambda x, memory, q, k, v: crosses(x, memory, q, k, v, by=x.shape[1]),
            "width of the words",
            "You divided by the root of 4",
        ),
        (
            "cross_attention",
            lambda x, memory, q, k, v: crosses(x, memory, q, k, None),
            "no value",
            "4 numbers a word came out, and 3 are asked for",
        ),
    ],
)
def test_a_beginners_wrong_answer_is_named(name, function, mistake, words):
    verdict = judge(TASK[name], function)
    assert verdict.mistake == mistake, verdict
    assert words in verdict.text


def copies_while_watched(weight):
    layer = nn.Linear(*weight.shape, bias=False)
    layer.weight.copy_(weight.T)
    return layer


def writes_while_watched(weight):
    layer = nn.Linear(*weight.shape, bias=False)
    layer.weight[:] = weight.T
    return layer


@pytest.mark.parametrize(
    ("name", "function", "hint"),
    [
        (
            "scaled_scores",
            lambda query, key: query @ key.T / 5**0.5,
            ".T turns all axes round; .mT exchanges",
        ),
        ("to_linear", copies_while_watched, "copy inside `with torch.no_grad():`."),
        ("to_linear", writes_while_watched, "copy inside `with torch.no_grad():`."),
        (
            "padding_mask",
            lambda lengths, kv_len: torch.arange(kv_len) < lengths,
            "`lengths` lies down as a row of 3; to meet each of the others it has to stand as a column",
        ),
        (
            "context",
            lambda weights, values: (weights * values).sum(0),
            "`weights` lies down as a row of 6; to meet each of the others it has to stand as a column",
        ),
    ],
)
def test_an_error_that_says_little_is_followed_by_a_hint(name, function, hint):
    verdict = judge(TASK[name], function)
    assert verdict.kind == "trouble"
    assert hint in verdict.text


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("scores", lambda query, keys: keys @ keys.T @ query.view(2, 2)),
        ("multi_head", lambda x, q, k, v, out, num_heads: x @ q.T),
        ("attend", lambda x: x + x.T),
    ],
)
def test_an_error_of_another_kind_gets_no_hint_about_axes(name, function):
    text = judge(TASK[name], function).text
    assert ".mT" not in text
    assert "stand as a column" not in text


def test_dice_that_are_thrown_the_same_way_each_time_are_dice_all_the_same():
    def seeded(weights, random, p, training):
        torch.manual_seed(0)
        return functional.dropout(weights, p, training)

    assert judge(TASK["dropout"], seeded).mistake == "own random"


def test_the_numbers_of_one_sentence_for_all_are_no_dice():
    def first_sentence(weights, random, p, training):
        return weights * (random[0] >= p) / (1 - p) if training else weights

    assert judge(TASK["dropout"], first_sentence).mistake == ""


def test_dropping_by_own_dice_in_training_is_told_whatever_happens_outside():
    text = judge(TASK["dropout"], lambda weights, random, p, training: functional.dropout(weights, p)).text
    assert text.startswith("You threw dice of your own")


def test_torchs_own_softmax_passes_and_the_task_says_so():
    assert judge(TASK["softmax"], lambda scores: scores.softmax(-1)).solved
    assert "torch's own softmax passes too" in TASK["softmax"].statement
