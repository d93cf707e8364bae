"""attnkit: attention for PyTorch that you can read, run, check and see."""

from importlib.metadata import version

from attnkit import caches, converters, hf, masks, models, normalizers, positions, recurrence, scores
from attnkit.catalog import all_mechanisms, find
from attnkit.conformance.running import check
from attnkit.errors import (
    AttentionError,
    BackendError,
    DtypeError,
    MissingExtraError,
    OptionError,
    ShapeError,
    UnknownNameError,
)
from attnkit.layers.attention import Attention
from attnkit.layers.classic import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    SelfAttention,
    SelfAttention_v1,
    SelfAttention_v2,
    SelfAttentionv2,
)
from attnkit.rule import Rule

__version__ = version("attnkit")

__all__ = [
    "Attention",
    "AttentionError",
    "BackendError",
    "CausalAttention",
    "DtypeError",
    "MissingExtraError",
    "MultiHeadAttention",
    "MultiHeadAttentionWrapper",
    "OptionError",
    "Rule",
    "SelfAttention",
    "SelfAttention_v1",
    "SelfAttention_v2",
    "SelfAttentionv2",
    "ShapeError",
    "UnknownNameError",
    "all_mechanisms",
    "caches",
    "check",
    "converters",
    "find",
    "hf",
    "masks",
    "models",
    "normalizers",
    "positions",
    "recurrence",
    "scores",
]
