"""Code that computes rules, one file a backend. The first that does not refuse is chosen."""

from typing import Protocol, runtime_checkable

from attnkit.backends import eager, sdpa
from attnkit.request import Request
from attnkit.shapes import Context


@runtime_checkable
class Backend(Protocol):
    """What a backend's file offers."""

    name: str

    def refusal(self, request: Request) -> str | None:
        """Why this backend cannot run `request`, as half a sentence; None when it can."""
        ...

    def run(self, request: Request) -> Context:
        """The context, `*batch heads q_len d_value`."""
        ...


BACKENDS: tuple[Backend, ...] = (sdpa, eager)

__all__ = ["BACKENDS", "Backend"]
