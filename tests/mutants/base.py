"""Right attention in steps that have names, so that a mutant is one step done wrong; and the configurations.

project -> split -> turn -> remember -> share -> score -> bias -> allowed -> weigh -> drop -> mix -> merge
"""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from attnkit.conformance.bench import Mutant

LONGEST = 64


class Attention(nn.Module):
    """Self-attention that is right; each method is one step."""

    def __init__(
        self,
        d_in=24,
        num_heads=4,
        *,
        num_kv_heads=None,
        causal=False,
        window=None,
        dropout=0.0,
        positions=None,
        memory_dim=None,
        scale=None,
        softcap=None,
    ):
        super().__init__()
        self.multiplier, self.softcap = scale, softcap
        self.d_in, self.num_heads, self.num_kv_heads = d_in, num_heads, num_kv_heads or num_heads
        self.causal, self.window, self.dropout, self.positions = causal, window, dropout, positions
        self.head_dim = d_in // num_heads
        kv_dim = self.num_kv_heads * self.head_dim
        self.query = nn.Linear(d_in, d_in)
        self.key = nn.Linear(memory_dim or d_in, kv_dim)
        self.value = nn.Linear(memory_dim or d_in, kv_dim)
        self.output = nn.Linear(d_in, d_in)
        if positions == "relative":
            self.relative = nn.Parameter(torch.randn(num_heads, 2 * LONGEST - 1))
        if positions == "absolute":
            self.places = nn.Parameter(torch.randn(LONGEST, d_in))
        self.build()

    def build(self):
        """What a mutant adds."""

    def forward(self, x, keep=None):
        return self.attend(x, x, keep, {})

    def attend(self, x, read, keep, cache):
        start = cache["key"].shape[2] if cache else 0
        query, key, value = self.project(self.placed(x, start), self.placed(read, start))
        query = self.split(query, self.num_heads)
        key, value = self.split(key, self.num_kv_heads), self.split(value, self.num_kv_heads)
        query, key, value = self.turn(query, key, value, start)
        key, value = self.remember(key, value, cache)
        key, value = self.share(key), self.share(value)
        allowed = self.allowed(query.shape[2], key.shape[2], key.shape[2] - query.shape[2], keep)
        weights = self.weigh(self.bias(self.score(query, key), start), allowed)
        return self.finish(self.merge(self.mix(self.drop(weights), value)), x)

    def placed(self, x, start):
        return x + self.places[start : start + x.shape[1]] if self.positions == "absolute" else x

    def project(self, x, read):
        return self.query(x), self.key(read), self.value(read)

    def split(self, numbers, heads):
        return numbers.unflatten(-1, (heads, self.head_dim)).transpose(1, 2)

    def turn(self, query, key, value, start):
        if self.positions != "rotary":
            return query, key, value
        return rotated(query, start), rotated(key, start), value

    def remember(self, key, value, cache):
        return key, value

    def share(self, numbers):
        return numbers.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1)

    def scale(self):
        return self.multiplier or self.head_dim**-0.5

    def score(self, query, key):
        return self.cap(query @ key.mT * self.scale())

    def cap(self, scores):
        return scores if self.softcap is None else self.softcap * (scores / self.softcap).tanh()

    def bias(self, scores, start):
        if self.positions == "alibi":
            return scores - slopes(self.num_heads).to(scores)[:, None, None] * self.distance(scores).abs()
        if self.positions == "relative":
            return scores + self.relative[:, self.distance(scores) + LONGEST - 1]
        return scores

    def distance(self, scores):
        q_len, kv_len = scores.shape[-2:]
        return torch.arange(kv_len - q_len, kv_len)[:, None] - torch.arange(kv_len)

    def allowed(self, q_len, kv_len, start, keep):
        t, s = torch.arange(start, start + q_len)[:, None], torch.arange(kv_len)
        found = self.pattern(t, s)
        return found if keep is None else found & keep[:, None, None, :]

    def pattern(self, t, s):
        found = torch.ones(t.shape[0], s.shape[0], dtype=torch.bool)
        if self.causal:
            found = found & (s <= t)
        if self.window is not None:
            found = found & (t - s < self.window)
        return found

    def weigh(self, scores, allowed):
        return self.normalise(self.hide(scores, allowed)).masked_fill(~allowed, 0)

    def hide(self, scores, allowed):
        return scores.masked_fill(~allowed, -math.inf)

    def normalise(self, scores):
        return scores.softmax(-1)

    def drop(self, weights):
        return functional.dropout(weights, self.dropout, self.training)

    def mix(self, weights, value):
        return weights @ value

    def merge(self, context):
        return context.transpose(1, 2).flatten(2)

    def finish(self, context, x):
        return self.output(context)


class CrossAttention(Attention):
    """Reads a memory."""

    def forward(self, x, memory=None, keep=None):
        return self.attend(x, x if memory is None else memory, keep, {})


class CachedAttention(Attention):
    """Goes on from a cache, a dict that is empty at first."""

    def forward(self, x, keep=None, cache=None):
        self.decodes = cache is not None
        output = self.attend(x, x, keep, {} if cache is None else cache)
        return output if cache is None else (output, cache)

    def remember(self, key, value, cache):
        if "key" in cache:
            key, value = torch.cat([cache["key"], key], 2), torch.cat([cache["value"], value], 2)
        cache["key"], cache["value"] = key, value
        return key, value


