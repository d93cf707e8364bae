"""Positions done wrong: rotary, ALiBi, relative, absolute."""

import math

import torch

from tests.mutants.base import (
    ABSOLUTE,
    ALIBI,
    CROSS,
    ENCODER,
    LONGEST,
    RELATIVE,
    ROTARY,
    angles,
    planted,
    rotated,
    slopes,
)


@planted("rotary-missing", "position-missing", ROTARY)
class RotaryMissing:
    def turn(self, query, key, value, start):
        return query, key, value


@planted("rotary-along-heads", "position-missing", ROTARY, source="mlfoundations/open_lm#4")
class RotaryAlongHeads:
    def turn(self, query, key, value, start):
        return (
            rotated(query.transpose(1, 2), start).transpose(1, 2),
            rotated(key.transpose(1, 2), start).transpose(1, 2),
            value,
        )


@planted(
    "rotary-along-samples",
    "position-missing",
    ROTARY,
    source="mlfoundations/open_lm#4",
    also=("batch-crosstalk", "batch-time-swapped"),
)
class RotaryAlongSamples:
    def turn(self, query, key, value, start):
        return (
            rotated(query.transpose(0, 2), start).transpose(0, 2),
            rotated(key.transpose(0, 2), start).transpose(0, 2),
            value,
        )


@planted(
    "rotary-on-the-value",
    "position-on-value",
    ROTARY,
    source="labmlai/annotated_deep_learning_paper_implementations@09d09379",
)
class RotaryOnTheValue:
    def turn(self, query, key, value, start):
        return rotated(query, start), rotated(key, start), rotated(value, start)


@planted("rotary-on-the-query-only", "position-offset", ROTARY, also=("position-missing", "position-layout"))
class RotaryOnTheQueryOnly:
    def turn(self, query, key, value, start):
        return rotated(query, start), key, value


@planted(
    "rotary-key-one-later", "position-offset", ROTARY, source="time-series-foundation-models/lag-llama#81"
)
class RotaryKeyOneLater:
    def turn(self, query, key, value, start):
        return rotated(query, start), rotated(key, start + 1), value


@planted("rotary-key-turned-back", "position-offset", ROTARY, also=("position-layout",))
class RotaryKeyTurnedBack:
    def turn(self, query, key, value, start):
        return rotated(query, start), rotated(key, 0, -torch.arange(start, start + key.shape[-2])), value


@planted("rotary-halves-with-pairs", "position-layout", ROTARY)
class RotaryHalvesWithPairs:
    """Angles of neighbours, (0, 0, 1, 1, ...), turn halves."""

    def turn(self, query, key, value, start):
        return self.turned(query, start), self.turned(key, start), value

    def turned(self, numbers, start):
        turns = angles(numbers, start).repeat_interleave(2, -1)
        one, two = numbers.chunk(2, -1)
        return numbers * turns.cos() + torch.cat([-two, one], -1) * turns.sin()


@planted("rotary-pairs-for-the-key", "position-layout", ROTARY)
class RotaryPairsForTheKey:
    def turn(self, query, key, value, start):
        paired = (
            rotated(key.unflatten(-1, (-1, 2)).mT.flatten(-2), start).unflatten(-1, (2, -1)).mT.flatten(-2)
        )
        return rotated(query, start), paired, value


@planted("rotary-sign-of-one-half", "position-layout", ROTARY)
class RotarySignOfOneHalf:
    def turn(self, query, key, value, start):
        return self.turned(query, start), self.turned(key, start), value

    def turned(self, numbers, start):
        turns = angles(numbers, start)
        one, two = numbers.chunk(2, -1)
        return torch.cat([one * turns.cos() + two * turns.sin(), two * turns.cos() + one * turns.sin()], -1)


@planted("rotary-tables-in-bfloat16", "position-precision", ROTARY)
class RotaryTablesInBfloat16:
    def turn(self, query, key, value, start):
        places = torch.arange(start, start + query.shape[-2])
        return self.turned(query, places), self.turned(key, places), value

    def turned(self, numbers, places):
        turns = angles(numbers, 0, places).bfloat16()
        one, two = numbers.chunk(2, -1)
        cos, sin = turns.cos().to(numbers), turns.sin().to(numbers)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)


@planted("rotary-positions-in-bfloat16", "position-precision", ROTARY)
class RotaryPositionsInBfloat16:
    def turn(self, query, key, value, start):
        places = torch.arange(start, start + query.shape[-2]).bfloat16()
        return rotated(query, 0, places), rotated(key, 0, places), value


@planted(
    "rotary-positions-clamped", "position-precision", ROTARY, also=("position-missing", "position-offset")
)
class RotaryPositionsClamped:
    def turn(self, query, key, value, start):
        places = torch.arange(start, start + query.shape[-2]).clamp(max=16)
        return rotated(query, 0, places), rotated(key, 0, places), value


