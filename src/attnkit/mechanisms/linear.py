"""Linear attention: products of positive features in the place of exponentials, so that the past is a sum.

    context_t = (phi(q_t) S_t) / (phi(q_t) . z_t);    S_t = S_{t-1} + phi(k_t) v_t^T;    z_t = z_{t-1} + phi(k_t)
    phi(x) = elu(x) + 1

It has no scale, which would stand in both halves of the fraction. Other libraries have a `linear_attn` without the
denominator `z` and with another `phi`; that is another function, and its contexts grow with the length. Rotary
positions tell no distances here: phi acts after the turn, so weights depend on where both tokens stand.
"""

from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.recurrence import Linear


def linear(*, chunk_tokens: int = 64) -> Linear:
    """The recurrence.

    Args:
        chunk_tokens: how many tokens are computed at a time, a power of two; it changes speed alone.
    """
    return Linear(chunk_tokens=chunk_tokens)


MECHANISM = Mechanism(
    name="linear",
    family="recurrence",
    summary="Weights are products of positive features divided by their sum, so that the past is one matrix.",
    formula=r"o_t = \frac{\phi(q_t)^T \sum_{j \le t} \phi(k_j) v_j^T}{\phi(q_t)^T \sum_{j \le t} \phi(k_j)}",
    paper=Paper(
        "Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention",
        2020,
        "https://arxiv.org/abs/2006.16236",
        "equations 7 and 16 to 20",
    ),
    recurrence=linear,
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(
            causal.MECHANISM, parts={"key": lambda key: key * 0}
        ),  # both are the mean of what was read
    ),
)
