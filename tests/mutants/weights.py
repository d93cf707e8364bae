"""Weights done wrong: softmax, scale, caps and sinks, dropout."""

import torch
from torch.nn import functional

from tests.mutants.base import (
    ALIBI,
    CAUSAL,
    CROSS,
    DROPOUT,
    ENCODER,
    GROUPED,
    ROTARY,
    SCALED,
    SOFTCAP,
    WINDOW,
    planted,
)


@planted(
    "softmax-over-queries",
    "softmax-wrong-axis",
    ENCODER,
    CAUSAL,
    CROSS,
    source="labmlai/annotated_deep_learning_paper_implementations#146",
    also=(),
)
class SoftmaxOverQueries:
    def weigh(self, scores, allowed):
        return self.hide(scores, allowed).softmax(-2).nan_to_num()


@planted(
    "softmax-over-heads",
    "softmax-wrong-axis",
    ENCODER,
    CAUSAL,
    source="labmlai/annotated_deep_learning_paper_implementations#146",
)
class SoftmaxOverHeads:
    def weigh(self, scores, allowed):
        return scores.softmax(1).masked_fill(~allowed, 0)


@planted(
    "softmax-over-samples",
    "softmax-wrong-axis",
    ENCODER,
    CAUSAL,
    source="labmlai/annotated_deep_learning_paper_implementations#146",
    also=("batch-crosstalk",),
)
class SoftmaxOverSamples:
    def weigh(self, scores, allowed):
        return scores.softmax(0).masked_fill(~allowed, 0)


@planted("softmax-over-all", "softmax-wrong-axis", ENCODER)
class SoftmaxOverAll:
    def normalise(self, scores):
        return scores.flatten(-2).softmax(-1).view_as(scores)


@planted("softmax-twice", "softmax-missing", ENCODER, also=("mask-fill-too-weak",))
class SoftmaxTwice:
    def normalise(self, scores):
        return scores.softmax(-1).softmax(-1)


@planted("no-softmax", "softmax-missing", ENCODER, CAUSAL)
class NoSoftmax:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, 0)


@planted("exponential-only", "softmax-missing", ENCODER, CAUSAL)
class ExponentialOnly:
    def normalise(self, scores):
        return scores.exp()


@planted("sigmoid", "softmax-missing", ENCODER)
class Sigmoid:
    def normalise(self, scores):
        return scores.sigmoid()


@planted("divided-by-length", "softmax-missing", ENCODER)
class DividedByLength:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, 0) / scores.shape[-1]


@planted("large-epsilon", "sink-wrong", ENCODER, also=("softmax-missing",))
class LargeEpsilon:
    def normalise(self, scores):
        raised = (scores - scores.amax(-1, keepdim=True)).exp()
        return raised / (raised.sum(-1, keepdim=True) + 1e-2)


@planted(
    "one-more-in-the-sum",
    "sink-wrong",
    ENCODER,
    CAUSAL,
    source="pytorch/pytorch#27461",
    also=("softmax-missing",),
)
class OneMoreInTheSum:
    def normalise(self, scores):
        raised = scores.exp()
        return raised / (1 + raised.sum(-1, keepdim=True))


@planted("exponent-without-maximum", "low-precision", ENCODER)
class ExponentWithoutMaximum:
    def normalise(self, scores):
        raised = scores.exp()
        return raised / raised.sum(-1, keepdim=True)


@planted("cap-missing", "softcap-wrong", SOFTCAP, source="vllm-project/vllm-metal#665")
class CapMissing:
    def cap(self, scores):
        return scores


@planted("cap-ten-times-as-high", "softcap-wrong", SOFTCAP)
class CapTenTimesAsHigh:
    def cap(self, scores):
        return 50 * (scores / 50).tanh()


@planted("cap-by-clamping", "softcap-wrong", SOFTCAP)
class CapByClamping:
    def cap(self, scores):
        return scores.clamp(-self.softcap, self.softcap)


