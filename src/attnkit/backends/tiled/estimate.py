"""What a request is expected to take, in seconds on two cores, in each of the three ways."""

import math

from attnkit.backends import rates
from attnkit.backends.tiled.general import blocks
from attnkit.backends.tiled.lanes import samples_of
from attnkit.backends.tiled.plan import Question, plan_of
from attnkit.request import Request

_CALL_SECONDS = 4e-4
_BLOCK_SECONDS = 2e-4
_PLAN_SECONDS = 2e-3  # for a mask that was not seen before; a batch of texts brings new ones with each step
_DROPPED = 3.0  # a weight that is drawn and multiplied by hand, times one in the fused kernel


def fused_seconds(request: Request) -> float:
    """By the plan that will run: it is found here, and found again there.

    Where finding a plan for each sample takes longer than a dense mask of all of them, it is not looked for.
    """
    planning = request.query.shape[:-3].numel() * _PLAN_SECONDS if request.mask.batch else 0.0
    if planning > rates.MASKED * rates.fused_seconds(request):
        return planning
    kv_heads = request.key.shape[-3]
    width = max(request.query.shape[-1], request.value.shape[-1])
    total = _CALL_SECONDS
    batch = request.query.shape[:-3].numel()
    for samples, _, mask in samples_of(request, apart=bool(request.steps)):
        lanes = kv_heads * len(range(batch)[samples])
        biased = kv_heads if request.steps else 0
        question = Question(request.q_len, request.kv_len, request.q_start, lanes, width, biased)
        total += request.group * plan_of(mask, question).seconds
    return total


def dropped_seconds(request: Request) -> float:
    """By the pairs in its blocks, which each sample has for itself where samples differ."""
    apart = request.query.shape[:-3].numel() if request.mask.batch else 1
    more = (apart * request.group - 1) * len(blocks(request)) * _BLOCK_SECONDS
    return _CALL_SECONDS + more + _by_blocks(request, _DROPPED)


def general_seconds(request: Request) -> float:
    """By the pairs in its blocks, as long as the eager rule takes for each."""
    return _CALL_SECONDS + _by_blocks(request, rates.UNFUSED)


def _by_blocks(request: Request, slowness: float) -> float:
    found = blocks(request)
    lanes = math.prod(request.query.shape[:-2])
    pairs = lanes * sum((block.last - block.first) * block.width for block in found)
    both = request.query.shape[-1] + request.value.shape[-1]
    read = (
        request.key.shape[:-2].numel()
        * sum(block.width for block in found)
        * both
        * request.key.element_size()
    )
    spent = max(2.0 * pairs * both / rates.FUSED_FLOPS_PER_SECOND, read / rates.BYTES_READ_PER_SECOND)
    return len(found) * _BLOCK_SECONDS + slowness * spent
