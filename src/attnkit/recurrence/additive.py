r"""Recurrences that only ever add to their memory: linear attention, retention, gated linear attention.

    memory_t = decay_t * memory_{t-1} + key_t value_t^T;    context_t = query_t memory_t

There is no softmax, so rows of weights do not sum to one; only `Linear` divides by their sum.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.recurrence.fading import Faded, fade, faded_scores, no_fade
from attnkit.recurrence.gates import Gate
from attnkit.recurrence.orders import Stretch, Tokens
from attnkit.recurrence.recurrence import Recurrence, Scaled

DECAY = Gate("decay", ("kv_heads", "len"), "the share of the memory that a token keeps")


class LinearState(NamedTuple):
    """What `Linear` hands on: the paper's S, `*batch kv_heads head_dim d_value`, and z, `*batch kv_heads head_dim`."""

    memory: Tensor
    normalizer: Tensor


class DecayState(NamedTuple):
    """What `Decay` hands on: `*batch kv_heads head_dim d_value`."""

    memory: Tensor


class GatedLinearState(NamedTuple):
    """What `GatedLinear` hands on: `*batch kv_heads head_dim d_value`."""

    memory: Tensor


@dataclass(frozen=True, kw_only=True)
class Linear(Recurrence):
    r"""Linear attention: weights are products of positive features instead of exponentials, divided by their sum.

    $$context_t = \frac{\phi(q_t)^T S_t}{\phi(q_t)^T z_t}, \quad S_t = S_{t-1} + \phi(k_t) v_t^T, \quad
    z_t = z_{t-1} + \phi(k_t), \quad \phi(x) = elu(x) + 1$$

    A scale would stand in both halves of the fraction, so there is none. Where every feature underflows to 0 there is
    nothing to read, and the context is 0.

    Example:
        >>> key = query = torch.zeros(1, 2, 1)
        >>> Linear()(query, key, torch.tensor([[[1.0], [3.0]]])).flatten().tolist()
        [1.0, 2.0]

    Source: Katharopoulos et al. 2020, https://arxiv.org/abs/2006.16236, equations 7 and 16 to 20.
    """

    state_type: ClassVar[type] = LinearState
    rows_sum_to_one: ClassVar[bool] = True

    def features(self, tokens: Tokens) -> Tokens:
        """The features of query and key, and a value of 1 more, whose context is the sum of the weights."""
        query, key, value = _features(tokens.query), _features(tokens.key), tokens.value
        return tokens._replace(
            query=query, key=key, value=torch.cat([value, torch.ones_like(key[..., :1])], -1)
        )

    def update(self, memory: Tensor, token: Tokens) -> Tensor:
        """Add key times value."""
        return memory + _outer(token.key, token.value)

    def stretch(self, tokens: Tokens) -> Stretch:
        """Weights are the plain products of the features."""
        return _alike(tokens, no_fade(tokens.key))

    def read_out(self, context: Tensor) -> Tensor:
        """Divide by the sum of the weights, which is the last entry."""
        return _divided(context[..., :-1], context[..., -1:])

    def normalised(self, weights: Tensor) -> Tensor:
        """Divide each row by its sum."""
        return _divided(weights, weights.sum(-1, keepdim=True))

    def to_memory(self, state: tuple[Tensor, ...]) -> Tensor:
        """The two as one: z is what a value of 1 leaves behind."""
        memory, normalizer = state
        return torch.cat([memory, normalizer.unsqueeze(-1)], -1)

    def to_state(self, memory: Tensor) -> LinearState:
        """The two apart."""
        return LinearState(memory[..., :-1], memory[..., -1])


@dataclass(frozen=True, kw_only=True)
class Decay(Scaled):
    r"""Retention: what a token wrote fades by the same factor in every channel, with each token after it.

    $$context_t = scale \cdot q_t S_t, \quad S_t = decay_t \, S_{t-1} + k_t v_t^T$$

    `decay` is `*batch kv_heads len`, from 0 to 1. Retention has one constant a head: `retention_decay(num_heads)`. A
    decay of its own for each token makes it the recurrence of Mamba-2. The paper's xPos rotation and its group norm
    are not in it.

    Attributes:
        scale: multiplies the weights; `head_dim ** -0.5` when not given. The paper's equation has 1.

    Example:
        >>> one = torch.ones(1, 3, 1)
        >>> Decay()(one, one, one, decay=torch.tensor([[0.5]])).flatten().tolist()
        [1.0, 1.5, 1.75]

    Source: Sun et al. 2023, https://arxiv.org/abs/2307.08621, equations 5 and 6; Dao and Gu 2024,
    https://arxiv.org/abs/2405.21060, for a decay that depends on the token.
    """

    state_type: ClassVar[type] = DecayState
    gates: ClassVar[tuple[Gate, ...]] = (DECAY,)

    def update(self, memory: Tensor, token: Tokens) -> Tensor:
        """Fade, then add key times value."""
        return token.decay.unsqueeze(-1) * memory + _outer(token.key, token.value)

    def stretch(self, tokens: Tokens) -> Stretch:
        """Weights are the scores, times what is left of the key's token."""
        return _alike(tokens, fade(tokens.decay))


