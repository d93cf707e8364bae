"""One query, as in decoding: what runs it, and that nothing is planned for a length that comes but once."""

import pytest
import torch

from attnkit import masks, normalizers
from attnkit.backends import tiled
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
