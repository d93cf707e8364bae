"""Native sparse attention: by hand, by loops over the paper's equations, and its three branches one by one."""

import pytest
import torch

from attnkit import Rule, masks
from attnkit.catalog import find
from attnkit.errors import OptionError
from tests.helpers import inputs

NSA = find("native_sparse")
ALL_OPTIONS = [
    {"pool_tokens": 2, "stride_tokens": 1, "block_tokens": 2, "top_k": 4, "window": 3},
    {"pool_tokens": 4, "stride_tokens": 2, "block_tokens": 4, "top_k": 2, "window": 1},
    {"pool_tokens": 1, "stride_tokens": 1, "block_tokens": 1, "top_k": 5, "window": 2},
    {"pool_tokens": 2, "stride_tokens": 2, "block_tokens": 4, "top_k": 3, "window": 4},
    {"pool_tokens": 32, "stride_tokens": 16, "block_tokens": 64, "top_k": 16, "window": 512},
]


def parts_of(query, kv_heads, pool_tokens):
    generator = torch.Generator().manual_seed(1)
    gates = torch.rand(*query.shape[:-1], 3, generator=generator, dtype=query.dtype)
    pool = torch.rand(2, kv_heads, pool_tokens, generator=generator, dtype=query.dtype)
    return {"gates": gates, "pool": pool}


def softmax_over(query, keys, values):
    if not keys:
        return torch.zeros_like(values[0]) if values else 0.0, []
    parts = torch.stack([query @ key for key in keys]).mul(query.shape[-1] ** -0.5).softmax(0)
    return sum(part * value for part, value in zip(parts, values, strict=True)), parts.tolist()


