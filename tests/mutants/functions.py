"""Functions of query, key and value on heads, done wrong."""

from functools import partial

import torch
from torch.nn import functional

from attnkit.conformance.bench import Mutant
from tests.mutants.base import MUTANTS

SAID = {"num_heads": 3}
CAUSAL = SAID | {"causal": True}
GROUPED = {"num_heads": 6, "num_kv_heads": 2}


def attend(query, key, value, *, scale=None, axis=-1, causal=False):
    """Right attention."""
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        t, s = torch.arange(query.shape[-2])[:, None], torch.arange(key.shape[-2])
        scores = scores.masked_fill(s > t + key.shape[-2] - query.shape[-2], -torch.inf)
    return scores.softmax(axis) @ value


def fused_with_ignoring_mask(query, key, value):
    """True ignores where the fused function reads True as keep."""
    ignore = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).triu(1)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=ignore).nan_to_num()


def fused_with_number_mask(query, key, value):
    """A float mask is added."""
    keep = torch.ones(query.shape[-2], key.shape[-2]).tril().to(query)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=keep)


def fused_with_dropout(query, key, value):
    """Drops whatever the mode is."""
    return functional.scaled_dot_product_attention(query, key, value, dropout_p=0.3)


def fused_causal_forgotten(query, key, value):
    """Not causal."""
    return functional.scaled_dot_product_attention(query, key, value)


def fused_scaled_before(query, key, value):
    """Scaled by the caller, and again by the fused function."""
    return functional.scaled_dot_product_attention(query * query.shape[-1] ** -0.5, key, value)


def tiled(query, key, value):
    """Groups tiled."""
    times = query.shape[1] // key.shape[1]
    return attend(query, key.repeat(1, times, 1, 1), value.repeat(1, times, 1, 1))


def interleaved(query, key, value):
    """Groups as they should be."""
    times = query.shape[1] // key.shape[1]
    return attend(query, key.repeat_interleave(times, 1), value.repeat_interleave(times, 1))


def transposed_value(query, key, value):
    """The weights are mixed along the query's axis."""
    return (
        attend(query, key, value).new_tensor(0)
        + (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1).mT @ value
    )


def value_normalised(query, key, value):
    """The keys are read for the values."""
    return attend(query, key, key)


def average(query, key, value):
    """The values averaged, whatever the query says."""
    return value.mean(-2, keepdim=True).expand(*query.shape[:-1], -1)


def unchanged(query, key, value):
    """No attention at all."""
    return value


def linear(query, key, value):
    """Said to be softmax attention; the features are not normalised."""
    return (functional.elu(query) + 1) @ ((functional.elu(key) + 1).mT @ value)


FUNCTIONS = (
    ("no-scale", "scale-missing", partial(attend, scale=1.0), SAID, ()),
    ("scale-without-root", "scale-wrong", partial(attend, scale=1 / 6), SAID, ()),
    ("softmax-over-queries", "softmax-wrong-axis", partial(attend, axis=-2), SAID, ()),
    ("softmax-over-heads", "softmax-wrong-axis", partial(attend, axis=1), SAID, ()),
    ("fused-with-ignoring-mask", "mask-inverted", fused_with_ignoring_mask, CAUSAL, ("future-leak",)),
    ("fused-with-number-mask", "mask-added-as-number", fused_with_number_mask, CAUSAL, ("future-leak",)),
    ("fused-with-dropout", "dropout-in-eval", fused_with_dropout, SAID, ("nondeterministic",)),
    ("fused-causal-forgotten", "future-leak", fused_causal_forgotten, CAUSAL, ()),
    ("scaled-twice", "scale-wrong", fused_scaled_before, SAID, ()),
    ("groups-tiled", "grouped-heads-tiled", tiled, GROUPED, ()),
    ("weights-transposed", "softmax-wrong-axis", transposed_value, SAID, ("query-key-swapped",)),
    ("value-from-key", "value-from-key", value_normalised, SAID, ("projection-unused",)),
    ("average", "projection-unused", average, SAID, ()),
    ("unchanged", "blind", unchanged, SAID, ("projection-unused",)),
    ("linear-not-normalised", "softmax-missing", linear, SAID, ()),
)


def given(function):
    """What `check` is given."""
    return lambda: function


MUTANTS += [
    Mutant(f"function/{name}", fault, given(function), said, also=also)
    for name, fault, function, said, also in FUNCTIONS
]
RIGHT = [
    Mutant("function/right", None, given(attend), SAID),
    Mutant("function-causal/right", None, given(partial(attend, causal=True)), CAUSAL),
    Mutant("function-grouped/right", None, given(interleaved), GROUPED),
]
