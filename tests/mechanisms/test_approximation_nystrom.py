"""Nystromformer: where it is exact, what its inverse does, and how padding stays out."""

import pytest
import torch

from attnkit import Rule, masks
from attnkit.catalog import find
from attnkit.errors import OptionError
from attnkit.mechanisms.nystrom import _inverse
from tests.helpers import inputs

NYSTROM = find("nystrom")


def by_loops(query, key, value, *, landmarks):
    """Algorithm 1 for one head, with torch's own pseudoinverse: stretches cut by counting, means by hand."""

    def means(tokens):
        stretches = [[] for _ in range(landmarks)]
        for place, token in enumerate(tokens):
            stretches[place * landmarks // len(tokens)].append(token)
        return torch.stack([sum(stretch) / len(stretch) for stretch in stretches])

    q_mean, k_mean, scale = means(query), means(key), query.shape[-1] ** -0.5
    near, middle, far = (
        (one @ two.T * scale).softmax(-1) for one, two in ((query, k_mean), (q_mean, k_mean), (q_mean, key))
    )
    return near @ torch.linalg.pinv(middle) @ far @ value


@pytest.mark.parametrize("landmarks", [1, 3, 5])
def test_it_is_algorithm_1(landmarks):
    query, key, value = inputs(q_len=11, kv_len=13, heads=4, kv_heads=2, dtype=torch.float64)
    context = NYSTROM(query, key, value, landmarks=landmarks, iterations=60)
    for b, h in torch.cartesian_prod(torch.arange(2), torch.arange(4)).tolist():
        expected = by_loops(query[b, h], key[b, h // 2], value[b, h // 2], landmarks=landmarks)
        torch.testing.assert_close(context[b, h], expected, rtol=1e-6, atol=1e-8)


def test_one_landmark_is_the_same_for_all_queries():
    # by hand: one landmark makes near and middle 1, so every context is softmax(mean query . keys) values
    query, key, value = inputs(dtype=torch.float64)
    expected = Rule()(query.mean(-2, keepdim=True), key, value).expand(-1, -1, 5, -1)
    torch.testing.assert_close(NYSTROM(query, key, value, landmarks=1, iterations=40), expected)


def test_tokens_that_repeat_within_a_stretch_are_rebuilt_exactly():
    # a mean of equal tokens is the token, so rows of attention are rows of near @ inverse @ far: its rank is 3
    query, key, value = inputs(q_len=3, kv_len=3, dtype=torch.float64)
    query, key = (side.repeat_interleave(4, -2) for side in (query, key))
    value = torch.randn(2, 3, 12, 8, dtype=torch.float64)
    context = NYSTROM(query, key, value, landmarks=3, iterations=60)
    torch.testing.assert_close(context, Rule()(query, key, value), rtol=1e-6, atol=1e-8)


def test_the_inverse_is_the_pseudoinverse():
    generator = torch.Generator().manual_seed(1)
    square = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64).softmax(-1)
    wide = torch.randn(2, 3, 3, 5, generator=generator, dtype=torch.float64)
    flat = torch.cat([square[..., :3, :], square.new_zeros(2, 3, 1, 4)], -2)
    for matrix in (square, wide, flat):
        torch.testing.assert_close(_inverse(matrix, 40), torch.linalg.pinv(matrix))


def test_the_inverse_cubes_what_is_left():
    # with A Z = I - E the step's polynomial leaves 3/4 E^3 + 1/4 E^4
    square = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).softmax(-1)
    one = torch.eye(4, dtype=torch.float64)
    rest = one - square @ _inverse(square, 4)
    expected = 0.75 * rest @ rest @ rest + 0.25 * rest @ rest @ rest @ rest
    torch.testing.assert_close(one - square @ _inverse(square, 5), expected)


def test_padding_is_in_no_landmark():
    # the second sample has 8 real tokens of 12; with 3 landmarks the last stretch is padding alone
    query, key, value = inputs(q_len=12, kv_len=12, dtype=torch.float64)
    mask, options = masks.lengths([12, 8]), {"landmarks": 3, "iterations": 60}
    context = NYSTROM(query, key, value, mask=mask, **options)
    other = [side.clone() for side in (query, key, value)]
    for side in other:
        side[1, :, 8:] = 100.0
    torch.testing.assert_close(NYSTROM(*other, mask=mask, **options)[1, :, :8], context[1, :, :8])
    cut = NYSTROM(query[1:, :, :8], key[1:, :, :8], value[1:, :, :8], landmarks=2, iterations=60)
    torch.testing.assert_close(context[1:, :, :8], cut)


def test_a_sample_of_padding_alone_reads_nothing():
    query, key, value = inputs(dtype=torch.float64)
    context = NYSTROM(query, key, value, mask=masks.lengths([7, 0]), landmarks=3)
    assert context[0].any()
    assert not context[1].any()


@pytest.mark.parametrize(("q_len", "kv_len"), [(0, 7), (3, 0), (0, 0)])
def test_nothing_to_ask_or_to_read_is_a_context_of_zeros(q_len, kv_len):
    query, key, value = inputs(q_len=q_len, kv_len=kv_len)
    assert NYSTROM(query, key, value).shape == (2, 3, q_len, 8)
    assert not NYSTROM(query, key, value).any()


@pytest.mark.messages
def test_a_causal_mask_is_refused_in_words():
    query, key, value = inputs()
    with pytest.raises(
        OptionError, match=r"nystrom: causal hides keys from some queries alone(?s:.*)performer"
    ):
        NYSTROM(query, key, value, mask=masks.causal)


@pytest.mark.messages
def test_dropout_is_refused_in_words():
    query, key, value = inputs()
    with pytest.raises(OptionError, match=r"none can be dropped; got dropout=0.1(?s:.*)torch.nn.Dropout"):
        NYSTROM.builder(query, key, value, q_start=2, dropout=0.1)


@pytest.mark.messages
def test_no_landmark_is_refused():
    query, key, value = inputs()
    with pytest.raises(OptionError, match=r"landmarks is a whole number, at least 1; got 0"):
        NYSTROM(query, key, value, landmarks=0)
