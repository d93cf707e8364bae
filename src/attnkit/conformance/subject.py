"""A target as the checks see it: a copy in float64 that is called in one way, whatever its own way is.

    output = subject(x, memory=None, keep=None)          (batch, len, d_in) to (batch, len, d_out)

The target itself is never called: modules are copied, so that parameters, buffers, mode and hooks stay as they are.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.errors import AttentionError

Call = Callable[[nn.Module, Tensor, Tensor | None, Tensor | None, dict[str, Any] | None], Any]


class TargetError(AttentionError):
    """A target cannot be called in the way that it should be."""


@dataclass(frozen=True)
class Subject:
    """One target.

    Attributes:
        module: a copy of it, or of the module that was made of a function.
        call: how it is called, `call(module, x, memory, keep, cache)`.
        d_in: numbers of a token.
        memory_dim: numbers of a token of the memory.
        takes_memory: whether it reads a memory.
        takes_keep: whether it takes a mask of keys, (batch, kv_len), True keeps.
        takes_cache: whether it goes on from a cache.
        projections: the names of the submodules of query, key, value and output, as far as they are known.
        name: what it is called in a report.
    """

    module: nn.Module
    call: Call
    d_in: int
    memory_dim: int
    takes_memory: bool
    takes_keep: bool
    takes_cache: bool
    projections: dict[str, str]
    name: str

    def copied(self, *, dtype: torch.dtype = torch.float64, training: bool = False) -> "Subject":
        """The same with a copy of its module, in that precision and mode."""
        module = in_precision(copy.deepcopy(self.module), dtype)
        return replace(self, module=module.train(training))

    def __call__(self, x: Tensor, memory: Tensor | None = None, keep: Tensor | None = None) -> Tensor:
        """The output for `x` (batch, len, d_in), with a memory and a mask of keys where the target takes them."""
        return first_of(self.call(self.module, x, memory, keep, None))

    def chunk(
        self, x: Tensor, cache: dict[str, Any], keep: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Any]]:
        """The output for the tokens that follow those in the `cache`, and the cache after them."""
        output, cache = self.call(self.module, x, None, keep, cache)
        return first_of(output), cache


def in_precision(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module with its numbers in that precision.

    Complex numbers stay complex, where `module.to(dtype)` would leave their imaginary part out: some rotary tables are
    complex.
    """
    complex_dtype = torch.complex128 if dtype is torch.float64 else torch.complex64

    def converted(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(complex_dtype)
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return module._apply(converted)


def first_of(output: Any) -> Tensor:
    """The output itself, which may come with others.

    Raises:
        TargetError: it is no tensor.
    """
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise TargetError(
            where="check",
            what=f"the target gives a {type(output).__name__}, no tensor (batch, len, d_out)",
            fix="check(module, call=lambda module, x, memory, keep, cache: module(x).my_output)",
        )
    return output
