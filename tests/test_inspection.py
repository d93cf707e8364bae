import math

import pytest
import torch

from attnkit import Rule, masks
from attnkit.errors import OptionError, ShapeError
from attnkit.normalizers import Normalizer, Sigmoid, Softmax
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


def test_inspection_keeps_no_gradient():
    query, key, _ = inputs(grad=True)
    slope = torch.tensor(0.5, requires_grad=True)
    found = Rule(scores=(lambda score, head, q_pos, kv_pos: score * slope,)).inspect(query, key)
    assert not found.request.query.requires_grad, "it would hold on to what made the query"
    pooled = found.pooled(2)
    answers = [found.weights(), found.rows([0]), found.entropy(), found.lse(), found.received()]
    assert not any(answer.requires_grad for answer in (*answers, pooled.mean, pooled.max))


@pytest.mark.parametrize(("q_len", "kv_len"), [(0, 7), (5, 0), (0, 0)])
def test_no_queries_and_no_keys_are_no_trouble(q_len, kv_len):
    query, key, _ = inputs(q_len=q_len, kv_len=kv_len)
    found = Rule().inspect(query, key)
    assert found.weights().shape == (2, 3, q_len, kv_len)
    assert found.rows([]).shape == (2, 3, 0, kv_len)
    assert torch.equal(found.entropy(), torch.zeros(2, 3, q_len))
    assert torch.equal(found.lse(), torch.full((2, 3, q_len), -math.inf))
    assert torch.equal(found.received(), torch.zeros(2, 3, kv_len))
    assert found.pooled(2).mean.shape == (2, 3, -(-q_len // 2), -(-kv_len // 2))


@pytest.mark.parametrize(("batch", "heads"), [((0,), 3), ((2,), 0), ((), 3), ((2, 1), 3)])
def test_any_batch_will_do(batch, heads):
    query, key, _ = inputs(batch=batch, heads=heads)
    found = Rule(mask=masks.causal).inspect(query, key)
    assert found.weights().shape == (*batch, heads, 5, 7)
    assert found.entropy().shape == found.lse().shape == (*batch, heads, 5)
    assert found.received().shape == (*batch, heads, 7)
    assert found.pooled(3).max.shape == (*batch, heads, 2, 3)


def test_autocast_does_not_act():
    query, key, _ = inputs()
    found = Rule().inspect(query, key)
    expected = found.weights(), found.entropy()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(found.weights(), expected[0])
        assert torch.equal(found.entropy(), expected[1])


def test_double_precision_stays_double():
    query, key, _ = inputs(dtype=torch.float64)
    assert Rule().inspect(query, key).weights().dtype == torch.float64


def test_a_rule_without_softmax_still_has_weights():
    query, key, _ = inputs()
    torch.testing.assert_close(
        Rule(normalizer=Evenly()).inspect(query, key).weights(), torch.full((2, 3, 5, 7), 1 / 7)
    )


def test_a_tile_of_even_weights_has_their_mean_the_ragged_last_too():
    # equal scores over 7 keys: every weight is 1/7, so every tile of 2 x 3 is, and the last of 1 x 1
    pooled = Rule().inspect(torch.zeros(1, 5, 4), torch.zeros(1, 7, 4)).pooled((2, 3))
    torch.testing.assert_close(pooled.mean, torch.full((1, 3, 3), 1 / 7))
    torch.testing.assert_close(pooled.max, torch.full((1, 3, 3), 1 / 7))
    assert pooled.tile == (2, 3)


def test_hidden_pairs_count_as_zero_in_a_tile():
    # causal over 4 even keys: rows 1 | 1/2 1/2 | 1/3 1/3 1/3 | 1/4 1/4 1/4 1/4; tiles of 2 x 2 by hand
    pooled = Rule(mask=masks.causal).inspect(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)).pooled(2)
    torch.testing.assert_close(pooled.mean[0], torch.tensor([[2 / 4, 0], [7 / 6 / 4, 5 / 6 / 4]]))
    torch.testing.assert_close(pooled.max[0], torch.tensor([[1, 0], [1 / 3, 1 / 3]]))


def test_keys_receive_together_what_queries_give():
    query, key, _ = inputs()
    # of the two samples one has nothing to read; each of the 5 queries of the other gives one
    torch.testing.assert_close(
        RULE.inspect(query, key).received().sum(-1), torch.tensor([[5.0], [0.0]]).expand(2, 3)
    )


def test_the_sum_that_a_sink_is_part_of_gives_the_weights_back():
    query, key, _ = inputs()
    found = Rule(normalizer=Softmax(sink=torch.tensor([-1.0, 0.0, 30.0]))).inspect(query, key)
    scores = query @ key.mT / 2  # the root of head_dim 4
    torch.testing.assert_close((scores - found.lse()[..., None]).exp(), found.weights())


def test_weights_too_large_are_given_when_they_are_asked_for():
    found = Rule().inspect(torch.zeros(1, 5, 4), torch.zeros(1, 7, 4))
    assert found.weights(at_most_bytes=5 * 7 * 4).shape == (1, 5, 7)
    with pytest.raises(OptionError):
        found.weights(at_most_bytes=5 * 7 * 4 - 1)


def test_a_mask_for_another_batch_is_refused_before_anything_is_computed():
    query, key, _ = inputs()
    with pytest.raises(ShapeError):
        Rule(mask=masks.lengths([0, 0, 0])).inspect(query, key).received()


@pytest.mark.messages
@pytest.mark.parametrize(
    "normalizer",
    [Evenly(), Sigmoid(), Softmax(sink=torch.zeros(3))],
    ids=lambda normalizer: type(normalizer).__name__,
)
def test_entropy_of_rows_that_do_not_sum_to_one_is_refused(normalizer):
    query, key, _ = inputs()
    with pytest.raises(OptionError, match=r"rows that sum to one(?s:.*)received\(\) and pooled\(\)"):
        Rule(normalizer=normalizer).inspect(query, key).entropy()


@pytest.mark.messages
def test_lse_without_softmax_is_refused():
    query, key, _ = inputs()
    with pytest.raises(OptionError, match=r"lse is a quantity of the softmax(?s:.*)received\(\) and pooled"):
        Rule(normalizer=Sigmoid()).inspect(query, key).lse()


@pytest.mark.messages
def test_weights_too_large_are_refused_with_how_to_ask_anyway():
    # 8 heads of 65,536 x 65,536 numbers of 4 bytes are 137.4 billion bytes
    found = Rule().inspect(torch.zeros(8, 65_536, 1), torch.zeros(8, 65_536, 1))
    large = r"\(8, 65536, 65536\) take 137 GB(?s:.*)pooled\(256\)(?s:.*)at_most_bytes=137438953472\)"
    with pytest.raises(OptionError, match="inspect.weights: " + large):
        found.weights()
    with pytest.raises(OptionError, match="inspect.rows: " + large):
        found.rows(range(65_536))
    with pytest.raises(OptionError, match=r"inspect.pooled: \(2, 8, 32768, 32768\) take 68.7 GB"):
        found.pooled(2)


@pytest.mark.messages
@pytest.mark.parametrize("at_most_bytes", ["1 GB", None, True, -1, math.nan])
def test_a_size_that_is_no_number_of_bytes_is_refused(at_most_bytes):
    query, key, _ = inputs()
    with pytest.raises(OptionError, match=r"is a number of bytes; got(?s:.*)weights\(at_most_bytes=4e9\)"):
        Rule().inspect(query, key).weights(at_most_bytes=at_most_bytes)


@pytest.mark.messages
@pytest.mark.parametrize("tile", [0, -3, 2.0, True, "2", (2, 0), (2,), (2, 3, 4), None])
def test_a_tile_of_no_size_is_refused(tile):
    query, key, _ = inputs()
    with pytest.raises(OptionError, match=r"from 1 upwards; got(?s:.*)pooled\(\(16, 256\)\) for 16 queries"):
        Rule().inspect(query, key).pooled(tile)


@pytest.mark.messages
@pytest.mark.parametrize("rows", [[5], [-6], [0.5], torch.ones(5, dtype=torch.bool), slice(2), "0"])
def test_a_query_that_is_not_there_is_refused(rows):
    query, key, _ = inputs()
    with pytest.raises(OptionError, match=r"count the 5 queries from 0(?s:.*)rows\(chosen\.nonzero\(\)\)"):
        Rule().inspect(query, key).rows(rows)


@pytest.mark.messages
def test_what_inspects_prints_its_shapes_and_no_numbers():
    query, key, _ = inputs()
    found = Rule(mask=masks.causal).inspect(query, key)
    assert repr(found) == "Inspection(query (2, 3, 5, 4), key (2, 3, 7, 4), causal, Softmax())"
    assert repr(found.pooled(4)) == "Pooled(mean and max of (2, 3, 2, 2), tile=(4, 4))"