@dataclass(frozen=True, kw_only=True)
class GatedLinear(Scaled):
    r"""Gated linear attention: what a token wrote fades by a factor of its own in each channel of the key.

    $$context_t = scale \cdot q_t S_t, \quad S_t = Diag(decay_t) \, S_{t-1} + k_t v_t^T$$

    `decay` is `*batch kv_heads len head_dim`, from 0 to 1; the paper makes it from the token by `sigmoid(.) ** (1/16)`.

    Attributes:
        scale: multiplies the weights; `head_dim ** -0.5` when not given. The paper's equation has 1.

    Example:
        >>> query = key = torch.ones(1, 2, 2)
        >>> decay = torch.tensor([[[0.0, 0.5]]])
        >>> GatedLinear(scale=1.0)(query, key, torch.ones(1, 2, 1), decay=decay).flatten().tolist()
        [2.0, 2.5]

    Source: Yang et al. 2023, https://arxiv.org/abs/2312.06635, equation 3.
    """

    state_type: ClassVar[type] = GatedLinearState
    gates: ClassVar[tuple[Gate, ...]] = (
        Gate("decay", ("kv_heads", "len", "head_dim"), "the share of its memory that each channel keeps"),
    )

    def update(self, memory: Tensor, token: Tokens) -> Tensor:
        """Fade each channel, then add key times value."""
        return token.decay.unsqueeze(-1) * memory + _outer(token.key, token.value)

    def stretch(self, tokens: Tokens) -> Stretch:
        """Weights sum over the channels what is left of the key's token in each."""
        query, key, decay = tokens.query, tokens.key, tokens.decay
        weights, since_start, until_end = faded_scores(query, key, decay)
        return Stretch(weights, query * since_start, key * until_end, since_start[..., -1:, :].mT)


def retention_decay(
    num_heads: int, *, first_exponent: float = 5.0, device: torch.device | None = None
) -> Tensor:
    """The paper's constants, 1 - 2 ** (-5 - head), as (num_heads, 1) in float32: exact up to 19 heads.

    Args:
        num_heads: how many.
        first_exponent: the paper's 5; a smaller one forgets faster.
        device: where the result lives.

    Raises:
        OptionError: `num_heads` is no whole number from 1 upwards.

    Example:
        >>> retention_decay(2).tolist()
        [[0.96875], [0.984375]]

    Source: Sun et al. 2023, https://arxiv.org/abs/2307.08621, equation 8.
    """
    if not isinstance(num_heads, int) or num_heads < 1:
        raise OptionError(
            where="retention_decay",
            what=f"num_heads is 1, 2, 3, ...; got {num_heads!r}",
            fix="retention_decay(8)",
        )
    return 1 - torch.exp2(-first_exponent - torch.arange(num_heads, device=device))[:, None]


def _features(x: Tensor) -> Tensor:
    # elu(x) + 1, but not written so: elu(-20) + 1 is 0 in float32, exp(-20) is not
    return torch.where(x > 0, x + 1, x.clamp(max=0).exp())


def _outer(key: Tensor, value: Tensor) -> Tensor:
    return key.unsqueeze(-1) * value.unsqueeze(-2)


def _alike(tokens: Tokens, faded: Faded) -> Stretch:
    """The stretch of a recurrence that fades alike in every channel."""
    query, key, since_start = tokens.query, tokens.key, faded.since_start
    weights = (query @ key.mT) * faded.scores
    return Stretch(weights, query * since_start, key * faded.until_end, since_start[..., -1:, :].mT)


def _divided(sums: Tensor, total: Tensor) -> Tensor:
    return sums / total.masked_fill(total == 0, 1.0)
