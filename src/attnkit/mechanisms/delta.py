"""The delta rule (DeltaNet): a token replaces what the memory holds for its key, instead of adding to it.

    S_t = S_{t-1} + beta_t k_t (v_t - S_{t-1}^T k_t)^T;    context_t = scale q_t S_t;    beta_t = sigmoid(.)

Query and key are made of length 1 here, so that a `beta` of 1 replaces all that was stored for the key. The first
paper made their entries sum to 1 instead, after a feature map of its own; public code follows the later one, which is
done here too, after a silu and a short convolution that are left out. Code normalises by `x / sqrt(|x|^2 + 1e-6)`,
which is shorter than 1 for tiny vectors.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from attnkit.laws import no_future_leak
from attnkit.mechanism import Mechanism, Paper, Projected
from attnkit.recurrence import Delta
from attnkit.shapes import Key, Query

BETA = Projected(
    "beta",
    of="key",
    heads="num_kv_heads",
    then=torch.sigmoid,
    meaning="the share of the old value that a token replaces",
)


def delta(*, scale: float | None = None, chunk_tokens: int = 64) -> Delta:
    """The recurrence.

    Args:
        scale: multiplies the weights; `head_dim ** -0.5` when not given. The paper's equation has 1.
        chunk_tokens: how many tokens are computed at a time, a power of two; it changes speed alone.
    """
    return Delta(scale=scale, chunk_tokens=chunk_tokens)


def prepare(query: Query, key: Key, *, beta: Tensor) -> dict[str, Tensor]:
    """Query and key of length 1, beta without its last axis.

    Args:
        query: `*batch heads len head_dim`.
        key: `*batch kv_heads len head_dim`.
        beta: `*batch kv_heads len 1`.
    """
    return {"query": normalize(query, dim=-1), "key": normalize(key, dim=-1), "beta": beta.squeeze(-1)}


MECHANISM = Mechanism(
    name="delta",
    family="recurrence",
    summary="A token replaces what the memory holds for its key.",
    formula=r"S_t = (I - \beta_t k_t k_t^T) S_{t-1} + \beta_t k_t v_t^T",
    paper=Paper(
        "Parallelizing Linear Transformers with the Delta Rule over Sequence Length",
        2024,
        "https://arxiv.org/abs/2406.06484",
        "section 2.2; first in https://arxiv.org/abs/2102.11174, section 4.2",
    ),
    recurrence=delta,
    prepare=prepare,
    parts=(BETA,),
    laws=(no_future_leak,),
)
