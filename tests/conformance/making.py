"""One check on one target, and right targets that every check must leave alone."""

import torch
from torch import nn

from attnkit import Attention, MultiHeadAttention
from attnkit.conformance.adapters import subject_of
from attnkit.conformance.case import Case
from attnkit.conformance.declared import Declared
from tests.mutants.base import Attention as Steps
from tests.mutants.base import CachedAttention, CrossAttention, call_cached

RIGHT = {
    "steps": (lambda: Steps(dropout=0.3), {"dropout": 0.3, "num_heads": 4}),
    "rotary steps": (lambda: Steps(causal=True, positions="rotary"), {"causal": True, "num_heads": 4}),
    "cross": (lambda: CrossAttention(memory_dim=18), {"cross": True, "memory_dim": 18}),
    "cached": (
        lambda: CachedAttention(causal=True, positions="alibi"),
        {"causal": True, "call": call_cached, "d_in": 24, "positions": "alibi"},
    ),
    "causal": (
        lambda: Attention(24, 4, mechanism="causal", dropout=0.2),
        {"causal": True, "dropout": 0.2, "num_heads": 4},
    ),
    "window": (
        lambda: Attention(24, 4, mechanism="sliding_window", window=3),
        {"causal": True, "window": 3, "num_heads": 4},
    ),
    "recurrence": (lambda: Attention(24, 4, mechanism="retention"), {"causal": True}),
    "hard choice": (lambda: Attention(24, 4, mechanism="top_k", k=2), {}),
    "blocks": (lambda: Attention(24, 4, mechanism="block_local", size=3), {}),
    "tutorial": (
        lambda: MultiHeadAttention(24, 24, 70, 0.1, 4),
        {"causal": True, "dropout": 0.1, "num_heads": 4},
    ),
    "torch": (lambda: nn.MultiheadAttention(24, 4, dropout=0.3, batch_first=True), {"dropout": 0.3}),
    # a norm, a residual and another dropout follow the weights
    "torch layer": (
        lambda: nn.TransformerEncoderLayer(24, 4, 48, dropout=0.1, batch_first=True),
        {"d_in": 24, "dropout": 0.1, "num_heads": 4},
    ),
}


def case_of(target, **said):
    declared = Declared(**said)
    return Case(subject_of(target, declared), declared)


def findings(run, target, **said):
    """What one check finds, on fresh inputs."""
    torch.manual_seed(0)
    return list(run(case_of(target, **said)))


def fault(run, target, **said):
    """The fault that one check finds; None for none, which it says of exactly one or none."""
    found = findings(run, target, **said)
    assert len(found) <= 1
    return found[0].fault if found else None
