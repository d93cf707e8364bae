import math

import pytest
import torch

from attnkit import Rule, inspection, masks
from attnkit.errors import OptionError
from attnkit.normalizers import Normalizer
from tests.helpers import inputs

RULE = Rule(mask=masks.causal & masks.lengths([7, 0]))


class Evenly(Normalizer):
    def __call__(self, scores, keep):
        return torch.ones_like(scores) / scores.shape[-1]


def test_the_weights_are_those_that_the_context_was_mixed_with():
    query, key, value = inputs(heads=6, kv_heads=3)
    weights = RULE.inspect(query, key).weights()
    mixed = weights @ value.repeat_interleave(2, dim=1)
    torch.testing.assert_close(mixed, RULE(query, key, value, backend="sdpa"))


def test_rows_of_weights_sum_to_one_or_to_zero():
    query, key, _ = inputs()
    sums = RULE.inspect(query, key).weights().sum(-1)
    torch.testing.assert_close(sums, torch.tensor([1.0, 0.0])[:, None, None].expand(2, 3, 5))


@pytest.mark.parametrize("rows", [[0, 3], [-1], [-5], torch.tensor([4, 4, 0]), []])
def test_rows_are_rows_of_the_weights(rows):
    query, key, _ = inputs()
    found = RULE.inspect(query, key)
    index = torch.as_tensor(rows, dtype=torch.long)
    torch.testing.assert_close(found.rows(rows), found.weights()[:, :, index])


def test_rows_chosen_by_a_bool_tensor_are_given_by_nonzero():
    # the fix that the message gives
    query, key, _ = inputs()
    found = Rule().inspect(query, key)
    chosen = torch.tensor([True, False, False, True, False])
    torch.testing.assert_close(found.rows(chosen.nonzero()), found.weights()[:, :, chosen])


def test_half_precision_is_looked_at_in_single():
    # scores of -2, 0 and 2 times 4e4 overflow float16, where fused kernels give a finite context all the same
    query, key = torch.full((1, 1, 1), 200.0).half(), torch.tensor([[[-400.0], [0.0], [400.0]]]).half()
    found = Rule().inspect(query, key)
    torch.testing.assert_close(found.weights(), torch.tensor([[[0.0, 0.0, 1.0]]]))
    torch.testing.assert_close(found.lse(), torch.tensor([[8e4]]))


def test_even_rows_have_the_entropy_of_a_fair_choice():
    # equal scores: query i of 5 over 7 keys reads i + 3 keys evenly, entropy log(i + 3)
    found = Rule(mask=masks.causal).inspect(torch.zeros(1, 5, 4), torch.zeros(1, 7, 4))
    torch.testing.assert_close(found.entropy()[0], torch.arange(3.0, 8.0).log())


def test_a_row_with_one_key_has_entropy_zero_and_not_minus_zero():
    found = Rule(mask=masks.causal).inspect(torch.ones(1, 1, 4), torch.ones(1, 1, 4))
    assert str(found.entropy().item()) == "0.0"


def test_a_query_with_nothing_to_read_has_no_entropy_and_no_mass():
    query, key, _ = inputs()
    found = RULE.inspect(query, key)
    assert torch.equal(found.entropy()[1], torch.zeros(3, 5))
    assert torch.equal(found.lse()[1], torch.full((3, 5), -math.inf))


def test_lse_and_scores_give_the_weights_back():
    query, key, _ = inputs()
    found = Rule().inspect(query, key)
    scores = query @ key.mT / 2  # the root of head_dim 4
    torch.testing.assert_close((scores - found.lse()[..., None]).exp(), found.weights())


@pytest.mark.parametrize("elements", [3 * 2 * 7 * 2, 1], ids=["two rows", "less than a row"])
def test_a_few_rows_at_a_time_give_what_all_at_once_give(elements, monkeypatch):
    query, key, _ = inputs()
    found = Rule(mask=masks.causal).inspect(query, key)
    whole = found.entropy(), found.lse()
    monkeypatch.setattr(inspection, "_ELEMENTS_AT_A_TIME", elements)
    assert torch.equal(found.entropy(), whole[0])
    assert torch.equal(found.lse(), whole[1])


def test_entropy_of_many_tokens_makes_no_square_tensor():
    # 3 heads of 8,000 tokens: their squares hold 192 million elements; the budget is 4 million at a time
    query = torch.zeros(3, 8_000, 1)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            largest = max(largest, out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    with Watch():
        Rule().inspect(query, query).lse()
    assert 24_000 <= largest <= 2**22


def test_inspection_keeps_no_gradient():
    query, key, _ = inputs(grad=True)
    slope = torch.tensor(0.5, requires_grad=True)
    found = Rule(scores=(lambda score, head, q_pos, kv_pos: score * slope,)).inspect(query, key)
    assert not found.request.query.requires_grad, "it would hold on to what made the query"
    assert not any(t.requires_grad for t in (found.weights(), found.rows([0]), found.entropy(), found.lse()))


def test_no_queries_and_no_keys_are_no_trouble():
    query, key, _ = inputs(q_len=0)
    assert Rule().inspect(query, key).rows([]).shape == (2, 3, 0, 7)
    query, key, _ = inputs(kv_len=0)
    assert torch.equal(Rule().inspect(query, key).entropy(), torch.zeros(2, 3, 5))


def test_double_precision_stays_double():
    query, key, _ = inputs(dtype=torch.float64)
    assert Rule().inspect(query, key).weights().dtype == torch.float64


def test_a_rule_without_softmax_still_has_weights():
    query, key, _ = inputs()
    torch.testing.assert_close(
        Rule(normalizer=Evenly()).inspect(query, key).weights(), torch.full((2, 3, 5, 7), 1 / 7)
    )


@pytest.mark.messages
@pytest.mark.parametrize("what", ["entropy", "lse"])
def test_what_has_no_meaning_without_softmax_is_refused(what):
    query, key, _ = inputs()
    found = Rule(normalizer=Evenly()).inspect(query, key)
    with pytest.raises(
        OptionError, match=rf"{what} is a quantity of the softmax(?s:.*)weights\(\) and rows\(\)"
    ):
        getattr(found, what)()


@pytest.mark.messages
@pytest.mark.parametrize("rows", [[5], [-6], [0.5], torch.ones(5, dtype=torch.bool), slice(2), "0"])
def test_a_query_that_is_not_there_is_refused(rows):
    query, key, _ = inputs()
    with pytest.raises(OptionError, match=r"count the 5 queries from 0(?s:.*)rows\(chosen\.nonzero\(\)\)"):
        Rule().inspect(query, key).rows(rows)
