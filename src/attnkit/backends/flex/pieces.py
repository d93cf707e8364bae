"""What a compiled kernel captures of a request: its mask, its score steps, and what it may ask of them.

    an Additive step that is relative   -> a table of its bias for each head and distance, read at q - k
    any other Additive step             -> its bias written out, read at (q, k)
    any other step                      -> called with one score, one head, one query and one key

A step is asked for one score at a time, so it must look at no other. That is tried on a few before it is trusted.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

from attnkit.backends.flex.lifting import Unread, lifted, structure
from attnkit.converters import to_flex
from attnkit.errors import AttentionError
from attnkit.masks import Mask
from attnkit.request import Request
from attnkit.scores import Additive, ScoreStep, check_bias

_TRIED_AT_MOST = 4
_TRIED: dict[Any, str | None] = {}
_TRIED_KEPT = 1024


class Step(NamedTuple):
    """One change of a score: `held` is a callable, or the numbers of a table, flat, that `strides` find the way in.

    `lowest` is the distance that a table begins at; None where it is not read by distance.
    """

    held: Any
    strides: tuple[Tensor, ...] | None = None
    lowest: Tensor | None = None


class Pieces(NamedTuple):
    """The mask and the steps, and a key that is equal where one compiled kernel serves both."""

    mask: Mask
    steps: tuple[Step, ...]
    key: Any


class NotOneScoreError(Exception):
    """A mask or step that cannot be asked for one pair of positions; the text says why."""


def pieces_of(request: Request) -> Pieces:
    """What to capture of `request`.

    Raises:
        NotOneScoreError: the mask or a step cannot be asked for one pair of positions at a time.
        ShapeError: a bias does not fit the scores.
    """
    mask, mask_key = _asked_mask(request)
    found = [_step(request, step) for step in request.steps]
    return Pieces(mask, tuple(step for step, _ in found), (mask_key, *(key for _, key in found)))


def check_asked(request: Request) -> None:
    """Refuse a mask or a step that cannot be asked for one pair of positions at a time. No table is made.

    Raises:
        NotOneScoreError: there is one.
    """
    _asked_mask(request)
    for step in request.steps:
        if not isinstance(step, Additive):
            _asked_step(request, step)


def _step(request: Request, step: ScoreStep) -> tuple[Step, Any]:
    if not isinstance(step, Additive):
        return _asked_step(request, step)
    heads = torch.arange(request.query.shape[-3], device=request.query.device)
    if not step.relative:
        return Step(*_table(request, step, heads, request.q_pos[:, None], request.kv_pos[None, :])), "pair"
    lowest = request.q_start - request.kv_len + 1
    distances = lowest + torch.arange(request.q_len + request.kv_len - 1, device=heads.device)
    none = torch.zeros_like(distances[:1, None])
    table = _table(request, step, heads, distances[:, None], none)
    return Step(*table, torch.tensor(lowest, device=heads.device)), "distance"


def _table(
    request: Request, step: Additive, heads: Tensor, q_pos: Tensor, kv_pos: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The bias at these positions as one row of numbers, and what a step along each axis moves by.

    One axis, since PyTorch 2.13 mixes up the lengths of a kernel for a CPU where there are more than ten.
    """
    batch = request.query.shape[:-3]
    bias = step.bias(heads[:, None, None], q_pos, kv_pos)
    check_bias(step, bias, torch.Size((*batch, heads.numel(), q_pos.shape[0], kv_pos.shape[1])))
    bias = bias.reshape(*(1,) * (len(batch) + 3 - bias.dim()), *bias.shape)
    if any(size > 1 for size in bias.shape[:-3]):
        bias = bias.expand(*batch, *bias.shape[-3:])
    flat = bias.reshape(bias.shape[:-3].numel(), *bias.shape[-3:]).contiguous()
    moves = [stride if size > 1 else 0 for stride, size in zip(flat.stride(), flat.shape, strict=True)]
    return flat.flatten(), tuple(torch.tensor(move, device=flat.device) for move in moves)


