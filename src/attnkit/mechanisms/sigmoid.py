"""Sigmoid attention: each key is weighed on its own, so that keys do not compete.

    weights_k = 1 / (1 + exp(-(score_k + shift)))

A row sums to anything from 0 to the number of its keys. With scores near 0 that is half the number, and contexts grow
with the length; the paper starts with a `shift` of -log(n), n the length of the texts in training. Here it is 0 when it
is not given.
"""

from attnkit import masks, normalizers
from attnkit.laws import no_future_leak, reads_just, reduces_to
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import off_by_one
from attnkit.rule import Rule

ITSELF = masks.causal & masks.window(1)


def sigmoid(*, shift: float | None = None, mask: Mask = masks.causal) -> Rule:
    """The rule.

    Args:
        shift: added to every score, such as -log(n) for n tokens; 0 when not given.
        mask: where each query looks.
    """
    return Rule(mask=mask, normalizer=normalizers.Sigmoid(bias=shift))


MECHANISM = Mechanism(
    name="sigmoid",
    family="normalise",
    summary="A sigmoid weighs each key on its own, so that keys do not compete.",
    formula=r"w_k = \frac{1}{1 + e^{-(s_k + b)}}",
    paper=Paper(
        "Theory, Analysis, and Best Practices for Sigmoid Self-Attention",
        2024,
        "https://arxiv.org/abs/2409.04431",
        "section 2",
    ),
    rule=sigmoid,
    laws=(
        no_future_leak,
        reads_just(lambda q, k, **_: k <= q),
        reduces_to(off_by_one.MECHANISM, theirs={"mask": ITSELF}, mask=ITSELF, shift=None),
    ),
    examples=({}, {"shift": -2.0}),
)
