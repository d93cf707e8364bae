import pytest
import torch
from torch import nn

from attnkit import CausalAttention
from attnkit.conformance.relations import layout
from attnkit.conformance.relations.layout import run_lengths, run_sizes, run_strides, run_unwritten
from tests.conformance.making import RIGHT, CrossAttention, Steps, fault, findings

RUNS = [check.run for check in layout.CHECKS]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize(("make", "said"), RIGHT.values(), ids=RIGHT)
def test_right_targets_are_left_alone(run, make, said):
    assert findings(run, make(), **said) == []


class AssumesOrder(Steps):
    def forward(self, x, keep=None):
        return super().forward(x.as_strided(x.shape, (x.shape[1] * x.shape[2], x.shape[2], 1)), keep)


class AssumesOwnSamples(Steps):
    """Right for any strides but those of samples that share memory."""

    def forward(self, x, keep=None):
        return super().forward(x * (0.5 if x.stride(0) == 0 else 1.0), keep)


class Views(Steps):
    def forward(self, x, keep=None):
        return super().forward(x.view(-1).view(x.shape), keep)


@pytest.mark.parametrize(("kind", "told"), [(AssumesOrder, "transposed"), (AssumesOwnSamples, "expanded")])
def test_strides_that_are_not_read_are_found(kind, told):
    (found,) = findings(run_strides, kind())
    assert found.fault == "layout"
    assert told in found.sentence


def test_a_memory_has_strides_too():
    class Assumes(CrossAttention):
        def forward(self, x, memory=None, keep=None):
            laid = memory.as_strided(memory.shape, (memory.shape[1] * memory.shape[2], memory.shape[2], 1))
            return super().forward(x, laid, keep)

    assert fault(run_strides, Assumes(memory_dim=18), cross=True, memory_dim=18) == "layout"


def test_strides_that_are_refused_aloud_are_a_fault_for_the_strict_alone():
    assert fault(run_strides, Views()) is None
    assert fault(run_strides, Views(), level="strict") == "layout"


class LastNotWritten(Steps):
    def mix(self, weights, value):
        context = super().mix(weights, value)
        made = torch.empty_like(context)
        made[:, :, :-1] = context[:, :, :-1]
        return made


class WrittenBefore(Steps):
    """Memory is asked for and written before it is read."""

    def mix(self, weights, value):
        context = super().mix(weights, value)
        made = torch.empty_like(context)
        made.copy_(context)
        return (
            torch.baddbmm(
                torch.empty(1, 1, 1).to(made), *[made.flatten(0, 1).mT] * 1, made.flatten(0, 1), beta=0
            )[..., :0].sum()
            + made
        )


def test_memory_that_nobody_wrote_is_found():
    (found,) = findings(run_unwritten, LastNotWritten())
    assert found.fault == "layout"
    assert "3 * " not in found.sentence
    # by hand: one of 7 tokens in each of 3 samples, 24 numbers each
    assert found.measured == 3 * 24


def test_memory_that_is_written_before_it_is_read_is_no_fault():
    assert fault(run_unwritten, WrittenBefore()) is None


class TailLost(Steps):
    def pattern(self, t, s):
        return super().pattern(t, s) & (s < (s.shape[0] // 8 * 8 or s.shape[0]))


class OnlySixteen(Steps):
    def pattern(self, t, s):
        return super().pattern(t, s) & (s < 16)


class TailShort(Steps):
    """Causal, and the first tokens of a text whose length is odd are hidden."""

    def pattern(self, t, s):
        return super().pattern(t, s) & ((s > 1) | (t < 2) | (s.shape[0] % 8 == 0) | (s.shape[0] == 7))


class RowsLeak(Steps):
    def normalise(self, scores):
        weights = scores.softmax(-1)
        return weights if scores.shape[-1] % 2 else weights * 0.9


@pytest.mark.parametrize(
    ("make", "said", "called"),
    [
        (TailLost, {}, "layout"),
        (lambda: OnlySixteen(), {"level": "full"}, "shape-assumption"),
        (lambda: TailShort(causal=True), {"causal": True}, "layout"),
        (RowsLeak, {"level": "full"}, "layout"),
    ],
)
def test_a_length_that_is_special_is_found(make, said, called):
    assert fault(run_lengths, make(), **said) == called


def test_a_context_that_is_too_short_for_a_length_is_no_fault():
    target = CausalAttention(24, 24, 12, 0.0)
    assert fault(run_lengths, target, causal=True, level="full") is None
    assert fault(run_sizes, target, causal=True) is None


class Squeezes(Steps):
    def finish(self, context, x):
        return super().finish(context, x).squeeze()


class FirstLength(Steps):
    """The first length that it sees is the only one that it takes from then on."""

    def finish(self, context, x):
        self.length = getattr(self, "length", x.shape[1])
        return super().finish(context.view(-1, self.length, 24), x)


class OneLength(Steps):
    """Made for one length, as windows of images and tables of ids are."""

    def finish(self, context, x):
        assert x.shape[1] == 7
        return super().finish(context, x)


class NothingForOne(Steps):
    def weigh(self, scores, allowed):
        weights = super().weigh(scores, allowed)
        return weights * min(1, 1 // (scores.shape[-1] - 1) + 1)


class SquareMask(CrossAttention):
    def allowed(self, q_len, kv_len, start, keep):
        found = super().allowed(q_len, kv_len, start, keep)
        return found if keep is None else found.expand(-1, 1, q_len, -1).reshape(-1, 1, kv_len, kv_len)


@pytest.mark.parametrize(
    ("target", "said", "told"),
    [
        (Squeezes(), {}, "gives (3, 24), no (3, 1, 24)"),
        (FirstLength(), {}, "raises RuntimeError"),
        (NothingForOne(), {}, "raises ZeroDivisionError"),
        (SquareMask(memory_dim=18), {"cross": True, "memory_dim": 18}, "with a mask of a memory of 5 tokens"),
    ],
)
def test_a_size_that_is_taken_for_granted_is_found(target, said, told):
    (found,) = findings(run_sizes, target, **said)
    assert found.fault == "shape-assumption"
    assert told in found.sentence


def test_a_target_that_is_made_for_one_length_is_no_fault():
    assert [fault(run, OneLength()) for run in RUNS] == [None] * len(RUNS)


class NeedsSamples(Steps):
    def finish(self, context, x):
        return super().finish(context.view(x.shape[0], x.shape[1], -1), x)


def test_an_empty_batch_is_for_the_strict_alone():
    assert fault(run_sizes, NeedsSamples()) is None
    assert fault(run_sizes, NeedsSamples(), level="strict") == "shape-assumption"


def test_torchs_own_layer_stands_the_strict_sizes():
    assert findings(run_sizes, nn.MultiheadAttention(24, 4, batch_first=True), level="strict") == []