def angles(numbers, start, places=None):
    """Rotary angles of each place and pair of halves, (len, head_dim / 2)."""
    pairs = numbers.shape[-1] // 2
    places = torch.arange(start, start + numbers.shape[-2]) if places is None else places
    return places.to(numbers)[..., None] * 10000.0 ** (-torch.arange(pairs).to(numbers) / pairs)


def rotated(numbers, start, places=None):
    """Rotary positions on halves."""
    turns = angles(numbers, start, places)
    one, two = numbers.chunk(2, -1)
    return torch.cat([one * turns.cos() - two * turns.sin(), two * turns.cos() + one * turns.sin()], -1)


def slopes(num_heads):
    """ALiBi's slopes, with those of twice the heads in between where their number is no power of 2."""
    whole = 2 ** math.floor(math.log2(num_heads))
    found = [2 ** (-8 * (head + 1) / whole) for head in range(whole)]
    return torch.tensor(found + [2 ** (-4 * (2 * i + 1) / whole) for i in range(num_heads - whole)])


def call_cached(module, x, memory, keep, cache):
    """How `check` calls a `CachedAttention`."""
    return module(x, keep=keep, cache=cache)


@dataclass(frozen=True)
class Setting:
    """A configuration: what is built, and what is said of it."""

    name: str
    base: type
    built: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)


def cached(name, built, **said):
    said = {"causal": True, "num_heads": 4, "cache": True, "call": call_cached, "d_in": 24} | said
    return Setting(name, CachedAttention, {"causal": True} | built, said)


CAUSAL_SAID = {"causal": True, "num_heads": 4}
ENCODER = Setting("encoder", Attention, {}, {"num_heads": 4})
CAUSAL = Setting("causal", Attention, {"causal": True}, CAUSAL_SAID)
HEADS = {"num_heads": 6, "num_kv_heads": 2}
GROUPED = Setting("grouped", Attention, {"causal": True, **HEADS}, {"causal": True, **HEADS})
ROTARY = Setting(
    "rotary", Attention, {"causal": True, "positions": "rotary"}, CAUSAL_SAID | {"positions": "rotary"}
)
ALIBI = Setting(
    "alibi",
    Attention,
    {"causal": True, "num_heads": 6, "positions": "alibi"},
    {"causal": True, "num_heads": 6, "positions": "alibi"},
)
RELATIVE = Setting(
    "relative", Attention, {"positions": "relative"}, {"num_heads": 4, "positions": "relative"}
)
ABSOLUTE = Setting(
    "absolute", Attention, {"positions": "absolute"}, {"num_heads": 4, "positions": "absolute"}
)
WINDOW = Setting("window", Attention, {"causal": True, "window": 3}, CAUSAL_SAID | {"window": 3})
DROPOUT = Setting("dropout", Attention, {"causal": True, "dropout": 0.3}, CAUSAL_SAID | {"dropout": 0.3})
CROSS = Setting(
    "cross", CrossAttention, {"memory_dim": 18}, {"num_heads": 4, "cross": True, "memory_dim": 18}
)
SAME_CROSS = Setting("cross-same-width", CrossAttention, {}, {"num_heads": 4, "cross": True})
CACHED = cached("cached", {})
CACHED_ROTARY = cached("cached-rotary", {"positions": "rotary"}, positions="rotary")
CACHED_ALIBI = cached("cached-alibi", {"positions": "alibi"}, positions="alibi")
CACHED_RELATIVE = cached("cached-relative", {"positions": "relative"}, positions="relative")
CACHED_ABSOLUTE = cached("cached-absolute", {"positions": "absolute"}, positions="absolute")
CACHED_WINDOW = cached("cached-window", {"window": 3}, window=3)
SOFTCAP = Setting("softcap", Attention, {"softcap": 5.0}, {"num_heads": 4, "softcap": 5.0})
SCALED = Setting("scaled", Attention, {"scale": 1.0}, {"num_heads": 4, "scale": 1.0})
SETTINGS = (
    ENCODER, CAUSAL, GROUPED, ROTARY, ALIBI, RELATIVE, ABSOLUTE, WINDOW, DROPOUT, CROSS, SAME_CROSS,
    CACHED, CACHED_ROTARY, CACHED_ALIBI, CACHED_RELATIVE, CACHED_ABSOLUTE, CACHED_WINDOW, SOFTCAP, SCALED,
)  # fmt: skip

MUTANTS: list[Mutant] = []


def planted(name, fault, *settings, source="", also=()):
    """Register a class of steps done wrong, in each of these configurations."""

    def register(steps):
        for setting in settings:
            # the mutated steps go before the right ones; under a name of its own, so that it can be pickled
            own = f"{steps.__name__}_{setting.name.replace('-', '_')}"
            made = type(own, (steps, setting.base), {"__module__": __name__})
            globals()[own] = made
            MUTANTS.append(
                Mutant(
                    f"{setting.name}/{name}",
                    fault,
                    partial(made, **setting.built),
                    setting.said,
                    source=source,
                    also=also,
                )
            )
        return steps

    return register


def controls():
    """Every configuration done right."""
    return [Mutant(f"{one.name}/right", None, partial(one.base, **one.built), one.said) for one in SETTINGS]
