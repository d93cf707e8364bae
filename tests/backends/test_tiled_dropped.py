"""Softmax with dropout on the tiled backend: what is kept, how often, and the same going back."""

import pytest
import torch

from attnkit import Rule, masks
from attnkit.backends import eager, tiled
from tests.helpers import inputs

MASKS = {
    "causal": masks.causal,
    "window or first": masks.causal & (masks.window(40) | masks.first(4)),
    "lengths with an empty sample": masks.lengths([0, 60]),
    "where": masks.where(lambda q, k: (q + k) % 3 == 1),
    "rows that read nothing": masks.where(lambda q, k: (q > 60) & (k < 40)),
}


def draw(**options):
    return inputs(q_len=130, kv_len=150, heads=6, kv_heads=3, dtype=torch.float64, **options)


def run(rule, tensors, seed=5):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return tiled.run(rule._request(*tensors, None, training=True, generator=generator))


def weights_used(rule, query, key, seed=5):
    """With the identity for values, the context is the weights that were used."""
    eye = torch.eye(150, dtype=query.dtype).expand(2, 3, -1, -1)
    return run(rule, (query, key, eye), seed).detach()


@pytest.mark.parametrize("mask", MASKS)
def test_what_is_dropped_is_gone_and_what_is_kept_is_more_and_gradients_know_which(mask):
    query, key, value = draw(grad=True)
    rule = Rule(mask=MASKS[mask], dropout=0.25)  # a multiple of 1/65536
    kept = weights_used(rule, query, key) != 0
    expected = eager.weights(rule._request(query, key, value, None)) * kept / 0.75 @ eager.each_head(value, 2)
    found = run(rule, (query, key, value))
    torch.testing.assert_close(found, expected)
    probe = torch.randn_like(expected)
    gradients = [torch.autograd.grad(each, (query, key, value), probe) for each in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_rows_of_another_block_draw_anew():
    # rows 128 and 129 are the second block, and lie in its first head as rows 0 and 1 do in theirs
    used = weights_used(Rule(dropout=0.5), torch.zeros(2, 6, 130, 4), torch.zeros(2, 3, 150, 4))
    assert not torch.equal(used[0, 0, :2] == 0, used[0, 0, 128:] == 0)


def test_keys_that_lie_apart_get_their_own_gradients():
    query, key, value = inputs(q_len=20, kv_len=600, dtype=torch.float64, grad=True)
    rule = Rule(mask=MASKS["window or first"], dropout=2**-16)  # drops hardly one of 2,640 weights
    found = torch.autograd.grad(run(rule, (query, key, value)).sum(), (key, value))
    expected = torch.autograd.grad(eager.run(rule._request(query, key, value, None)).sum(), (key, value))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("chance", [0.05, 0.1, 0.5, 0.9])
def test_as_many_are_dropped_as_was_asked(chance):
    query = key = torch.zeros(2, 6, 150, 4, dtype=torch.float64)
    used = weights_used(Rule(dropout=chance), query, key[:, :3])
    # 270,000 draws: five standard deviations of their mean
    spread = 5 * (chance * (1 - chance) / used.numel()) ** 0.5
    assert abs((used == 0).double().mean().item() - chance) < spread
    # and no head, row or column more often than chance: six standard deviations of 900 or 1,800 draws
    for axes in ((0, 1, 2), (0, 1, 3)):
        share = (used == 0).double().mean(axes)
        assert (share - chance).abs().max().item() < 6 * (chance * (1 - chance) / 1800) ** 0.5


def test_the_mean_over_many_draws_is_what_dropping_nothing_gives():
    query, key, value = (tensor[:1, :, :20] for tensor in inputs(q_len=20, kv_len=20, dtype=torch.float64))
    tensors = [tensor.expand(2000, -1, -1, -1) for tensor in (query, key, value)]
    found = run(Rule(dropout=0.3), tensors)
    expected = eager.run(Rule()._request(query, key, value, None))[0]
    spread = found.std(0) / 2000**0.5
    assert ((found.mean(0) - expected).abs() <= 6 * spread + 1e-9).all()


def test_a_generator_makes_it_repeatable_and_another_seed_makes_it_other():
    tensors = draw()
    one, same, other = (run(Rule(dropout=0.3), tensors, seed) for seed in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_two_calls_from_one_generator_differ():
    generator = torch.Generator().manual_seed(5)
    request = Rule(dropout=0.3)._request(*draw(), None, training=True, generator=generator)
    assert not torch.equal(tiled.run(request), tiled.run(request))


def test_without_a_generator_the_seed_of_torch_decides():
    tensors, found = draw(), []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(run(Rule(dropout=0.3), tensors, seed=None))
    assert torch.equal(*found)


def test_a_lower_precision_is_computed_in_float32():
    tensors = draw()
    low = [tensor.bfloat16() for tensor in tensors]
    found = run(Rule(mask=masks.causal, dropout=0.3), low)
    exact = run(Rule(mask=masks.causal, dropout=0.3), [tensor.float() for tensor in low])
    torch.testing.assert_close(found, exact.bfloat16(), rtol=0, atol=0)


def test_dropout_acts_in_training_alone():
    request = Rule(dropout=0.3)._request(*draw(), None, training=False)
    torch.testing.assert_close(tiled.run(request), eager.run(request))
