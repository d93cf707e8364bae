"""Each mechanism of the family "score" on numbers that are worked out by hand."""

import math

import pytest
import torch

from attnkit import masks
from attnkit.catalog import find

LN3 = math.log(3.0)
THREE_TO_ONE = [0.75, 0.25]  # what softmax makes of ln 3 and 0


def row(name, query, keys, *, parts=None, **options):
    """The weights of one query, one head, on some keys, where every key is kept unless `mask` says otherwise."""
    query = torch.tensor([[[query]]], dtype=torch.float64)
    key = torch.tensor([[keys]], dtype=torch.float64)
    parts = {part: torch.as_tensor(tensor, dtype=torch.float64) for part, tensor in (parts or {}).items()}
    return find(name).weights(query, key, parts=parts, **options)[0, 0, 0].tolist()


def test_unscaled_leaves_the_width_out():
    # 2 * ln(3) / 2 = ln 3; with a scale of 4 ** -0.5 the weights would be those of ln(3) / 2
    keys = [[LN3 / 2, 0.0, 0.0, 0.0], [0.0, 7.0, 0.0, 0.0]]
    assert row("unscaled", [2.0, 0.0, 0.0, 0.0], keys) == pytest.approx(THREE_TO_ONE)


def test_a_matrix_says_which_numbers_meet():
    # row 0, column 1 is 1: the query's first number meets the key's second, ln 3 * 1
    matrix = [[[0.0, 1.0], [0.0, 0.0]]]
    weights = row("multiplicative", [LN3, 9.0], [[5.0, 1.0], [5.0, 0.0]], parts={"matrix": matrix})
    assert weights == pytest.approx(THREE_TO_ONE)


def test_additive_scores_pass_through_a_tanh():
    # 2 * tanh(0.25 + atanh(ln(3) / 2) - 0.25) = ln 3, and 2 * tanh(0.25 - 0.25) = 0
    keys = [[math.atanh(LN3 / 2) - 0.25], [-0.25]]
    assert row("additive", [0.25], keys, parts={"vector": [[2.0]]}) == pytest.approx(THREE_TO_ONE)


def test_a_cosine_is_the_same_for_long_keys():
    # both lengths drop out: ln 3 * 1, and ln 3 * 0
    weights = row("cosine", [5.0, 0.0], [[7.0, 0.0], [0.0, 2.0]], parts={"log_scale": [math.log(LN3)]})
    assert weights == pytest.approx(THREE_TO_ONE)


def test_a_scale_beyond_the_largest_is_the_largest():
    options = {"parts": {"log_scale": [50.0]}, "max_scale": LN3}
    assert row("cosine", [5.0, 0.0], [[7.0, 0.0], [0.0, 2.0]], **options) == pytest.approx(THREE_TO_ONE)


def test_a_key_of_zeros_has_a_cosine_of_zero():
    weights = row("cosine", [5.0, 0.0], [[7.0, 0.0], [0.0, 0.0]], parts={"log_scale": [math.log(LN3)]})
    assert weights == pytest.approx(THREE_TO_ONE)


def test_a_key_at_the_query_wins_by_its_place():
    # squared distances 0 and 8 ln 3, over 2 * 2 ** 2: 0 and -ln 3. As dot products, 16 + ... would win
    far = 4.0 + math.sqrt(8 * LN3)
    assert row("gaussian", [4.0], [[4.0], [far]], bandwidth=2.0) == pytest.approx(THREE_TO_ONE)


def test_vectors_of_one_size_meet():
    # (6, 6) becomes (1, 1), (5, 0) becomes (sqrt 2, 0), (0, -3) becomes (0, -sqrt 2):
    # scores g * sqrt(2) / sqrt(2) and -g, with the gain g = ln(3) / 2
    parts = {"query_gain": [LN3 / 2, LN3 / 2], "key_gain": [1.0, 1.0]}
    weights = row("qk_norm", [6.0, 6.0], [[5.0, 0.0], [0.0, -3.0]], parts=parts, eps=1e-12)
    assert weights == pytest.approx(THREE_TO_ONE)


def test_a_cap_is_what_a_large_score_becomes():
    # tanh(1e6 / ln 3) is 1
    assert row("softcap", [1e3], [[1e3], [0.0]], cap=LN3) == pytest.approx(THREE_TO_ONE)


def test_alibi_takes_a_slope_a_token_away():
    # of 2 heads the first has the slope 2 ** -4: the query at 2 loses 2/16, 1/16 and 0
    query, key = torch.zeros(1, 2, 1, 4).double(), torch.zeros(1, 2, 3, 4).double()
    powers = torch.tensor([-2 / 16, -1 / 16, 0.0], dtype=torch.float64).exp()
    torch.testing.assert_close(find("alibi").weights(query, key)[0, 0, 0], powers / powers.sum())


