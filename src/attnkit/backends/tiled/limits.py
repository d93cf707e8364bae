"""What this backend cannot do, in words: it plans in plain Python, and its gradients are written out by hand."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from attnkit.backends.tiled.captured import trouble
from attnkit.request import Request

_PLAIN = (Tensor, torch.nn.Parameter)
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def limit(request: Request) -> str | None:
    """The first thing that stands in the way of `request`, as half a sentence; None when nothing does."""
    for look in (_of_tracing, _of_transforms, _of_tensors, _of_positions, trouble):
        reason = look(request)
        if reason is not None:
            return reason
    return None


def _of_tracing(request: Request) -> str | None:
    if torch.compiler.is_compiling():
        return "it plans its tiles in plain Python, which torch.compile and torch.export cannot trace"
    return None


def _of_transforms(request: Request) -> str | None:
    if torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return "its gradients are written out by hand, and torch.func would have to transform them"
    sides = request.query, request.key, request.value
    if forward_ad._current_level >= 0 and any(
        forward_ad.unpack_dual(side).tangent is not None for side in sides
    ):
        return "its gradients are written out by hand, for the backward mode alone"
    return None


def _of_tensors(request: Request) -> str | None:
    for side in (request.query, request.key, request.value):
        if type(side) not in _PLAIN:
            return (
                f"it takes plain tensors apart by their strides, and {type(side).__name__} is more than one"
            )
    if request.query.is_meta:
        return "a tensor on the meta device has no memory to look at in strides"
    if request.query.dtype not in _DTYPES:
        return f"it knows float32, float64, bfloat16 and float16, not {str(request.query.dtype).removeprefix('torch.')}"
    return None


def _of_positions(request: Request) -> str | None:
    if request.q_at is not None or request.kv_at is not None:
        return "its queries and keys are those that follow one another, none picked out"
    return None
