"""What comes but once, one query in decoding or a batch of texts, waits for no plan that costs more than it saves."""

import pytest
import torch

from attnkit import masks, normalizers
from attnkit.backends import tiled
from attnkit.backends.tiled import plan
from attnkit.rule import Rule
from attnkit.scores import Alibi

LENGTH = 3000  # so many keys that an estimate of what skips some is worth its time elsewhere


def one_query():
    return torch.randn(1, 8, 1, 64), *(torch.randn(1, 8, LENGTH, 64) for _ in range(2))


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        (Rule(mask=masks.causal), "sdpa"),
        (Rule(mask=masks.causal & masks.window(2000)), "sdpa"),
        (Rule(mask=masks.causal, scores=(Alibi(8),)), "sdpa"),
        (Rule(mask=masks.causal, normalizer=normalizers.Softmax(sink=torch.zeros(8))), "eager"),
        (Rule(mask=masks.causal, normalizer=normalizers.Sigmoid()), "eager"),
    ],
    ids=["causal", "window", "alibi", "sink", "sigmoid"],
)
def test_a_query_that_reads_most_keys_waits_for_no_plan(rule, chosen, monkeypatch):
    query, key, value = one_query()
    assert rule.explain(query, key, value).chosen == chosen
    expected = rule(query, key, value, backend="eager")
    monkeypatch.setattr(tiled, "seconds", lambda request: pytest.fail("a plan was made"))
    torch.testing.assert_close(rule(query, key, value), expected, rtol=1e-4, atol=1e-5)


def test_a_query_that_reads_few_keys_skips_the_others():
    rule = Rule(mask=masks.causal & masks.window(64))
    assert rule.explain(*one_query()).chosen == "tiled"


def test_the_first_query_of_many_keys_reads_few():
    rule = Rule(mask=masks.causal)
    query, key, value = one_query()
    assert rule.explain(query, key, value, q_start=10).chosen == "tiled"
    context = rule(query, key, value, q_start=10)
    torch.testing.assert_close(
        context, rule(query, key[..., :11, :], value[..., :11, :]), rtol=1e-4, atol=1e-5
    )


def padded(batch, length):
    lengths = torch.linspace(length // 2, length, batch).long().tolist()
    return Rule(mask=masks.lengths(lengths)), [torch.randn(batch, 4, length, 32) for _ in range(3)]


@pytest.mark.parametrize("training", [False, True], ids=["whole", "dropped"])
def test_a_batch_of_short_texts_waits_for_no_plan_of_each(training, monkeypatch):
    rule, tensors = padded(48, 48)
    rule = Rule(mask=rule.mask, dropout=0.1 * training)
    monkeypatch.setattr(plan, "_searched", lambda *asked: pytest.fail("a plan was made"))
    assert rule.explain(*tensors, training=training).chosen == "sdpa"
    assert rule(*tensors, training=training).shape == (48, 4, 48, 32)


def test_a_batch_of_long_texts_is_planned_for_it_saves_more():
    rule, tensors = padded(2, 4096)
    assert rule.explain(*tensors).chosen == "tiled"
