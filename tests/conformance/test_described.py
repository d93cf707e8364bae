import pytest

from attnkit.conformance import check
from attnkit.conformance.described import in_words
from tests.conformance.weighing import Capped, Normed, Pairs, case_of, made
from tests.mutants.base import Attention, CrossAttention

pytestmark = pytest.mark.slow  # whole checks


@pytest.mark.parametrize(
    ("kind", "built", "said", "words"),
    [
        (Attention, {"causal": True}, {"causal": True}, ["causal", "4 heads", "scale 1/sqrt(head_dim)"]),
        (Attention, {"num_heads": 6, "num_kv_heads": 2}, {}, ["6 heads over 2 of keys"]),
        (Pairs, {"causal": True}, {"causal": True}, ["rotary (pairs)"]),
        (Attention, {"positions": "rotary"}, {}, ["rotary (halves)"]),
        (Attention, {"positions": "relative"}, {}, ["a bias by place"]),
        (Attention, {"positions": "absolute"}, {}, ["positions of its own"]),
        (
            Attention,
            {"causal": True, "num_heads": 6, "positions": "alibi"},
            {"causal": True, "positions": "alibi"},
            ["ALiBi"],
        ),
        (Normed, {}, {}, ["queries and keys normalised"]),
        (Capped, {}, {}, ["scores capped at 5"]),
        (CrossAttention, {}, {"cross": True}, ["reads a memory"]),
    ],
)
def test_what_was_found_out_is_described(kind, built, said, words):
    told = check(made(kind, **built), **said).described
    assert set(words) <= set(told.split(", "))


def test_nothing_found_out_is_what_was_said():
    assert in_words(case_of(made(Attention), causal=True)) == "causal"
    assert in_words(case_of(made(Attention))) == "not causal"


def test_weights_that_do_not_sum_to_one_are_described():
    case = case_of(made(Attention))
    case.facts["normalised"] = False
    assert in_words(case) == "not causal, weights that do not sum to one"