@planted("rotary-positions-count-padding", "position-offset", ROTARY, source="unslothai/unsloth#3699")
class RotaryPositionsCountPadding:
    """The query's positions count real tokens, the key's all."""

    def attend(self, x, read, keep, cache):
        self.pads = 0 if keep is None else (~keep).long().cumprod(1).sum(1)
        return super().attend(x, read, keep, cache)

    def turn(self, query, key, value, start):
        places = torch.arange(query.shape[-2])
        if not isinstance(self.pads, int):
            places = (places - self.pads[:, None])[:, None]
        return rotated(query, 0, places), rotated(key, start), value


@planted("alibi-grows", "alibi-sign", ALIBI)
class AlibiGrows:
    def bias(self, scores, start):
        return scores + slopes(self.num_heads).to(scores)[:, None, None] * self.distance(scores).abs()


@planted("alibi-missing", "position-missing", ALIBI)
class AlibiMissing:
    def bias(self, scores, start):
        return scores


@planted("alibi-slopes-from-0", "alibi-slope", ALIBI, source="ml-explore/mlx#3071")
class AlibiSlopesFrom0:
    def bias(self, scores, start):
        found = 2.0 ** (-8 * torch.arange(self.num_heads) / self.num_heads)
        return scores - found.to(scores)[:, None, None] * self.distance(scores).abs()


@planted("alibi-slopes-of-any-number", "alibi-slope", ALIBI, source="ml-explore/mlx#3071")
class AlibiSlopesOfAnyNumber:
    def bias(self, scores, start):
        found = 2.0 ** (-8 * torch.arange(1, self.num_heads + 1) / self.num_heads)
        return scores - found.to(scores)[:, None, None] * self.distance(scores).abs()


@planted("alibi-one-slope", "alibi-slope", ALIBI)
class AlibiOneSlope:
    def bias(self, scores, start):
        return scores - 0.25 * self.distance(scores).abs()


@planted("alibi-heads-reversed", "alibi-slope", ALIBI)
class AlibiHeadsReversed:
    def bias(self, scores, start):
        return scores - slopes(self.num_heads).flip(0).to(scores)[:, None, None] * self.distance(scores).abs()


@planted("alibi-squared", "alibi-slope", ALIBI)
class AlibiSquared:
    def bias(self, scores, start):
        return scores - slopes(self.num_heads).to(scores)[:, None, None] * self.distance(scores) ** 2


@planted("alibi-before-the-scale", "alibi-slope", ALIBI)
class AlibiBeforeTheScale:
    def bias(self, scores, start):
        return super().bias(scores / self.scale(), start) * self.scale()


@planted(
    "alibi-after-softmax", "softmax-missing", ALIBI, also=("alibi-sign", "alibi-slope", "position-missing")
)
class AlibiAfterSoftmax:
    def bias(self, scores, start):
        return scores

    def weigh(self, scores, allowed):
        return super().bias(super().weigh(scores, allowed), 0).masked_fill(~allowed, 0)


@planted("alibi-by-query", "position-missing", ALIBI, also=("alibi-slope",))
class AlibiByQuery:
    """A number for each row, which softmax takes away again."""

    def bias(self, scores, start):
        rows = torch.arange(scores.shape[-2]).to(scores)[:, None]
        return scores - slopes(self.num_heads).to(scores)[:, None, None] * rows


@planted("relative-missing", "position-missing", RELATIVE)
class RelativeMissing:
    def bias(self, scores, start):
        return scores


@planted("relative-detached", "gradient-blocked", RELATIVE, also=("projection-unused",))
class RelativeDetached:
    def bias(self, scores, start):
        return scores + self.relative.detach()[:, self.distance(scores) + LONGEST - 1]


@planted("relative-by-key-only", "position-offset", RELATIVE, also=("position-missing",))
class RelativeByKeyOnly:
    def bias(self, scores, start):
        return scores + self.relative[:, None, LONGEST : LONGEST + scores.shape[-1]]


@planted("relative-on-the-weights", "softmax-missing", RELATIVE, also=("softmax-wrong-axis",))
class RelativeOnTheWeights:
    def bias(self, scores, start):
        return scores

    def weigh(self, scores, allowed):
        return super().bias(super().weigh(scores, allowed), 0).masked_fill(~allowed, 0)


@planted("absolute-missing", "position-missing", ABSOLUTE)
class AbsoluteMissing:
    def placed(self, x, start):
        return x + self.places[0]


@planted(
    "absolute-by-sample",
    "position-missing",
    ABSOLUTE,
    source="mlfoundations/open_lm#4",
    also=("batch-crosstalk",),
)
class AbsoluteBySample:
    def placed(self, x, start):
        return x + self.places[torch.arange(x.shape[0]) % LONGEST, None]


@planted(
    "positions-in-cross-attention",
    "position-on-value",
    CROSS,
    source="huggingface/transformers#8518",
    also=("position-offset", "query-key-swapped"),
)
class PositionsInCrossAttention:
    def bias(self, scores, start):
        return scores - 0.5 * torch.arange(scores.shape[-1]).to(scores)


@planted("undeclared-order", "position-on-value", ENCODER, also=("position-offset",))
class UndeclaredOrder:
    """Values decay with their place, which nobody declared."""

    def mix(self, weights, value):
        return super().mix(
            weights, value * math.e ** (-0.2 * torch.arange(value.shape[2])).to(value)[:, None]
        )
