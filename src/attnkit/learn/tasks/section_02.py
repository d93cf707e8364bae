"""Section 2: who matters to whom."""

import torch

from attnkit.learn.properties import follows_exchange, linear_in, no_nan
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.wording import extent, number, shape

_draw = Draws(2)


def _lengths_taken_out(at: Sample) -> str:
    lengths = at.tensor(1).norm(dim=-1)
    return (
        f"These are cosines ({extent(at.got)}): you divided by the lengths. The keys are {extent(lengths)} "
        "long, and in attention a long key may shout louder than a short one."
    )


SCORES = Task(
    name="scores",
    section=2,
    stars=1,
    core=True,
    signature="scores(query, keys) -> (kv_len,), from query (d,) and keys (kv_len, d)",
    statement="Give the dot product of the query with every key: one number a key, and nothing else yet.",
    cases=((_draw(4), _draw(6, 4)), (_draw(3), _draw(3, 3))),
    right=lambda query, keys: keys @ query,
    wrongs=(
        Wrong(
            "not summed",
            lambda query, keys: keys * query,
            lambda at: (
                f"You multiplied coordinate by coordinate and stopped there: {shape(at.got)} numbers. A dot "
                f"product also adds its products up; the {at.got.shape[1]} of key 0 make "
                f"{number(at.want[0])}."
            ),
        ),
        Wrong(
            "summed over keys",
            lambda query, keys: (keys * query).sum(0),
            lambda at: (
                f"You added over the keys and have {len(at.got)} numbers, one a coordinate. Add over the "
                f"coordinates: {len(at.want)} numbers, one a key."
            ),
        ),
        Wrong(
            "wrong side",
            lambda query, keys: query @ keys,
            lambda at: (
                f"With {len(at.got)} keys of {len(at.got)} coordinates it runs, but each number combines all "
                f"keys in one coordinate: {number(at.got[0])} where key 0 has {number(at.want[0])}. The axis "
                "that is summed away should be that of the coordinates."
            ),
        ),
        Wrong(
            "mean",
            lambda query, keys: (keys * query).mean(-1),
            lambda at: (
                f"Your scores are {len(at.tensor(0))} times too small: with {len(at.tensor(0))} coordinates "
                "you took the mean of the products. A dot product is their sum."
            ),
        ),
        Wrong(
            "cosine",
            lambda query, keys: torch.cosine_similarity(query[None], keys, -1),
            _lengths_taken_out,
        ),
        Wrong(
            "distance",
            lambda query, keys: -(keys - query).norm(dim=-1),
            lambda at: (
                f"These are distances with a minus ({extent(at.got)}): near is best. A dot product asks "
                "something else; a long vector that points the same way wins, here with "
                f"{number(at.want.max())}."
            ),
        ),
        Wrong(
            "already weights",
            lambda query, keys: (keys @ query).softmax(-1),
            lambda at: (
                f"Your numbers sum to {number(at.got.sum())}: these are weights already. Scores come before "
                f"the softmax, and may be negative (here {extent(at.want)})."
            ),
        ),
    ),
    hints=(
        "For one key: multiply it with the query coordinate by coordinate, then add the products up. How "
        "would you do that for all keys at once?",
        "A matrix times a vector is one dot product for each row of the matrix. The keys are the rows.",
    ),
    solution="""\
def scores(query, keys):
    return keys @ query
""",
    properties=(no_nan, follows_exchange({1: 0}, 0, "keys"), linear_in(0, "a query"), linear_in(1, "keys")),
)