def _asked_mask(request: Request) -> tuple[Mask, Any]:
    """The mask with its numbers lifted, or as it is where it needs them as numbers."""
    q_pos, kv_pos = request.q_pos[:_TRIED_AT_MOST], request.kv_pos[:_TRIED_AT_MOST]
    start, batch = request.q_start, max(torch.Size(request.mask.batch).numel(), 1)

    def wanted() -> Tensor:
        kept = request.mask.keep(q_pos[:, None], kv_pos[None, :])
        return kept.expand(*kept.shape[:-2], q_pos.numel(), kv_pos.numel()).reshape(
            -1, 1, q_pos.numel(), kv_pos.numel()
        )

    def asked(mask: Mask) -> Tensor:
        mask_mod = to_flex(mask, q_start=start)
        return create_mask(
            mask_mod, batch, None, q_pos.numel(), kv_pos.numel(), device=str(request.query.device)
        )

    return _tried(request.mask, f"the mask {request.mask!r}", wanted, asked, request.query.device)


def _asked_step(request: Request, step: ScoreStep) -> tuple[Step, Any]:
    """The step with its numbers lifted, or as it is where it needs them as numbers."""
    device, heads = request.query.device, request.query.shape[-3]
    q_pos, kv_pos = request.q_pos[:_TRIED_AT_MOST], request.kv_pos[:_TRIED_AT_MOST]

    def score(h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return 3.0 * torch.sin(1.0 + 5.0 * h + 2.0 * q + 11.0 * k)  # anything, as long as no two are alike

    def wanted() -> Tensor:
        head, q, k = torch.arange(heads, device=device)[:, None, None], q_pos[:, None], kv_pos[None, :]
        changed = step(score(head, q, k), head, q, k)
        return changed.expand(heads, q_pos.numel(), kv_pos.numel())[None]

    def asked(step: ScoreStep) -> Tensor:
        def mod(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
            return changed_score(
                step, score(h, q_idx + request.q_start, kv_idx), h, q_idx + request.q_start, kv_idx
            )

        return create_mask(mod, None, heads, q_pos.numel(), kv_pos.numel(), device=str(device))

    name = getattr(step, "__name__", repr(step))
    held, key = _tried(step, f"the score step {name}", wanted, asked, device)
    return Step(held), key


def changed_score(step: ScoreStep, score: Tensor, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
    """`step` of a score without axes, called as every step is: one head, one query, one key."""
    places = head[None, None, None], q_pos[None, None], kv_pos[None, None]
    return step(score[None, None, None], *places)[0, 0, 0]


def _tried(value: Any, told: str, wanted: Any, asked: Any, device: torch.device) -> tuple[Any, Any]:
    """`value` in the first form that answers for one pair as for many: with its numbers lifted, or as it is."""
    trouble: str | None = None
    for number in (Unread, None):
        try:
            key = structure(value, numbers=number is None)
            form = lifted(value, device, number)
        except RecursionError:
            raise NotOneScoreError(f"{told} refers to itself") from None
        if key not in _TRIED:
            if len(_TRIED) >= _TRIED_KEPT:
                _TRIED.clear()
            _TRIED[key] = _trouble(form, wanted, asked)
        trouble = _TRIED[key]
        if trouble is None:
            return lifted(value, device, number and Tensor), key
    raise NotOneScoreError(f"{told} {trouble}")


def _trouble(form: Any, wanted: Any, asked: Any) -> str | None:
    """Why `form` cannot be asked for one pair at a time, as half a sentence."""
    try:
        with torch.no_grad():
            expected, found = wanted(), asked(form)
    except AttentionError as error:
        return f"cannot be asked for one pair of positions: {error.what}"
    except Exception as error:  # anything that a reader's own function may raise
        return f"cannot be asked for one pair of positions: {str(error).strip().splitlines()[0]}"
    if found.shape != expected.shape or not torch.allclose(found.double(), expected.double(), equal_nan=True):
        return "looks at more than one score at a time"
    return None
