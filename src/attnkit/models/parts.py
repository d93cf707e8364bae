"""The parts of a block besides attention: norms and feed-forward layers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnkit.errors import OptionError


def _gelu_tanh(x: Tensor) -> Tensor:
    return functional.gelu(x, approximate="tanh")


NORMS: dict[str, Callable[..., nn.Module]] = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": functional.relu,
}
_GATED: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": functional.silu, "geglu": _gelu_tanh}
FEED_FORWARDS = (*_PLAIN, *_GATED)


class FeedForward(nn.Module):
    """Two linear maps with a bend between, each token by itself: `down(act(up(x)))`, or `down(act(gate(x)) * up(x))`.

    Args:
        d_model: numbers of a token.
        hidden: numbers of a token between the two.
        kind: one of `FEED_FORWARDS`.
        bias: whether the maps add something.
    """

    def __init__(self, d_model: int, hidden: int, kind: str, *, bias: bool) -> None:
        super().__init__()
        self.kind = kind
        self.up = nn.Linear(d_model, hidden, bias=bias)
        self.gate = nn.Linear(d_model, hidden, bias=bias) if kind in _GATED else None
        self.down = nn.Linear(hidden, d_model, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """A vector for each token."""
        if self.gate is not None:
            return self.down(_GATED[self.kind](self.gate(x)) * self.up(x))
        return self.down(_PLAIN[self.kind](self.up(x)))


def sinusoids(length: int, d_model: int) -> Tensor:
    """The positions of "Attention Is All You Need", (length, d_model): sines in even places, cosines in odd ones."""
    frequency = 10_000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)[:, :d_model].float()


def check_count(where: str, name: str, number: object, *, fix: str | None = None) -> None:
    """Refuse a `number` that counts nothing.

    Raises:
        OptionError: it is no whole number from 1 on.
    """
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise OptionError(
            where=where, what=f"{name} is 1, 2, 3, ...; got {number!r}", fix=fix or f"{name}=64"
        )
