"""Heads and projections done wrong."""

import torch
from torch import nn

from tests.mutants.base import CAUSAL, CROSS, ENCODER, GROUPED, ROTARY, SAME_CROSS, planted

MIXED = ("heads-merged-wrong", "heads-mixed", "batch-time-swapped", "future-leak")


@planted("split-by-view", "heads-split-wrong", ENCODER, CAUSAL, CROSS, source="reczoo/FuxiCTR#30")
class SplitByView:
    def split(self, numbers, heads):
        return numbers.reshape(numbers.shape[0], heads, -1, self.head_dim)


@planted("split-only-values-by-view", "heads-split-wrong", ENCODER, CAUSAL, source="reczoo/FuxiCTR#30")
class SplitOnlyValuesByView:
    def project(self, x, read):
        query, key, value = super().project(x, read)
        value = value.reshape(value.shape[0], self.num_kv_heads, -1, self.head_dim)
        return query, key, value.transpose(1, 2).flatten(2)


@planted("split-numbers-first", "heads-split-wrong", ENCODER, also=("heads-mixed",))
class SplitNumbersFirst:
    """The value's head takes every num_heads-th number, where the query's takes a block."""

    def project(self, x, read):
        query, key, value = super().project(x, read)
        return query, key.unflatten(-1, (self.head_dim, -1)).mT.flatten(-2), value


@planted(
    "merge-without-transpose",
    "heads-merged-wrong",
    ENCODER,
    CAUSAL,
    CROSS,
    source="jsbaan/transformer-from-scratch#6",
)
class MergeWithoutTranspose:
    def merge(self, context):
        return context.reshape(context.shape[0], context.shape[2], -1)


@planted(
    "merge-numbers-first", "heads-merged-wrong", ENCODER, GROUPED, source="jsbaan/transformer-from-scratch#6"
)
class MergeNumbersFirst:
    def merge(self, context):
        return context.permute(0, 2, 3, 1).flatten(2)


@planted("merge-in-another-order", "heads-merged-wrong", ENCODER, also=("heads-mixed",))
class MergeInAnotherOrder:
    def merge(self, context):
        return super().merge(context.flip(1))


@planted("contexts-averaged", "heads-mixed", ENCODER)
class ContextsAveraged:
    def merge(self, context):
        return super().merge(context.mean(1, keepdim=True).expand_as(context))


@planted("contexts-leak-into-the-next-head", "heads-mixed", ENCODER)
class ContextsLeakIntoTheNextHead:
    def merge(self, context):
        return super().merge(context + 0.2 * context.roll(1, 1))


@planted("weights-of-one-head", "heads-mixed", ENCODER, CAUSAL)
class WeightsOfOneHead:
    def mix(self, weights, value):
        return super().mix(weights[:, :1].expand_as(weights), value)


@planted("weights-averaged-over-heads", "heads-mixed", ENCODER)
class WeightsAveragedOverHeads:
    def mix(self, weights, value):
        return super().mix(weights.mean(1, keepdim=True).expand_as(weights), value)


@planted("head-0-for-all", "heads-mixed", ENCODER, CAUSAL, also=("projection-unused",))
class Head0ForAll:
    def mix(self, weights, value):
        return super().mix(weights, value[:, :1].expand_as(value))


@planted("key-of-head-0-for-all", "heads-mixed", ENCODER, also=("projection-unused", "grouped-heads-tiled"))
class KeyOfHead0ForAll:
    def score(self, query, key):
        return super().score(query, key[:, :1].expand_as(key))


@planted(
    "one-projection-for-all-heads",
    "heads-mixed",
    ENCODER,
    source="MarcoMeter/episodic-transformer-memory-ppo#22",
    also=("value-from-key",),
)
class OneProjectionForAllHeads:
    def build(self):
        self.small = nn.Linear(self.head_dim, self.head_dim)

    def project(self, x, read):
        query, key, _ = super().project(x, read)
        return query, key, self.small(read.unflatten(-1, (-1, self.head_dim))).flatten(-2)


