"""Contenders that take turns in one process, so that a busy machine is as hard on one as on the other."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

_SHORTEST_SECONDS = 0.1


@dataclass(eq=False)
class Contender:
    """Something that computes a context.

    Attributes:
        call: computes it.
        leaves: where gradients go back to; none means that only the forward pass is timed.
        repeats: how many calls are timed as one, found out by `warm`.
        seconds: what each turn took, a call.
    """

    call: Callable[[], Tensor]
    leaves: tuple[Tensor, ...] = ()
    repeats: int = 1
    seconds: list[float] = field(default_factory=list)

    def warm(self) -> None:
        """Two calls that do not count: they compile, plan, and tell how long a call takes."""
        self._timed(1)
        self.repeats = max(1, round(_SHORTEST_SECONDS / self._timed(1)))

    def take_turn(self) -> None:
        """Time some calls, and write down the mean."""
        self.seconds.append(self._timed(self.repeats))

    @property
    def median(self) -> float:
        """Seconds of a call, the median of the turns."""
        return statistics.median(self.seconds)

    def ratio_to(self, other: "Contender") -> float:
        """The median over turns of the ratio within a turn."""
        return statistics.median(one / two for one, two in zip(self.seconds, other.seconds, strict=True))

    def best_ratio_to(self, other: "Contender") -> float:
        """The ratio of the quickest turns: what a quiet machine would show."""
        return min(self.seconds) / min(other.seconds)

    def _timed(self, repeats: int) -> float:
        _wait()
        start = time.perf_counter()
        for _ in range(repeats):
            self._step()
        _wait()
        return (time.perf_counter() - start) / repeats

    def _step(self) -> None:
        if self.leaves:
            context = self.call()
            torch.autograd.grad(context, self.leaves, context.detach())
            return
        with torch.no_grad():
            self.call()


def take_turns(contenders: Sequence[Contender], turns: int) -> None:
    """Let each contender take `turns` turns, in another order each time."""
    order = list(contenders)
    for contender in order:
        contender.warm()
    for _ in range(turns):
        order = order[1:] + order[:1]
        for contender in order:
            contender.take_turn()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