@planted("cap-not-multiplied-back", "softcap-wrong", SOFTCAP, also=("scale-wrong",))
class CapNotMultipliedBack:
    def cap(self, scores):
        return (scores / self.softcap).tanh()


@planted("usual-scale", "scale-wrong", SCALED, source="onnxruntime/mobius#548")
class UsualScale:
    """Another scale was declared, and the fused function's own is used."""

    def scale(self):
        return self.head_dim**-0.5


@planted("no-scale", "scale-missing", ENCODER, CAUSAL, CROSS, source="mlc-ai/mlc-llm#3426")
class NoScale:
    def scale(self):
        return 1.0


@planted("no-scale-rotary", "scale-missing", ROTARY, ALIBI, GROUPED, WINDOW, source="mlc-ai/mlc-llm#3426")
class NoScaleRotary(NoScale):
    pass


@planted("scale-by-width", "scale-by-width", ENCODER, CAUSAL, GROUPED, CROSS, source="onnxruntime/mobius#548")
class ScaleByWidth:
    def scale(self):
        return self.d_in**-0.5


@planted("scale-by-heads", "scale-wrong", ENCODER)
class ScaleByHeads:
    def scale(self):
        return self.num_heads**-0.5 / 3


@planted("scale-without-root", "scale-wrong", ENCODER, CAUSAL)
class ScaleWithoutRoot:
    def scale(self):
        return 1 / self.head_dim


@planted("scale-upside-down", "scale-wrong", ENCODER)
class ScaleUpsideDown:
    def scale(self):
        return self.head_dim**0.5


@planted("scale-twice", "scale-wrong", ENCODER, source="onnxruntime/mobius#548")
class ScaleTwice:
    def score(self, query, key):
        return super().score(query * self.scale(), key)


@planted("scale-by-length", "scale-wrong", ENCODER, CAUSAL)
class ScaleByLength:
    def score(self, query, key):
        return query @ key.mT * key.shape[-2] ** -0.5


@planted("scale-after-softmax", "scale-after-softmax", ENCODER, CAUSAL)
class ScaleAfterSoftmax:
    def score(self, query, key):
        return query @ key.mT

    def weigh(self, scores, allowed):
        return super().weigh(scores, allowed) * self.scale()


@planted("scale-on-the-weights-too", "scale-after-softmax", ENCODER)
class ScaleOnTheWeightsToo:
    def weigh(self, scores, allowed):
        return super().weigh(scores, allowed) * self.scale()


@planted("dropout-in-evaluation", "dropout-in-eval", DROPOUT, source="karpathy/nanoGPT@7399dfe3")
class DropoutInEvaluation:
    def drop(self, weights):
        return functional.dropout(weights, self.dropout)


@planted("dropout-in-fused-evaluation", "dropout-in-eval", DROPOUT, source="karpathy/nanoGPT@7399dfe3")
class DropoutInFusedEvaluation:
    def attend(self, x, read, keep, cache):
        query, key, value = (self.split(part, self.num_heads) for part in self.project(x, read))
        allowed = self.allowed(x.shape[1], read.shape[1], 0, keep)
        context = functional.scaled_dot_product_attention(query, key, value, allowed, dropout_p=self.dropout)
        return self.output(self.merge(context))


@planted("dropout-only-in-evaluation", "dropout-in-eval", DROPOUT, source="patrick-kidger/equinox#288")
class DropoutOnlyInEvaluation:
    def drop(self, weights):
        return functional.dropout(weights, self.dropout, not self.training)


@planted("dropout-never", "dropout-never", DROPOUT)
class DropoutNever:
    def drop(self, weights):
        return weights


@planted("dropout-result-unused", "dropout-never", DROPOUT)
class DropoutResultUnused:
    def drop(self, weights):
        functional.dropout(weights, self.dropout, self.training)
        return weights


