"""Whether a call of the user's own passes on a mask of keys and a cache, found out by a call of each."""

import copy
from typing import Any

import torch
from torch import Tensor

from attnkit.conformance.declared import Declared
from attnkit.conformance.subject import Subject, first_of


def tries_keep(subject: Subject, declared: Declared) -> bool:
    """Whether outputs differ with a mask that hides some tokens; False where the call refuses it."""
    x, memory = _tokens(subject, declared)
    keep = torch.ones((x if memory is None else memory).shape[:2], dtype=torch.bool)
    keep[:, 1:3] = False
    plain, masked = _called(subject, x, memory, None), _called(subject, x, memory, keep)
    if plain is None or masked is None:
        return False
    return not torch.equal(plain.nan_to_num(), masked.nan_to_num())


def tries_cache(subject: Subject, declared: Declared) -> bool:
    """Whether a call with a cache gives an output and a cache with something in it."""
    if declared.cross:
        return False
    x, _ = _tokens(subject, declared)
    given: dict[str, Any] = {}
    try:
        with torch.no_grad():
            output = subject.call(copy.deepcopy(subject.module), x, None, None, given)
    except Exception:  # whatever a target raises
        return False
    return isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], dict) and bool(output[1])


def _tokens(subject: Subject, declared: Declared) -> tuple[Tensor, Tensor | None]:
    drawn = torch.Generator().manual_seed(declared.seed)
    x = torch.randn(3, 5, subject.d_in, generator=drawn, dtype=torch.float64)
    memory = torch.randn(3, 4, subject.memory_dim, generator=drawn, dtype=torch.float64)
    return x, memory if declared.cross else None


def _called(subject: Subject, x: Tensor, memory: Tensor | None, keep: Tensor | None) -> Tensor | None:
    torch.manual_seed(0)
    try:
        with torch.no_grad():
            return first_of(subject.call(copy.deepcopy(subject.module), x, memory, keep, None))
    except Exception:  # whatever a target raises
        return None
