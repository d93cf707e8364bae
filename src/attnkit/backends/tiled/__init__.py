"""The tiles that a mask keeps, and no others: attention costs what is read, with gradients, in linear memory.

One of three ways is taken. `fused`: softmax, with a sink or with biases that are not learned, tile by tile in PyTorch's
kernel. `dropped`: softmax with dropout. `general`: any other rule, the eager one on blocks of queries and their keys.

The trap: the backward passes are written out by hand, so there is no second derivative; `backend="eager"` has it.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from attnkit.backends.tiled import dropped, estimate, fused, general
from attnkit.backends.tiled.captured import captured_tensors
from attnkit.backends.tiled.lanes import Lanes, samples_of, split
from attnkit.backends.tiled.limits import limit
from attnkit.backends.tiled.precision import as_written, settled
from attnkit.normalizers import softmax_sink
from attnkit.request import Request
from attnkit.scores import Additive
from attnkit.shapes import Context

name = "tiled"
compiles = False


def refusal(request: Request) -> str | None:
    """Why this backend cannot compute `request`; None when it can."""
    return limit(request)


def seconds(request: Request) -> float:
    """An estimate of the time of one forward pass."""
    if _is_empty(request):
        return 0.0
    if _is_fused(request):
        return estimate.fused_seconds(request)
    return estimate.dropped_seconds(request) if _is_dropped(request) else estimate.general_seconds(request)


def run(request: Request) -> Context:
    """The context, `*batch heads q_len d_value`."""
    if not _is_empty(request):
        if _is_fused(request):
            return context_and_lse(request)[0]
        if _is_dropped(request):
            return _dropped(settled(request))
    return general.attend(request)


def context_and_lse(request: Request) -> tuple[Context, Tensor]:
    """The context, and the logarithm of what each row's weights were divided by, a sink's part included.

    weights = exp(score - lse)

    It is for softmax without dropout, and steps that add what needs no gradient.

    Returns:
        `*batch heads q_len d_value`, and `*batch heads q_len` without a gradient; -inf for a row that reads nothing.
    """
    assert _is_fused(request)
    if _is_empty(request):
        return general.attend(request), request.query.new_full(request.query.shape[:-1], -torch.inf)
    request = settled(request)
    query, key, value = (_widened(side, request) for side in split(request))
    _, sink = softmax_sink(request.normalizer)
    if sink is not None:
        sink = (
            torch.as_tensor(sink, device=query.device).expand(request.query.shape[-3]).view(query.shape[1:3])
        )
    samples = tuple(samples_of(request, apart=bool(request.steps)))
    steps = [step for step in request.steps if isinstance(step, Additive)]
    job = fused.Job(samples, steps, request.scale, request.q_start, tuple(request.query.shape[:-3]))
    with as_written(query.device.type):
        context, lse = fused.attend(query, key, value, sink, job)
    shape = request.query.shape[:-1]
    return context[..., : request.value.shape[-1]].reshape(*shape, -1), lse.reshape(shape)


def _widened(side: Tensor, request: Request) -> Tensor:
    """The kernel wants keys and values of one width; zeros change neither scores nor the context that is kept."""
    missing = max(request.query.shape[-1], request.value.shape[-1]) - side.shape[-1]
    return pad(side, (0, missing)) if missing else side  # pad would copy even where nothing is missing


def _dropped(request: Request) -> Context:
    query, key, value = split(request)
    parts = [
        (Lanes(samples, member), mask)
        for samples, _, mask in samples_of(request, apart=False)
        for member in range(request.group)
    ]
    job = dropped.Job(parts, request.scale, request.q_start, request.dropout, general.seed_of(request))
    with as_written(query.device.type):
        context = dropped.attend(query, key, value, job)
    return context.reshape(*request.query.shape[:-1], -1)


def _is_empty(request: Request) -> bool:
    return not all(side.numel() for side in (request.query, request.key, request.value))


def _is_fused(request: Request) -> bool:
    softmax, _ = softmax_sink(request.normalizer)
    if not softmax or request.dropout or not all(isinstance(step, Additive) for step in request.steps):
        return False
    return not request.steps or not (set(captured_tensors(request)) - set(request.normalizer.parameters()))


def _is_dropped(request: Request) -> bool:
    return not request.steps and 0 < request.dropout < 1 and softmax_sink(request.normalizer) == (True, None)