def test_t5_shares_a_bucket_among_far_keys():
    # 4 buckets, 2 exact: distances 2 and 3 are in bucket 2, since 2 * ln(3/2) / ln(6/2) < 1; 4 is in 3
    table = torch.tensor([[1.0], [2.0], [3.0], [4.0]]).log()
    weights = row("t5_relative", [0.0], [[0.0]] * 5, parts={"table": table}, num_buckets=4, max_distance=6)
    assert weights == pytest.approx([4 / 13, 3 / 13, 3 / 13, 2 / 13, 1 / 13])


def test_shaw_adds_to_keys_and_to_values():
    # the query at 1 gives key 0 the score ln 3, from row 0, and itself 0; values become 1 + 10 and 2 + 20
    query, key = torch.ones(1, 1, 1, 1).double(), torch.zeros(1, 1, 2, 1).double()
    value = torch.tensor([[[[1.0], [2.0]]]]).double()
    parts = {"key_table": [[LN3], [0.0], [99.0]], "value_table": [[10.0], [20.0], [99.0]]}
    parts = {name: torch.tensor(table).double() for name, table in parts.items()}
    context = find("shaw_relative")(query, key, value, parts=parts, max_distance=1)
    assert context.item() == pytest.approx(0.75 * 11 + 0.25 * 22)


def test_transformer_xl_sees_the_sine_of_a_distance():
    # head_dim 1 and d_model 2: R_d = (sin d, cos d), of which the projection takes the sine. Scores of the query at 1:
    # u * key + (query + v) * sin(1) = 1 * (ln 3 - 5 sin 1) + (2 + 3) * sin 1 + 2 * key, and 0 for itself
    parts = {"content_bias": [[-1.0]], "distance_bias": [[3.0]], "projection": [[[1.0, 0.0]]]}
    keys = [[LN3 - 5 * math.sin(1.0)], [0.0]]
    assert row("transformer_xl_relative", [2.0], keys, parts=parts) == pytest.approx(THREE_TO_ONE)


def test_a_rotary_score_is_the_cosine_of_the_distance():
    # the one pair of two numbers turns by 1 a token; scores 4 cos(1) / sqrt(2) and 4 / sqrt(2)
    powers = [math.exp(4 * math.cos(1.0) / math.sqrt(2)), math.exp(4 / math.sqrt(2))]
    expected = [power / sum(powers) for power in powers]
    assert row("rotary", [2.0, 0.0], [[2.0, 0.0]] * 2) == pytest.approx(expected)


def test_gates_between_key_and_query_multiply():
    # gates 1/7, 1/2, 1/3: key 0 keeps 1/2 * 1/3, key 1 keeps 1/3, key 2 all; the gate of key 0 counts for nobody
    gates = torch.tensor([[[[1 / 7], [1 / 2], [1 / 3]]]]).double().log()
    weights = row("forgetting", [0.0], [[0.0]] * 3, parts={"log_gate": gates})
    assert weights == pytest.approx([1 / 9, 2 / 9, 6 / 9])


def test_talking_heads_read_before_and_after_from_row_to_column():
    # head 1 has the scores (ln 3, 0); `before` gives them to head 0, `after` doubles its weights for head 1
    query, key = torch.tensor([[[[0.0]], [[1.0]]]]).double(), torch.tensor([[[[LN3], [0.0]]] * 2]).double()
    parts = {"before": [[0.0, 0.0], [1.0, 0.0]], "after": [[0.0, 2.0], [0.0, 0.0]]}
    parts = {name: torch.tensor(matrix).double() for name, matrix in parts.items()}
    weights = find("talking_heads").weights(query, key.reshape(1, 2, 2, 1), parts=parts)
    assert weights[0, 0, 0].tolist() == [0.0, 0.0]
    assert weights[0, 1, 0].tolist() == pytest.approx([1.5, 0.5])


def test_keys_after_the_query_are_forgotten_by_the_gates_between():
    # gates 1/7, 1/2, 1/3 and the query at 0: key 1 keeps 1/2, key 2 keeps 1/2 * 1/3
    gates = torch.tensor([[[[1 / 7], [1 / 2], [1 / 3]]]]).double().log()
    query, key = torch.zeros(1, 1, 1, 1).double(), torch.zeros(1, 1, 3, 1).double()
    rule = find("forgetting").rule(log_gate=gates, mask=masks.full)
    weights = rule.inspect(query, key, q_start=0).weights()[0, 0, 0]
    assert weights.tolist() == pytest.approx([6 / 10, 3 / 10, 1 / 10])
