"""DeepSeek's indexer: by hand, by loops over the equations, and the loss that trains it."""

import math

import pytest
import torch

from attnkit import Rule, masks
from attnkit.catalog import find
from attnkit.errors import OptionError, ShapeError
from attnkit.mechanisms.indexed import index_scores, indexer_loss
from tests.helpers import inputs

INDEXED = find("indexed")


def parts_of(query, key, *, index_heads=2, index_dim=5, grad=False):
    generator = torch.Generator().manual_seed(1)
    (batch, _, q_len, _), kv_len = query.shape, key.shape[-2]
    shapes = {
        "index_query": (batch, index_heads, q_len, index_dim),
        "index_key": (batch, 1, kv_len, index_dim),
        "index_weight": (batch, index_heads, q_len, 1),
    }
    return {
        name: torch.randn(shape, generator=generator, dtype=query.dtype).requires_grad_(grad)
        for name, shape in shapes.items()
    }


def by_loops(query, key, value, parts, *, top_k):
    """Equations 1 and 2, causal, one query after another; of equal indices the later key."""
    context = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
    (batch, heads, q_len, head_dim), kv_len, group = (
        query.shape,
        key.shape[-2],
        query.shape[1] // key.shape[1],
    )
    asking, asked, weight = (parts[name].tolist() for name in ("index_query", "index_key", "index_weight"))
    for b in range(batch):
        for row in range(q_len):
            past = range(kv_len - q_len + row + 1)
            index = [
                sum(
                    weight[b][j][row][0]
                    * max(sum(x * y for x, y in zip(asking[b][j][row], asked[b][0][s], strict=True)), 0.0)
                    for j in range(len(asking[b]))
                )
                for s in past
            ]
            read = sorted(past, key=lambda s, index=index: (-index[s], -s))[:top_k]
            for h in range(heads):
                k, v = key[b, h // group], value[b, h // group]
                scores = [math.exp(float(query[b, h, row] @ k[s]) / math.sqrt(head_dim)) for s in read]
                for part, s in zip(scores, read, strict=True):
                    context[b, h, row] += part / sum(scores) * v[s]
    return context


@pytest.mark.parametrize("top_k", [1, 3, 7, 20])
def test_keys_are_those_of_the_equations(top_k):
    query, key, value = inputs(q_len=9, kv_len=13, heads=4, kv_heads=2, dtype=torch.float64)
    parts = parts_of(query, key)
    context = INDEXED(query, key, value, parts=parts, top_k=top_k, index_heads=2, index_dim=5)
    torch.testing.assert_close(context, by_loops(query, key, value, parts, top_k=top_k))


def test_keys_are_ranked_by_hand():
    # index of the last query: 2 relu(1 * k) - relu(-1 * k) = 2, 6, -3, 0 for k = 1, 3, -3, 0, so keys 1 and 0
    key = torch.zeros(1, 1, 4, 1)
    parts = {
        "index_query": torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1),
        "index_key": torch.tensor([1.0, 3.0, -3.0, 0.0]).reshape(1, 1, 4, 1),
        "index_weight": torch.tensor([2.0, -1.0]).reshape(1, 2, 1, 1),
    }
    weights = INDEXED.weights(key[..., :1, :], key, parts=parts, top_k=2, index_heads=2, index_dim=1)
    assert weights.flatten().tolist() == [0.5, 0.5, 0.0, 0.0]


def test_where_no_index_head_fires_the_last_keys_are_read():
    query, key, _ = inputs(q_len=7, kv_len=7, dtype=torch.float64)
    parts = parts_of(query, key)
    parts["index_weight"] = parts["index_weight"] * 0
    weights = INDEXED.weights(query, key, parts=parts, top_k=3, index_heads=2, index_dim=5)
    assert torch.equal((weights > 0)[0, 0], (masks.causal & masks.window(3)).dense(7, 7))


def test_one_choice_serves_all_heads():
    query, key, _ = inputs(q_len=9, kv_len=9, heads=4, kv_heads=2, dtype=torch.float64)
    weights = INDEXED.weights(query, key, parts=parts_of(query, key), top_k=3, index_heads=2, index_dim=5)
    read = weights > 0
    assert bool((read == read[:, :1]).all())
    assert read.sum(-1)[0, 0].tolist() == [1, 2, 3, 3, 3, 3, 3, 3, 3]


def test_what_is_read_does_not_train_the_indexer_and_its_loss_does():
    query, key, value = inputs(q_len=7, kv_len=7, dtype=torch.float64, grad=True)
    parts = parts_of(query, key, grad=True)
    INDEXED(query, key, value, parts=parts, top_k=3, index_heads=2, index_dim=5).sum().backward()
    assert [part.grad for part in parts.values()] == [None] * 3
    assert query.grad.any()
    query.grad = key.grad = None
    indexer_loss(query, key, **parts).backward()
    assert all(bool(part.grad.any()) for part in parts.values())
    assert (query.grad, key.grad) == (None, None)


@pytest.mark.parametrize("top_k", [None, 3])
def test_the_loss_is_the_divergence_written_out(top_k):
    # independent: torch's own divergence, row by row, over the keys that count
    query, key, _ = inputs(q_len=5, kv_len=7, heads=4, kv_heads=2, dtype=torch.float64)
    parts = parts_of(query, key)
    index, rows = index_scores(**parts)[:, 0], []
    heads = Rule(mask=masks.causal).inspect(query, key)
    for b in range(2):
        for row in range(5):
            past = torch.arange(3 + row)
            ranked = sorted(past.tolist(), key=lambda s, b=b, row=row: (-float(index[b, row, s]), -s))
            counted = past if top_k is None else torch.tensor(ranked[:top_k])
            p = heads.weights()[b, :, row, counted]
            p = (p / p.sum(-1, keepdim=True)).mean(0)
            told = index[b, row, counted].log_softmax(-1)
            rows.append(torch.nn.functional.kl_div(told, p, reduction="sum"))
    torch.testing.assert_close(indexer_loss(query, key, **parts, top_k=top_k), torch.stack(rows).mean())


def test_an_indexer_learns_what_the_heads_read():
    query, key, _ = inputs(q_len=16, kv_len=16, heads=1, batch=(1,), dtype=torch.float64)
    parts = parts_of(query, key, index_heads=4, index_dim=8, grad=True)
    first = indexer_loss(query, key, **parts).item()
    optimizer = torch.optim.Adam(parts.values(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        indexer_loss(query, key, **parts).backward()
        optimizer.step()
    assert indexer_loss(query, key, **parts).item() < first / 10
    trained = INDEXED.weights(query, key, parts=parts, top_k=4, index_heads=4, index_dim=8)
    heads = Rule(mask=masks.causal).inspect(query, key).weights()
    assert heads.masked_fill(trained == 0, 0.0).sum(-1).min() > 0.9


@pytest.mark.messages
def test_an_index_of_another_size_says_what_to_write():
    query, key, value = inputs()
    with pytest.raises(
        ShapeError, match=r"is not for 4 heads of 32 numbers(?s:.*)index_heads=2, index_dim=5"
    ):
        INDEXED(query, key, value, parts=parts_of(query, key), top_k=3)


@pytest.mark.messages
def test_reading_no_key_is_refused():
    query, key, value = inputs()
    with pytest.raises(OptionError, match=r"indexed: top_k is a whole number, at least 1; got 0"):
        INDEXED(query, key, value, parts=parts_of(query, key), top_k=0, index_heads=2, index_dim=5)