@planted("dropout-not-rescaled", "dropout-not-rescaled", DROPOUT, source="NVIDIA/apex#816")
class DropoutNotRescaled:
    def drop(self, weights):
        return weights * torch.rand_like(weights).gt(self.dropout) if self.training else weights


@planted("dropout-rescaled-in-evaluation", "dropout-not-rescaled", DROPOUT)
class DropoutRescaledInEvaluation:
    def drop(self, weights):
        return (
            weights * torch.rand_like(weights).gt(self.dropout)
            if self.training
            else weights / (1 - self.dropout)
        )


@planted("dropout-keeps-what-it-drops", "dropout-not-rescaled", DROPOUT, also=("dropout-never",))
class DropoutKeepsWhatItDrops:
    def drop(self, weights):
        return functional.dropout(weights, 1 - self.dropout, self.training) * (1 - self.dropout)


@planted("dropout-before-softmax", "dropout-before-softmax", DROPOUT)
class DropoutBeforeSoftmax:
    def score(self, query, key):
        return functional.dropout(super().score(query, key), self.dropout, self.training)

    def drop(self, weights):
        return weights


@planted("dropout-to-infinity-before-softmax", "dropout-before-softmax", DROPOUT)
class DropoutToInfinityBeforeSoftmax:
    def score(self, query, key):
        scores = super().score(query, key)
        return scores - 1e4 * (torch.rand_like(scores) < self.dropout) if self.training else scores

    def drop(self, weights):
        return weights


@planted("dropout-shared-by-rows", "dropout-shared", DROPOUT, source="Dao-AILab/flash-attention#314")
class DropoutSharedByRows:
    def drop(self, weights):
        return weights * functional.dropout(torch.ones_like(weights[..., :1, :]), self.dropout, self.training)


@planted("dropout-shared-by-heads", "dropout-shared", DROPOUT, source="Dao-AILab/flash-attention#314")
class DropoutSharedByHeads:
    def drop(self, weights):
        return weights * functional.dropout(torch.ones_like(weights[:, :1]), self.dropout, self.training)


@planted("dropout-shared-by-samples", "dropout-shared", DROPOUT, source="Dao-AILab/flash-attention#314")
class DropoutSharedBySamples:
    def drop(self, weights):
        return weights * functional.dropout(torch.ones_like(weights[:1]), self.dropout, self.training)


@planted("dropout-with-one-seed", "dropout-shared", DROPOUT, source="Dao-AILab/flash-attention#314")
class DropoutWithOneSeed:
    def drop(self, weights):
        drawn = torch.rand(weights.shape, generator=torch.Generator().manual_seed(3)).to(weights)
        return weights * (drawn > self.dropout) / (1 - self.dropout) if self.training else weights


@planted(
    "dropout-sets-the-seed",
    "dropout-shared",
    DROPOUT,
    source="Dao-AILab/flash-attention#314",
    also=("state-changed",),
)
class DropoutSetsTheSeed:
    def drop(self, weights):
        torch.manual_seed(3)
        return super().drop(weights)


@planted("dropout-lost-after-evaluation", "dropout-sticky", DROPOUT, source="NVIDIA/Megatron-LM#411")
class DropoutLostAfterEvaluation:
    def drop(self, weights):
        self.dropout = self.dropout if self.training else 0.0
        return super().drop(weights)


@planted("dropout-in-a-list", "dropout-in-eval", DROPOUT)
class DropoutInAList:
    """A list hides the layer from eval(), so that it stays in training."""

    def build(self):
        self.hidden = [torch.nn.Dropout(self.dropout)]

    def drop(self, weights):
        return self.hidden[0](weights)


@planted("dropout-backward-unscaled", "gradient-wrong", DROPOUT, source="NVIDIA/apex#816")
class DropoutBackwardUnscaled:
    def drop(self, weights):
        if not self.training:
            return weights
        dropped = weights * torch.rand_like(weights).gt(self.dropout)
        return dropped + (dropped / (1 - self.dropout) - dropped).detach()
