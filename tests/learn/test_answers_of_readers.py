"""What readers hand in besides the listed mistakes: unusual right answers, and other wrong ones."""

import math
import re

import numpy
import pytest
import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from attnkit.learn.judging import judge
from attnkit.learn.tasks import TASKS

TASK = {task.name: task for task in TASKS}


def verdict_on(name, function):
    return judge(TASK[name], function)


def scores_by_loops(query, keys):
    return torch.stack([sum(a * b for a, b in zip(query, key, strict=True)) for key in keys])


def softmax_by_rows(scores):
    rows = [(row - max(row)).exp() for row in scores.reshape(-1, scores.shape[-1])]
    return torch.stack([row / sum(row) for row in rows]).reshape(scores.shape)


def layer_with_its_own_parameter(weight):
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = nn.Parameter(weight.T.clone())
    return layer


def masked_by_multiplying(scores, mask):
    parts = (scores - scores.amax(-1, keepdim=True)).exp() * mask
    return parts / parts.sum(-1, keepdim=True).clamp_min(1e-30)


def dropped_in_a_copy(weights, random, p, training):
    if training:
        weights = weights.clone()
        weights[random < p] = 0
        weights /= 1 - p
    return weights


def padding_by_filling(lengths, kv_len):
    mask = torch.zeros(len(lengths), 1, kv_len, dtype=torch.bool)
    for row, length in zip(mask, lengths, strict=True):
        row[0, :length] = True
    return mask


def heads_one_by_one(x, q, k, v, out, num_heads):
    contexts = []
    for part in torch.arange(q.shape[1]).chunk(num_heads):
        scores = (x @ q[:, part]) @ (x @ k[:, part]).mT / math.sqrt(len(part))
        future = torch.full(scores.shape[-2:], -torch.inf, dtype=x.dtype).triu(1)
        contexts.append((scores + future).softmax(-1) @ (x @ v[:, part]))
    return torch.cat(contexts, dim=-1) @ out


def same_prefixes(attention, x):
    whole = attention(x)
    return all(torch.allclose(attention(x[:t]), whole[:t]) for t in range(1, len(x)))


def undoes_what_it_writes(attention, x):
    before = attention(x)
    for t in range(1, len(x)):
        old = x[t].clone()
        x[t] += 1
        after = attention(x)
        x[t] = old
        if not torch.allclose(after[:t], before[:t]):
            return False
    return True


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("scores", scores_by_loops),
        ("scores", lambda query, keys: linear(query, keys)),
        ("scores", lambda query, keys: torch.einsum("d,kd->k", query, keys)),
        ("softmax", softmax_by_rows),
        ("softmax", lambda scores: (scores - scores.logsumexp(-1, keepdim=True)).exp()),
        ("context", lambda weights, values: sum(w * v for w, v in zip(weights, values, strict=True))),
        ("context", lambda weights, values: torch.tensordot(weights, values, 1)),
        ("attend", lambda x: scaled_dot_product_attention(x[None], x[None], x[None], scale=1.0)[0]),
        ("attend", lambda x: torch.stack([(x @ word).softmax(0) @ x for word in x])),
        ("previous_word", lambda n: [nn.Parameter(60 * torch.eye(n)), torch.eye(n).roll(1, 1).long()]),
        ("scaled_scores", lambda query, key: (query * query.shape[-1] ** -0.5) @ key.transpose(1, 2)),
        ("to_linear", layer_with_its_own_parameter),
        ("causal_mask", lambda q, kv: torch.arange(kv) <= torch.arange(kv - q, kv)[:, None]),
        ("causal_mask", lambda q, kv: torch.ones(kv, kv).tril().bool()[kv - q :]),
        ("masked_weights", masked_by_multiplying),
        ("masked_weights", lambda scores, mask: scores.masked_fill(~mask, -1e9).softmax(-1) * mask),
        ("dropout", dropped_in_a_copy),
        ("dropout", lambda w, random, p, on: torch.where(random < p, 0.0, w / (1 - p)) if on else w * 1),
        ("padding_mask", padding_by_filling),
        ("split_heads", lambda x, num_heads: torch.stack(x.chunk(num_heads, dim=-1), dim=1)),
        ("split_heads", lambda x, num_heads: x.unflatten(-1, (num_heads, -1)).movedim(2, 1)),
        ("merge_heads", lambda context: torch.cat(context.unbind(1), dim=-1)),
        ("multi_head", heads_one_by_one),
        ("is_causal", same_prefixes),
        ("is_causal", undoes_what_it_writes),
        ("is_causal", lambda attention, x: numpy.bool_(same_prefixes(attention, x))),
        ("is_causal", lambda attention, x: torch.tensor(same_prefixes(attention, x))),
        ("previous_word_score", lambda w: torch.einsum("lhii->lh", w[..., 1:, :-1]) / (w.shape[-1] - 1)),
        (
            "cross_attention",
            lambda x, memory, q, k, v: scaled_dot_product_attention(
                (x @ q)[None], (memory @ k)[None], (memory @ v)[None]
            )[0],
        ),
    ],
)
def test_an_unusual_right_answer_is_right(name, function):
    verdict = verdict_on(name, function)
    assert verdict.solved, verdict


