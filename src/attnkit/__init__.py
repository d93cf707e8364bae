"""attnkit: attention for PyTorch that you can read, run, check and see."""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from attnkit import caches, converters, hf, masks, models, normalizers, positions, recurrence, scores
from attnkit.catalog import all_mechanisms, find
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

if TYPE_CHECKING:
    from attnkit import conformance as conformance
    from attnkit.conformance import check

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


def __getattr__(name: str) -> Any:
    """`check` and `conformance`, imported when first asked for: a quarter of what `import attnkit` took."""
    if name not in ("check", "conformance"):
        raise AttributeError(f"module 'attnkit' has no attribute {name!r}")
    conformance = importlib.import_module("attnkit.conformance")
    return conformance.check if name == "check" else conformance


def __dir__() -> list[str]:
    """Everything that the package brings, asked for or not."""
    return sorted({*globals(), "check", "conformance"})
