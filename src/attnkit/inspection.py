"""What fused attention does not return: weights, chosen rows of them, entropy, log-sum-exp.

All but the full weights are computed a few rows at a time, so no q_len x kv_len tensor is made.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.backends import eager
from attnkit.errors import OptionError
from attnkit.normalizers import Softmax, hide
from attnkit.request import Request
from attnkit.shapes import Weights, whole_numbers

_ELEMENTS_AT_A_TIME = 1 << 22


@dataclass(frozen=True, eq=False)
class Inspection:
    """The attention of one rule on one query and key. Made by `Rule.inspect`; nothing is computed before it is asked.

    Dropout is left out, and no gradient is kept. Inputs of half precision are looked at in float32, since fused
    kernels keep their scores in it.
    """

    request: Request

    @torch.no_grad()
    def weights(self) -> Weights:
        """All the weights, `*batch heads q_len kv_len`."""
        return eager.weights(self.request)

    @torch.no_grad()
    def rows(self, indices: Sequence[int] | Tensor) -> Weights:
        """The weights of the queries at `indices` (n,) alone, `*batch heads n kv_len`; -1 is the last.

        Raises:
            OptionError: there is no such query, or an index is no whole number.
        """
        q_len = self.request.q_len
        rows = whole_numbers(indices, device=self.request.query.device)
        if rows is None or any(not -q_len <= row < q_len for row in rows.flatten().tolist()):
            raise OptionError(
                where="inspect.rows",
                what=f"indices are whole numbers that count the {q_len} queries from 0, or from -1 backwards; "
                f"got {indices!r}",
                fix="rows([0, -1]) gives the first and the last; rows(chosen.nonzero()) those of a bool tensor",
            )
        return eager.weights(self.request.rows(rows.flatten().long() % q_len))

    def entropy(self) -> Tensor:
        """How spread out each row is, `*batch heads q_len`, in nats: 0 is one key alone, log(n) is n keys evenly.

        A row with nothing to read has entropy 0.

        Raises:
            OptionError: rows of this rule do not sum to one, so they have no entropy.
        """
        self._needs_softmax("entropy")
        return self._by_rows(
            lambda some: 0.0 - torch.special.xlogy(weights := eager.weights(some), weights).sum(-1)
        )

    def lse(self) -> Tensor:
        """The logarithm of each row's sum of exp(score), `*batch heads q_len`; -inf for a row with nothing to read.

        Raises:
            OptionError: the rule does not normalise by softmax.
        """
        self._needs_softmax("lse")
        return self._by_rows(lambda some: hide(eager.scores(some), some.keep).logsumexp(dim=-1))


    @torch.no_grad()
    def _by_rows(self, measure: Callable[[Request], Tensor]) -> Tensor:
        request = self.request
        row_elements = math.prod(request.query.shape[:-2]) * request.kv_len
        step = max(1, _ELEMENTS_AT_A_TIME // max(row_elements, 1))
        rows = torch.arange(request.q_len, device=request.query.device)
        return torch.cat([measure(request.rows(some)) for some in rows.split(step)], dim=-1)

    def _needs_softmax(self, what: str) -> None:
        if self.request.normalizer != Softmax():
            raise OptionError(
                where=f"inspect.{what}",
                what=f"{what} is a quantity of the softmax; this rule normalises by {self.request.normalizer!r}",
                fix="weights() and rows() have a meaning for every rule",
            )
