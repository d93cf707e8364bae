"""A small attention whose steps tests do wrong, and a check called by itself."""

import math

import torch
from torch import nn

from attnkit.conformance import Case, Declared
from attnkit.conformance.adapters import subject_of


class Plain(nn.Module):
    """Right attention with 4 heads of 6; tests override one step."""

    causal = False

    def __init__(self, memory_dim=24):
        super().__init__()
        self.query, self.output = nn.Linear(24, 24), nn.Linear(24, 24)
        self.key, self.value = nn.Linear(memory_dim, 24), nn.Linear(memory_dim, 24)

    def forward(self, x, memory=None, keep=None):
        read = x if memory is None else memory
        parts = ((self.query, x), (self.key, read), (self.value, read))
        query, key, value = (part(given).unflatten(-1, (4, 6)).transpose(1, 2) for part, given in parts)
        weights = self.weigh(query @ key.mT / math.sqrt(6), self.allowed(x.shape[1], read.shape[1], keep))
        return self.output((weights @ value).transpose(1, 2).flatten(2))

    def allowed(self, q_len, kv_len, keep):
        found = self.pattern(torch.arange(q_len)[:, None], torch.arange(kv_len))
        return found if keep is None else found & self.keys(keep)

    def pattern(self, t, s):
        return s <= t if self.causal else (s + t >= 0)

    def keys(self, keep):
        return keep[:, None, None, :]

    def weigh(self, scores, allowed):
        return scores.masked_fill(~allowed, -math.inf).softmax(-1).masked_fill(~allowed, 0)


class Causal(Plain):
    """The same that hides the future."""

    causal = True


def case_of(module, **said):
    declared = Declared(**said)
    return Case(subject_of(module, declared), declared)


def found(run, module, **said):
    """What one check finds."""
    return list(run(case_of(module, **said)))


def faults(run, module, **said):
    return [finding.fault for finding in found(run, module, **said)]
