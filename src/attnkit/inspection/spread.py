"""Spread: entropy and log-sum-exp of every row, from one fused pass over query and key where there is one.

    entropy = lse - E[score],    E[score] = scale * query . E[key],    E[key] = weights @ key

The mean key that a row reads is a context: attention whose values are its keys. A score step would add a mean of its
own that no context gives, so with steps the weights are looked at in blocks; so they are in small calls, where an exact
zero is worth more than time.

The trap is a difference of large numbers. In float32 it is good to 1e-5 while scores are small and heads not narrow;
else the pass is made in float64 (docs/decisions/inspection.md).
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from attnkit.backends import eager, tiled
from attnkit.inspection.blocks import kept_blocks
from attnkit.normalizers import Softmax, hide, softmax_sink
from attnkit.request import Request
from attnkit.scores import Additive

_DIRECT_PAIRS = 1 << 22
_SCORES_AT_MOST = 20.0
_WIDE_HEAD_DIM = 16


def row_entropy(request: Request) -> Tensor:
    """The entropy of each row in nats, `*batch heads q_len`; 0 for a row with nothing to read."""
    if request.steps or request.normalizer != Softmax() or not _has_fused_pass(request):
        return _entropy_in_blocks(request)
    query, mean_key, lse = _fused_pass(request)
    entropy = lse - request.scale * torch.linalg.vecdot(query, mean_key)
    return entropy.clamp(min=0.0).to(request.query.dtype)  # -inf too, where nothing was read


def row_lse(request: Request) -> Tensor:
    """The logarithm of what the softmax divides each row by, `*batch heads q_len`."""
    _, sink = softmax_sink(request.normalizer)
    alone = replace(request, normalizer=Softmax())
    additive = all(isinstance(step, Additive) for step in request.steps)
    lse = _fused_pass(alone)[-1] if additive and _has_fused_pass(alone) else _lse_in_blocks(alone)
    if sink is not None:
        lse = lse.logaddexp(torch.as_tensor(sink).to(lse)[..., None])
    return lse.to(request.query.dtype)


def _entropy_in_blocks(request: Request) -> Tensor:
    found = request.query.new_zeros(request.query.shape[:-1])
    for block in kept_blocks(request):
        weights = eager.weights(block.request)
        found[..., block.rows] = 0.0 - torch.special.xlogy(weights, weights).sum(-1)
    return found


def _lse_in_blocks(request: Request) -> Tensor:
    found = request.query.new_full(request.query.shape[:-1], -torch.inf)
    for block in kept_blocks(request):
        scores = hide(eager.scores(block.request), block.request.keep)
        found[..., block.rows] = scores.logsumexp(-1)
    return found


def _has_fused_pass(request: Request) -> bool:
    pairs = math.prod(request.query.shape[:-1]) * request.kv_len
    return pairs > _DIRECT_PAIRS and tiled.refusal(request) is None


def _fused_pass(request: Request) -> tuple[Tensor, Tensor, Tensor]:
    """The query, the mean key of each row and its lse, in the precision that the pass was made in."""
    query, key = request.query, request.key
    if not _single_precision_will_do(request):
        query, key = query.double(), key.double()
    return query, *tiled.context_and_lse(replace(request, query=query, key=key, value=key))


def _single_precision_will_do(request: Request) -> bool:
    # by Cauchy and Schwarz no score exceeds the product of the largest norms
    query, key = (torch.linalg.vector_norm(t, dim=-1).amax() for t in (request.query, request.key))
    largest = request.scale * query * key
    return request.query.shape[-1] >= _WIDE_HEAD_DIM and bool(largest <= _SCORES_AT_MOST)
