"""Performer: features against their lemmas, sums against loops, and how the error falls."""

import math
from itertools import pairwise

import pytest
import torch

from attnkit import Rule, masks
from attnkit.catalog import find
from attnkit.errors import OptionError
from attnkit.mechanisms.performer import drawn_vectors, performer
from tests.helpers import inputs

PERFORMER = find("performer")


def by_loops(query, key, value, *, features, seed, keep):
    """The definition for one head: features one by one, and a sum over what is kept."""
    vectors, scale = drawn_vectors(features, query.shape[-1], seed), query.shape[-1] ** -0.25

    def phi(token):
        token = token * scale
        return torch.stack([torch.exp(w @ token - token @ token / 2) for w in vectors]) / math.sqrt(features)

    rows = []
    for q, row in zip(query, keep, strict=True):
        parts = [float(phi(q) @ phi(k)) if kept else 0.0 for k, kept in zip(key, row, strict=True)]
        rows.append(sum(part * v for part, v in zip(parts, value, strict=True)) / (sum(parts) or 1.0))
    return torch.stack(rows)


@pytest.mark.parametrize(
    "mask", [masks.causal, masks.full, masks.causal & masks.lengths([7, 4]), masks.lengths([7, 4])]
)
def test_sums_are_those_of_the_definition(mask):
    query, key, value = inputs(heads=4, kv_heads=2, dtype=torch.float64)
    context = performer(query, key, value, features=6, seed=1, q_start=2, mask=mask)
    keep = mask.dense(5, 7).expand(2, 5, 7)
    for b, h in torch.cartesian_prod(torch.arange(2), torch.arange(4)).tolist():
        sides = query[b, h], key[b, h // 2], value[b, h // 2]
        expected = by_loops(*sides, features=6, seed=1, keep=keep[b].tolist())
        torch.testing.assert_close(context[b, h], expected)


@pytest.mark.parametrize(
    ("q_len", "kv_len", "q_start"), [(300, 300, 0), (130, 300, 170), (300, 140, -160), (9, 20, 4)]
)
def test_chunks_of_the_past_add_up_to_it(q_len, kv_len, q_start):
    # independent: the weights of all pairs, written out
    query, key, value = inputs(q_len=q_len, kv_len=kv_len, batch=(1,), heads=1, dtype=torch.float64)
    query, key = query / 3, key / 3
    context = performer(query, key, value, features=8, q_start=q_start)
    phi = [
        torch.exp(side / 4**0.25 @ drawn_vectors(8, 4, 0).T - side.square().sum(-1, keepdim=True) / 4)
        for side in (query, key)
    ]
    weights = (phi[0] @ phi[1].mT) * masks.causal.dense(q_len, kv_len, q_start=q_start)
    below = weights.sum(-1, keepdim=True)
    torch.testing.assert_close(context, weights @ value / below.masked_fill(below == 0, 1.0))


def test_one_feature_by_hand():
    # w is a number and phi(q) cancels; phi(k) = exp(w k - k^2 / 2), so keys 0 and w weigh as 1 and exp(w^2 / 2)
    w = drawn_vectors(1, 1, 0).item()
    key = torch.tensor([0.0, w]).double().reshape(1, 1, 2, 1)
    weights = PERFORMER.weights(key[..., :1, :], key, features=1)
    assert weights[0, 0, 0, 1].item() == pytest.approx(1 / (1 + math.exp(-w * w / 2)))


def test_vectors_of_a_group_are_orthogonal_and_as_long_as_normal_ones():
    vectors = drawn_vectors(4000, 8, 0)
    groups = vectors.unflatten(0, (-1, 8))
    products = groups @ groups.mT
    off = products - torch.diag_embed(products.diagonal(dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-12
    # |w|^2 is chi-squared of 8: mean 8, variance 16, so the mean of 4000 is 8 within 4 * sqrt(16 / 4000) = 0.26;
    # each coordinate has mean 0 and variance 1: within 4 / sqrt(4000) = 0.064 of 0
    assert abs(vectors.square().sum(-1).mean().item() - 8) < 0.26
    assert vectors.mean(0).abs().max() < 0.064


def test_features_are_right_on_average_and_no_worse_than_lemma_2():
    # lemma 2: with m independent features the mean square error of exp(x . y) is exp(|x + y|^2) exp(2 x . y)
    # (1 - exp(-|x + y|^2)) / m; orthogonal ones have less. The mean over 2000 draws is within 5 of its own deviations
    generator = torch.Generator().manual_seed(5)
    x, y = 0.4 * torch.randn(2, 8, generator=generator, dtype=torch.float64)
    true, both = torch.exp(x @ y).item(), (x + y).square().sum().item()
    for features in (8, 32):
        told = []
        for seed in range(2000):
            w = drawn_vectors(features, 8, seed)
            told.append(torch.exp(w @ (x + y) - (x @ x + y @ y) / 2).mean())
        errors = torch.stack(told) - true
        bound = math.exp(both) * true**2 * (1 - math.exp(-both)) / features
        assert abs(errors.mean().item()) < 5 * errors.std().item() / math.sqrt(2000)
        assert errors.square().mean().item() < bound


def test_the_error_falls_as_one_by_the_root_of_the_features():
    # four times the features, half the error: the mean square over 60 draws falls to a quarter, within a third
    query, key, value = inputs(q_len=12, kv_len=12, dtype=torch.float64)
    query, key = query / 6, key / 6
    true = Rule(mask=masks.causal)(query, key, value)

    def error(features):
        told = [PERFORMER(query, key, value, features=features, seed=seed) - true for seed in range(60)]
        return torch.stack(told).square().mean().item()

    errors = [error(features) for features in (32, 128, 512)]
    for few, many in pairwise(errors):
        assert few / many == pytest.approx(4, rel=1 / 3)


def test_large_keys_that_come_later_leave_the_past_as_it_is():
    # a maximum over all keys would push the features of the first ones to 0 in float32
    query, key, value = inputs(q_len=6, kv_len=6, batch=(1,), heads=1)
    key = key / 3
    key[..., -1, :] = 12 * torch.nn.functional.normalize(drawn_vectors(1, 4, 0), dim=-1).float()
    context = PERFORMER(query, key, value, features=16)
    cut = PERFORMER(query[..., :5, :], key[..., :5, :], value[..., :5, :], features=16)
    assert context.isfinite().all()
    torch.testing.assert_close(context[..., :5, :], cut)


def test_the_same_seed_draws_the_same_vectors():
    assert torch.equal(drawn_vectors(5, 4, 3), drawn_vectors(5, 4, 3))
    assert not torch.equal(drawn_vectors(5, 4, 3), drawn_vectors(5, 4, 4))


@pytest.mark.messages
@pytest.mark.parametrize(
    "mask", [masks.window(3), masks.causal & masks.window(3), masks.documents([0, 0, 0, 1, 1, 1, 1])]
)
def test_another_mask_is_refused_in_words(mask):
    query, key, value = inputs()
    with pytest.raises(
        OptionError, match=r"neither the same for all queries nor causal(?s:.*)sliding_window"
    ):
        performer(query, key, value, q_start=2, mask=mask)


@pytest.mark.messages
def test_dropout_is_refused_in_words():
    query, key, value = inputs()
    with pytest.raises(OptionError, match=r"performer: .*got dropout=0.1(?s:.*)torch.nn.Dropout"):
        performer(query, key, value, q_start=2, dropout=0.1)