def by_loops(query, key, value, gates, pool, *, pool_tokens, stride_tokens, block_tokens, top_k, window):
    """Equations 5 to 12, causal: spans of 7, their weights summed into blocks by 9 (counted from 1) and 10."""
    l, d, w = pool_tokens, stride_tokens, block_tokens  # noqa: E741
    context = torch.zeros(*query.shape[:-1], value.shape[-1], dtype=query.dtype)
    (batch, heads, q_len, _), kv_len, kv_heads = query.shape, key.shape[-2], key.shape[1]
    group = heads // kv_heads
    for b, g, row in torch.cartesian_prod(*map(torch.arange, (batch, kv_heads, q_len))).tolist():
        t, k, v = kv_len - q_len + row, key[b, g], value[b, g]
        spans = [range(i * d, i * d + l) for i in range(max((t + 1 - l) // d + 1, 0))]
        span_keys = [sum(pool[0, g, n] * k[p] for n, p in enumerate(span)) for span in spans]
        span_values = [sum(pool[1, g, n] * v[p] for n, p in enumerate(span)) for span in spans]
        coarse = [
            softmax_over(query[b, h, row], span_keys, span_values) for h in range(g * group, (g + 1) * group)
        ]
        ranks = {}
        for j in range(1, t // w + 2):
            ranks[j] = 0.0
            for m in range(w // d):
                for n in range(l // d):
                    i = w // d * j - m - n
                    ranks[j] += sum(p[i - 1] for _, p in coarse if 1 <= i <= len(p))
        own = t // w + 1
        always = [j for j in dict.fromkeys((own, own - 1, 1)) if j in ranks]
        best = [*always, *sorted((j for j in ranks if j not in always), key=lambda j: -ranks[j])][:top_k]
        chosen = [p for j in best for p in range((j - 1) * w, j * w) if p <= t]
        near = range(max(t - window + 1, 0), t + 1)
        for member in range(group):
            h = g * group + member
            views = [coarse[member][0]]
            views += [
                softmax_over(query[b, h, row], [k[p] for p in places], [v[p] for p in places])[0]
                for places in (chosen, near)
            ]
            context[b, h, row] = sum(gate * view for gate, view in zip(gates[b, h, row], views, strict=True))
    return context


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_the_three_views_are_those_of_the_equations(options):
    query, key, value = inputs(q_len=9, kv_len=13, heads=4, kv_heads=2, dtype=torch.float64)
    parts = parts_of(query, 2, options["pool_tokens"])
    expected = by_loops(query, key, value, **parts, **options)
    torch.testing.assert_close(NSA(query, key, value, parts=parts, **options), expected)


def only(query, branch):
    return torch.zeros(*query.shape[:-1], 3, dtype=query.dtype).index_fill(-1, torch.tensor([branch]), 1)


def test_spans_are_weighed_by_hand():
    # spans of 2, one each 2: means of keys 1 and -1, of values 3 and 7. The query ln 3 at position 4 gives them
    # exp(ln 3) = 3 and 1/3, so 0.9 and 0.1, and 0.9 * 3 + 0.1 * 7 = 3.4; at position 0 no span is whole
    key = torch.tensor([0.0, 2.0, -1.0, -1.0, 9.0]).double().reshape(1, 1, 5, 1)
    value = torch.tensor([1.0, 5.0, 7.0, 7.0, 9.0]).double().reshape(1, 1, 5, 1)
    query = torch.full((1, 1, 5, 1), 3.0).double().log()
    options = {"pool_tokens": 2, "stride_tokens": 2, "block_tokens": 2, "top_k": 1, "window": 1}
    parts = {"gates": only(query, 0), "pool": torch.full((2, 1, 2), 0.5).double()}
    context = NSA(query, key, value, parts=parts, **options).flatten()
    torch.testing.assert_close(context, torch.tensor([0.0, 3.0, 3.0, 3.4, 3.4]).double())


def test_with_spans_that_are_blocks_it_is_attention_over_means():
    # independent: the means written out, under the mask that keeps whole blocks
    query, key, value = inputs(q_len=12, kv_len=12, dtype=torch.float64)
    means = [side.unflatten(-2, (4, 3)).mean(-2) for side in (key, value)]
    ends = torch.arange(2, 12, 3)
    keep = ends <= torch.arange(12)[:, None]
    scores = (query @ means[0].mT / 2).masked_fill(~keep, torch.finfo(query.dtype).min)
    expected = scores.softmax(-1).masked_fill(~keep, 0.0) @ means[1]
    options = {"pool_tokens": 3, "stride_tokens": 3, "block_tokens": 3, "top_k": 1, "window": 1}
    parts = {"gates": only(query, 0), "pool": torch.full((2, 3, 3), 1 / 3).double()}
    torch.testing.assert_close(NSA(query, key, value, parts=parts, **options), expected)


def test_one_block_of_the_chosen_is_the_querys_own():
    query, key, value = inputs(q_len=9, kv_len=9, dtype=torch.float64)
    options = {"pool_tokens": 2, "stride_tokens": 1, "block_tokens": 3, "top_k": 1, "window": 1}
    parts = parts_of(query, 3, 2) | {"gates": only(query, 1)}
    expected = Rule(mask=masks.causal & masks.blocks(3))(query, key, value)
    torch.testing.assert_close(NSA(query, key, value, parts=parts, **options), expected)


def test_the_choice_has_no_gradient_and_the_spans_have():
    query, key, value = inputs(q_len=9, kv_len=9, dtype=torch.float64)
    options = {"pool_tokens": 2, "stride_tokens": 1, "block_tokens": 1, "top_k": 4, "window": 2}
    for branch, reaches in ((0, True), (1, False), (2, False)):
        pool = torch.rand(2, 3, 2, dtype=torch.float64).requires_grad_()
        NSA(query, key, value, parts={"gates": only(query, branch), "pool": pool}, **options).sum().backward()
        assert (pool.grad is not None and bool(pool.grad.any())) == reaches


def test_a_span_that_is_hidden_in_part_is_not_read():
    query, key, _ = inputs(q_len=7, kv_len=7, dtype=torch.float64)
    options = {"pool_tokens": 2, "stride_tokens": 2, "block_tokens": 2, "top_k": 1, "window": 1}
    parts = parts_of(query, 3, 2) | {"gates": only(query, 0)}
    weights = NSA.weights(
        query, key, parts=parts, mask=masks.causal & masks.where(lambda q, k: k != 2), **options
    )
    assert not weights[..., 2:4].any()
    assert weights[..., -1, [0, 1, 4, 5]].all()


@pytest.mark.messages
def test_a_stride_that_does_not_fit_says_what_does():
    query, key, value = inputs()
    with pytest.raises(
        OptionError, match=r"pool_tokens=3 is no multiple of stride_tokens=2(?s:.*)pool_tokens=4"
    ):
        NSA(query, key, value, parts=parts_of(query, 3, 3), pool_tokens=3, stride_tokens=2, block_tokens=2)


@pytest.mark.messages
def test_a_window_of_nothing_is_refused():
    query, key, value = inputs()
    with pytest.raises(OptionError, match=r"window is a whole number, at least 1; got 0"):
        NSA(query, key, value, parts=parts_of(query, 3, 32), window=0)
