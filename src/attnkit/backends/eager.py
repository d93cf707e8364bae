"""The meaning of a rule, written out in plain PyTorch. In float64 it is what every other backend must equal.

weights = normalize(steps(scale * query @ key.T), mask);    context = dropout(weights) @ value
"""

import torch
from torch import Tensor

from attnkit.request import Request
from attnkit.scores import stepped
from attnkit.shapes import Context, Scores, Weights

name = "eager"


def refusal(request: Request) -> str | None:
    """Why this backend cannot run `request`: it runs everything."""
    return None


def scores(request: Request, rows: Tensor | None = None) -> Scores:
    """The scores before masking, `*batch heads q_len kv_len`; of the queries `rows` (n,) alone where given."""
    query = request.query if rows is None else request.query.index_select(-2, rows)
    found = (query * request.scale) @ _each_head(request.key, request.group).mT
    head = torch.arange(query.shape[-3], device=query.device)[:, None, None]
    kv_pos = torch.arange(request.kv_len, device=query.device)
    return stepped(request.steps, found, head, _positions(request, rows)[:, None], kv_pos[None, :])


def weights(request: Request, rows: Tensor | None = None) -> Weights:
    """The weights without dropout, `*batch heads q_len kv_len`; of the queries `rows` (n,) alone where given."""
    return request.normalizer(scores(request, rows), request.keep(_positions(request, rows)))


def run(request: Request) -> Context:
    """The context, `*batch heads q_len d_value`."""
    mixing = weights(request)
    if request.dropout:
        kept = torch.empty_like(mixing).bernoulli_(1 - request.dropout, generator=request.generator)
        # at dropout 1 nothing is kept, and 0 / 0 would be nan
        mixing = mixing * kept / (1 - request.dropout or 1.0)
    return mixing @ _each_head(request.value, request.group)


def _positions(request: Request, rows: Tensor | None) -> Tensor:
    return request.q_pos if rows is None else request.q_pos[rows]


def _each_head(shared: Tensor, group: int) -> Tensor:
    """One entry for each query head: head h reads kv head h // group."""
    return shared if group == 1 else shared.repeat_interleave(group, dim=-3)
