"""What a rule does on one query and key: a value that computes nothing before it is asked."""

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from attnkit.backends import eager
from attnkit.errors import OptionError
from attnkit.inspection.blocks import kept_blocks, rows_at_a_time
from attnkit.inspection.pooling import Pooled, pooled_shape, pooled_weights
from attnkit.inspection.refusals import check_size, checked_tile
from attnkit.inspection.spread import row_entropy, row_lse
from attnkit.normalizers import softmax_sink
from attnkit.request import Request
from attnkit.shapes import Weights, checked_rows

_AT_MOST_BYTES = 1 << 30
_FOR_EVERY_RULE = "weights(), rows(), received() and pooled() have a meaning for every rule"

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


def _looking(
    measure: Callable[Concatenate["Inspection", _Arguments], _Answer],
) -> Callable[Concatenate["Inspection", _Arguments], _Answer]:
    """Without a gradient, and in the dtype of the inputs where autocast would take a lower one."""

    @functools.wraps(measure)
    def looked(found: "Inspection", *args: _Arguments.args, **options: _Arguments.kwargs) -> _Answer:
        kind = found.request.query.device.type
        casts = torch.amp.is_autocast_available(kind)
        with torch.no_grad(), torch.autocast(kind, enabled=False) if casts else nullcontext():
            return measure(found, *args, **options)

    return looked


@dataclass(frozen=True, eq=False)
class Inspection:
    """The attention of one rule on one query and key, made by `Rule.inspect`.

    Dropout is left out, and no gradient is kept. Inputs of half precision are looked at in float32, since fused
    kernels keep their scores in it, and autocast does not act. What is asked costs time for the pairs that the mask
    keeps, and beside the answer a few blocks of memory.

    Example:
        >>> from attnkit import Rule, masks
        >>> query = key = torch.zeros(1, 1, 4, 2)
        >>> found = Rule(mask=masks.causal).inspect(query, key)
        >>> found.rows([1]).tolist()
        [[[[0.5, 0.5, 0.0, 0.0]]]]
        >>> found.pooled(2).max.shape
        torch.Size([1, 1, 2, 2])
    """

    request: Request

    def __repr__(self) -> str:
        asked = self.request
        shapes = f"query {tuple(asked.query.shape)}, key {tuple(asked.key.shape)}"
        return f"Inspection({shapes}, {asked.mask!r}, {asked.normalizer!r})"

    @_looking
    def weights(self, *, at_most_bytes: int | float = _AT_MOST_BYTES) -> Weights:
        """All the weights, `*batch heads q_len kv_len`.

        Args:
            at_most_bytes: how large the result may be.

        Raises:
            OptionError: it would be larger.
        """
        request = self.request
        shape = (*request.query.shape[:-1], request.kv_len)
        check_size("weights", shape, request, at_most_bytes)
        found = request.query.new_zeros(shape)
        for block in kept_blocks(request):
            found[..., block.rows, block.columns] = eager.weights(block.request)
        return found

    @_looking
    def rows(
        self, indices: Sequence[int] | Tensor, *, at_most_bytes: int | float = _AT_MOST_BYTES
    ) -> Weights:
        """The weights of the queries at `indices` (n,) alone, `*batch heads n kv_len`; -1 is the last.

        Args:
            indices: whole numbers.
            at_most_bytes: how large the result may be.

        Raises:
            OptionError: there is no such query, or an index is no whole number; or the result would be larger.
        """
        request = self.request
        rows = checked_rows(indices, request.q_len, "queries", request.query.device)
        shape = (*request.query.shape[:-2], rows.numel(), request.kv_len)
        check_size("rows", shape, request, at_most_bytes)
        found = request.query.new_zeros(shape)
        for some in torch.arange(rows.numel()).split(rows_at_a_time(request, request.kv_len)):
            found[..., some, :] = eager.weights(request.rows(rows[some]))
        return found

    @_looking
    def entropy(self) -> Tensor:
        """How spread out each row is, `*batch heads q_len`, in nats: 0 is one key alone, log(n) is n keys evenly.

        A row with nothing to read has entropy 0.

        Raises:
            OptionError: rows of this rule do not sum to one, so they have no entropy.
        """
        if not self.request.normalizer.rows_sum_to_one:
            raise OptionError(
                where="inspect.entropy",
                what="entropy is a quantity of rows that sum to one; this rule normalises by "
                f"{self.request.normalizer!r}",
                fix=_FOR_EVERY_RULE,
            )
        return row_entropy(self.request)

    @_looking
    def lse(self) -> Tensor:
        """The logarithm of what each row is divided by, the sum of exp(score), `*batch heads q_len`.

        `exp(score - lse)` is the weight of a key that may be read. A sink is part of the sum. Without one, a row with
        nothing to read has -inf.

        Raises:
            OptionError: the rule does not normalise by softmax.
        """
        softmax, _ = softmax_sink(self.request.normalizer)
        if not softmax:
            raise OptionError(
                where="inspect.lse",
                what=f"lse is a quantity of the softmax; this rule normalises by {self.request.normalizer!r}",
                fix=_FOR_EVERY_RULE,
            )
        return row_lse(self.request)

    @_looking
    def received(self) -> Tensor:
        """How much each key is read by each head: its weights summed over all queries, `*batch heads kv_len`.

        Heads are query heads. By softmax without a sink, each query that has something to read gives one.
        """
        request = self.request
        found = request.query.new_zeros((*request.query.shape[:-2], request.kv_len))
        for block in kept_blocks(request):
            found[..., block.columns] += eager.weights(block.request).sum(-2)
        return found

    @_looking
    def pooled(self, tile: int | tuple[int, int], *, at_most_bytes: int | float = _AT_MOST_BYTES) -> Pooled:
        """The mean and the largest weight of each tile of `tile` x `tile` weights; hidden pairs count as zero.

        Args:
            tile: how many queries and how many keys, in tokens; two numbers where they differ.
            at_most_bytes: how large the result may be.

        Raises:
            OptionError: `tile` is no size, or the result would be larger.
        """
        sizes = checked_tile(tile)
        check_size("pooled", (2, *pooled_shape(self.request, sizes)), self.request, at_most_bytes)
        return pooled_weights(self.request, sizes)
