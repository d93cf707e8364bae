"""Section 13, the whole: many heads at once."""

from torch import Tensor

from attnkit.learn.agreement import close
from attnkit.learn.properties import follows_exchange, largest_leak, no_nan, past_stays
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.tasks.parts import Parts, causal_shares, merge_by_reshape, split_by_view
from attnkit.learn.tasks.wholes import MANY_HEADS
from attnkit.learn.wording import number

_draw = Draws(14)


def _case(batch: int, length: int, d_in: int, num_heads: int, head_dim: int) -> tuple[object, ...]:
    d_out = num_heads * head_dim
    matrices = [_draw(d_in, d_out, spread=0.6) for _ in range(3)]
    return _draw(batch, length, d_in), *matrices, _draw(d_out, d_out, spread=0.4), num_heads


def _averaged(scores: Tensor) -> Tensor:
    weights = causal_shares(scores)
    return weights.mean(1, keepdim=True).expand_as(weights)


def _scaled_after(scores: Tensor, head_dim: int) -> Tensor:
    return causal_shares(scores) / head_dim**0.5


def _scale_after(
    x: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor, W_out: Tensor, num_heads: int
) -> Tensor:
    head_dim = W_query.shape[1] // num_heads
    parts = Parts(divisor=lambda *_: 1.0, weigh=lambda scores: _scaled_after(scores, head_dim))
    return parts(x, W_query, W_key, W_value, W_out, num_heads)


def _one_head(
    x: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor, W_out: Tensor, num_heads: int
) -> Tensor:
    return Parts()(x, W_query, W_key, W_value, W_out, 1)


def _is_one_head(at: Sample) -> bool:
    """Whether one head attended, with the scale of one head or of many."""
    x, w_query, w_key, w_value, w_out = (at.tensor(index) for index in range(5))
    return any(
        close(at.got, Parts(divisor=divisor)(x, w_query, w_key, w_value, w_out, 1))
        for divisor in (lambda width, _: width**0.5, lambda *_: _head_dim(at) ** 0.5)
    )


def _out_turned(
    x: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor, W_out: Tensor, num_heads: int
) -> Tensor:
    return Parts()(x, W_query, W_key, W_value, W_out.T, num_heads)


def _words_added(
    x: Tensor, W_query: Tensor, W_key: Tensor, W_value: Tensor, W_out: Tensor, num_heads: int
) -> Tensor:
    return x + Parts()(x, W_query, W_key, W_value, W_out, num_heads)


def _moved(at: Sample) -> str:
    """The largest leak: which output moves with which later word, and by how much."""
    output, word, size = largest_leak(lambda x: at.call(x, *at.inputs[1:]), at.tensor(0))
    return f"output {output} moves by {number(size)} when word {word} changes"


def _changed_matrix(at: Sample, index: int) -> str:
    """How far the answer moves when a matrix is doubled."""
    inputs = list(at.inputs)
    inputs[index] = 2 * at.tensor(index)
    return number((at.call(*inputs) - at.got).abs().max())


def _head_dim(at: Sample) -> int:
    return at.tensor(1).shape[1] // at.integer(5)


def _largest_error(at: Sample) -> str:
    return number((at.got - at.want).abs().max())


