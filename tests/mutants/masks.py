"""Masks done wrong: causality, windows, padding, rows with nothing to read."""

import math

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from tests.mutants.base import ALIBI, CAUSAL, CROSS, DROPOUT, ENCODER, GROUPED, ROTARY, WINDOW, planted

EITHER = ("future-leak", "mask-skipped")


@planted("no-causal-mask", "future-leak", CAUSAL, ROTARY, GROUPED, source="NVIDIA/TransformerEngine#1524")
class NoCausalMask:
    def pattern(self, t, s):
        return torch.ones(t.shape[0], s.shape[0], dtype=torch.bool)


@planted("causal-one-too-many", "future-leak", CAUSAL, ALIBI)
class CausalOneTooMany:
    def pattern(self, t, s):
        return s <= t + 1


@planted("causal-strict", "blind", CAUSAL)
class CausalStrict:
    def pattern(self, t, s):
        return (s < t) | (s + t == 0)


@planted("causal-transposed", "mask-inverted", CAUSAL, also=("future-leak",), source="tensorflow/text#894")
class CausalTransposed:
    def pattern(self, t, s):
        return s >= t


@planted(
    "causal-inverted", "mask-inverted", CAUSAL, ROTARY, also=("future-leak",), source="tensorflow/text#894"
)
class CausalInverted:
    def pattern(self, t, s):
        return ~(s <= t)


@planted(
    "causal-only-with-padding-mask",
    "mask-skipped",
    CAUSAL,
    also=("future-leak",),
    source="facebookresearch/xformers#103",
)
class CausalOnlyWithPaddingMask:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, keep)
        return found if keep is not None else torch.ones_like(found)


@planted(
    "causal-not-with-padding-mask",
    "mask-skipped",
    CAUSAL,
    also=("future-leak",),
    source="AI-Hypercomputer/maxtext#878",
)
class CausalNotWithPaddingMask:
    def allowed(self, q_len, kv_len, start, keep):
        if keep is not None:
            return keep[:, None, None, :].expand(-1, 1, q_len, -1)
        return super().allowed(q_len, kv_len, start, keep)


@planted(
    "causal-not-in-training", "mask-skipped", CAUSAL, also=("future-leak",), source="lightly-ai/lightly#2049"
)
class CausalNotInTraining:
    def pattern(self, t, s):
        return super().pattern(t, s) | self.training


@planted(
    "causal-not-with-dropout", "mask-skipped", DROPOUT, also=("future-leak",), source="keras-team/keras#23038"
)
class CausalNotWithDropout:
    def pattern(self, t, s):
        return super().pattern(t, s) | (self.training and self.dropout > 0)


@planted(
    "causal-not-without-gradient",
    "mask-skipped",
    CAUSAL,
    also=("future-leak",),
    source="pytorch/pytorch#99282",
)
class CausalNotWithoutGradient:
    def pattern(self, t, s):
        return super().pattern(t, s) | (not torch.is_grad_enabled())


@planted(
    "causal-not-for-long",
    "mask-skipped",
    CAUSAL,
    also=("future-leak",),
    source="NVIDIA/TransformerEngine#1524",
)
class CausalNotForLong:
    def pattern(self, t, s):
        return super().pattern(t, s) | (s.shape[0] > 8)


@planted(
    "causal-not-for-multiples-of-8",
    "mask-skipped",
    CAUSAL,
    also=("future-leak",),
    source="NVIDIA/TransformerEngine#1524",
)
class CausalNotForMultiplesOf8:
    def pattern(self, t, s):
        return super().pattern(t, s) | (s.shape[0] % 8 == 0)


@planted(
    "causal-not-in-a-batch-of-one",
    "mask-skipped",
    CAUSAL,
    also=("future-leak",),
    source="huggingface/transformers#46773",
)
class CausalNotInABatchOfOne:
    def attend(self, x, read, keep, cache):
        self.alone = x.shape[0] == 1
        return super().attend(x, read, keep, cache)

    def pattern(self, t, s):
        return super().pattern(t, s) | self.alone


@planted(
    "mask-multiplied",
    "softmax-missing",
    CAUSAL,
    source="huggingface/transformers#31673",
    also=(*EITHER, "mask-fill-too-weak", "mask-added-as-number"),
)
class MaskMultiplied:
    def weigh(self, scores, allowed):
        return (scores * allowed).softmax(-1)


@planted("pool-before-shift", "future-leak", CAUSAL, source="karpathy/nanochat#844")
class PoolBeforeShift:
    def project(self, x, read):
        return super().project(x, read + 0.3 * read.mean(1, keepdim=True))


