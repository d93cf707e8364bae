"""A learned sink: each head has one more score, which takes weight and gives nothing.

    weights_k = exp(score_k) / (exp(sink_h) + sum_j exp(score_j))

It is a score of its own and no key: there is no value behind it, and rows sum to less than one. gpt-oss calls it
`sinks`; StreamingLLM's sinks are another thing, the first keys, which `masks.first` keeps.
"""

from torch import Tensor

from attnkit import masks, normalizers
from attnkit.laws import reduces_to, rows_sum_to_at_most_one
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
        "Efficient Streaming Language Models with Attention Sinks",
        2023,
        "https://arxiv.org/abs/2309.17453",
        "section 3.3",
    ),
    rule=sink,
    parts=(Learned("sink", ("num_heads",), meaning="one score a head"),),
    laws=(
        rows_sum_to_at_most_one,
        reduces_to(off_by_one.MECHANISM, parts={"sink": lambda sink: sink * 0}),
        reduces_to(causal.MECHANISM, parts={"sink": lambda sink: sink * 0 - 1e4}),
    ),
)
