"""FlexAttention, compiled by PyTorch for each kind of mask and steps, with a `BlockMask` made from tile answers.

    context = flex_attention(scale * query, key, value, score_mod=steps, block_mask=tiles)

On a CPU it has no backward pass. Everywhere the first call of a variant compiles for some seconds, so on a CPU the
automatic choice leaves it to those who insist. Insisted on, one kernel serves every length and every number of a mask.
"""

import importlib.util
import math
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor  # pyright: ignore[reportMissingImports]

from attnkit.backends import rates
from attnkit.backends.flex.kernels import Captured, kernel, with_free
from attnkit.backends.flex.lifting import detached, tensors
from attnkit.backends.flex.pieces import NotOneScoreError, Pieces, check_asked, pieces_of
from attnkit.converters import block_mask
from attnkit.errors import BackendError
from attnkit.normalizers import softmax_sink
from attnkit.request import Request
from attnkit.shapes import Context, one_batch_axis

name = "flex"
compiles = True

_TILE = 128
_SLOWER = 1.3  # than the fused kernel on the pairs that are kept, as measured for causal


def refusal(request: Request) -> str | None:
    """Why compiled FlexAttention cannot run `request`, as half a sentence; None when it can."""
    return (
        _not_here(request)
        or _not_this_rule(request)
        or _no_compiler(request.query.device)
        or _not_asked(request)
    )


def seconds(request: Request) -> float:
    """An estimate of one forward pass; infinite on a CPU, where compiling first takes longer than any call is worth."""
    if request.query.device.type == "cpu":
        return math.inf
    tiles = request.mask.tiles(request.q_len, request.kv_len, tile=_TILE, q_start=request.q_start)
    work = _SLOWER * tiles.kept_share[1] * rates.flops(request) / rates.FUSED_FLOPS_PER_SECOND
    return 50 * rates.CALL_SECONDS + work


def run(request: Request) -> Context:
    """The context, `*batch heads q_len d_value`."""
    variant, arguments = _prepared(request)
    with torch.autocast(request.query.device.type, enabled=False):
        found = _computed(variant, arguments)
    sink = softmax_sink(request.normalizer)[1]
    context = found if sink is None else beside_sink(found[0], found[1].lse, sink)
    return context.reshape(*request.query.shape[:-3], *context.shape[-3:])


def _prepared(request: Request) -> tuple[Any, tuple[Any, ...]]:
    """Which kernel runs `request`, and what it is given."""
    device, sides, parts = request.query.device, _in_one_dtype(request), pieces_of(request)
    if not torch.is_grad_enabled():
        # FlexAttention refuses what asks for a gradient on a CPU even then
        sides, parts = detached(sides), parts._replace(mask=detached(parts.mask), steps=detached(parts.steps))
    query, key, value = (with_free(one_batch_axis(side), 0, -2) for side in sides)
    captured = Captured(
        parts.mask,
        tuple(step._replace(held=with_free(step.held, 0)) if step.strides else step for step in parts.steps),
        torch.tensor(request.scale, dtype=torch.float32, device=device),
        torch.tensor(request.q_start, device=device),
        _axes(request.mask.batch, device),
    )
    with_lse = softmax_sink(request.normalizer)[1] is not None
    return _variant(request, parts, query), (query, key, value, _blocks(request), captured, with_lse)


def _computed(variant: Any, arguments: tuple[Any, ...]) -> Any:
    """What the kernel of a variant gives.

    Raises:
        BackendError: PyTorch cannot compile it.
    """
    # not at the top: the compiler takes seconds to import
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

    try:
        try:
            return kernel(variant)(*arguments)
        except FailOnRecompileLimitHit:
            return kernel(variant, afresh=True)(*arguments)
    except TorchDynamoException as error:
        raise BackendError(
            where="Rule",
            what=f'backend="flex" cannot run this: PyTorch fails to compile it, {str(error).strip().splitlines()[0]}',
            fix="leave backend out to let attnkit choose",
        ) from error


def beside_sink(context: Tensor, lse: Tensor, sink: Tensor | float) -> Tensor:
    """The context where one more term, exp(`sink`), stands in the sum below: it shrinks each row.

    Args:
        context: `*batch heads q_len d_value`, by a plain softmax.
        lse: `*batch heads q_len`, the logarithm of each row's sum.
        sink: (heads,), or one number for all heads.
    """
    held = sink[:, None].to(lse) if isinstance(sink, Tensor) else sink
    return context * torch.sigmoid(lse - held)[..., None].to(context.dtype)


