"""The meaning of a rule, written out in plain PyTorch. In float64 it is what every other backend must equal.

weights = normalize(steps(scale * query @ key.T), mask);    context = dropout(weights) @ value
"""

import torch
from torch import Tensor

from attnkit.backends import rates
from attnkit.request import Request
from attnkit.scores import stepped
from attnkit.shapes import Context, Scores, Weights

name = "eager"
compiles = False


def refusal(request: Request) -> str | None:
    """Why this backend cannot run `request`: it runs everything."""
    return None


def seconds(request: Request) -> float:
    """An estimate of the time of one forward pass."""
    return 5 * rates.CALL_SECONDS + rates.fused_seconds(request) * rates.UNFUSED


def scores(request: Request) -> Scores:
    """The scores before masking, `*batch heads q_len kv_len`."""
    found = (request.query * request.scale) @ each_head(request.key, request.group).mT
    head = torch.arange(request.query.shape[-3], device=request.query.device)[:, None, None]
    return stepped(request.steps, found, head, request.q_pos[:, None], request.kv_pos[None, :])


def weights(request: Request) -> Weights:
    """The weights without dropout, `*batch heads q_len kv_len`."""
    return request.normalizer(scores(request), request.keep)


def run(request: Request) -> Context:
    """The context, `*batch heads q_len d_value`."""
    mixing = weights(request)
    if request.dropout:
        kept = torch.empty_like(mixing).bernoulli_(1 - request.dropout, generator=request.generator)
        # at dropout 1 nothing is kept, and 0 / 0 would be nan
        mixing = mixing * kept / (1 - request.dropout or 1.0)
    return mixing @ each_head(request.value, request.group)


def each_head(shared: Tensor, group: int) -> Tensor:
    """One entry for each query head: head h reads kv head h // group."""
    return shared if group == 1 else shared.repeat_interleave(group, dim=-3)
