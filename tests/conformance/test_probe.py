import pytest
import torch
from torch import nn

from attnkit.conformance import Skip
from attnkit.conformance.probe import probe_of
from attnkit.conformance.readings import kind_of_scores, pairs, value_map
from tests.conformance.weighing import Fused, NoOutput, Normed, Single, case_of, made
from tests.mutants.base import Attention, CrossAttention


@pytest.mark.parametrize(
    "target",
    [
        made(Attention),
        made(NoOutput),
        made(nn.MultiheadAttention, 24, 4, batch_first=True),
        made(nn.MultiheadAttention, 24, 4),
    ],
)
def test_a_probe_gives_the_context_of_attention(target):
    probe = probe_of(case_of(target))
    query, key, value = (probe.drawn(role, 2, 5) for role in ("query", "key", "value"))
    heads = (part.unflatten(-1, (4, 6)).transpose(1, 2) for part in (query, key, value))
    # independent oracle: PyTorch's own attention on the same numbers
    expected = nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    torch.testing.assert_close(probe(query, key, value), expected)


def test_a_fused_projection_is_taken_apart():
    probe = probe_of(case_of(made(Fused), d_in=24, causal=True))
    query, key, value = (probe.drawn(role, 2, 5) for role in ("query", "key", "value"))
    heads = (part.unflatten(-1, (4, 6)).transpose(1, 2) for part in (query, key, value))
    expected = nn.functional.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2)
    torch.testing.assert_close(probe(query, key, value), expected)


def test_a_memory_may_have_another_length():
    probe = probe_of(case_of(made(CrossAttention, memory_dim=18), cross=True, memory_dim=18))
    weights = probe.weights(probe.drawn("query", 2, 5), probe.drawn("key", 2, 3))
    assert weights.shape == (2, 5, 3, 24)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 5, 24, dtype=torch.float64))


def test_each_value_arrives_at_its_own_number():
    assert value_map(case_of(made(Attention))).source.tolist() == list(range(24))
    # two heads of four numbers, each read by three query heads
    grouped = value_map(case_of(made(Attention, num_heads=6, num_kv_heads=2))).source
    assert grouped.tolist() == [0, 1, 2, 3] * 3 + [4, 5, 6, 7] * 3


def test_pairs_are_the_scale_where_numbers_meet():
    table = pairs(case_of(made(Attention, num_heads=4)))
    for context in (0, 7, 23):
        expected = torch.zeros(24, 24, dtype=torch.float64)
        block = slice(context // 6 * 6, context // 6 * 6 + 6)
        expected[block, block] = 6**-0.5 * torch.eye(6, dtype=torch.float64)
        torch.testing.assert_close(table[..., context], expected)


def test_the_kind_of_scores_is_told():
    assert kind_of_scores(case_of(made(Attention))) == "dot"
    assert kind_of_scores(case_of(made(Normed))) == "normalised"


def test_the_target_is_as_it_was():
    target = made(nn.MultiheadAttention, 24, 4, batch_first=True)
    before = {name: one.clone() for name, one in target.state_dict().items()}
    case = case_of(target)
    probe_of(case)
    for name, one in target.state_dict().items():
        assert torch.equal(one, before[name])
    assert not case.subject.module._forward_hooks


class Twice(Attention):
    def finish(self, context, x):
        return self.output(context) + self.output(x)


class Gated(Attention):
    def finish(self, context, x):
        return self.output(context * x.sigmoid())


class Squared(Attention):
    def mix(self, weights, value):
        return super().mix(weights, value**2)


class Unread(Attention):
    def mix(self, weights, value):
        return 0 * super().mix(weights, value)


class Many(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Attention(), Attention()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Twice, "called 2 times"),
        (Gated, "comes of more than query, key and value"),
        (Squared, "not linear in the values"),
        (Unread, "nothing of the values reaches"),
        (Many, "2 submodules called query"),
        (Single, "its projections are not known"),
    ],
)
def test_what_cannot_be_probed_says_why(kind, words):
    case = case_of(made(kind), d_in=24)
    for _ in range(2):  # the second time from what was noted
        with pytest.raises(Skip, match=words):
            probe_of(case)


def test_one_layer_of_many_is_probed_where_it_is_named():
    names = {role: f"layers.1.{role}" for role in ("query", "key", "value", "output")}
    case = case_of(made(Many), d_in=24, projections=names)
    assert value_map(case).source.tolist() == list(range(24))
