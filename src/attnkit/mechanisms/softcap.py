"""Soft-capping: no score leaves the range from -cap to cap.

    score = cap * tanh(query . key / sqrt(head_dim) / cap)

It comes before the mask: capped after it, a hidden key would get the score -cap and be read. The trap: fused kernels
that know no cap are refused, and leaving the cap out of a model that was trained with it changes what it says.
"""

from attnkit import masks, scores
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.rule import Rule


def softcap(*, cap: float = 50.0, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        cap: the size that no score exceeds, above 0.
        mask: where each query looks.
    """
    return Rule(mask=mask, scores=(scores.SoftCap(cap),))


MECHANISM = Mechanism(
    name="softcap",
    family="score",
    summary="Large scores approach a cap, so that no weight can be larger than the cap allows.",
    formula=r"s_{qk} = c \tanh\left(\frac{q \cdot k}{c \sqrt{d}}\right)",
    paper=Paper(
        "Gemma 2: Improving Open Language Models at a Practical Size",
        2024,
        "https://arxiv.org/abs/2408.00118",
        "section 2, logit soft-capping",
    ),
    rule=softcap,
    laws=(no_future_leak, rows_sum_to_one, reduces_to(causal.MECHANISM, cap=1e8)),
    examples=({"cap": 2.0}, {"cap": 50.0}),
)
