"""Right numbers at the wrong price: state, gradients, precision, memory layout, sizes."""

import random

import torch
from torch.nn import functional

from tests.mutants.base import CAUSAL, CROSS, ENCODER, planted


@planted("noise", "nondeterministic", ENCODER)
class Noise:
    def score(self, query, key):
        scores = super().score(query, key)
        return scores + 0.1 * torch.randn_like(scores)


@planted("noise-of-python", "nondeterministic", ENCODER)
class NoiseOfPython:
    def mix(self, weights, value):
        return super().mix(weights, value) * (1 + 0.01 * random.random())


@planted("random-features", "nondeterministic", ENCODER)
class RandomFeatures:
    def score(self, query, key):
        turn = torch.randn(self.head_dim, self.head_dim).to(query)
        return super().score(query @ turn, key @ turn) / self.head_dim


@planted("counts-its-calls", "state-changed", ENCODER, also=("nondeterministic",))
class CountsItsCalls:
    def build(self):
        self.register_buffer("calls", torch.zeros(()))

    def finish(self, context, x):
        self.calls += 1
        return super().finish(context, x) * (1 + 0.01 * self.calls)


@planted("running-mean", "state-changed", ENCODER, also=("nondeterministic", "batch-crosstalk"))
class RunningMean:
    def build(self):
        self.register_buffer("mean", torch.zeros(self.d_in))

    def finish(self, context, x):
        self.mean.mul_(0.9).add_(x.detach().mean((0, 1)), alpha=0.1)
        return super().finish(context - self.mean, x)


@planted("counts-in-a-buffer", "state-changed", ENCODER)
class CountsInABuffer:
    def build(self):
        self.register_buffer("seen", torch.zeros(()))

    def finish(self, context, x):
        self.seen += x.shape[0]
        return super().finish(context, x)


@planted("input-scaled-in-place", "state-changed", ENCODER, CAUSAL, also=("nondeterministic",))
class InputScaledInPlace:
    def project(self, x, read):
        with torch.no_grad():
            x.mul_(0.5)
        return super().project(x, read)


@planted("residual-in-place", "state-changed", ENCODER)
class ResidualInPlace:
    def finish(self, context, x):
        output = super().finish(context, x)
        with torch.no_grad():
            x += output
        return output


@planted("weights-changed", "state-changed", ENCODER, also=("nondeterministic",))
class WeightsChanged:
    def project(self, x, read):
        with torch.no_grad():
            self.query.weight.mul_(0.99)
        return super().project(x, read)


@planted("seed-set", "state-changed", ENCODER)
class SeedSet:
    def finish(self, context, x):
        torch.manual_seed(0)
        return super().finish(context, x)


@planted(
    "last-sequence-remembered",
    "state-changed",
    ENCODER,
    also=("nondeterministic", "cache-stale", "batch-crosstalk"),
)
class LastSequenceRemembered:
    def build(self):
        self.last = None

    def finish(self, context, x):
        output, before = super().finish(context, x), self.last
        self.last = output.detach().mean((0, 1))
        return output if before is None else output + 0.01 * before


@planted(
    "result-kept-by-shape",
    "state-changed",
    ENCODER,
    also=("cache-stale", "blind", "projection-unused", "nondeterministic"),
)
class ResultKeptByShape:
    def build(self):
        self.kept = {}

    def weigh(self, scores, allowed):
        if scores.shape not in self.kept:
            self.kept[scores.shape] = super().weigh(scores, allowed).detach()
        return self.kept[scores.shape]


@planted("weights-detached", "gradient-blocked", ENCODER, CAUSAL)
class WeightsDetached:
    def mix(self, weights, value):
        return super().mix(weights.detach(), value)


@planted("value-detached", "gradient-blocked", ENCODER)
class ValueDetached:
    def mix(self, weights, value):
        return super().mix(weights, value.detach())


@planted("memory-detached", "gradient-blocked", CROSS)
class MemoryDetached:
    def project(self, x, read):
        return super().project(x, read.detach())


@planted("key-without-gradient", "gradient-blocked", ENCODER)
class KeyWithoutGradient:
    def project(self, x, read):
        query, _, value = super().project(x, read)
        with torch.no_grad():
            key = self.key(read)
        return query, key, value


@planted("remade-from-numbers", "gradient-blocked", ENCODER)
class RemadeFromNumbers:
    def hide(self, scores, allowed):
        return super().hide(torch.tensor(scores.tolist()).to(scores), allowed)


@planted("softmax-without-gradient-of-the-sum", "gradient-wrong", ENCODER, CAUSAL)
class SoftmaxWithoutGradientOfTheSum:
    def normalise(self, scores):
        raised = (scores - scores.amax(-1, keepdim=True)).exp()
        return raised / raised.sum(-1, keepdim=True).detach()


class Doubled(torch.autograd.Function):
    """Passes what it is given on, and twice the gradient back."""

    @staticmethod
    def forward(ctx, numbers):
        return numbers.clone()

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


@planted("backward-doubled", "gradient-wrong", ENCODER)
class BackwardDoubled:
    def score(self, query, key):
        return Doubled.apply(super().score(query, key))