MULTI_HEAD = Task(
    name="multi_head",
    section=13,
    stars=3,
    signature=(
        "multi_head(x, W_query, W_key, W_value, W_out, num_heads) -> (batch, len, d_out), from x (batch, "
        "len, d_in), three matrices (d_in, d_out) and W_out (d_out, d_out)"
    ),
    statement=(
        "Causal attention with many heads: project, split, scale, hide the future, softmax, mix, merge, and "
        "project once more with W_out."
    ),
    # the last one with d_in = d_out: only there can the words be added
    cases=(_case(2, 5, 6, 3, 4), _case(3, 3, 6, 3, 3), _case(2, 4, 6, 3, 2)),
    right=Parts(),
    wrongs=(
        Wrong(
            "leak",
            Parts(weigh=lambda scores: scores.softmax(-1)),
            lambda at: f"No mask: {_moved(at)}. Hide the future before the softmax.",
        ),
        Wrong(
            "no scale",
            Parts(divisor=lambda *_: 1.0),
            lambda at: (
                f"The scale is missing: your scores are {number(_head_dim(at) ** 0.5)} times too large, the "
                f"root of head_dim = {_head_dim(at)}."
            ),
        ),
        Wrong(
            "by width",
            Parts(divisor=lambda width, head_dim: width**0.5),
            lambda at: (
                f"You divided by the root of d_out = {at.got.shape[-1]}. A score of one head adds up "
                f"{_head_dim(at)} products, its head_dim."
            ),
        ),
        Wrong(
            "scaled after softmax",
            _scale_after,
            lambda at: (
                "You divided by the root of head_dim after the softmax, so your rows of weights sum to "
                f"{number(_head_dim(at) ** -0.5)}. Divide the scores."
            ),
        ),
        Wrong(
            "merged by reshape",
            Parts(merge=merge_by_reshape),
            lambda at: (
                f"Your heads are merged by reshape alone, and words are mixed: {_moved(at)}, through the "
                "mask. merge_heads moves an axis first."
            ),
        ),
        Wrong(
            "split by view",
            Parts(split=split_by_view),
            lambda at: (
                f"Your heads are split by a view alone, and words are mixed: {_moved(at)}, through the mask. "
                "split_heads cuts the last axis and then moves it."
            ),
        ),
        Wrong(
            "value from key",
            Parts(chosen=lambda query, key, value: (query, key, key)),
            lambda at: (
                "The values are made with W_key: doubling W_value moves your answer by "
                f"{_changed_matrix(at, 3)}."
            ),
        ),
        Wrong(
            "roles exchanged",
            Parts(chosen=lambda query, key, value: (key, query, value)),
            lambda at: (
                "Query and key are exchanged: x @ W_key asks and x @ W_query answers (largest error "
                f"{_largest_error(at)}). Rows of the scores belong to the queries."
            ),
        ),
        Wrong(
            "averaged heads",
            Parts(weigh=_averaged),
            lambda at: (
                f"All {at.integer(5)} heads use the same weights, their average: 1 head would do. Each mixes "
                "its own values with its own weights."
            ),
        ),
        Wrong(
            "one head",
            _one_head,
            lambda at: (
                f"You attend with one head of {at.got.shape[-1]} numbers, where num_heads = {at.integer(5)}. Split "
                f"before you score: each head compares {_head_dim(at)} numbers of its own."
            ),
            match=_is_one_head,
        ),
        Wrong(
            "output turned",
            _out_turned,
            lambda at: (
                f"W_out went in turned round (largest error {_largest_error(at)}; it is {at.got.shape[-1]} x "
                f"{at.got.shape[-1]}, so no shape complains). Use it as it is, like the other three."
            ),
        ),
        Wrong(
            "words added",
            _words_added,
            lambda at: (
                f"You added x itself: with d_in = d_out = {at.got.shape[-1]} it runs, and your answer minus the "
                "right one is just x. Attention gives its output alone; who calls it may add x."
            ),
        ),
        Wrong(
            "not projected",
            Parts(projected=False),
            lambda at: (
                "The last projection is missing: doubling W_out moves your answer by "
                f"{_changed_matrix(at, 4)}."
            ),
        ),
    ),
    hints=(
        "You have all the pieces: split_heads, a scale, a causal mask, softmax, merge_heads. Write the "
        "shape beside each line, from (batch, len, d_in) to (batch, len, d_out).",
        "Split query, key and value right after their projections; with (batch, heads, len, head_dim) "
        "everything up to the context is as for one head. head_dim is d_out // num_heads. Merge, then @ "
        "W_out.",
    ),
    solution="""\
def multi_head(x, W_query, W_key, W_value, W_out, num_heads):
    batch, length, _ = x.shape
    head_dim = W_query.shape[1] // num_heads
    query, key, value = (
        (x @ W).view(batch, length, num_heads, head_dim).transpose(1, 2)
        for W in (W_query, W_key, W_value)
    )
    scores = query @ key.mT / head_dim**0.5
    future = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
    weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    context = (weights @ value).transpose(1, 2)
    return context.reshape(batch, length, num_heads * head_dim) @ W_out
""",
    properties=(no_nan, past_stays(), follows_exchange({0: 0}, 0, "sentences")),
    whole=MANY_HEADS,
)