@planted("value-smoothed-with-the-next", "future-leak", CAUSAL, source="karpathy/nanochat#844")
class ValueSmoothedWithTheNext:
    def mix(self, weights, value):
        return super().mix(weights, value + 0.3 * functional.pad(value[:, :, 1:], (0, 0, 0, 1)))


@planted(
    "top-k-before-the-mask",
    "future-leak",
    CAUSAL,
    source="lucidrains/x-transformers@d1f5d6b",
    also=("dead-row-nan", "blind"),
)
class TopKBeforeTheMask:
    def hide(self, scores, allowed):
        least = scores.topk(min(4, scores.shape[-1]), -1).values[..., -1:]
        return super().hide(scores, allowed).masked_fill(scores < least, -1e4)


@planted(
    "cap-after-the-mask",
    "softcap-wrong",
    CAUSAL,
    source="lucidrains/x-transformers@9078611",
    also=("future-leak", "mask-fill-too-weak"),
)
class CapAfterTheMask:
    def normalise(self, scores):
        return (5 * (scores / 5).tanh()).softmax(-1)

    def weigh(self, scores, allowed):
        return self.normalise(self.hide(scores, allowed))


@planted("window-one-more", "window-off-by-one", WINDOW)
class WindowOneMore:
    def pattern(self, t, s):
        return (s <= t) & (t - s <= self.window)


@planted("window-one-less", "window-off-by-one", WINDOW)
class WindowOneLess:
    def pattern(self, t, s):
        return (s <= t) & (t - s < self.window - 1)


@planted(
    "window-missing", "window-off-by-one", WINDOW, source="unslothai/unsloth#8253", also=("mask-ignored",)
)
class WindowMissing:
    def pattern(self, t, s):
        return s <= t


@planted("window-on-both-sides", "future-leak", WINDOW, source="unslothai/unsloth#8253")
class WindowOnBothSides:
    def pattern(self, t, s):
        return (t - s).abs() < self.window


@planted(
    "window-not-in-training",
    "mask-skipped",
    WINDOW,
    source="unslothai/unsloth#8253",
    also=("window-off-by-one",),
)
class WindowNotInTraining:
    def pattern(self, t, s):
        return (s <= t) & ((t - s < self.window) | self.training)


@planted("window-by-blocks", "blind", WINDOW, source="zsyOAOA/ResShift#81", also=("window-off-by-one",))
class WindowByBlocks:
    def pattern(self, t, s):
        return (s <= t) & (t // self.window == s // self.window)


@planted("first-token-unseen", "blind", CAUSAL, ENCODER)
class FirstTokenUnseen:
    def pattern(self, t, s):
        return super().pattern(t, s) & ((s > 0) | (t == 0))


@planted("own-token-unseen", "blind", ENCODER)
class OwnTokenUnseen:
    def pattern(self, t, s):
        return s != t


@planted("mask-ignored", "mask-ignored", ENCODER, CAUSAL, CROSS, source="AI4Bharat/IndicBERT#20")
class MaskIgnored:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, None)


@planted("mask-inverted", "mask-inverted", ENCODER, CAUSAL, CROSS, source="tensorflow/text#894")
class MaskInverted:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, None if keep is None else ~keep)


@planted("mask-after-softmax", "mask-after-softmax", ENCODER, CAUSAL, CROSS)
class MaskAfterSoftmax:
    def weigh(self, scores, allowed):
        return scores.softmax(-1) * allowed


@planted(
    "mask-added-as-number",
    "mask-added-as-number",
    ENCODER,
    CAUSAL,
    CROSS,
    source="pytorch/pytorch#21518",
    also=("future-leak",),
)
class MaskAddedAsNumber:
    def hide(self, scores, allowed):
        return scores + allowed.to(scores)

    def weigh(self, scores, allowed):
        return self.normalise(self.hide(scores, allowed))


@planted("masked-scores-are-zero", "mask-fill-too-weak", ENCODER, CAUSAL, also=("future-leak",))
class MaskedScoresAreZero:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, 0).softmax(-1)


@planted(
    "fill-with-10",
    "mask-fill-too-weak",
    ENCODER,
    CAUSAL,
    source="lucidrains/nGPT-pytorch#11",
    also=("future-leak",),
)
class FillWith10:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, -10).softmax(-1)


@planted("fill-with-100", "mask-fill-too-weak", ENCODER, CAUSAL, CROSS, source="lucidrains/nGPT-pytorch#11")
class FillWith100:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, -100).softmax(-1)


@planted(
    "add-10000", "mask-fill-too-weak", ENCODER, source="lucidrains/nGPT-pytorch#11", also=("dead-row-junk",)
)
class Add10000:
    def weigh(self, scores, allowed):
        return (scores - 1e4 * ~allowed).softmax(-1)


