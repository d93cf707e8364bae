"""Code that computes rules, one file a backend. Of those that do not refuse, the fastest by estimate is chosen."""

from typing import Protocol, runtime_checkable

from attnkit.backends import eager, flex, sdpa, tiled
from attnkit.request import Request
from attnkit.shapes import Context


@runtime_checkable
class Backend(Protocol):
    """What a backend's file offers.

    Attributes:
        name: what `backend=` calls it.
        compiles: whether the first call of a kind waits for a compiler; on a CPU only those who insist get it.
    """

    name: str
    compiles: bool

    def refusal(self, request: Request) -> str | None:
        """Why this backend cannot run `request`, as half a sentence; None when it can."""
        ...

    def seconds(self, request: Request) -> float:
        """An estimate of the time of one forward pass, where this backend does not refuse."""
        ...

    def run(self, request: Request) -> Context:
        """The context, `*batch heads q_len d_value`."""
        ...


BACKENDS: tuple[Backend, ...] = (sdpa, tiled, flex, eager)

__all__ = ["BACKENDS", "Backend"]
