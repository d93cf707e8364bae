"""Section 8: how large a dot product is."""

from torch import Tensor

from attnkit.learn.properties import follows_exchange, linear_in, no_nan
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.wording import extent, number

_draw = Draws(8)


def _products(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT


def _ratio(at: Sample) -> str:
    return number(at.got.norm() / at.want.norm())


def _shares(at: Sample) -> bool:
    """Whether the rows are shares: nothing below zero, and a sum of one."""
    sums = at.got.sum(-1)
    return at.got.shape == at.want.shape and bool((at.got >= 0).all() and ((sums - 1).abs() < 1e-4).all())


def _head_dim(at: Sample) -> int:
    return at.tensor(0).shape[-1]


SCALED_SCORES = Task(
    name="scaled_scores",
    section=8,
    stars=1,
    signature=(
        "scaled_scores(query, key) -> (heads, q_len, kv_len), from query and key (heads, len, head_dim)"
    ),
    statement=(
        "All dot products of queries and keys, head by head, divided so that their spread stays near one."
    ),
    cases=((_draw(2, 3, 5), _draw(2, 7, 5)), (_draw(4, 4, 4), _draw(4, 4, 4))),
    right=lambda query, key: _products(query, key) / query.shape[-1] ** 0.5,
    wrongs=(
        Wrong(
            "missing",
            lambda query, key: _products(query, key),
            lambda at: (
                f"No scale: your scores are {_ratio(at)} times the right ones, which is the root of head_dim "
                f"= {_head_dim(at)}. Divide by it."
            ),
        ),
        Wrong(
            "no root",
            lambda query, key: _products(query, key) / query.shape[-1],
            lambda at: (
                f"You divided by head_dim itself, {_head_dim(at)}: too much, the scores are {_ratio(at)} of "
                "the right ones. The spread of a sum grows with the root of the number of terms."
            ),
        ),
        Wrong(
            "by width",
            lambda query, key: _products(query, key) / (query.shape[0] * query.shape[-1]) ** 0.5,
            lambda at: (
                f"You divided by the root of {at.got.shape[0] * _head_dim(at)}, all heads together (heads x "
                f"head_dim). A dot product here adds up {_head_dim(at)} products, those of one head."
            ),
        ),
        Wrong(
            "by length",
            lambda query, key: _products(query, key) / key.shape[-2] ** 0.5,
            lambda at: (
                f"You divided by the root of {at.got.shape[-1]}, the number of keys. The spread comes from "
                f"how many products are added up in one score: {_head_dim(at)}."
            ),
        ),
        Wrong(
            "by heads",
            lambda query, key: _products(query, key) / query.shape[0] ** 0.5,
            lambda at: (
                f"You divided by the root of {at.got.shape[0]}, the number of heads. The number of products "
                f"in one score is {_head_dim(at)}: which axis of the query says so?"
            ),
        ),
        Wrong(
            "already weights",
            lambda query, key: (_products(query, key) / query.shape[-1] ** 0.5).softmax(-1),
            lambda at: (
                f"Your rows sum to {number(at.got[0, 0].sum())}: these are weights already. Scores come before "
                f"the softmax, and may be negative (here {extent(at.want)})."
            ),
            match=_shares,
        ),
        Wrong(
            "multiplied",
            lambda query, key: _products(query, key) * query.shape[-1] ** 0.5,
            lambda at: (
                f"You multiplied by the root of {_head_dim(at)}: your scores are {_ratio(at)} times the "
                "right ones. They were too large already."
            ),
        ),
    ),
    hints=(
        "Transpose only the last two axes of the key (.mT), so that heads stay apart. Then: how many "
        "products does one score add up?",
        "A sum of n products of numbers of size 1 is about the root of n large. Here n is the last axis of "
        "the query.",
    ),
    solution="""\
def scaled_scores(query, key):
    head_dim = query.shape[-1]
    return query @ key.mT / head_dim**0.5
""",
    properties=(no_nan, follows_exchange({1: 1}, 2, "keys"), linear_in(0, "queries")),
)