@planted(
    "smallest-positive-fill",
    "mask-fill-too-weak",
    ENCODER,
    source="lucidrains/nGPT-pytorch#11",
    also=("future-leak",),
)
class SmallestPositiveFill:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, torch.finfo(scores.dtype).tiny).softmax(-1)


@planted("mask-hides-queries", "mask-wrong-axis", ENCODER)
class MaskHidesQueries:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, None)
        return found if keep is None else found & keep[:, None, :, None]


@planted("context-of-padding-is-zero-only", "mask-wrong-axis", ENCODER, also=("mask-ignored",))
class ContextOfPaddingIsZeroOnly:
    def attend(self, x, read, keep, cache):
        output = super().attend(x, read, None, cache)
        return output if keep is None else output * keep[..., None]


@planted("mask-hides-heads", "mask-wrong-axis", ENCODER)
class MaskHidesHeads:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, None)
        return (
            found
            if keep is None
            else found & keep[:, : self.num_heads, None, None].expand(-1, -1, q_len, kv_len)
        )


@planted(
    "mask-of-the-first-sample", "mask-wrong-row", ENCODER, CROSS, source="meta-pytorch/attention-gym@672e59b"
)
class MaskOfTheFirstSample:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, None if keep is None else keep[:1])


@planted("mask-of-the-next-sample", "mask-wrong-row", ENCODER, source="meta-pytorch/attention-gym@672e59b")
class MaskOfTheNextSample:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, None if keep is None else keep.roll(1, 0))


@planted("mask-tiled-over-heads", "mask-wrong-row", ENCODER, CAUSAL)
class MaskTiledOverHeads:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, None)
        if keep is None:
            return found
        tiled = keep.repeat(self.num_heads, 1).view(-1, self.num_heads, 1, kv_len)
        return found & tiled


@planted("mask-repeated-over-samples", "mask-wrong-row", ENCODER)
class MaskRepeatedOverSamples:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, None)
        if keep is None:
            return found
        batch = keep.shape[0]
        return found & keep.repeat_interleave(self.num_heads, 0).view(
            self.num_heads, batch, 1, kv_len
        ).transpose(0, 1)


@planted(
    "mask-broadcast-over-queries",
    "mask-wrong-axis",
    ENCODER,
    source="ml-explore/mlx-lm#1903",
    also=("mask-wrong-row", "shape-assumption"),
)
class MaskBroadcastOverQueries:
    def allowed(self, q_len, kv_len, start, keep):
        # right for any size but batch == len, where it broadcasts as (q_len, kv_len)
        if keep is not None and keep.shape[0] == q_len:
            return super().allowed(q_len, kv_len, start, None) & keep
        return super().allowed(q_len, kv_len, start, keep)


@planted(
    "mask-broadcast-over-heads",
    "mask-wrong-row",
    ENCODER,
    GROUPED,
    source="ml-explore/mlx-lm#1903",
    also=("mask-wrong-axis", "shape-assumption"),
)
class MaskBroadcastOverHeads:
    def allowed(self, q_len, kv_len, start, keep):
        # a dropped unsqueeze: right for any size but batch == heads
        if keep is not None and keep.shape[0] == self.num_heads:
            return super().allowed(q_len, kv_len, start, None) & keep[None, :, None, :]
        return super().allowed(q_len, kv_len, start, keep)


@planted(
    "mask-not-in-a-batch-of-one", "mask-skipped", ENCODER, CROSS, source="huggingface/transformers#46773"
)
class MaskNotInABatchOfOne:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, None if keep is None or keep.shape[0] == 1 else keep)


@planted("mask-not-in-training", "mask-skipped", ENCODER, source="lightly-ai/lightly#2049")
class MaskNotInTraining:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, None if self.training else keep)


@planted("mask-not-in-evaluation", "mask-skipped", ENCODER, also=("mask-ignored",))
class MaskNotInEvaluation:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, keep if self.training else None)


@planted(
    "mask-not-without-gradient",
    "mask-skipped",
    ENCODER,
    source="pytorch/pytorch#160064",
    also=("mask-ignored",),
)
class MaskNotWithoutGradient:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, keep if torch.is_grad_enabled() else None)


@planted("mask-not-with-dropout", "mask-skipped", DROPOUT, source="keras-team/keras#23038")
class MaskNotWithDropout:
    def allowed(self, q_len, kv_len, start, keep):
        drops = self.training and self.dropout > 0
        return super().allowed(q_len, kv_len, start, None if drops else keep)


@planted("mask-lost-under-checkpointing", "mask-skipped", ENCODER, source="lightly-ai/lightly#2049")
class MaskLostUnderCheckpointing:
    def attend(self, x, read, keep, cache):
        if not self.training:
            return super().attend(x, read, keep, cache)
        return checkpoint(super().attend, x, read, None, cache, use_reentrant=False)


