"""A learned sink: each head has one more score, which takes weight and gives nothing.

    weights_k = exp(score_k) / (exp(sink_h) + sum_j exp(score_j))

It is a score of its own and no key: there is no value behind it, and rows sum to less than one. It is not multiplied
by the scale of the scores. gpt-oss calls it `sinks`; StreamingLLM's sinks are another thing, the first keys, which
`masks.first` keeps.
"""

from torch import Tensor

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_at_most_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper
from attnkit.mechanisms import causal, off_by_one
from attnkit.rule import Rule


def sink(*, sink: Tensor, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        sink: (num_heads,), the score that takes weight.
        mask: where each query looks.
    """
    return Rule(mask=mask, normalizer=normalizers.Softmax(sink=sink))


MECHANISM = Mechanism(
    name="sink",
    family="normalise",
    summary="Each head has one more score to give weight to, so that it need not read anything.",
    formula=r"w_k = \frac{e^{s_k}}{e^{\mathrm{sink}_h} + \sum_j e^{s_j}}",
    paper=Paper(
        "gpt-oss-120b & gpt-oss-20b Model Card",
        2025,
        "https://arxiv.org/abs/2508.10925",
        "the learned bias in the denominator of the softmax",
    ),
    rule=sink,
    parts=(Learned("sink", ("num_heads",), meaning="one score a head"),),
    laws=(
        no_future_leak,
        rows_sum_to_at_most_one,
        reduces_to(off_by_one.MECHANISM, parts={"sink": lambda sink: sink * 0}),
        reduces_to(causal.MECHANISM, parts={"sink": lambda sink: sink * 0 - 1e4}),
    ),
)
