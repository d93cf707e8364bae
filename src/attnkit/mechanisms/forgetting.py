"""Forgetting attention: each token says how much of what came before it is kept, and scores lose by what was forgotten.

    score = query . key / sqrt(head_dim) + sum of log_gate_l for l = k+1 .. q = ... + F_q - F_k,    F = cumsum(log_gate)

`log_gate` is log(sigmoid(...)), never above 0; a gate of 1, whose logarithm is 0, forgets nothing. F grows with the
length and differences of it matter, so that it is summed in float64: in float32 the gates of 100,000 tokens would be
known to about 0.01. The trap: the gate of the query's own token counts, the gate of the key's does not.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from attnkit import masks, scores
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, Projected
from attnkit.mechanisms import alibi, causal
from attnkit.rule import Rule


@dataclass(frozen=True, eq=False)
class Forgotten(scores.Additive):
    """What lies between query and key, forgotten: the sum of the gates after the nearer end, up to the farther.

    Attributes:
        sums: `*batch heads kv_len+1`, where entry p is the sum of the gates before position p.
        dtype: that of the bias.
    """

    sums: Tensor
    dtype: torch.dtype

    def parameters(self) -> tuple[Tensor, ...]:
        """The sums."""
        return (self.sums,)

    def bias(self, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """The gates between each query and key, added up, `*batch heads q_len kv_len`."""
        # queries may stand where no keys are, and nothing is forgotten there
        inside = (q_pos + 1).clamp(0, self.sums.shape[-1] - 1)
        forgotten = (self.sums[..., inside] - self.sums[..., kv_pos + 1]).to(self.dtype)
        return forgotten * torch.where(kv_pos > q_pos, -1, 1)


def forgetting(*, log_gate: Tensor, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        log_gate: `*batch num_heads kv_len 1`, the logarithm of what each token keeps of those before it.
        mask: where each query looks. The paper is causal; keys after the query, if the mask keeps them, lose by the
            gates between as well.
    """
    sums = pad(log_gate.squeeze(-1).double().cumsum(-1), (1, 0))
    forgotten = Forgotten(sums, torch.promote_types(log_gate.dtype, torch.float32))
    return Rule(mask=mask, scores=(forgotten,))


def _log_sigmoid(tokens: Tensor) -> Tensor:
    # rounding errors of gates add up, so that bfloat16 is not enough
    return logsigmoid(tokens.to(torch.promote_types(tokens.dtype, torch.float32)))


def _as_alibi(log_gate: Tensor) -> Tensor:
    slopes = scores.Alibi(log_gate.shape[-3]).slopes(torch.arange(log_gate.shape[-3]))
    return -slopes.to(log_gate)[:, None, None].expand_as(log_gate)


MECHANISM = Mechanism(
    name="forgetting",
    family="score",
    summary="Each token says how much of what came before it is kept.",
    formula=r"s_{qk} = \frac{q \cdot k}{\sqrt{d}} + \sum_{l = k + 1}^{q} \log f_l",
    paper=Paper(
        "Forgetting Transformer: Softmax Attention with a Forget Gate",
        2025,
        "https://arxiv.org/abs/2503.02130",
        "section 3",
    ),
    rule=forgetting,
    parts=(
        Projected(
            "log_gate",
            of="key",
            then=_log_sigmoid,
            bias=True,
            meaning="the logarithm of what each token keeps of those before it",
        ),
    ),
    laws=(
        no_future_leak,
        rows_sum_to_one,
        reduces_to(causal.MECHANISM, parts={"log_gate": torch.zeros_like}),
        reduces_to(alibi.MECHANISM, parts={"log_gate": _as_alibi}),
    ),
)
