"""Right attention that looks like a bug, each as somebody once reported it or as people often write it.

Each row: a name, what makes it, and what is said of it. `check` must be silent.
"""

import math

import torch
from torch import nn
from torch.nn import functional

WIDTH, HEADS = 24, 4


def heads(numbers, count=HEADS):
    return numbers.unflatten(-1, (count, -1)).transpose(1, 2)


def merged(context):
    return context.transpose(1, 2).flatten(2)


def future(length):
    return torch.ones(length, length, dtype=torch.bool).triu(1)


class Base(nn.Module):
    """Four projections."""

    def __init__(self, bias=True):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH, bias=bias) for _ in range(4))

    def projected(self, x):
        return heads(self.query(x)), heads(self.key(x)), heads(self.value(x))


class CausalLinear(Base):
    """A running sum normalises: it is causal, although no mask is to be seen."""

    def forward(self, x):
        query, key, value = self.projected(x)
        query, key = functional.elu(query) + 1, functional.elu(key) + 1
        state = (key[..., None] * value[..., None, :]).cumsum(2)
        context = (query[..., None, :] @ state).squeeze(-2) / (query * key.cumsum(2)).sum(
            -1, keepdim=True
        ).clamp_min(1e-30)
        return self.output(merged(context))


def turned(numbers):
    length, pairs = numbers.shape[-2], numbers.shape[-1] // 2
    angles = torch.arange(length).to(numbers)[:, None] * 100.0 ** (-torch.arange(pairs).to(numbers) / pairs)
    one, two = numbers.chunk(2, -1)
    return torch.cat([one * angles.cos() - two * angles.sin(), two * angles.cos() + one * angles.sin()], -1)


class NormThenTurn(Base):
    """Norms before turning: turning keeps lengths, so that the order does not matter."""

    def forward(self, x):
        query, key, value = self.projected(x)
        query, key = self.both(query), self.both(key)
        return self.output(merged(functional.scaled_dot_product_attention(query, key, value, is_causal=True)))

    def both(self, numbers):
        return turned(functional.rms_norm(numbers, numbers.shape[-1:]))


class TurnThenNorm(NormThenTurn):
    """The other order."""

    def both(self, numbers):
        return functional.rms_norm(turned(numbers), numbers.shape[-1:])


class Renamed(Base):
    """Variables have each other's names, everywhere: the same numbers."""

    def forward(self, x):
        keys, queries, value = self.projected(x)
        scores = (queries @ keys.mT).mT / math.sqrt(queries.shape[-1])
        return self.output(merged(scores.softmax(-1) @ value))


class ShiftedAlibi(Base):
    """slope * key position in place of slope * (key - query): the rest is one number a row."""

    def forward(self, x):
        query, key, value = self.projected(x)
        slopes = 2.0 ** (-2 * torch.arange(1, HEADS + 1).to(x))
        bias = slopes[:, None, None] * torch.arange(x.shape[1]).to(x)
        scores = query @ key.mT / math.sqrt(query.shape[-1]) + bias
        return self.output(merged(scores.masked_fill(future(x.shape[1]), -math.inf).softmax(-1) @ value))


class Unscaled(Base):
    """T5 divides by nothing, by design; it is said so."""

    def forward(self, x):
        query, key, value = self.projected(x)
        return self.output(merged((query @ key.mT).softmax(-1) @ value))


class Fused(Base):
    """No scale is to be seen: the fused function applies it."""

    def forward(self, x, mask=None):
        query, key, value = self.projected(x)
        hidden = None if mask is None else mask[:, None, None, :]
        return self.output(
            merged(functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden))
        )


class Streamed(Base):
    """Keys one after the other with a running maximum: other roundings, the same softmax."""

    def forward(self, x):
        query, key, value = self.projected(x)
        query = query / math.sqrt(query.shape[-1])
        top, total, context = None, 0.0, 0.0
        for s in range(x.shape[1]):
            score = (query * key[:, :, s : s + 1]).sum(-1, keepdim=True)
            new = score if top is None else torch.maximum(top, score)
            fade = 0.0 if top is None else (top - new).exp()
            total = total * fade + (score - new).exp()
            context = context * fade + (score - new).exp() * value[:, :, s : s + 1]
            top = new
        return self.output(merged(context / total))


class Windowed(Base):
    """Two tokens to the left and its own are a window of 3."""

    def forward(self, x):
        query, key, value = self.projected(x)
        left = 2
        kept = ~future(x.shape[1]) & ~future(x.shape[1]).mT.tril(-left - 1)
        return self.output(merged(functional.scaled_dot_product_attention(query, key, value, attn_mask=kept)))


class DroppedWeights(Base):
    """The weights that it returns besides were dropped, and do not sum to one."""

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        query, key, value = self.projected(x)
        weights = self.dropout((query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1))
        return self.output(merged(weights @ value)), weights


class MaskedAndRenormalised(Base):
    """A mask after the softmax, and then rows are made to sum to one again: the same as before it."""

    def forward(self, x, mask=None):
        query, key, value = self.projected(x)
        weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
        if mask is not None:
            weights = weights * mask[:, None, None, :]
            weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-300)  # no key, no weight
        return self.output(merged(weights @ value))


class TimmLike(nn.Module):
    """One projection for all three, as vision transformers have it."""

    def __init__(self, qk_norm=False):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        size = WIDTH // HEADS
        self.q_norm, self.k_norm = (nn.LayerNorm(size) if qk_norm else nn.Identity() for _ in range(2))
        self.attn_drop, self.proj_drop = nn.Dropout(0.1), nn.Dropout(0.1)

    def forward(self, x):
        query, key, value = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        query, key = self.q_norm(query), self.k_norm(key)
        weights = self.attn_drop((query @ key.mT * query.shape[-1] ** -0.5).softmax(-1))
        return self.proj_drop(self.proj(merged(weights @ value)))


