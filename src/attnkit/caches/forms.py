"""In what form a cache holds numbers: as they come, in another dtype, or as int8 with one scale a row.

    int8: scale = max |x| / 127,   code = round(x / scale),   x' = scale * code,   |x - x'| <= max |x| / 254

A row is one token of one head. New tokens, too, are read in the form in which they are held, so that a result does not
depend on how tokens were cut into calls.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from attnkit.errors import OptionError


@runtime_checkable
class Form(Protocol):
    """How tensors are held."""

    def stored(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """What to hold for new tokens, by name, `batch heads len width`."""
        ...

    def read(self, held: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        """What was held, by the names and in the dtypes of the tensors `like` it."""
        ...


@dataclass(frozen=True)
class Plain:
    """As they come."""

    def stored(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors themselves."""
        return new

    def read(self, held: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors themselves."""
        return held


@dataclass(frozen=True)
class Cast:
    """In one dtype, such as `torch.bfloat16`; what is read is converted back in each call."""

    dtype: torch.dtype

    def stored(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors in this dtype."""
        return {name: tensor.to(self.dtype) for name, tensor in new.items()}

    def read(self, held: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        """The tensors in the dtypes in which they came."""
        return {name: tensor.to(like[name].dtype) for name, tensor in held.items()}


_SCALE = ".scale"


@dataclass(frozen=True)
class Int8:
    """One byte a number and one scale a row; tensors whose rows are too short to gain by it are held as they come.

    It saves memory and no time: what is read is converted back in each call.
    """

    def stored(self, new: dict[str, Tensor]) -> dict[str, Tensor]:
        """Codes and scales.

        Raises:
            OptionError: gradients are asked of the tensors, and rounding would stop them.
        """
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in new.values()):
            raise OptionError(
                where="Quantised",
                what="rounding to int8 would stop the gradients that are asked here",
                fix="with torch.no_grad(): around the calls, or a cache of another kind",
            )
        held: dict[str, Tensor] = {}
        for name, tensor in new.items():
            if not _gains(tensor):
                held[name] = tensor
                continue
            scale = tensor.to(_scale_dtype(tensor)).abs().amax(-1, keepdim=True) / 127
            divisor = torch.where(scale == 0, 1.0, scale)
            held[name] = (tensor / divisor).round().to(torch.int8)
            held[name + _SCALE] = scale
        return held

    def read(self, held: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scales times codes, in the dtypes in which the tensors came."""
        read = {}
        for name, tensor in like.items():
            scale = held.get(name + _SCALE)
            read[name] = (
                held[name] if scale is None else (held[name].to(scale.dtype) * scale).to(tensor.dtype)
            )
        return read


def _scale_dtype(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _gains(tensor: Tensor) -> bool:
    width, scale_bytes = tensor.shape[-1], _scale_dtype(tensor).itemsize
    return tensor.is_floating_point() and width * tensor.element_size() > width + scale_bytes
