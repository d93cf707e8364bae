"""Gated delta rule: a token corrects what the memory holds for its key, and the memory fades.

    S_t = decay_t (I - beta_t k_t k_t^T) S_{t-1} + beta_t k_t v_t^T;    context_t = scale q_t S_t
    decay_t = exp(-exp(log_rate) softplus(step_t + step_bias));    beta_t = sigmoid(.)

Query and key are made of length 1, so that `beta` of 1 replaces what was stored. The decay is that of `state_space`,
but here the step does not multiply what is written. Public code calls log_rate `A_log`, step_bias `dt_bias` and the
projections `a` and `b`, and hands on `g`, the logarithm of the decay. There several values may share a query and key,
where here queries share key and value. The short convolutions, the norm and the output gate belong to the layer.
"""

from torch import Tensor

from attnkit.laws import no_future_leak, reduces_to
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import delta
from attnkit.mechanisms.state_space import FADES, faded
from attnkit.recurrence import GatedDelta
from attnkit.shapes import Key, Query


def gated_delta(*, scale: float | None = None, chunk_tokens: int = 64) -> GatedDelta:
    """The recurrence.

    Args:
        scale: multiplies the weights; `head_dim ** -0.5` when not given. The paper's equation has 1.
        chunk_tokens: how many tokens are computed at a time, a power of two; it changes speed alone.
    """
    return GatedDelta(scale=scale, chunk_tokens=chunk_tokens)


def prepare(
    query: Query, key: Key, *, beta: Tensor, step: Tensor, step_bias: Tensor, log_rate: Tensor
) -> dict[str, Tensor]:
    """Query and key of length 1, and both gates.

    Args:
        query: `*batch heads len head_dim`.
        key: `*batch kv_heads len head_dim`.
        beta: `*batch kv_heads len 1`.
        step: `*batch kv_heads len 1`.
        step_bias: (kv_heads,).
        log_rate: (kv_heads,).
    """
    return delta.prepare(query, key, beta=beta) | {"decay": faded(step, step_bias, log_rate)[1]}


MECHANISM = Mechanism(
    name="gated_delta",
    family="recurrence",
    summary="A token replaces what the memory holds for its key, and the memory fades.",
    formula=r"S_t = \alpha_t (I - \beta_t k_t k_t^T) S_{t-1} + \beta_t k_t v_t^T",
    paper=Paper(
        "Gated Delta Networks: Improving Mamba2 with Delta Rule",
        2024,
        "https://arxiv.org/abs/2412.06464",
        "equation 10",
    ),
    recurrence=gated_delta,
    prepare=prepare,
    parts=(delta.BETA, *FADES),
    laws=(
        no_future_leak,
        reduces_to(delta.MECHANISM, parts={"log_rate": lambda log_rate: log_rate * 0 - 1e4}),  # a decay of 1
    ),
)
