"""Section 17: one sentence reads another."""

import torch
from torch import Tensor

from attnkit.learn.properties import follows_exchange, no_nan
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.tasks.wholes import OF_MEMORY
from attnkit.learn.wording import extent, number

_draw = Draws(16)


def _weights(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor) -> Tensor:
    return _scores(x, memory, W_query, W_key).softmax(-1)


def _scores(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor) -> Tensor:
    return (x @ W_query) @ (memory @ W_key).T / W_query.shape[1] ** 0.5


def _right(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _weights(x, memory, W_query, W_key) @ (memory @ W_value)


def _swapped(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _right(memory, x, W_query, W_key, W_value)


def _self(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _right(x, x, W_query, W_key, W_value)


def _value_from_x(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _weights(x, memory, W_query, W_key) @ (x @ W_value)


def _key_from_x(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _weights(x, x, W_query, W_key) @ (memory @ W_value)


def _causal(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    scores = _scores(x, memory, W_query, W_key)
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ (memory @ W_value)


def _over_queries(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _scores(x, memory, W_query, W_key).softmax(-2) @ (memory @ W_value)


def _both(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _right(x, torch.cat([memory, x]), W_query, W_key, W_value)


def _no_scale(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _right(x, memory, W_query * W_query.shape[1] ** 0.5, W_key, W_value)


def _width_scale(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    d_in, d_out = W_query.shape
    return _right(x, memory, W_query * (d_out / d_in) ** 0.5, W_key, W_value)


def _roles(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _right(x, memory, W_key, W_query, W_value)


def _not_projected(x: Tensor, memory: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor) -> Tensor:
    return _weights(x, memory, W_query, W_key) @ memory


def _memory_moves(at: Sample) -> str:
    """How far the answer moves when the memory is doubled."""
    x, memory, *matrices = at.inputs
    assert isinstance(memory, Tensor)
    return number((at.call(x, 2 * memory, *matrices) - at.got).abs().max())


def _scores_over_queries(at: Sample) -> Tensor:
    """The weights of a softmax over the words of x."""
    return _scores(at.tensor(0), at.tensor(1), at.tensor(2), at.tensor(3)).softmax(-2)


def _case(x_len: int, memory_len: int) -> tuple[Tensor, ...]:
    return _draw(x_len, 4), _draw(memory_len, 4), *(_draw(4, 3, spread=0.7) for _ in range(3))


CROSS_ATTENTION = Task(
    name="cross_attention",
    section=17,
    stars=2,
    signature=(
        "cross_attention(x, memory, W_query, W_key, W_value) -> (len of x, d_out), from x and memory (len, "
        "d_in) and three matrices (d_in, d_out)"
    ),
    statement=(
        "The words of x ask, the words of memory answer. Scores are divided by the root of d_out; nothing is "
        "hidden."
    ),
    cases=(_case(3, 6), _case(4, 4)),
    right=_right,
    wrongs=(
        Wrong(
            "swapped",
            _swapped,
            lambda at: (
                f"The roles are exchanged, memory asks and x answers: {len(at.got)} rows came out, one a "
                f"word of memory, and x has {len(at.want)} words. Who asks gives the rows."
            ),
        ),
        Wrong(
            "self-attention",
            _self,
            lambda at: (
                "Keys and values come from x: this is self-attention, and doubling memory moves your answer "
                f"by {_memory_moves(at)}. The answers should come from memory."
            ),
        ),
        Wrong(
            "value from x",
            _value_from_x,
            lambda at: (
                f"With {len(at.tensor(0))} words on both sides it runs, but keys come from memory and values "
                "from x: word 0 finds its place in memory, and takes what stands there in x (first number "
                f"{number(at.got[0, 0])}, not {number(at.want[0, 0])})."
            ),
        ),
        Wrong(
            "key from x",
            _key_from_x,
            lambda at: (
                f"With {len(at.tensor(0))} words on both sides it runs, but keys come from x and values from "
                f"memory: word 0 searches among its own sentence (first number {number(at.got[0, 0])}, not "
                f"{number(at.want[0, 0])}). Keys and values belong together."
            ),
        ),
        Wrong(
            "causal",
            _causal,
            lambda at: (
                f"You put a causal mask on it: word 0 reads 1 word of memory, not {len(at.tensor(1))}. "
                "Memory is there from the start; nothing in it is the future."
            ),
        ),
        Wrong(
            "over queries",
            _over_queries,
            lambda at: (
                "The softmax runs over the words of x, so each word of memory deals itself out: your rows of "
                f"weights do not sum to one ({extent(_scores_over_queries(at).sum(-1))}). Each word of x "
                "should deal out 1."
            ),
        ),
        Wrong(
            "both",
            _both,
            lambda at: (
                f"Each word reads memory and x together, {len(at.tensor(0)) + len(at.tensor(1))} words. Here "
                f"only the {len(at.tensor(1))} of memory answer."
            ),
        ),
        Wrong(
            "matrices exchanged",
            _roles,
            lambda at: (
                "W_query and W_key are exchanged: x went through W_key and memory through W_query (first number "
                f"{number(at.got[0, 0])}, not {number(at.want[0, 0])}). Who asks goes through W_query."
            ),
        ),
        Wrong(
            "no value",
            _not_projected,
            lambda at: (
                f"You mixed memory as it is: {at.got.shape[1]} numbers a word came out, and {at.want.shape[1]} "
                "are asked for. What is mixed are the values, made with W_value."
            ),
        ),
        Wrong(
            "width of the words",
            _width_scale,
            lambda at: (
                f"You divided by the root of {at.tensor(0).shape[1]}, the width of the words. A score adds up "
                f"{at.tensor(2).shape[1]} products, d_out, the width of queries and keys."
            ),
        ),
        Wrong(
            "no scale",
            _no_scale,
            lambda at: (
                f"The scale is missing: your scores are {number(at.tensor(2).shape[1] ** 0.5)} times too "
                f"large, the root of d_out = {at.tensor(2).shape[1]}."
            ),
        ),
    ),
    hints=(
        'Self-attention projects x three times. Which of the three answer the question "what do I look '
        'for?", and which belong to what is read?',
        "Queries from x, keys and values from memory. The scores are (len of x, len of memory); the rest is "
        "as before, without a mask.",
    ),
    solution="""\
def cross_attention(x, memory, W_query, W_key, W_value):
    query, key, value = x @ W_query, memory @ W_key, memory @ W_value
    scores = query @ key.T / key.shape[-1] ** 0.5
    return scores.softmax(dim=-1) @ value
""",
    properties=(
        no_nan,
        follows_exchange({1: 0}, None, "words of memory"),
        follows_exchange({0: 0}, 0, "words of x"),
    ),
    whole=OF_MEMORY,
)
