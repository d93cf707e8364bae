r"""The delta rules: a token first takes back what the memory says for its key, then writes its value there.

    new_t = beta_t (value_t - key_t^T decay_t memory_{t-1});    memory_t = decay_t memory_{t-1} + key_t new_t^T

Keys should have length 1, `torch.nn.functional.normalize(key, dim=-1)`: a key of length n multiplies what is stored
along it by 1 - beta n^2, and beyond -1 the memory grows without bound. In a chunk the new values depend on each
other, but linearly: they solve one triangular system (the UT transform), so a chunk still is weights times value.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from attnkit.recurrence.additive import DECAY
from attnkit.recurrence.fading import Faded, fade, no_fade
from attnkit.recurrence.gates import Gate
from attnkit.recurrence.orders import Stretch, Tokens
from attnkit.recurrence.recurrence import Scaled

_BETA = Gate("beta", ("kv_heads", "len"), "the share of the old value that a token replaces")


class DeltaState(NamedTuple):
    """What `Delta` hands on: `*batch kv_heads head_dim d_value`."""

    memory: Tensor


class GatedDeltaState(NamedTuple):
    """What `GatedDelta` hands on: `*batch kv_heads head_dim d_value`."""

    memory: Tensor


@dataclass(frozen=True, kw_only=True)
class Delta(Scaled):
    r"""The delta rule (DeltaNet): the memory is corrected towards each token's value instead of added to.

    $$context_t = scale \cdot q_t S_t, \quad S_t = S_{t-1} + \beta_t k_t (v_t - S_{t-1}^T k_t)^T$$

    `beta` is `*batch kv_heads len`, from 0 to 1. Keys of length 1 are the caller's to make.

    Attributes:
        scale: multiplies the weights; `head_dim ** -0.5` when not given. The paper's equation has 1.

    Example:
        >>> one, value = torch.ones(1, 2, 1), torch.tensor([[[1.0], [5.0]]])
        >>> Delta()(one, one, value, beta=torch.ones(1, 1)).flatten().tolist()  # the second replaces the first
        [1.0, 5.0]

    Source: Schlag et al. 2021, https://arxiv.org/abs/2102.11174, section 4.2; in chunks, Yang et al. 2024,
    https://arxiv.org/abs/2406.06484, section 3.
    """

    state_type: ClassVar[type] = DeltaState
    gates: ClassVar[tuple[Gate, ...]] = (_BETA,)

    def update(self, memory: Tensor, token: Tokens) -> Tensor:
        """Write the difference between the value and what the memory says for this key."""
        said = (token.key.unsqueeze(-2) @ memory).squeeze(-2)
        new = token.beta * (token.value - said)
        return memory + token.key.unsqueeze(-1) * new.unsqueeze(-2)

    def stretch(self, tokens: Tokens) -> Stretch:
        """Weights of the corrected values."""
        return _corrected(tokens, no_fade(tokens.key))


@dataclass(frozen=True, kw_only=True)
class GatedDelta(Delta):
    r"""The gated delta rule (Gated DeltaNet): the memory fades before it is corrected.

    $$context_t = scale \cdot q_t S_t, \quad
    S_t = decay_t S_{t-1} + \beta_t k_t (v_t - decay_t S_{t-1}^T k_t)^T$$

    `decay` and `beta` are `*batch kv_heads len`, from 0 to 1; the paper calls the decay alpha.

    Attributes:
        scale: multiplies the weights; `head_dim ** -0.5` when not given. The paper's equation has 1.

    Example:
        >>> one, value = torch.ones(1, 2, 1), torch.tensor([[[4.0], [0.0]]])
        >>> half = torch.full((1, 1), 0.5)
        >>> GatedDelta()(one, one, value, decay=half, beta=half).flatten().tolist()  # 4/2, then 2/2 - 1/2
        [2.0, 0.5]

    Source: Yang et al. 2024, https://arxiv.org/abs/2412.06464, equation 10.
    """

    state_type: ClassVar[type] = GatedDeltaState
    gates: ClassVar[tuple[Gate, ...]] = (DECAY, _BETA)

    def update(self, memory: Tensor, token: Tokens) -> Tensor:
        """Fade, then write the difference."""
        return super().update(token.decay.unsqueeze(-1) * memory, token)

    def stretch(self, tokens: Tokens) -> Stretch:
        """Weights of the corrected values, which fade."""
        return _corrected(tokens, fade(tokens.decay))


def _corrected(tokens: Tokens, faded: Faded) -> Stretch:
    r"""The stretch of a delta rule.

    What is written solves `new_i + sum_{j < i} overlap_ij new_j = beta_i (value_i - seen_i memory)`.
    """
    query, key, beta = tokens.query, tokens.key, tokens.beta
    overlap = beta * (key @ key.mT) * faded.scores  # unitriangular reads what is below the diagonal alone
    alone = torch.diag_embed(beta.squeeze(-1))
    solved = torch.linalg.solve_triangular(overlap, alone, upper=False, unitriangular=True)
    weights = ((query @ key.mT) * faded.scores) @ solved
    seen = key * faded.since_start
    write = solved.mT @ (key * faded.until_end)
    kept = faded.since_start[..., -1:, :] * torch.eye(key.shape[-1], dtype=key.dtype, device=key.device)
    return Stretch(weights, query * faded.since_start - weights @ seen, write, kept - write.mT @ seen)
