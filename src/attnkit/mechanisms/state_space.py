"""A state space with one decay a head and token (Mamba-2): one number says how much is written and how much fades.

    S_t = decay_t S_{t-1} + size_t k_t v_t^T;    context_t = scale q_t S_t
    size_t = softplus(step_t + step_bias);    decay_t = exp(-exp(log_rate) size_t)

The paper's names: C is the query, B the key, x the value, Delta the size and A is -exp(log_rate); in public code the
projection is `dt`, step_bias `dt_bias` and log_rate `A_log`. There is no scale, so it is 1 here. Two traps: the size
multiplies what is written, not the decay alone; and there several values share one C and B, where here several queries
share one key and value. The short convolution, the skip D x, the gate and the norm belong to the layer.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from attnkit.laws import no_future_leak, reduces_to
from attnkit.mechanism import Learned, Mechanism, Paper, Projected
from attnkit.mechanisms import retention
from attnkit.recurrence import Decay, retention_decay
from attnkit.shapes import Key


def _rates(shape: tuple[int, ...]) -> Tensor:
    """The logarithms of 1 to 16, spread evenly over the heads; public code draws them at random in that range."""
    return torch.linspace(1.0, 16.0, shape[0]).log()


def _steps(shape: tuple[int, ...]) -> Tensor:
    """What softplus turns into steps of 0.001 to 0.1, spread evenly in their logarithm."""
    steps = torch.linspace(math.log(0.001), math.log(0.1), shape[0]).exp()
    return steps.expm1().log()


FADES = (
    Projected(
        "step", of="key", heads="num_kv_heads", bias=False, meaning="how much a token changes the memory"
    ),
    Learned("step_bias", ("num_kv_heads",), _steps, "what is added to the step before the softplus"),
    Learned("log_rate", ("num_kv_heads",), _rates, "the logarithm of how fast a head forgets"),
)


def faded(step: Tensor, step_bias: Tensor, log_rate: Tensor) -> tuple[Tensor, Tensor]:
    """The step and the decay of each token, `*batch kv_heads len`, in float32 or wider.

    Args:
        step: `*batch kv_heads len 1`, any numbers.
        step_bias: (kv_heads,).
        log_rate: (kv_heads,).
    """
    precise = torch.promote_types(step.dtype, torch.float32)
    taken = softplus(step.squeeze(-1).to(precise) + step_bias.to(precise)[:, None])
    return taken, (-log_rate.to(precise).exp()[:, None] * taken).exp()


def state_space(*, scale: float | None = 1.0, chunk_tokens: int = 64) -> Decay:
    """The recurrence.

    Args:
        scale: multiplies the weights, 1 as in the paper; None is `head_dim ** -0.5`.
        chunk_tokens: how many tokens are computed at a time, a power of two; it changes speed alone.
    """
    return Decay(scale=scale, chunk_tokens=chunk_tokens)


def prepare(key: Key, *, step: Tensor, step_bias: Tensor, log_rate: Tensor) -> dict[str, Tensor]:
    """The key times the step, and the decay.

    Args:
        key: `*batch kv_heads len head_dim`.
        step: `*batch kv_heads len 1`.
        step_bias: (kv_heads,).
        log_rate: (kv_heads,).
    """
    taken, decay = faded(step, step_bias, log_rate)
    return {"key": (key * taken.unsqueeze(-1)).to(key.dtype), "decay": decay}


def _of_one(step: Tensor) -> Tensor:
    """What softplus turns into a step of 1."""
    return torch.full_like(step, math.log(math.expm1(1.0)))


def _of_retention(log_rate: Tensor) -> Tensor:
    """The rate that makes of a step of 1 the decay of retention's heads."""
    return (-retention_decay(log_rate.shape[0])[:, 0].to(log_rate).log()).log()


MECHANISM = Mechanism(
    name="state_space",
    family="recurrence",
    summary="Each token sets by one step how much it writes and how much the memory fades.",
    formula=r"S_t = e^{-A \Delta_t} S_{t-1} + \Delta_t k_t v_t^T, \quad \Delta_t = \mathrm{softplus}(\delta_t + b)",
    paper=Paper(
        "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State Space Duality",
        2024,
        "https://arxiv.org/abs/2405.21060",
        "equation 2 with a scalar A, and listing 1",
    ),
    recurrence=state_space,
    prepare=prepare,
    parts=FADES,
    laws=(
        no_future_leak,
        reduces_to(
            retention.MECHANISM,
            theirs={"scale": 1.0},
            parts={"step": _of_one, "step_bias": torch.zeros_like, "log_rate": _of_retention},
        ),
    ),
)