@planted("mask-not-for-long", "mask-skipped", ENCODER)
class MaskNotForLong:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, keep if kv_len <= 8 else None)


@planted("mask-not-in-half-precision", "mask-skipped", ENCODER, also=("low-precision",))
class MaskNotInHalfPrecision:
    def weigh(self, scores, allowed):
        if scores.dtype in (torch.float16, torch.bfloat16):
            return scores.softmax(-1)
        return super().weigh(scores, allowed)


@planted("mask-of-the-first-call", "mask-stale", ENCODER)
class MaskOfTheFirstCall:
    def build(self):
        self.held = None

    def allowed(self, q_len, kv_len, start, keep):
        if self.held is None and keep is not None:
            self.held = keep
        same = self.held is not None and keep is not None and self.held.shape == keep.shape
        return super().allowed(q_len, kv_len, start, self.held if same else keep)


@planted("mask-kept-for-calls-without", "mask-stale", ENCODER, also=("state-changed",))
class MaskKeptForCallsWithout:
    def build(self):
        self.held = None

    def allowed(self, q_len, kv_len, start, keep):
        self.held = self.held if keep is None else keep
        fits = self.held is not None and self.held.shape[-1] == kv_len
        held = self.held[:1] if fits else None
        return super().allowed(q_len, kv_len, start, held if keep is None else keep)


@planted("mask-written-into", "state-changed", ENCODER)
class MaskWrittenInto:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, keep)
        if keep is not None:
            keep.logical_not_()
        return found.clone()


@planted(
    "mask-of-the-queries-for-the-memory",
    "mask-ignored",
    CROSS,
    source="keras-team/keras-io#1964",
    also=("mask-wrong-axis",),
)
class MaskOfTheQueriesForTheMemory:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, None)
        return found if keep is None or q_len != kv_len else found & keep[:, None, :, None]


@planted("additive-infinity", "dead-row-nan", ENCODER, CAUSAL, CROSS, source="pytorch/pytorch#103963")
class AdditiveInfinity:
    def weigh(self, scores, allowed):
        return (scores + torch.zeros(()).to(scores).masked_fill(~allowed, -math.inf)).softmax(-1)


@planted("plain-infinity", "dead-row-nan", ENCODER, GROUPED, source="pytorch/pytorch#103963")
class PlainInfinity:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, -math.inf).softmax(-1)


@planted("nan-only-backward", "dead-row-nan", ENCODER, source="pytorch/pytorch#103963")
class NanOnlyBackward:
    def weigh(self, scores, allowed):
        added = torch.zeros(()).to(scores).masked_fill(~allowed, -math.inf)
        return (scores + added).softmax(-1).nan_to_num()


@planted("nan-only-in-training", "dead-row-nan", ENCODER, source="pytorch/pytorch#160064")
class NanOnlyInTraining:
    def weigh(self, scores, allowed):
        weights = self.normalise(self.hide(scores, allowed))
        return weights if self.training else weights.masked_fill(~allowed, 0)


@planted("smallest-number-fill", "dead-row-junk", ENCODER, CAUSAL, source="NVIDIA/apex#1390")
class SmallestNumberFill:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1)


@planted("fill-with-a-billion", "dead-row-junk", ENCODER, CROSS, source="NVIDIA/apex#1390")
class FillWithABillion:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, -1e9).softmax(-1)


@planted("dead-rows-read-all", "dead-row-junk", ENCODER, source="NVIDIA/apex#1390")
class DeadRowsReadAll:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, keep)
        return found | ~found.any(-1, keepdim=True)


@planted(
    "two-smallest-numbers",
    "dead-row-nan",
    ENCODER,
    source="NVIDIA-NeMo/Automodel#2658",
    also=("dead-row-junk", "low-precision"),
)
class TwoSmallestNumbers:
    def weigh(self, scores, allowed):
        least = torch.finfo(scores.dtype).min * (~allowed).to(scores)
        return (scores + least + least).softmax(-1)


@planted(
    "online-softmax-without-guard",
    "dead-row-nan",
    ENCODER,
    source="NVIDIA/cuEquivariance#204",
    also=("mask-skipped",),
)
class OnlineSoftmaxWithoutGuard:
    """The first block of two keys masked for a row: minus infinity less minus infinity."""

    def weigh(self, scores, allowed):
        hidden, best, total, parts = self.hide(scores, allowed), -math.inf, 0.0, []
        for block in hidden.split(2, -1):
            new = torch.maximum(torch.as_tensor(best).to(block), block.amax(-1, keepdim=True))
            weights, shrink = (block - new).exp(), (best - new).exp()
            parts = [part * shrink for part in parts] + [weights]
            total, best = total * shrink + weights.sum(-1, keepdim=True), new
        return torch.cat(parts, -1) / total
