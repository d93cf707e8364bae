"""KERPLE, logarithmic: a key's score falls with the logarithm of its distance, and each head learns how fast.

    score'(q, k) = score(q, k) - r1 log(1 + r2 |q - k|),    r1 = softplus(strength_h),  r2 = softplus(rate_h)

The paper asks that r1 and r2 are above 0. Its code clamps them at 0.01, where the gradient stops; softplus keeps them
above 0 and always learns. ALiBi's penalty grows as the distance itself, and nothing in it is learned.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from attnkit import masks
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.rule import Rule
from attnkit.scores import Additive


@dataclass(frozen=True, eq=False)
class LogDistance(Additive):
    """A bias that falls with the logarithm of the distance.

    Attributes:
        strength: (num_heads,), how much is taken away, before softplus.
        rate: (num_heads,), how soon, before softplus.
    """

    strength: Tensor
    rate: Tensor

    @property
    def relative(self) -> bool:
        """True: only the distance and the head count."""
        return True

    def parameters(self) -> tuple[Tensor, ...]:
        """What a gradient has to reach."""
        return (self.strength, self.rate)

    def bias(self, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """What is added, (heads, q_len, kv_len)."""
        strength, rate = softplus(self.strength)[head], softplus(self.rate)[head]
        return -strength * torch.log1p(rate * (q_pos - kv_pos).abs())


def kerple(*, strength: Tensor, rate: Tensor, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        strength: (num_heads,), how much is taken away, before softplus.
        rate: (num_heads,), how soon, before softplus.
        mask: where each query looks.
    """
    return Rule(mask=mask, scores=(LogDistance(strength, rate),))


MECHANISM = Mechanism(
    name="kerple",
    family="score",
    summary="A key's score falls with the logarithm of its distance, and each head learns how fast.",
    formula=r"s'_{qk} = s_{qk} - r_1 \log(1 + r_2 |q - k|), \quad r_1, r_2 > 0",
    paper=Paper(
        "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation",
        2022,
        "https://arxiv.org/abs/2205.09921",
        "the logarithmic variant",
    ),
    rule=kerple,
    parts=(
        Learned("strength", ("num_heads",), torch.zeros, "how much distance takes away"),
        Learned("rate", ("num_heads",), torch.zeros, "how soon it does"),
    ),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(causal.MECHANISM, parts={"strength": lambda strength: strength * 0 - 1e4}),
        reduces_to(causal.MECHANISM, parts={"rate": lambda rate: rate * 0 - 1e4}),
    ),
)
