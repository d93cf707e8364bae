"""Retention: linear attention without its denominator, whose memory fades by one constant a head.

    S_t = decay_h S_{t-1} + k_t v_t^T;    context_t = scale q_t S_t;    decay_h = 1 - 2 ** -(first_exponent + h)
    weights_tj = scale (q_t . k_j) decay_h ** (t - j)   for j <= t

The paper's layer does more, and none of it is here. It turns query and key by their positions, as a rotary embedding
does: give the layer `positions=positions.Rotary()`, whose angles differ a little. It divides each row of weights by
two numbers, the root of the sum of its decays and the size of its own sum; both cancel in the norm of each head that
follows. Last comes a gate, swish(x W).
"""

from torch import Tensor

from attnkit.errors import OptionError
from attnkit.laws import no_future_leak
from attnkit.mechanism import Mechanism, Paper
from attnkit.recurrence import Decay, retention_decay
from attnkit.shapes import Key


def retention(*, scale: float | None = None, chunk_tokens: int = 64) -> Decay:
    """The recurrence.

    Args:
        scale: multiplies the weights; `head_dim ** -0.5` when not given. The paper's equation has 1.
        chunk_tokens: how many tokens are computed at a time, a power of two; it changes speed alone.
    """
    return Decay(scale=scale, chunk_tokens=chunk_tokens)


def prepare(key: Key, *, first_exponent: float = 5.0) -> dict[str, Tensor]:
    """The decay of each head, the same for all tokens.

    Args:
        key: `*batch kv_heads len head_dim`.
        first_exponent: the first head loses 2 ** -first_exponent of its memory with each token, each further head half
            as much; above 0.

    Raises:
        OptionError: `first_exponent` is not above 0.
    """
    if not isinstance(first_exponent, int | float) or not first_exponent > 0:
        raise OptionError(
            where="retention",
            what=f"the first head keeps 1 - 2 ** -first_exponent, so that is above 0; got {first_exponent!r}",
            fix="first_exponent=5.0 is the paper's; 1.0 forgets half with each token",
        )
    return {"decay": retention_decay(key.shape[-3], first_exponent=first_exponent, device=key.device)}


MECHANISM = Mechanism(
    name="retention",
    family="recurrence",
    summary="What a token wrote fades by one constant a head with each token after it.",
    formula=r"S_t = \gamma_h S_{t-1} + k_t v_t^T, \quad \gamma_h = 1 - 2^{-5-h}",
    paper=Paper(
        "Retentive Network: A Successor to Transformer for Large Language Models",
        2023,
        "https://arxiv.org/abs/2307.08621",
        "equations 5, 6 and 8",
    ),
    recurrence=retention,
    prepare=prepare,
    laws=(no_future_leak,),
    examples=({"first_exponent": 1.0}, {}),
)
