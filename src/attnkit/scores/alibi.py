"""ALiBi: each head takes its own slope times the distance away from a score, so that near keys win.

    bias(h, q, k) = -slope_h * |q - k|,    slope_h = 2 ** (-8 * (h + 1) / num_heads)

The paper is causal, where q - k is never negative. Without `causal` a key after the query loses as much as one as far
before it. Libraries that add `slope * k` instead (BLOOM) get the same weights from a plain softmax only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.scores.step import Additive, check_num_heads


@dataclass(frozen=True)
class Alibi(Additive):
    """Attention with linear biases, for any number of heads.

    Where `num_heads` is no power of two, the paper's code gives the first heads the slopes of the power of two below,
    and the others every second slope of the power of two above.

    Attributes:
        num_heads: how many query heads, at least 1.

    Raises:
        OptionError: `num_heads` is no whole number from 1 upwards.
        ShapeError: at the call: the scores have another number of heads.

    Example:
        >>> Alibi(2).slopes(torch.arange(2)).tolist()
        [0.0625, 0.00390625]

    Source: Press et al. 2021, https://arxiv.org/abs/2108.12409, section 3; the slopes of the released code.
    """

    num_heads: int

    def __post_init__(self) -> None:
        if not isinstance(self.num_heads, int) or isinstance(self.num_heads, bool) or self.num_heads < 1:
            raise OptionError(
                where="Alibi",
                what=f"num_heads is how many query heads there are: 1, 2, 3, ...; got {self.num_heads!r}",
                fix="Alibi(query.shape[-3])",
            )

    @property
    def relative(self) -> bool:
        """True: only distance and head count."""
        return True

    def slopes(self, head: Tensor) -> Tensor:
        """The slope of each `head`, float32, in its shape."""
        below = 1 << (self.num_heads.bit_length() - 1)
        further = 4 * (2 * (head - below) + 1)
        exponent = torch.where(head < below, 8 * (head + 1), further).float() / below
        return torch.exp2(-exponent)

    def bias(self, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """The slope of the head times minus the distance, (heads, q_len, kv_len), float32."""
        check_num_heads("Alibi", self.num_heads, head, f"Alibi({head.numel()}), the number of query heads")
        return -self.slopes(head) * (q_pos - kv_pos).abs()
