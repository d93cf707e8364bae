import pytest
import torch
from torch import nn

from attnkit import Attention, positions
from attnkit.conformance import Skip
from attnkit.conformance.relations.memories import run_memory, run_memory_padding
from tests.conformance.targets import Plain, case_of, faults, found


def keyed(rule):
    return type("Keyed", (Plain,), {"keys": lambda self, keep: rule(keep)})(18)


@pytest.mark.parametrize(
    "module",
    [
        Plain(18),
        nn.MultiheadAttention(24, 4, batch_first=True),
        nn.MultiheadAttention(24, 4, kdim=18, vdim=18),
        Attention(24, 4, mechanism="full", memory_dim=18),
        Attention(24, 4, mechanism="full", positions=positions.Rotary()),
    ],
)
def test_right_attention_passes(module):
    for run in (run_memory, run_memory_padding):
        assert faults(run, module, cross=True) == []


def test_a_memory_that_nobody_reads_is_found():
    class Deaf(Plain):
        def forward(self, x, memory=None, keep=None):
            return super().forward(x)

    (finding,) = found(run_memory, Deaf(), cross=True)
    assert (finding.fault, "any token of the memory" in finding.sentence) == ("blind", True)


def test_a_token_of_the_memory_that_nobody_reads_is_found():
    class Causal(Plain):
        causal = True  # 4 queries read 4 of the 7 tokens

    (finding,) = found(run_memory, Causal(18), cross=True)
    assert (finding.fault, "token 4 of the memory" in finding.sentence) == ("blind", True)


def test_values_that_are_made_of_the_text_are_found():
    class Own(Plain):
        def forward(self, x, memory=None, keep=None):
            read = x if memory is None else memory
            query, key, value = (
                part(given).unflatten(-1, (4, 6)).transpose(1, 2)
                for part, given in ((self.query, x), (self.key, read), (self.value, x))
            )
            weights = self.weigh(query @ key.mT, self.allowed(x.shape[1], read.shape[1], keep))
            return self.output((weights @ value).transpose(1, 2).flatten(2))

    assert faults(run_memory, Own(), cross=True) == ["value-from-key"]


def test_a_memory_that_must_be_as_long_as_the_text_is_found():
    class Square(Plain):
        def allowed(self, q_len, kv_len, keep):
            return torch.ones(q_len, q_len, dtype=torch.bool).expand(q_len, kv_len)

    assert faults(run_memory, Square(), cross=True) == ["shape-assumption"]


def test_a_text_that_is_read_beside_the_memory_is_no_fault():
    class Both(Plain):
        def forward(self, x, memory=None, keep=None):
            return super().forward(x, x if memory is None else torch.cat([x, memory], 1))

    assert faults(run_memory, Both(), cross=True) == []


@pytest.mark.parametrize(
    ("fault", "module"),
    [
        ("mask-ignored", keyed(lambda keep: torch.ones(1, 1, 1, keep.shape[1], dtype=torch.bool))),
        ("mask-inverted", keyed(lambda keep: ~keep[:, None, None, :])),
        ("mask-wrong-row", keyed(lambda keep: keep.roll(1, 0)[:, None, None, :])),
    ],
)
def test_a_mask_of_the_memory_that_lets_tokens_through_is_called_by_what_causes_it(fault, module):
    assert faults(run_memory_padding, module, cross=True) == [fault]


def test_a_finite_fill_is_too_weak_for_a_memory_too():
    class Filled(Plain):
        def weigh(self, scores, allowed):
            return scores.masked_fill(~allowed, -1e4).softmax(-1)

    assert faults(run_memory_padding, Filled(18), cross=True) == ["mask-fill-too-weak"]


@pytest.mark.parametrize(("turned", "matters"), [(None, False), (positions.Rotary(), True)])
def test_whether_the_order_of_a_memory_matters_is_found_out(turned, matters):
    case = case_of(Attention(24, 4, mechanism="full", positions=turned), cross=True)
    assert list(run_memory_padding(case)) == []
    assert case.facts["order of the memory matters"] == matters


def test_a_target_of_which_no_memory_was_said_is_left_out():
    with pytest.raises(Skip, match="nothing was said of a memory"):
        found(run_memory, Plain())


def test_at_level_full_a_memory_is_tried_though_nothing_was_said():
    assert faults(run_memory_padding, Plain(), level="full") == []
    flipped = type(keyed(lambda keep: ~keep[:, None, None, :]))()
    assert faults(run_memory_padding, flipped, level="full") == ["mask-inverted"]
