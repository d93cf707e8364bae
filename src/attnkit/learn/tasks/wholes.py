"""The functions of some exercises inside of attention, as `attnkit.check` takes it.

What a reader writes is one part, or a whole without matrices of its own. Around it stands what is right, so whatever
`check` finds is the reader's.
"""

import torch
from torch import Tensor, nn

from attnkit.layers.teaching import attend, merge_heads, split_heads
from attnkit.learn.task import Function, OnHeads, Whole


class _Rows(nn.Module):
    """A function of one sentence (len, d), on a batch."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Each sentence by itself."""
        return torch.stack([_tensor(self.function(row)) for row in x])


def _tensor(answer: object) -> Tensor:
    assert isinstance(answer, Tensor)
    return answer


def _picking(parts: int, like: Tensor) -> list[Tensor]:
    """Matrices that pick one of so many runs, each as wide as `like`: x @ matrix is that run of x."""
    width = like.shape[-1]
    return list(torch.eye(parts * width, dtype=like.dtype).split(width, dim=1))


def _many_heads(function: Function) -> OnHeads:
    """`function(x, W_query, W_key, W_value, W_out, num_heads)`, whose matrices pick queries, keys and values."""

    def on_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        num_heads = query.shape[1]
        runs = [merge_heads(part) for part in (query, key, value)]
        (unchanged,) = _picking(1, runs[0])
        matrices = (*_picking(3, runs[0]), unchanged)
        return split_heads(_tensor(function(torch.cat(runs, dim=-1), *matrices, num_heads)), num_heads)

    return on_heads


def _of_memory(function: Function) -> OnHeads:
    """`function(x, memory, W_query, W_key, W_value)` as one head.

    Words of x hold three times their query, so that a matrix in the wrong place finds a query all the same.
    """

    def on_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        words, memory = torch.cat([query] * 3, dim=-1)[:, 0], torch.cat([key, key, value], dim=-1)[:, 0]
        matrices = _picking(3, query)
        return torch.stack(
            [_tensor(function(x, read, *matrices)) for x, read in zip(words, memory, strict=True)]
        )[:, None]

    return on_heads


def _split_by(function: Function) -> OnHeads:
    """Attention whose heads are split by `function(x, num_heads)`."""

    def on_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = (query, key, value)
        heads = [_tensor(function(merge_heads(part), query.shape[1])) for part in parts]
        return split_heads(merge_heads(attend(heads[0], heads[1], heads[2])), query.shape[1])

    return on_heads


def _merged_by(function: Function) -> OnHeads:
    """Attention whose heads are merged by `function(context)`."""

    def on_heads(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return split_heads(_tensor(function(attend(query, key, value))), query.shape[1])

    return on_heads


_LAYER = "Tried in a layer of 3 heads, 6 numbers each"
SENTENCES = Whole("Tried on other words, of 6 numbers", _Rows, {"d_in": 6, "scale": 1.0})
MANY_HEADS = Whole(_LAYER, _many_heads, {"causal": True, "num_heads": 3})
OF_MEMORY = Whole("Tried on other words, d_out = 6", _of_memory, {"cross": True, "num_heads": 1})
SPLIT_BY = Whole(_LAYER, _split_by, {"num_heads": 3})
MERGED_BY = Whole(_LAYER, _merged_by, {"num_heads": 3})
