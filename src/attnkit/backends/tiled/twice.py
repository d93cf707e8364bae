"""Backward passes that are written out by hand have no derivative of their own, and say so in words."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from attnkit.backends.tiled.precision import as_written
from attnkit.errors import BackendError

_Backward = Callable[..., tuple[Tensor | None, ...]]


def first_derivative_only(backward: _Backward) -> _Backward:
    """Run `backward` unrecorded; what it finds raises BackendError as soon as its own gradient is asked for."""

    @wraps(backward)
    def once(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad(), as_written(gradients[0].device.type):
            found = backward(ctx, *gradients)
        if not torch.is_grad_enabled():
            return found
        kept = [tensor for tensor in found if tensor is not None]
        causes = [tensor for tensor in (*gradients, *ctx.saved_tensors) if tensor is not None]
        marked = iter(_NoSecond.apply(len(kept), *kept, *causes))
        return tuple(None if tensor is None else next(marked) for tensor in found)

    return once


class _NoSecond(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        raise BackendError(
            where="Rule",
            what='a second derivative was asked of backend="tiled", which has the first alone',
            fix='rule(query, key, value, backend="eager") can be differentiated any number of times',
        )
