"""Section 7: a head made by hand."""

import torch
from torch import Tensor

from attnkit.learn.answers import MatricesAnswer
from attnkit.learn.properties import no_nan
from attnkit.learn.task import Sample, Task, Wrong
from attnkit.learn.wording import number


def _shift(n: int, by: int) -> Tensor:
    """Ones on the diagonal `by` to the right of the main one, (n, n)."""
    return torch.diag(torch.ones(n - abs(by)), by)


def _reads(at: Sample, offset: int) -> Tensor:
    """The weights of the position `offset` away, for positions that have it and a left neighbour."""
    read = at.got.diagonal(offset)
    return read[1:] if offset > -1 else read


def _left(at: Sample) -> Tensor:
    """The weights of the left neighbour: n - 1 numbers, for positions 1 and up."""
    return at.got.diagonal(-1)


def _sharp(at: Sample) -> bool:
    return bool((_left(at) >= 0.99).all())


def _wins(at: Sample) -> bool:
    return bool((at.got[1:].argmax(-1) == torch.arange(len(at.got) - 1)).all()) and not _even(at)


def _even(at: Sample) -> bool:
    rows = at.got[1:]
    return bool((rows.amax(-1) - rows.amin(-1) < 1e-4).all())


def _shunned(at: Sample) -> bool:
    others = at.got[1:].clone()
    others[torch.arange(len(others)), torch.arange(len(others))] = 1.0
    return bool((_left(at) < 0.01).all() and (others.amin(-1) > 0.01).all())


def _all_the_past(at: Sample) -> bool:
    """Whether every position reads those before it alike, and hardly any other but perhaps itself."""
    rows = [at.got[place, :place] for place in range(2, len(at.got))]
    return all(bool(row.max() - row.min() < 0.01 and row.sum() > 0.6) for row in rows)


def _left_neighbour_is_read(at: Sample) -> str | None:
    """The position that fails worst, with what it reads instead."""
    if _sharp(at):
        return None
    left = _left(at)
    worst = (
        int((left <= 1.0001 * left.min()).nonzero()[0]) + 1
    )  # the first, where only rounding tells them apart
    most = int(at.got[worst].argmax())
    if at.got[worst, worst - 1] > at.got[worst].max() - 1e-4:
        return (
            f"Position {worst} of {len(at.got)} reads its left neighbour with {number(at.got[worst, worst - 1])} "
            "only; every position should with 0.99 or more."
        )
    return (
        f"Position {worst} of {len(at.got)} reads position {most} most, with {number(at.got[worst, most])}, "
        f"and its left neighbour {worst - 1} with {number(at.got[worst, worst - 1])}."
    )


PREVIOUS_WORD = Task(
    name="previous_word",
    section=7,
    stars=3,
    signature="previous_word(n) -> (W_query, W_key), two matrices (n, n)",
    statement=(
        "The vector of position i is one-hot: a 1 in place i, so row i of a matrix is what position i "
        "becomes. Choose W_query and W_key so that every position reads its left neighbour with a weight of "
        "at least 0.99, when the scores are divided by the root of n. Position 0 has no neighbour and may "
        "read what it likes."
    ),
    cases=((8,), (5,)),
    right=lambda n: (50 * torch.eye(n), _shift(n, 1)),
    wrongs=(
        Wrong(
            "next word",
            lambda n: (50 * torch.eye(n), _shift(n, -1)),
            lambda at: (
                f"Position 1 reads position 2, its right neighbour, with {number(at.got[1, 2])}, and so on "
                "along the row: the shift goes the other way, or query and key are exchanged."
            ),
            match=lambda at: bool((_reads(at, 1) > 0.5).all()),
        ),
        Wrong(
            "itself",
            lambda n: (50 * torch.eye(n), torch.eye(n)),
            lambda at: (
                f"Every position reads itself most, position 1 with {number(at.got[1, 1])}: query i and key i "
                "point the same way. One of the two matrices has to shift."
            ),
            match=lambda at: bool((_reads(at, 0) > 0.5).all()),
        ),
        Wrong(
            "two back",
            lambda n: (50 * torch.eye(n), _shift(n, 2)),
            lambda at: (
                f"Position 2 reads position 0 with {number(at.got[2, 0])}: two steps back everywhere. One "
                "step is wanted."
            ),
            match=lambda at: bool((_reads(at, -2) > 0.5).all()),
        ),
        Wrong(
            "too weak",
            lambda n: (torch.eye(n), _shift(n, 1)),
            lambda at: (
                f"The left neighbour wins everywhere, but with {number(_left(at).min())} only; at least 0.99 "
                "is asked for. A longer query makes sharper weights."
            ),
            match=lambda at: _wins(at) and not _sharp(at),
        ),
        Wrong(
            "all the past",
            lambda n: (50 * torch.ones(n, n).tril(-1), torch.eye(n)),
            lambda at: (
                f"Position {len(at.got) - 1} reads all {len(at.got) - 1} positions before it alike, each with "
                f"{number(at.got[-1, -2])}: a key answers every later query. Each key should "
                "answer in one place only, to its right-hand neighbour."
            ),
            match=_all_the_past,
        ),
        Wrong(
            "sign",
            lambda n: (-50 * torch.eye(n), _shift(n, 1)),
            lambda at: (
                f"Everybody but the left neighbour is read: position 1 gives it {number(at.got[1, 0])} and "
                f"every other position {number(at.got[1, 1:].min())} or more. The score that "
                "should be the largest is the smallest: look at the sign."
            ),
            match=_shunned,
        ),
        Wrong(
            "even",
            lambda n: (torch.zeros(n, n), _shift(n, 1)),
            lambda at: (
                f"From position 1 on, all weights are {number(at.got[1, 0])}, 1 in {len(at.got)}: the scores of "
                "a row are as good as equal, so nobody is asked for."
            ),
            match=_even,
        ),
    ),
    hints=(
        "The score of query i and key j is row i of W_query times row j of W_key. It should be large for j "
        "= i - 1 and 0 otherwise. Let the keys say who they are to the right-hand neighbour, and the "
        "queries who they are.",
        "Make one matrix a long identity (50 times, say). Make the other an identity whose ones have moved "
        "one place aside: torch.diag takes numbers and a diagonal.",
    ),
    solution="""\
def previous_word(n):
    W_query = 50 * torch.eye(n)
    W_key = torch.diag(torch.ones(n - 1), 1)
    return W_query, W_key
""",
    answer=MatricesAnswer(),
    properties=(no_nan, _left_neighbour_is_read),
    accepts=_sharp,
)
