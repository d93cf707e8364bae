"""Reformer's hashing: by hand, by loops over the equations, and what a shared projection makes of a token itself."""

import math

import pytest
import torch

from attnkit import masks
from attnkit.catalog import find
from attnkit.errors import OptionError
from attnkit.mechanisms.hashed import bucket_of
from tests.helpers import inputs

HASHED = find("hashed")


def buckets_by_loops(vector, *, buckets, rounds, seed):
    generator = torch.Generator().manual_seed(seed)
    rotations = torch.randn(rounds, len(vector), buckets // 2, generator=generator, dtype=torch.float64)
    found = []
    for rotation in rotations:
        sides = [float(sum(x * r for x, r in zip(vector, column, strict=True))) for column in rotation.T]
        sides += [-side for side in sides]
        found.append(sides.index(max(sides)))
    return found


def by_loops(query, key, value, **drawing):
    """Equations 2 to 4 and 6, causal: the union of the rounds' buckets, and a token itself only if it is alone."""
    context = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
    (batch, heads, q_len, head_dim), kv_len, group = (
        query.shape,
        key.shape[-2],
        query.shape[1] // key.shape[1],
    )
    for b in range(batch):
        for h in range(heads):
            k, v = key[b, h // group], value[b, h // group]
            hashes = [buckets_by_loops(vector, **drawing) for vector in k]
            for row in range(q_len):
                own, at = buckets_by_loops(query[b, h, row], **drawing), kv_len - q_len + row
                met = [s for s in range(at + 1) if any(x == y for x, y in zip(own, hashes[s], strict=True))]
                read = [s for s in met if s != at] or [at]
                parts = [
                    math.exp(float(query[b, h, row] @ k[s]) / float(k[s].norm()) / math.sqrt(head_dim))
                    for s in read
                ]
                for part, s in zip(parts, read, strict=True):
                    context[b, h, row] += part / sum(parts) * v[s]
    return context


@pytest.mark.parametrize("drawing", [(4, 2, 0), (2, 1, 1), (8, 3, 2), (16, 1, 3)])
def test_keys_are_those_of_the_equations(drawing):
    options = dict(zip(("buckets", "rounds", "seed"), drawing, strict=True))
    query, key, value = inputs(q_len=9, kv_len=13, heads=4, kv_heads=2, dtype=torch.float64)
    torch.testing.assert_close(HASHED(query, key, value, **options), by_loops(query, key, value, **options))


def test_buckets_are_numbered_by_hand():
    # x R = (3, -5): the largest of 3, -5, -3, 5 is the last
    rotation = torch.eye(2)[None]
    tokens = torch.tensor([[3.0, -5.0], [-1.0, 0.5], [0.2, 0.1], [1.0, 2.0]])[None, None]
    assert bucket_of(tokens, rotation).flatten().tolist() == [3, 2, 0, 1]


def test_a_token_reads_itself_only_if_it_is_alone():
    # all tokens alike: one bucket, so each reads all before it, and the first itself
    query = torch.ones(1, 1, 4, 3)
    weights = HASHED.weights(query, query)[0, 0]
    expected = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0], [1 / 2, 1 / 2, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0]])
    torch.testing.assert_close(weights, expected)


def test_a_token_whose_neighbours_are_hidden_is_alone():
    query = torch.ones(1, 1, 4, 3)
    weights = HASHED.weights(query, query, mask=masks.causal & masks.where(lambda q, k: k == 3))[0, 0]
    assert weights.diagonal().tolist() == [0, 0, 0, 1]
    assert weights.sum() == 1


def test_the_length_of_a_key_does_not_matter():
    query, key, value = inputs(q_len=7, kv_len=7, dtype=torch.float64)
    torch.testing.assert_close(HASHED(query, 5 * key, value), HASHED(query, key, value))


def test_more_rounds_read_more():
    query, key, _ = inputs(q_len=32, kv_len=32, dtype=torch.float64)
    few, many = ((HASHED.weights(query, key, buckets=16, rounds=rounds) > 0).sum() for rounds in (1, 8))
    assert few < many


def test_a_token_keeps_its_choice_when_samples_and_lengths_change():
    query, key, value = inputs(q_len=12, kv_len=12, dtype=torch.float64)
    whole = HASHED(query, key, value)
    alone = HASHED(query[1:, :, :5], key[1:, :, :5], value[1:, :, :5])
    torch.testing.assert_close(whole[1:, :, :5], alone)


@pytest.mark.messages
@pytest.mark.parametrize("buckets", [3, 0, 2.0, True])
def test_buckets_come_in_pairs(buckets):
    query, key, value = inputs()
    with pytest.raises(OptionError, match=r"hashed: buckets come in pairs(?s:.*)fix: buckets="):
        HASHED(query, key, value, buckets=buckets)


@pytest.mark.messages
def test_no_round_is_refused():
    query, key, value = inputs()
    with pytest.raises(OptionError, match=r"hashed: rounds is a whole number, at least 1; got 0"):
        HASHED(query, key, value, rounds=0)
