"""Section 4: a mixture is a point."""

from attnkit.learn.properties import follows_exchange, linear_in, no_nan
from attnkit.learn.task import Draws, Task, Wrong
from attnkit.learn.wording import extent, number, shape

_draw = Draws(4)

CONTEXT = Task(
    name="context",
    section=4,
    stars=1,
    signature="context(weights, values) -> (d,), from weights (kv_len,) and values (kv_len, d)",
    statement="Mix the values: each one times its weight, all added up to one vector.",
    cases=((_draw(6).softmax(0), _draw(6, 4)), (_draw(4).softmax(0), _draw(4, 4))),
    right=lambda weights, values: weights @ values,
    wrongs=(
        Wrong(
            "not added",
            lambda weights, values: weights[:, None] * values,
            lambda at: (
                f"You have the weighted arrows, {len(at.got)} of them, {shape(at.got)}. Put them end to end: "
                f"added up they make one arrow, {shape(at.want)}."
            ),
        ),
        Wrong(
            "divided again",
            lambda weights, values: (weights[:, None] * values).mean(0),
            lambda at: (
                f"Your arrow is {number(at.want.norm() / at.got.norm())} times too short: you took a mean "
                f"over the {len(at.tensor(0))} values. The weights sum to one already, so a sum is the whole "
                "average."
            ),
        ),
        Wrong(
            "plain mean",
            lambda weights, values: values.mean(0),
            lambda at: (
                f"Your answer does not look at the weights ({extent(at.tensor(0))}): it gives each value "
                f"{number(1 / len(at.tensor(0)))}. This is the plain average."
            ),
        ),
        Wrong(
            "winner",
            lambda weights, values: values[weights.argmax()],
            lambda at: (
                f"You returned value {int(at.tensor(0).argmax())} alone, although its weight is "
                f"{number(at.tensor(0).max())}, not 1. Attention mixes; the others hold the rest."
            ),
        ),
        Wrong(
            "coordinates",
            lambda weights, values: values @ weights,
            lambda at: (
                f"With {len(at.got)} values of {len(at.got)} coordinates it runs, but the weights fell on "
                f"the coordinates: first number {number(at.got[0])}, not {number(at.want[0])}. Weight the "
                "rows: which side does the vector stand on?"
            ),
        ),
        Wrong(
            "softmax twice",
            lambda weights, values: weights.softmax(0) @ values,
            lambda at: (
                f"A second softmax: the weights came in from {extent(at.tensor(0))}, and you mixed with "
                f"weights from {extent(at.tensor(0).softmax(0))}, nearly even. They sum to one already."
            ),
        ),
    ),
    hints=(
        "Stretch each value by its weight, then put the arrows end to end. What shape has the end point?",
        "A vector times a matrix adds up the rows of the matrix, each times one number of the vector.",
    ),
    solution="""\
def context(weights, values):
    return weights @ values
""",
    properties=(
        no_nan,
        follows_exchange({0: 0, 1: 0}, None, "two weights and their values"),
        linear_in(1, "values"),
        linear_in(0, "weights"),
    ),
)