def _not_here(request: Request) -> str | None:
    device, dtype = request.query.device.type, request.query.dtype
    asks = [request.query, request.key, request.value, *request.normalizer.parameters()]
    asks += [tensor for step in request.steps for tensor in tensors(step)]
    if device not in ("cpu", "cuda"):
        return f"its kernels are for cpu and cuda, not for {device}"
    if torch.compiler.is_compiling():
        return "inside torch.compile the tiles of a mask are not known yet"
    if any(is_functorch_wrapped_tensor(tensor) for tensor in asks):
        return "compiled kernels know no torch.func transforms"
    if device == "cpu" and torch.is_grad_enabled() and any(tensor.requires_grad for tensor in asks):
        return "FlexAttention has no backward pass on a CPU, and a gradient is asked for; torch.no_grad() asks for none"
    if dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"its kernels compute in float32, bfloat16 and float16, not in {str(dtype).removeprefix('torch.')}"
    if not (request.query.numel() and request.key.numel() and request.value.numel()):
        return "there is nothing to compute: an axis has length 0"
    if device == "cuda" and min(request.query.shape[-1], request.value.shape[-1]) < 16:
        return "on cuda its kernels need a head_dim and a d_value of at least 16"
    return None


def _not_this_rule(request: Request) -> str | None:
    softmax, sink = softmax_sink(request.normalizer)
    if not softmax:
        return f"it always normalises by softmax, not by {request.normalizer!r}"
    if sink is not None and request.query.device.type == "cpu":
        return "a sink needs the log-sum-exp, which its kernels do not return on a CPU"
    if request.dropout:
        return "it has no dropout"
    if request.q_at is not None or request.kv_at is not None:
        return "it counts positions one after another, and these are chosen ones"
    return None


def _no_compiler(device: torch.device) -> str | None:
    if device.type == "cuda":
        return (
            None
            if importlib.util.find_spec("triton")
            else "the package triton, which compiles it, is not installed"
        )
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        return "it is compiled by a C++ compiler and there is none; on Debian and Ubuntu: apt-get install g++"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "it is compiled against Python.h, which is missing; on Debian and Ubuntu: apt-get install python3-dev"
    if torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "NO AVX"):
        return "on a CPU it needs AVX2"
    return None


def _not_asked(request: Request) -> str | None:
    request.check_batch(request.mask.batch)
    try:
        check_asked(request)
    except NotOneScoreError as trouble:
        return str(trouble)
    return None


def _blocks(request: Request) -> tuple[Tensor, ...]:
    """The lists of the `BlockMask`, by rows and by columns."""
    made = block_mask(
        request.mask,
        request.q_len,
        request.kv_len,
        q_start=request.q_start,
        tile=_TILE,
        device=request.query.device,
    )
    rows = (made.kv_num_blocks, made.kv_indices, made.full_kv_num_blocks, made.full_kv_indices)
    columns = (made.q_num_blocks, made.q_indices, made.full_q_num_blocks, made.full_q_indices)
    return tuple(
        with_free(tiles, 0, *range(2, tiles.dim())) for tiles in (*rows, *columns) if tiles is not None
    )


def _variant(request: Request, parts: Pieces, query: Tensor) -> Any:
    """What one kernel cannot serve two of. Lengths of 1, of one tile, and alike on both sides are compiled apart."""
    lengths = tuple((length > 1) + (length > _TILE) for length in (request.q_len, request.kv_len))
    alike = request.q_len == request.kv_len, min(query.shape[0], 2), len(request.mask.batch)
    sizes = request.query.shape[-3], request.key.shape[-3], request.query.shape[-1], request.value.shape[-1]
    here = query.dtype, query.device, torch.is_grad_enabled(), softmax_sink(request.normalizer)[1] is not None
    return parts.key, lengths, alike, sizes, here


def _axes(batch: tuple[int, ...], device: torch.device) -> tuple[tuple[Tensor, Tensor], ...]:
    held = [math.prod(batch[axis + 1 :]) for axis in range(len(batch))]
    return tuple(
        (torch.tensor(h, device=device), torch.tensor(s, device=device))
        for h, s in zip(held, batch, strict=True)
    )


def _in_one_dtype(request: Request) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value, in autocast's dtype where it is on."""
    device, sides = request.query.device.type, (request.query, request.key, request.value)
    if not torch.is_autocast_enabled(device):
        return sides
    query, key, value = (side.to(torch.get_autocast_dtype(device)) for side in sides)
    return query, key, value