@planted("backward-without-scale", "gradient-wrong", ENCODER)
class BackwardWithoutScale:
    def score(self, query, key):
        scores = query @ key.mT
        return scores + (scores * (self.scale() - 1)).detach()


@planted("weights-of-low-precision", "low-precision", ENCODER)
class WeightsOfLowPrecision:
    def mix(self, weights, value):
        return super().mix(weights.bfloat16().to(weights), value)


@planted("scores-in-half-precision", "low-precision", ENCODER)
class ScoresInHalfPrecision:
    def score(self, query, key):
        return super().score(query.half(), key.half()).to(query)


@planted("products-in-half-before-scale", "low-precision", ENCODER, source="facebookresearch/fairseq#3575")
class ProductsInHalfBeforeScale:
    def score(self, query, key):
        if query.dtype != torch.float16:
            return super().score(query, key)
        return ((100 * query) @ key.mT) / 100 * self.scale()


@planted(
    "fill-that-half-cannot-hold",
    "low-precision",
    ENCODER,
    source="facebookresearch/fairseq#3575",
    also=("dead-row-junk",),
)
class FillThatHalfCannotHold:
    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, -1e9).softmax(-1).masked_fill(~allowed, 0)


@planted(
    "epsilon-that-half-cannot-hold", "low-precision", ENCODER, source="LeapLabTHU/FLatten-Transformer#15"
)
class EpsilonThatHalfCannotHold:
    def normalise(self, scores):
        raised = (scores - 12 * (scores.dtype == torch.float16) - scores.amax(-1, keepdim=True)).exp()
        return raised / (raised.sum(-1, keepdim=True) + 1e-30)


@planted("assumes-contiguous", "layout", ENCODER, source="pytorch/pytorch#112577")
class AssumesContiguous:
    def attend(self, x, read, keep, cache):
        laid = x.as_strided(x.shape, (x.shape[1] * x.shape[2], x.shape[2], 1))
        return super().attend(laid, laid, keep, cache)


@planted("fails-on-strides", "layout", ENCODER, source="pytorch/pytorch#112577", also=("shape-assumption",))
class FailsOnStrides:
    def attend(self, x, read, keep, cache):
        return super().attend(x.view(-1).view(x.shape), read, keep, cache)


@planted(
    "tail-of-blocks-lost",
    "layout",
    ENCODER,
    source="pytorch/pytorch#153799",
    also=("shape-assumption", "blind"),
)
class TailOfBlocksLost:
    """Keys are read in blocks of 8, and what is over is left out when there is a whole block."""

    def allowed(self, q_len, kv_len, start, keep):
        whole = kv_len // 8 * 8 or kv_len
        return super().allowed(q_len, kv_len, start, keep) & (torch.arange(kv_len) < whole)


@planted(
    "padded-to-blocks-unmasked",
    "layout",
    ENCODER,
    source="pytorch/pytorch#153799",
    also=("shape-assumption", "blind", "sink-wrong", "softmax-missing"),
)
class PaddedToBlocksUnmasked:
    """Keys are padded with zeros to a multiple of 4 and the zeros are read."""

    def weigh(self, scores, allowed):
        more = -scores.shape[-1] % 4
        hidden = functional.pad(self.hide(scores, allowed), (0, more))
        return hidden.softmax(-1)[..., : scores.shape[-1]]


@planted(
    "rows-never-written",
    "layout",
    ENCODER,
    source="fla-org/flash-linear-attention#967",
    also=("shape-assumption", "nondeterministic"),
)
class RowsNeverWritten:
    """The last row of an odd length is what the memory held."""

    def mix(self, weights, value):
        context = super().mix(weights, value)
        made = torch.empty_like(context)
        even = context.shape[2] // 2 * 2
        made[:, :, :even] = context[:, :, :even]
        return made


@planted("squeezes-a-batch-of-one", "shape-assumption", ENCODER)
class SqueezesABatchOfOne:
    def finish(self, context, x):
        return super().finish(context, x).squeeze()


@planted("needs-the-first-length", "shape-assumption", ENCODER, source="harvard-edge/cs249r_book#1875")
class NeedsTheFirstLength:
    def allowed(self, q_len, kv_len, start, keep):
        self.length = getattr(self, "length", q_len)
        return torch.ones(self.length, self.length, dtype=torch.bool) & super().allowed(
            q_len, kv_len, start, keep
        )


@planted("mask-reshaped-to-a-square", "shape-assumption", CROSS, source="harvard-edge/cs249r_book#1875")
class MaskReshapedToASquare:
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, keep)
        return found if keep is None else found.expand(-1, 1, q_len, -1).reshape(-1, 1, kv_len, kv_len)


@planted("fails-without-tokens", "shape-assumption", ENCODER, source="pytorch/pytorch#141218")
class FailsWithoutTokens:
    def normalise(self, scores):
        return scores.softmax(-1) * (scores.shape[-1] // scores.shape[-1])


@planted("cut-to-64", "shape-assumption", ENCODER, also=("blind", "layout"))
class CutTo16:
    """Reads the first 16 tokens only."""

    def pattern(self, t, s):
        return super().pattern(t, s) & (s < 16)