class TaughtByAnnotation(nn.Module):
    """query, key, value and a mask (batch, 1, kv_len) of 0 and 1, as a well-known tutorial takes them."""

    def __init__(self):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, query, key, value, mask=None):
        query, key, value = (heads(one(x)) for one, x in zip(self.linears, (query, key, value), strict=False))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(mask.unsqueeze(1) == 0, -1e9)
        return self.linears[-1](merged(scores.softmax(-1) @ value))


class FloatMasked(Base):
    """A mask of 0 and 1 (batch, 1, 1, kv_len) of whole numbers, which becomes what is added."""

    def forward(self, hidden_states, attention_mask=None):
        query, key, value = self.projected(hidden_states)
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        if attention_mask is not None:
            scores = scores + (1 - attention_mask).to(scores.dtype) * torch.finfo(scores.dtype).min
        return self.output(merged(scores.softmax(-1) @ value))


class ComplexRotary(Base):
    """A buffer of complex numbers turns pairs, as a well-known decoder does it."""

    def __init__(self):
        super().__init__(bias=False)
        pairs = WIDTH // HEADS // 2
        angles = torch.outer(torch.arange(128.0), 100.0 ** (-torch.arange(pairs) / pairs))
        self.register_buffer("turns", torch.polar(torch.ones_like(angles), angles))

    def forward(self, x):
        query, key, value = self.projected(x)
        query, key = self.turn(query), self.turn(key)
        return self.output(merged(functional.scaled_dot_product_attention(query, key, value, is_causal=True)))

    def turn(self, numbers):
        wide = numbers if numbers.dtype is torch.float64 else numbers.float()
        pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * self.turns[: numbers.shape[-2]]).flatten(-2).to(numbers)


class BufferedCausal(nn.Module):
    """One projection in three parts, and a triangle in a buffer."""

    def __init__(self):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.attn_dropout = nn.Dropout(0.1)
        self.register_buffer("bias", torch.tril(torch.ones(128, 128)).view(1, 1, 128, 128))

    def forward(self, x):
        query, key, value = (heads(one) for one in self.c_attn(x).chunk(3, -1))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        scores = scores.masked_fill(self.bias[:, :, : x.shape[1], : x.shape[1]] == 0, -math.inf)
        return self.c_proj(merged(self.attn_dropout(scores.softmax(-1)) @ value))


class Grouped(nn.Module):
    """Two heads of keys for six of queries."""

    def __init__(self):
        super().__init__()
        self.wq, self.wo = nn.Linear(WIDTH, 24, bias=False), nn.Linear(24, WIDTH, bias=False)
        self.wk, self.wv = nn.Linear(WIDTH, 8, bias=False), nn.Linear(WIDTH, 8, bias=False)

    def forward(self, x):
        query, key, value = heads(self.wq(x), 6), heads(self.wk(x), 2), heads(self.wv(x), 2)
        context = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return self.wo(merged(context))


class SignedRelative(Base):
    """A table of places with the other sign: a name for the same table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(HEADS, 255))

    def forward(self, x):
        query, key, value = self.projected(x)
        places = torch.arange(x.shape[1])
        bias = self.table[:, places[None, :] - places[:, None] + 127]
        return self.output(merged(functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)))


def plain(query, key, value):
    return functional.scaled_dot_product_attention(query, key, value)


def causal(query, key, value):
    hidden = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).tril(
        key.shape[-2] - query.shape[-2]
    )
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=hidden)


CAUSAL = {"causal": True, "num_heads": HEADS}
LOOKALIKES = (
    ("causal linear attention", CausalLinear, {"causal": True}),
    ("norm, then turn", NormThenTurn, CAUSAL | {"positions": "rotary"}),
    ("turn, then norm", TurnThenNorm, CAUSAL | {"positions": "rotary"}),
    ("names exchanged", Renamed, {"num_heads": HEADS}),
    ("ALiBi shifted", ShiftedAlibi, CAUSAL | {"positions": "alibi"}),
    ("unscaled by design", Unscaled, {"num_heads": HEADS, "scale": 1.0}),
    ("scale in the fused function", Fused, {"num_heads": HEADS}),
    ("one key after the other", Streamed, {"num_heads": HEADS}),
    ("a window by its left", Windowed, CAUSAL | {"window": 3}),
    ("weights after dropout", DroppedWeights, {"num_heads": HEADS, "dropout": 0.3}),
    ("masked and renormalised", MaskedAndRenormalised, {"num_heads": HEADS}),
    ("relative index with the other sign", SignedRelative, {"num_heads": HEADS, "positions": "relative"}),
    ("like timm", TimmLike, {"num_heads": HEADS, "d_in": WIDTH}),
    ("like timm, normed", lambda: TimmLike(qk_norm=True), {"num_heads": HEADS, "d_in": WIDTH}),
    ("query, key, value, mask", TaughtByAnnotation, {"num_heads": HEADS, "d_in": WIDTH}),
    ("a mask of whole numbers", FloatMasked, {"num_heads": HEADS}),
    ("complex turns", ComplexRotary, CAUSAL | {"positions": "rotary"}),
    ("a triangle in a buffer", BufferedCausal, CAUSAL | {"d_in": WIDTH}),
    ("grouped heads", Grouped, {"causal": True, "num_heads": 6, "num_kv_heads": 2}),
    ("a function", lambda: plain, {}),
    ("a causal function", lambda: causal, {"causal": True, "num_heads": 4, "num_kv_heads": 4}),
)
