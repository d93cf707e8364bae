"""Autocast: which dtype it asks for, and how hand-written passes keep it from casting a second time."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from attnkit.request import Request


def settled(request: Request) -> Request:
    """The request with query, key and value in the dtype that autocast would give them."""
    kind = request.query.device.type
    if not _autocasts(kind) or request.query.dtype == torch.float64:
        return request
    dtype = torch.get_autocast_dtype(kind)
    query, key, value = (side.to(dtype) for side in (request.query, request.key, request.value))
    return replace(request, query=query, key=key, value=value)


def as_written(kind: str) -> AbstractContextManager[Any]:
    """While it lasts, nothing is cast on devices of this kind."""
    return torch.autocast(kind, enabled=False) if _autocasts(kind) else nullcontext()


def same_again(kind: str) -> Callable[[], AbstractContextManager[Any]]:
    """What brings back, later, the autocast of now."""
    if not _autocasts(kind):
        return lambda: as_written(kind)
    dtype = torch.get_autocast_dtype(kind)
    return lambda: torch.autocast(kind, dtype=dtype)


def _autocasts(kind: str) -> bool:
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
