"""What the tests of how weights are made share: one case, and modules that are right in their own way."""

import math

import torch
from torch import nn
from torch.nn import functional

from attnkit.conformance import Case, Declared, Skip
from attnkit.conformance.adapters import subject_of
from tests.mutants.base import Attention, angles, rotated


def case_of(target, **said):
    """A case of a target, drawn with one seed."""
    declared = Declared(**said)
    return Case(subject_of(target, declared), declared)


def made(kind, *given, **named):
    """A module with parameters that are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(*given, **named)


def faults(run, case):
    """The names of what a check finds."""
    return [finding.fault for finding in run(case)]


def reason(run, case):
    """Why a check is not made; None where it is."""
    try:
        list(run(case))
    except Skip as skip:
        return str(skip)
    return None


class Fused(nn.Module):
    """One projection for query, key and value, and PyTorch's own attention."""

    def __init__(self, d_in=24, num_heads=4):
        super().__init__()
        self.num_heads = num_heads
        self.c_attn, self.c_proj = nn.Linear(d_in, 3 * d_in), nn.Linear(d_in, d_in)

    def forward(self, x):
        query, key, value = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, -1)
        )
        context = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.c_proj(context.transpose(1, 2).flatten(2))


class NumbersFirst(Attention):
    """Heads take every num_heads-th number, on the way in and out alike."""

    def split(self, numbers, heads):
        return numbers.unflatten(-1, (self.head_dim, heads)).permute(0, 3, 1, 2)

    def merge(self, context):
        return context.permute(0, 2, 3, 1).flatten(2)


class Normed(Attention):
    """Queries and keys are normalised, and the scale is learned."""

    def build(self):
        self.sharpness = nn.Parameter(torch.tensor(3.0))

    def score(self, query, key):
        return functional.normalize(query, dim=-1) @ functional.normalize(key, dim=-1).mT * self.sharpness


class Capped(Attention):
    """Scores are capped at 5, before the mask."""

    def score(self, query, key):
        return 5 * torch.tanh(super().score(query, key) / 5)


class WithSink(Attention):
    """A learned sink takes weight from every row."""

    def build(self):
        self.sink = nn.Parameter(torch.zeros(1))

    def normalise(self, scores):
        return torch.cat([self.sink.expand(*scores.shape[:-1], 1), scores], -1).softmax(-1)[..., 1:]


class NoOutput(Attention):
    """No last projection."""

    def build(self):
        del self.output

    def finish(self, context, x):
        return context


class Linear(Attention):
    """Linear attention whose weights sum to one."""

    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, 0) / scores.masked_fill(~allowed, 0).sum(-1, keepdim=True)

    def score(self, query, key):
        return (functional.elu(query) + 1) @ (functional.elu(key) + 1).mT


class Pairs(Attention):
    """Rotary positions on pairs of neighbours, for two thirds of a head."""

    def turn(self, query, key, value, start):
        return self.turned(query), self.turned(key), value

    def turned(self, numbers):
        some, rest = numbers[..., :4], numbers[..., 4:]
        turns = angles(some, 0)
        one, two = some[..., ::2], some[..., 1::2]
        pairs = torch.stack(
            [one * turns.cos() - two * turns.sin(), two * turns.cos() + one * turns.sin()], -1
        )
        return torch.cat([pairs.flatten(-2), rest], -1)


class Renormalised(Attention):
    """The mask after the softmax, and normalised again: the same."""

    def weigh(self, scores, allowed):
        weights = scores.softmax(-1).masked_fill(~allowed, 0)
        return weights / weights.sum(-1, keepdim=True)


class Unmoved(Attention):
    """ALiBi by the key's place alone: a number for each row apart, so the same."""

    def bias(self, scores, start):
        slopes = torch.tensor([2.0 ** (-2 * h) for h in range(1, 5)]).to(scores)
        return scores + slopes[:, None, None] * torch.arange(scores.shape[-1]).to(scores)


class Single(nn.Module):
    """One head, with matrices that are no submodules."""

    def __init__(self, d_in=24):
        super().__init__()
        self.W_query, self.W_key, self.W_value = (nn.Parameter(torch.randn(d_in, d_in) / 5) for _ in range(3))

    def forward(self, x):
        query, key, value = x @ self.W_query, x @ self.W_key, x @ self.W_value
        return (query @ key.mT / math.sqrt(key.shape[-1])).softmax(-1) @ value


def turned_by(places_of_query, places_of_key):
    """Rotary attention with places of one's own."""

    class Turned(Attention):
        def turn(self, query, key, value, start):
            places = torch.arange(query.shape[-2])
            return (
                rotated(query, 0, places_of_query(places)),
                rotated(key, 0, places_of_key(places)),
                value,
            )

    return Turned


ALIKE = (
    (Fused, {}, {"d_in": 24, "causal": True}),
    (Fused, {}, {"d_in": 24, "causal": True, "num_heads": 4}),
    (NumbersFirst, {}, {"num_heads": 4}),
    (NumbersFirst, {"causal": True}, {"causal": True}),
    (Normed, {"causal": True}, {"causal": True, "num_heads": 4}),
    (Capped, {"causal": True}, {"causal": True, "num_heads": 4}),
    (Capped, {}, {"softcap": 5.0}),
    (WithSink, {}, {"num_heads": 4}),
    (NoOutput, {}, {"num_heads": 4}),
    (NoOutput, {"causal": True}, {"causal": True}),
    (Linear, {"causal": True}, {"causal": True, "num_heads": 4}),
    (Pairs, {"causal": True}, {"causal": True, "positions": "rotary"}),
    (Pairs, {}, {}),
    (Renormalised, {"causal": True}, {"causal": True}),
    (Unmoved, {"causal": True}, {"causal": True, "positions": "relative"}),
    (Single, {}, {"d_in": 24}),
    (Attention, {"num_heads": 1}, {"num_heads": 1}),
    (Attention, {"num_heads": 24}, {"num_heads": 24}),
    (Attention, {"causal": True, "num_heads": 6, "num_kv_heads": 2}, {"causal": True}),
    (Attention, {"causal": True, "positions": "rotary"}, {"causal": True}),
    (
        Attention,
        {"window": 2, "causal": True, "positions": "rotary"},
        {"causal": True, "positions": "rotary"},
    ),
    (Attention, {"positions": "absolute"}, {}),
)