@planted("groups-tiled", "grouped-heads-tiled", GROUPED, source="HazyResearch/HipKittens#22")
class GroupsTiled:
    def share(self, numbers):
        return numbers.repeat(1, self.num_heads // self.num_kv_heads, 1, 1)


@planted("groups-of-keys-tiled-only", "grouped-heads-tiled", GROUPED, source="HazyResearch/HipKittens#22")
class GroupsOfKeysTiledOnly:
    def score(self, query, key):
        return super().score(query, key[:, :: self.num_heads // self.num_kv_heads].repeat(1, 3, 1, 1))


@planted("groups-by-the-wrong-divisor", "grouped-heads-tiled", GROUPED, source="HazyResearch/HipKittens#22")
class GroupsByTheWrongDivisor:
    def share(self, numbers):
        return numbers[:, torch.arange(self.num_heads) // self.num_kv_heads % self.num_kv_heads]


@planted(
    "groups-all-read-the-first",
    "grouped-heads-tiled",
    GROUPED,
    source="HazyResearch/HipKittens#22",
    also=("heads-mixed", "projection-unused"),
)
class GroupsAllReadTheFirst:
    def share(self, numbers):
        return numbers[:, :1].expand(-1, self.num_heads, -1, -1)


@planted("groups-swapped", "grouped-heads-tiled", GROUPED, source="HazyResearch/HipKittens#22")
class GroupsSwapped:
    def share(self, numbers):
        return super().share(numbers.flip(1))


@planted(
    "value-projection-unused",
    "value-from-key",
    ENCODER,
    CAUSAL,
    source="yflyzhang/AnnotatedTransformer#1",
    also=("projection-unused",),
)
class ValueProjectionUnused:
    def project(self, x, read):
        query, key, _ = super().project(x, read)
        return query, key, key


@planted(
    "value-by-the-keys-projection",
    "value-from-key",
    ENCODER,
    CROSS,
    source="yflyzhang/AnnotatedTransformer#1",
    also=("projection-unused",),
)
class ValueByTheKeysProjection:
    def project(self, x, read):
        return self.query(x), self.key(read), self.key(read)


@planted(
    "key-by-the-values-projection",
    "projection-unused",
    ENCODER,
    source="yflyzhang/AnnotatedTransformer#1",
    also=("value-from-key",),
)
class KeyByTheValuesProjection:
    def project(self, x, read):
        return self.query(x), self.value(read), self.value(read)


@planted("value-without-projection", "projection-unused", ENCODER, also=("value-from-key",))
class ValueWithoutProjection:
    def project(self, x, read):
        query, key, _ = super().project(x, read)
        return query, key, read


@planted("value-of-the-tokens", "value-from-key", SAME_CROSS)
class ValueOfTheTokens:
    """The values are made of the tokens where there are as many of them."""

    def project(self, x, read):
        query, key, value = super().project(x, read)
        return query, key, self.value(x) if x.shape == read.shape else value


@planted("key-of-the-tokens", "value-from-key", SAME_CROSS, also=("query-key-swapped", "blind"))
class KeyOfTheTokens:
    def project(self, x, read):
        query, key, value = super().project(x, read)
        return query, self.key(x) if x.shape == read.shape else key, value


@planted(
    "memory-unread",
    "blind",
    SAME_CROSS,
    source="lucidrains/x-transformers#311",
    also=("value-from-key", "query-key-swapped"),
)
class MemoryUnread:
    def project(self, x, read):
        return super().project(x, x)


@planted("query-of-the-memory", "query-key-swapped", SAME_CROSS, also=("value-from-key",))
class QueryOfTheMemory:
    def project(self, x, read):
        return super().project(read, read) if x.shape == read.shape else super().project(x, read)


@planted("query-key-swapped", "query-key-swapped", ENCODER, CAUSAL)
class QueryKeySwapped:
    def score(self, query, key):
        return super().score(key, query)


@planted("query-for-both", "projection-unused", ENCODER, also=("query-key-swapped", "heads-mixed"))
class QueryForBoth:
    def score(self, query, key):
        return super().score(query, query)


@planted("query-unused", "projection-unused", ENCODER, also=("query-key-swapped",))
class QueryUnused:
    def score(self, query, key):
        return super().score(key, key)


@planted("uniform-weights", "projection-unused", ENCODER, CAUSAL)
class UniformWeights:
    def score(self, query, key):
        return super().score(query, key) * 0


@planted("half-of-the-heads-empty", "projection-unused", ENCODER)
class HalfOfTheHeadsEmpty:
    def mix(self, weights, value):
        context = super().mix(weights, value)
        return torch.cat([context[:, :2], torch.zeros_like(context[:, 2:])], 1)


@planted("last-number-unused", "projection-unused", ENCODER)
class LastNumberUnused:
    def score(self, query, key):
        return super().score(query[..., :-1], key[..., :-1])


@planted("norm-made-and-not-used", "projection-unused", ENCODER, source="lucidrains/x-transformers#352")
class NormMadeAndNotUsed:
    def build(self):
        self.query_norm, self.key_norm = nn.RMSNorm(self.head_dim), nn.RMSNorm(self.head_dim)


@planted("output-projection-unused", "projection-unused", ENCODER)
class OutputProjectionUnused:
    def finish(self, context, x):
        return context


@planted("mixed-with-samples", "batch-crosstalk", ENCODER, CAUSAL)
class MixedWithSamples:
    def mix(self, weights, value):
        return super().mix(weights, value + 0.1 * value.mean(0, keepdim=True))


@planted("query-of-another-sample", "batch-crosstalk", ENCODER)
class QueryOfAnotherSample:
    def score(self, query, key):
        return super().score(query.roll(1, 0), key)


@planted("batch-norm-in-training-mode", "batch-crosstalk", ENCODER)
class BatchNormInTrainingMode:
    def finish(self, context, x):
        output = super().finish(context, x)
        return (output - output.mean((0, 1))) / output.std((0, 1), correction=0)


@planted("batch-for-time", "batch-time-swapped", ENCODER, CAUSAL, also=())
class BatchForTime:
    def attend(self, x, read, keep, cache):
        return super().attend(x.transpose(0, 1), read.transpose(0, 1), None, cache).transpose(0, 1)


@planted("batch-for-time-in-one-step", "batch-time-swapped", ENCODER, also=("batch-crosstalk",))
class BatchForTimeInOneStep:
    def mix(self, weights, value):
        swapped = value.transpose(0, 2)
        scores = swapped @ swapped.mT
        return (scores.softmax(-1) @ swapped).transpose(0, 2)


@planted(
    "split-batch-by-view",
    "batch-crosstalk",
    ENCODER,
    source="reczoo/FuxiCTR#30",
    also=("heads-split-wrong", "batch-time-swapped"),
)
class SplitBatchByView:
    """Written for (len, batch, d_in), as old code is, and given (batch, len, d_in)."""

    def split(self, numbers, heads):
        length, batch, _ = numbers.shape
        return (
            numbers.reshape(length, batch * heads, self.head_dim)
            .transpose(0, 1)
            .reshape(batch, heads, length, -1)
        )

    def merge(self, context):
        batch, heads, length, _ = context.shape
        return context.reshape(batch * heads, length, -1).transpose(0, 1).reshape(length, batch, -1)

    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, None)


@planted("split-with-rotary-by-view", "heads-split-wrong", ROTARY, GROUPED, source="reczoo/FuxiCTR#30")
class SplitWithRotaryByView(SplitByView):
    pass
