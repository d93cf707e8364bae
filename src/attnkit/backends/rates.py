"""How fast backends work: what their estimates are made of.

Measured in torch 2.13 on two cores of a server (benchmarks/engine.py). Other machines are faster or slower, and their
backends stand to each other much the same: an estimate chooses between backends, and promises nothing.
"""

import math

from attnkit.request import Request

FUSED_FLOPS_PER_SECOND = 150e9
MASKED = 1.7  # reading a dense mask in the fused kernel, times
UNFUSED = 8.0  # softmax written out, which moves every score through memory several times, times
WRITTEN_PAIRS_PER_SECOND = 4e8  # writing out a dense mask or bias
CALL_SECONDS = 2e-5
BYTES_READ_PER_SECOND = 30e9  # keys and values, where few queries share what is read


def flops(request: Request) -> float:
    """The work of scores and context over every pair of query and key, as if none were hidden."""
    pairs = math.prod(request.query.shape[:-1]) * request.kv_len
    return 2.0 * pairs * (request.query.shape[-1] + request.value.shape[-1])


def fused_seconds(request: Request) -> float:
    """What the fused kernel takes for every pair: its arithmetic, or the reading where one token has nothing else."""
    read = (request.key.numel() + request.value.numel()) * request.key.element_size()
    return max(flops(request) / FUSED_FLOPS_PER_SECOND, read / BYTES_READ_PER_SECOND)
