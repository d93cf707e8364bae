"""What can be said of the weights of a recurrence, and what has no meaning there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.shapes import Weights, checked_rows


@dataclass(frozen=True, eq=False)
class RecurrenceInspection:
    """The weights of one recurrence on one query and key. Made by `Recurrence.inspect`; computed when asked.

    The weights are those of the parallel form, a len x len tensor. No gradient is kept; `Recurrence.weights` keeps it.
    """

    compute: Callable[[], Tensor]
    name: str
    rows_sum_to_one: bool

    @torch.no_grad()
    def weights(self) -> Weights:
        """All the weights, `*batch heads len len`."""
        return self.compute()

    def rows(self, indices: Sequence[int] | Tensor) -> Weights:
        """The weights of the tokens at `indices` (n,) alone, `*batch heads n len`; -1 is the last.

        Raises:
            OptionError: there is no such token, or an index is no whole number.
        """
        weights = self.weights()
        return weights.index_select(-2, checked_rows(indices, weights.shape[-2], "tokens", weights.device))

    def entropy(self) -> Tensor:
        """How spread out each row is, `*batch heads len`, in nats: 0 is one key alone, log(n) is n keys evenly.

        Raises:
            OptionError: rows of this recurrence do not sum to one, so they have no entropy.
        """
        if not self.rows_sum_to_one:
            self._refuse("entropy", "its rows of weights do not sum to one and may be negative")
        weights = self.weights()
        return 0.0 - torch.special.xlogy(weights, weights).sum(-1)

    def lse(self) -> Tensor:
        """Always refused: no exponential is summed here.

        Raises:
            OptionError: always.
        """
        return self._refuse("lse", "it has no softmax, so there is no log-sum-exp")

    def _refuse(self, what: str, why: str) -> Tensor:
        raise OptionError(
            where=f"inspect.{what}",
            what=f"{what} has no meaning for {self.name}: {why}",
            fix="weights() and rows() have a meaning for every recurrence",
        )