def softmax_around(place):
    def shifted(scores):
        parts = (scores - place(scores)).exp()
        return parts / parts.sum(-1, keepdim=True)

    return shifted


@pytest.mark.parametrize(
    "place", [lambda scores: scores.mean(-1, keepdim=True), lambda scores: scores.amin(-1, keepdim=True)]
)
def test_only_the_largest_score_of_a_row_brings_it_to_safety(place):
    # 1000 and 300 are more than 709, where exp ends, above the mean of their rows (247.75, -437.5) and the minimum
    text = verdict_on("softmax", softmax_around(place)).text
    assert text.startswith("Right on 3 of 4 inputs. Then: 2 of 12 entries are nan")


@pytest.mark.parametrize("cut", [lambda x: 2, lambda x: len(x) // 2, lambda x: len(x) - 2])
def test_a_test_that_cuts_at_one_place_misses_the_hole(cut):
    def one_cut(attention, x):
        t, changed = cut(x), x.clone()
        changed[t:] += 3.0
        return torch.allclose(attention(changed)[:t], attention(x)[:t])

    verdict = verdict_on("is_causal", one_cut)
    assert "a mask with one hole" in verdict.text
    assert not verdict.solved


def test_a_test_that_always_says_no_is_not_told_what_it_compares():
    text = verdict_on("is_causal", lambda attention, x: False).text
    assert "3 of the 3 honest models are called cheats. Do you compare" in text


@pytest.mark.parametrize(
    ("factor", "words"), [(0.5, "Every number is 0.5 times"), (-1, "Every number is -1 times")]
)
def test_one_factor_in_all_numbers_is_told(factor, words):
    assert verdict_on("scores", lambda query, keys: factor * (keys @ query)).text.startswith(words)


def test_a_mask_that_is_wrong_everywhere_is_told_so():
    # upper triangle of a square, the diagonal hidden: what masked_fill wants, and aligned at the start
    def future(q_len, kv_len):
        return torch.ones(q_len, kv_len, dtype=torch.bool).triu(1)

    assert verdict_on("causal_mask", future).text.startswith("True and False are exchanged everywhere.")


def test_rounding_is_no_growth_by_two():
    text = verdict_on("scores", lambda query, keys: (keys @ query).round(decimals=2)).text
    assert text == "Twice as long a query should give twice the answer; some number of yours is off by 0.01."


def test_numbers_that_grow_too_fast_are_told_with_their_factor():
    assert (
        "yours grows by a factor of 4" in verdict_on("scores", lambda query, keys: (keys @ query) ** 2).text
    )


@pytest.mark.parametrize(
    ("fill", "holds"), [(lambda layer: nn.init.zeros_(layer.weight), "(0)"), (lambda layer: None, " to ")]
)
def test_a_layer_that_never_saw_the_weight_is_told_what_it_holds(fill, holds):
    def blank(weight):
        layer = nn.Linear(*weight.shape, bias=False)
        fill(layer)
        return layer

    verdict = verdict_on("to_linear", blank)
    assert verdict.mistake == "not copied"
    assert holds in verdict.text


def test_a_layer_with_other_numbers_made_of_the_weight_has_seen_it():
    def normalised(weight):
        return layer_with_its_own_parameter(weight / weight.norm())

    assert verdict_on("to_linear", normalised).text.startswith("Every number is 0.219 times the right one.")


def test_a_layer_of_another_dtype_is_told():
    text = verdict_on("to_linear", lambda weight: layer_with_its_own_parameter(weight).half()).text
    assert text == "Your layer holds float16, and `weight` is float32: keep its dtype."


@pytest.mark.parametrize(
    ("matrices", "words"),
    [
        (
            lambda n: (torch.eye(n + 1), torch.eye(n)),
            "W_query has shape (9, 9); for n = 8 it should be (8, 8).",
        ),
        (lambda n: (torch.eye(8), torch.eye(8)), "W_query has shape (8, 8); for n = 5 it should be (5, 5)."),
        (lambda n: (torch.eye(n), torch.arange(n)), "W_key has shape (8,)"),
        (lambda n: (torch.eye(n),) * 3, "a tuple of 3 came back"),
        (lambda n: (torch.eye(n), n), "W_key: The plain number 8 came back"),
        (lambda n: (torch.full((n, n), math.nan), torch.eye(n)), "64 of 64 entries are nan or infinite"),
        (
            lambda n: (50 * torch.ones(n, n).tril(-1).triu(-2), torch.eye(n)),
            "reads its left neighbour with 0.5 only",
        ),
        (
            lambda n: (50 * torch.eye(n), torch.eye(n).roll(3, 1)),
            "Position 1 of 8 reads position 6 most, with 1,",
        ),
    ],
)
def test_matrices_that_do_not_read_the_left_neighbour_are_told_why(matrices, words):
    assert words in verdict_on("previous_word", matrices).text


def test_a_gradient_of_nan_is_not_called_missing():
    def too_late(scores, mask):
        hidden = torch.zeros_like(scores).masked_fill(~mask, -torch.inf)
        return (scores + hidden).softmax(-1).nan_to_num()

    verdict = verdict_on("masked_weights", too_late)
    assert verdict.kind == "almost"
    # row 2 of the first mask may read nothing: its 6 scores
    assert verdict.text.startswith("Right, but the gradient is not: 6 of the 24 numbers in `scores` get nan.")


def test_a_property_on_which_the_function_fails_is_passed_over():
    seen = []

    def knows_two_inputs(query, keys):
        if not any(torch.equal(keys, known) for known in seen):
            if len(seen) == 2:
                raise ValueError("never seen")
            seen.append(keys.clone())
        return keys @ query + 1

    # exchanging keys makes a third input; doubling the query does not
    assert verdict_on("scores", knows_two_inputs).text.startswith("Twice as long a query")


def test_what_is_special_about_one_place_is_left_to_the_numbers():
    def third_key_doubled(query, keys):
        scores = keys @ query
        return torch.cat([scores[:2], 2 * scores[2:3], scores[3:]])

    assert verdict_on("scores", third_key_doubled).text.startswith("5 of 6 numbers are right. The first")


def test_numbers_that_look_alike_are_given_with_all_their_digits():
    def nearly(x, num_heads):
        heads = x.unflatten(-1, (num_heads, -1)).transpose(1, 2)
        return heads + torch.zeros_like(heads).index_fill(3, torch.tensor([0]), -4e-4)

    assert re.search(
        r"entry \[0, 0, 0, 0\]: 2\.41\d{5,}, not 2\.41\d{5,}\.", verdict_on("split_heads", nearly).text
    )


def test_nothing_but_zeros_is_no_factor():
    assert verdict_on("scores", lambda query, keys: 0 * (keys @ query)).text.startswith(
        "0 of 6 numbers are right."
    )


def test_a_number_in_place_of_true_or_false_is_told():
    text = verdict_on("is_causal", lambda attention, x: int(same_prefixes(attention, x))).text
    assert text == "True or False is wanted; an int came back."
