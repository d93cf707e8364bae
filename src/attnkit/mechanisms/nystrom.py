"""Nystromformer: softmax attention rebuilt from a few landmarks, the means of stretches of queries and of keys.

    context = softmax(Q K'^T) pinv(softmax(Q' K'^T)) softmax(Q' K^T) V,    Q', K' = means of `landmarks` stretches

Each softmax has its scale, 1 / sqrt(head_dim). The inverse is found by `iterations` steps of a polynomial; six leave a
rest where the middle matrix is nearly singular. With a landmark for each token and an exact inverse it is full
attention. A landmark is a mean over the whole text, so it cannot be causal, a later token moves every context, and
there is no cache. Weights may be negative, and rows sum to about one.

Public code begins the iteration with a maximum over the whole batch, by which samples change one another's context;
here each head begins with its own, as in the paper. Stretches differ by one token where the length is no multiple of
`landmarks`; public code puts zeros in front. The convolution of the values, which public code adds, is left out.

Padding is in no landmark: neither keys that a mask hides, nor queries that stand where such a key does.
"""

import torch
from torch import Tensor

from attnkit import masks, normalizers
from attnkit.laws import reduces_to
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, shared
from attnkit.mechanism.chosen import check_counts
from attnkit.mechanism.columns import keys_kept, refuse_dropout
from attnkit.mechanisms import grouped_query
from attnkit.shapes import Context, Key, Query, Value, Weights


def nystrom(
    query: Query,
    key: Key,
    value: Value,
    *,
    landmarks: int = 64,
    iterations: int = 6,
    q_start: int,
    dropout: float = 0.0,
    mask: Mask = masks.full,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        landmarks: how many means stand for all tokens; where there are fewer tokens, each is a landmark.
        iterations: how many steps the inverse takes.
        q_start: the position of the first query.
        dropout: refused above 0, since no weights are written out.
        mask: which keys are padding.

    Raises:
        OptionError: the mask hides keys from some queries alone, or a number means nothing.
    """
    check_counts("nystrom", landmarks=landmarks, iterations=iterations)
    refuse_dropout("nystrom", dropout)
    if not (query.numel() and key.numel()):
        return value.new_zeros(*query.shape[:-1], value.shape[-1])
    kept = keys_kept("nystrom", mask, query, key, q_start, fix=_FIX)
    key, value = (shared(side, query.shape[-3]) for side in (key, value))
    query = query * query.shape[-1] ** -0.5
    q_mean, q_used = _means(query, _queries_kept(kept, query.shape[-2], q_start), landmarks)
    kv_mean, kv_used = _means(key, kept, landmarks)
    near = _weights(query, kv_mean, kv_used)
    middle = _weights(q_mean, kv_mean, kv_used) * q_used[..., None, :, None]
    far = _weights(q_mean, key, kept)
    return near @ (_inverse(middle, iterations) @ (far @ value))


def _weights(query: Query, key: Key, kept: Tensor) -> Weights:
    scores = query @ key.mT
    return normalizers.Softmax()(scores, kept[..., None, None, :].expand_as(scores))


def _means(tokens: Tensor, kept: Tensor, landmarks: int) -> tuple[Tensor, Tensor]:
    """The mean of what is kept of each stretch, `*batch heads stretches head_dim`, and which hold anything."""
    length = tokens.shape[-2]
    count = min(landmarks, length)
    stretch = torch.arange(length, device=tokens.device) * count // max(length, 1)
    belongs = (stretch == torch.arange(count, device=tokens.device)[:, None]) & kept.unsqueeze(-2)
    sizes = belongs.sum(-1, keepdim=True)
    mean = (belongs.to(tokens) / sizes.clamp(min=1)).unsqueeze(-3)
    hidden = ~kept.unsqueeze(-2).unsqueeze(-1)
    return mean @ tokens.masked_fill(hidden, 0.0), (sizes > 0).squeeze(-1)


def _queries_kept(kept: Tensor, q_len: int, q_start: int) -> Tensor:
    """Whether a query is in a landmark: it is, unless a key at its place is hidden; all are where none would be."""
    place = torch.arange(q_start, q_start + q_len, device=kept.device)
    outside = (place < 0) | (place >= kept.shape[-1])
    found = kept[..., place.clamp(0, max(kept.shape[-1] - 1, 0))] | outside
    return found | ~found.any(-1, keepdim=True)


def _inverse(matrix: Tensor, iterations: int) -> Tensor:
    """The pseudoinverse, as near as the steps come; they triple the number of right digits once they are close."""
    size = matrix.abs().sum(-1).amax(-1) * matrix.abs().sum(-2).amax(-1)
    inverse = matrix.mT / size.clamp(min=torch.finfo(size.dtype).tiny)[..., None, None]
    one = torch.eye(matrix.shape[-2], dtype=matrix.dtype, device=matrix.device)
    for _ in range(iterations):
        product = matrix @ inverse
        inverse = 0.25 * inverse @ (13 * one - product @ (15 * one - product @ (7 * one - product)))
    return inverse


_FIX = 'masks.lengths([5, 3]) for padding; find("performer") is causal in linear time'

MECHANISM = Mechanism(
    name="nystrom",
    family="approximation",
    summary="Softmax attention rebuilt from a few landmarks, the means of stretches of queries and keys.",
    formula=r"\mathrm{softmax}(Q \tilde K^T) \, \mathrm{softmax}(\tilde Q \tilde K^T)^+ \, "
    r"\mathrm{softmax}(\tilde Q K^T) V",
    paper=Paper(
        "Nystromformer: A Nystrom-Based Algorithm for Approximating Self-Attention",
        2021,
        "https://arxiv.org/abs/2102.03902",
        "algorithm 1",
    ),
    attend=nystrom,
    laws=(reduces_to(grouped_query.MECHANISM, theirs={"mask": masks.full}, landmarks=7, iterations=60),),
    examples=({"landmarks": 3}, {"landmarks": 2, "iterations": 2}),
    settles=False,
)
