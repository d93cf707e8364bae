"""BigBird attention: neighbouring blocks, a few blocks for all, and a few blocks that are drawn at random.

    keep(q, k) = |q // size - k // size| <= 1                   its own block and the two beside it
               or min(q, k) < num_global * size                 the first blocks read all, and all read them
               or k // size is one of num_random blocks drawn for q // size

It is an encoder's: by default blocks are drawn from all `length` tokens. With `causal=True` they are drawn from those
that end no later than the query's own, so that answers stay as they are while a text grows.

The draws are a hash of `seed`: the same for every head and at every call. A block that is drawn may be read already, as
in the paper, where the random keys come from all keys; the public code draws for each head, and among blocks that are
not read anyway. Its global blocks are the first and the last. In transformers, whose random blocks are all number 0
while a model is evaluated, block 0 weighs `num_random + 1` times in each row there.
"""

from attnkit import masks
from attnkit.errors import OptionError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one, when
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal as all_before
from attnkit.mechanisms import full, global_local
from attnkit.rule import Rule


def bigbird(
    *,
    size: int,
    num_random: int = 3,
    num_global: int = 2,
    seed: int = 0,
    length: int | None = None,
    causal: bool = False,
) -> Rule:
    """The rule.

    Args:
        size: positions of a block, at least 1; 64 in the paper.
        num_random: how many blocks are drawn for each block of queries; 0 for none.
        num_global: how many of the first blocks read all and are read by all; 0 for none.
        seed: another one draws other blocks; give each layer its own.
        length: how many tokens there are, so that blocks after a query can be drawn; not needed where it is causal.
        causal: whether a query reads nothing after itself.

    Raises:
        OptionError: a number means nothing, or neither `length` nor `causal=True` is given.
    """
    mask: Mask = masks.segments(size, before=size, after=size)
    if num_global != 0:
        mask = mask | masks.first(num_global * size) | masks.first_queries(num_global * size)
    if num_random != 0:
        _check_known(length, causal)
        mask = mask | masks.random_blocks(size, num_random, seed=seed, length=length)
    return Rule(mask=masks.causal & mask if causal else mask)


def _check_known(length: int | None, causal: bool) -> None:
    if length is None and not causal:
        raise OptionError(
            where="bigbird",
            what="blocks after a query can be drawn only where the number of tokens is known, and length is not given",
            fix="length=4096, the number of tokens; or causal=True, which draws from what is before",
        )


MECHANISM = Mechanism(
    name="bigbird",
    family="where",
    summary="Each block reads its neighbours, a few blocks that all read, and a few random ones.",
    formula=r"\mathrm{keep}(q, k) = [|b_q - b_k| \le 1 \;\lor\; \min(b_q, b_k) < g \;\lor\; b_k \in R(b_q)],"
    r"\; b_x = \lfloor x / \mathrm{size} \rfloor",
    paper=Paper(
        "Big Bird: Transformers for Longer Sequences",
        2020,
        "https://arxiv.org/abs/2007.14062",
        "section 2, in blocks as in appendix D",
    ),
    rule=bigbird,
    laws=(
        when(no_future_leak, causal=True),
        rows_sum_to_one,
        reduces_to(full.MECHANISM, size=64, causal=False, length=64),
        reduces_to(full.MECHANISM, size=1, num_random=7, causal=False, length=7),
        reduces_to(all_before.MECHANISM, size=64, causal=True),
        reduces_to(
            global_local.MECHANISM,
            size=1,
            num_random=0,
            num_global=2,
            causal=False,
            theirs={"window": 2, "num_global": 2},
        ),
    ),
    examples=(
        {"size": 1, "num_random": 1, "num_global": 1, "length": 7},
        {"size": 2, "num_random": 1, "num_global": 0, "seed": 3, "length": 7},
        {"size": 1, "num_random": 1, "num_global": 1, "causal": True},
    ),
)
