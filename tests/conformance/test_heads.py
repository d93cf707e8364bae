import contextlib

import pytest
import torch

from attnkit.conformance import Skip
from attnkit.conformance.relations import constants, heads, positions, projections, scale, softmax
from attnkit.conformance.relations.heads import head_sizes, run_heads
from tests.conformance.weighing import ALIKE, case_of, faults, made, reason
from tests.mutants.base import Attention


def merging(merge):
    return type("Merging", (Attention,), {"merge": merge})


def mixing(mix):
    return type("Mixing", (Attention,), {"mix": mix})


@pytest.mark.parametrize("causal", [False, True])
def test_heads_cut_across_tokens_are_split_wrong(causal):
    class ByView(Attention):
        def split(self, numbers, heads):
            return numbers.reshape(numbers.shape[0], heads, -1, self.head_dim)

    assert faults(run_heads, case_of(made(ByView, causal=causal), num_heads=4)) == ["heads-split-wrong"]


def test_keys_that_are_cut_in_another_way_than_queries_are_split_wrong():
    class KeysFirst(Attention):
        def project(self, x, read):
            query, key, value = super().project(x, read)
            return query, key.unflatten(-1, (self.head_dim, -1)).mT.flatten(-2), value

    assert faults(run_heads, case_of(made(KeysFirst), num_heads=4)) == ["heads-split-wrong"]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "merge",
    [
        lambda layer, context: context.reshape(context.shape[0], context.shape[2], -1),
        lambda layer, context: context.permute(0, 2, 3, 1).flatten(2),
        lambda layer, context: context.flip(1).transpose(1, 2).flatten(2),
    ],
)
def test_heads_joined_in_another_way_are_merged_wrong(merge, causal):
    case = case_of(made(merging(merge), causal=causal), num_heads=4)
    assert faults(run_heads, case) == ["heads-merged-wrong"]


@pytest.mark.parametrize(
    "mix",
    [
        lambda layer, weights, value: weights[:, :1].expand_as(weights) @ value,
        lambda layer, weights, value: weights.mean(1, keepdim=True).expand_as(weights) @ value,
        lambda layer, weights, value: weights @ value[:, :1].expand_as(value),
        lambda layer, weights, value: (weights @ value).mean(1, keepdim=True).expand_as(value),
        lambda layer, weights, value: weights @ (value + 0.2 * value.roll(1, 1)),
    ],
)
def test_heads_that_share_what_they_should_not_are_mixed(mix):
    assert faults(run_heads, case_of(made(mixing(mix)), num_heads=4)) == ["heads-mixed"]


@pytest.mark.parametrize("which", ["key", "value", "both"])
def test_groups_that_are_tiled_are_told_by_their_map(which):
    class Tiled(Attention):
        def score(self, query, key):
            return super().score(query, tiled(key) if which != "value" else key)

        def mix(self, weights, value):
            return super().mix(weights, tiled(value) if which != "key" else value)

    def tiled(numbers):
        return numbers[:, ::3].repeat(1, 3, 1, 1)

    (finding,) = run_heads(case_of(made(Tiled, num_heads=6, num_kv_heads=2), num_heads=6, num_kv_heads=2))
    assert finding.fault == "grouped-heads-tiled"
    assert "heads [0, 1, 0, 1, 0, 1]; h // 3 is [0, 0, 0, 1, 1, 1]" in finding.sentence


def test_heads_are_counted_where_nobody_said_how_many_there_are():
    assert head_sizes(case_of(made(Attention, num_heads=6, num_kv_heads=2))) == (6, 4)
    assert head_sizes(case_of(made(Attention, num_heads=1))) == (1, 24)


def test_samples_that_meet_are_left_to_another_check():
    class OverSamples(Attention):
        def mix(self, weights, value):
            return super().mix(weights, value + value.mean(0, keepdim=True))

    assert "samples are not apart" in str(reason(run_heads, case_of(made(OverSamples))))


@pytest.mark.parametrize("number", range(len(ALIKE)))
def test_what_is_right_in_its_own_way_is_not_accused(number):
    kind, built, said = ALIKE[number]
    case, found = case_of(made(kind, **built), **said), []
    for theme in (softmax, heads, scale, positions, constants, projections):
        for check in theme.CHECKS:
            with contextlib.suppress(Skip):
                found += check.run(case)
    assert found == []


def test_a_head_that_gives_nothing_is_unused():
    def mix(layer, weights, value):
        context = weights @ value
        return torch.cat([context[:, :2], torch.zeros_like(context[:, 2:])], 1)

    assert faults(run_heads, case_of(made(mixing(mix)), num_heads=4)) == ["projection-unused"]
