"""What is known of a target before it is called: how it is called, its widths, and what it is by design."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Known:
    """What is known of a module's type.

    Attributes:
        call: how it is called, as `check` is told it.
        d_in: numbers of a token.
        memory_dim: numbers of a token of the memory.
        takes_memory: whether it reads a memory.
        takes_keep: whether it takes a mask of keys.
        takes_cache: whether it goes on from a cache.
        projections: the names of the submodules of query, key, value and output.
        said: what its type says of it by itself, as it would be declared: causal, num_heads, ...
    """

    call: Callable[..., Any]
    d_in: int
    memory_dim: int
    takes_memory: bool
    takes_keep: bool
    takes_cache: bool
    projections: dict[str, str]
    said: Mapping[str, Any] = field(default_factory=dict)
