"""Rotary positions: each pair of a vector's numbers turns by an angle that grows with its position.

    (a, b) at position p  ->  (a cos - b sin, b cos + a sin)   of   p * base ** (-2 i / rotary_dim)   for pair i

A score then depends on q_pos - kv_pos alone. Which numbers make pair i differs between checkpoints of one and the
same shape: "halves" are i and i + rotary_dim / 2 (transformers, GPT-NeoX), "pairs" are 2i and 2i + 1 (the paper,
GPT-J, Llama as released). The wrong one still runs, and is silently wrong.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import OptionError, ShapeError, unknown_name
from attnkit.positions.position import Places, Positions, Vectors, check_positions
from attnkit.positions.scaling import Scaling, check_number

LAYOUTS = ("halves", "pairs")


@dataclass(frozen=True, kw_only=True)
class Rotary(Positions):
    """Turns queries and keys by their positions. Angles are reckoned in float32, in float64 for float64 vectors.

    Attributes:
        base: the slowest pair turns about `base` times slower than the first; `rope_theta` elsewhere. Above 1.
        layout: "halves" or "pairs": which numbers turn together.
        rotary_dim: how many numbers turn, the first ones, an even number; all of head_dim when not given.
        scaling: stretches positions beyond the lengths of training: `Linear`, `NTK`, `Yarn`, `Llama3`.

    Raises:
        OptionError: an option has a value that means nothing.
        UnknownNameError: there is no such layout.
        ShapeError: at the call: head_dim is smaller than rotary_dim, or odd.

    Example:
        >>> quarter = Rotary(layout="pairs").rotate(torch.tensor([[[1.0, 0.0]]]), torch.tensor([11]))
        >>> [round(number, 3) for number in quarter.flatten().tolist()]  # cos 11, sin 11
        [0.004, -1.0]

    Source: Su et al. 2021, https://arxiv.org/abs/2104.09864, equations 14, 15 and 34.
    """

    base: int | float = 10000.0
    layout: str = "halves"
    rotary_dim: int | None = None
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        check_number("Rotary", "base", self.base, above=1)
        if self.layout not in LAYOUTS:
            raise unknown_name("Rotary", "layout", self.layout, LAYOUTS)
        size = self.rotary_dim
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 2 or size % 2):
            raise OptionError(
                where="Rotary",
                what=f"rotary_dim counts numbers that turn in pairs: 2, 4, 6, ...; got {size!r}",
                fix="rotary_dim=head_dim // 2 turns half of them; leave it out to turn all",
            )
        if self.scaling is not None and not isinstance(self.scaling, Scaling):
            raise OptionError(
                where="Rotary",
                what=f"scaling is Linear, NTK, Yarn or Llama3 of attnkit.positions; got {self.scaling!r}",
                fix="scaling=Linear(4.0), with its factor in brackets",
            )

    def rotate(self, x: Vectors, positions: Places) -> Vectors:
        """The vectors `x` as they are at `positions`; shapes as in `Positions`."""
        check_positions("Rotary", x, positions)
        size = self._size(x)
        turning = x[..., :size].to(torch.promote_types(x.dtype, torch.float32))
        cos, sin = self.tables(positions, rotary_dim=size, dtype=turning.dtype)
        cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
        if self.layout == "halves":
            first, second = turning.chunk(2, dim=-1)
            turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
        else:
            first, second = turning[..., 0::2], turning[..., 1::2]
            turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)
        if size < x.shape[-1]:
            # in the tables' dtype: autocast refuses to join float16
            turned = torch.cat([turned, x[..., size:].to(turned.dtype)], dim=-1)
        return turned.to(x.dtype)

    def tables(
        self, positions: Tensor, *, rotary_dim: int, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each position and pair, `*positions rotary_dim/2`, times the scaling's magnitude."""
        exponents = torch.arange(0, rotary_dim, 2, device=positions.device, dtype=dtype) / rotary_dim
        frequencies = self.base**-exponents
        magnitude = 1.0
        if self.scaling is not None:
            frequencies = self.scaling.scaled(frequencies, self.base)
            magnitude = self.scaling.magnitude
        angles = positions.to(dtype)[..., None] * frequencies
        return angles.cos() * magnitude, angles.sin() * magnitude

    def _size(self, x: Tensor) -> int:
        size = x.shape[-1] if self.rotary_dim is None else self.rotary_dim
        if size > x.shape[-1] or size % 2:
            raise ShapeError(
                where="Rotary",
                what=f"x {tuple(x.shape)} ends in head_dim={x.shape[-1]}, of which "
                + ("all turn, in pairs" if self.rotary_dim is None else f"rotary_dim={size} turn"),
                fix="an even head_dim, or a smaller rotary_dim"
                if self.rotary_dim is None
                else "rotary_dim is at most head_dim",
            )
        return size
