"""Gated linear attention: each channel of the memory fades by a decay that the token itself sets.

    S_t = Diag(decay_t) S_{t-1} + k_t v_t^T;    context_t = scale q_t S_t
    decay_t = sigmoid(gate_t) ** (1 / temperature)

A temperature of 16 keeps decays near 1, so that a fresh layer remembers. Public code takes `gk`, the logarithm of the
decay, `logsigmoid(gate) / 16`. The paper makes the gate by two small matrices, d_model x 16 x width, to save
parameters; here it is one matrix, which can be any such product. Its output gate and norm belong to the layer. With
rotary positions the two channels of a pair fade apart, and weights no longer depend on distances alone.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from attnkit.errors import OptionError
from attnkit.laws import no_future_leak, reduces_to
from attnkit.mechanism import Mechanism, Paper, Projected
from attnkit.mechanisms import retention
from attnkit.recurrence import GatedLinear, retention_decay


def gated_linear(*, scale: float | None = None, chunk_tokens: int = 64) -> GatedLinear:
    """The recurrence.

    Args:
        scale: multiplies the weights; `head_dim ** -0.5` when not given. The paper's equation has 1.
        chunk_tokens: how many tokens are computed at a time, a power of two; it changes speed alone.
    """
    return GatedLinear(scale=scale, chunk_tokens=chunk_tokens)


def prepare(*, gate: Tensor, temperature: float = 16.0) -> dict[str, Tensor]:
    """The decay of each token and channel, in float32 or wider: in half precision it would often round to 1.

    Args:
        gate: `*batch kv_heads len head_dim`, any numbers.
        temperature: how much nearer to 1 decays are than `sigmoid(gate)`; above 0.

    Raises:
        OptionError: `temperature` is not above 0.
    """
    if not isinstance(temperature, int | float) or not temperature > 0:
        raise OptionError(
            where="gated_linear",
            what=f"a decay is sigmoid(gate) ** (1 / temperature), so temperature is above 0; got {temperature!r}",
            fix="temperature=16.0 is the paper's; 1.0 leaves the sigmoid as it is",
        )
    precise = gate.to(torch.promote_types(gate.dtype, torch.float32))
    return {"decay": (logsigmoid(precise) / temperature).exp()}


def _of_retention(gate: Tensor) -> Tensor:
    """The gate whose sigmoid is the decay of retention's heads."""
    return retention_decay(gate.shape[-3])[:, None].to(gate).logit().expand_as(gate)


def _open(gate: Tensor) -> Tensor:
    """The gate whose sigmoid is 1."""
    return torch.full_like(gate, 1e4)


MECHANISM = Mechanism(
    name="gated_linear",
    family="recurrence",
    summary="Each channel of the memory fades by a decay that the token sets.",
    formula=r"S_t = \mathrm{Diag}(\alpha_t) S_{t-1} + k_t v_t^T, \quad \alpha_t = \sigma(g_t)^{1/16}",
    paper=Paper(
        "Gated Linear Attention Transformers with Hardware-Efficient Training",
        2023,
        "https://arxiv.org/abs/2312.06635",
        "equation 3 and section 4.4",
    ),
    recurrence=gated_linear,
    prepare=prepare,
    parts=(
        Projected(
            "gate",
            of="key",
            heads="num_kv_heads",
            width="head_dim",
            bias=True,
            meaning="how much each channel keeps, before the sigmoid",
        ),
    ),
    laws=(
        no_future_leak,
        reduces_to(retention.MECHANISM, parts={"gate": _of_retention}, temperature=1.0),
        reduces_to(retention.MECHANISM, theirs={"first_exponent": 200.0}, parts={"gate": _open}),
    ),
    examples=({"temperature": 1.0}, {}),
)
