"""Numbers of a mask or a step turned into tensors, so that one compiled kernel serves all of their values.

    window(256) -> the same mask whose size is tensor(256)
    lambda score, head, q, k: score * cap -> the same code, whose cap is a tensor

The trap: a number that a compiled function captures is a constant of it. Another whole number compiles again, and
another float makes torch 2.13 fail in the middle of lowering. A tensor does neither.
"""

import copy
import functools
import types
from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

_Change = Callable[[Any], Any]


class Unread(Tensor):
    """A number that is a tensor, and may not be looked at: code that needs it as a number must say so when tried."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _LOOKS:
            raise TypeError("it needs a number as a number")
        return super().__torch_function__(func, types, args, kwargs or {})


_LOOKS = (
    "__bool__",
    "__float__",
    "__int__",
    "__index__",
    "__contains__",
    "__iter__",
    "item",
    "tolist",
    "numpy",
)


def lifted(value: Any, device: torch.device, number: type[Tensor] | None = Tensor) -> Any:
    """A copy of `value` on `device`, however deep. Its numbers are tensors without axes, unless `number` is None."""

    def change(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.to(device)
        if number is None or isinstance(leaf, bool) or not isinstance(leaf, int | float):
            return leaf
        # float32, since it is promoted by the scores and never promotes them to float64
        dtype = torch.float32 if isinstance(leaf, float) else torch.int64
        return torch.tensor(leaf, dtype=dtype, device=device).as_subclass(number)

    return _rebuilt(value, change)


def detached(value: Any) -> Any:
    """A copy of `value` whose tensors, however deep, ask for no gradient."""
    return _rebuilt(value, lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf)


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in `value`, however deep."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.parameters()
    else:
        for part in _parts(value).values():
            yield from tensors(part)


def structure(value: Any, *, numbers: bool) -> Hashable:
    """What tells values apart for a compiler: types, code, axes of tensors, and `numbers` where those are constants."""
    if isinstance(value, Tensor):
        return value.dtype, value.dim(), value.device, tuple(min(size, 2) for size in value.shape)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (type(value), value) if numbers else type(value)
    parts = _parts(value)
    if parts or isinstance(value, types.FunctionType):
        code = getattr(value, "__code__", type(value))
        return code, *((name, structure(part, numbers=numbers)) for name, part in parts.items())
    return value if isinstance(value, str | bool | None | torch.dtype | type) else (type(value), id(value))


def _parts(value: Any) -> dict[str, Any]:
    """What a value is made of: fields, items, or what a function captures."""
    if isinstance(value, tuple | list):
        return {str(place): part for place, part in enumerate(value)}
    if isinstance(value, dict):
        return {repr(key): part for key, part in value.items()}
    if isinstance(value, types.FunctionType):
        cells = value.__closure__ or ()
        held = {
            name: cell.cell_contents for name, cell in zip(value.__code__.co_freevars, cells, strict=True)
        }
        return held | {f"default {place}": part for place, part in enumerate(value.__defaults__ or ())}
    if isinstance(value, types.MethodType):
        return {"self": value.__self__, "function": value.__func__}
    if isinstance(value, functools.partial):
        return {"function": value.func, "arguments": value.args, "keywords": value.keywords}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    opaque = isinstance(value, type | Tensor | torch.nn.Module | types.ModuleType | torch.Generator)
    return {} if opaque or not hasattr(value, "__dict__") else dict(vars(value))


def _rebuilt(value: Any, change: _Change) -> Any:
    """A copy of `value` whose leaves are changed, past the constructors, which would refuse a tensor for a number."""
    if isinstance(value, tuple | list):
        parts = [_rebuilt(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if type(value) is dict:
        return {key: _rebuilt(part, change) for key, part in value.items()}
    if isinstance(value, types.FunctionType):
        return _captured(value, change)
    if isinstance(value, types.MethodType):
        return types.MethodType(value.__func__, _rebuilt(value.__self__, change))
    if isinstance(value, functools.partial):
        return functools.partial(
            _rebuilt(value.func, change), *_rebuilt(value.args, change), **_rebuilt(value.keywords, change)
        )
    parts = {} if isinstance(value, Tensor) else _parts(value)
    if not parts:
        return change(value)
    twin: Any = copy.copy(value)
    kept: dict[str, Any] = twin.__dict__
    kept.clear()  # with what was computed from the numbers
    kept.update({name: _rebuilt(part, change) for name, part in parts.items()})
    return twin


def _captured(function: types.FunctionType, change: _Change) -> types.FunctionType:
    cells = tuple(types.CellType(_rebuilt(cell.cell_contents, change)) for cell in function.__closure__ or ())
    defaults = _rebuilt(function.__defaults__, change) if function.__defaults__ else None
    if not cells and not defaults:
        return function
    twin = types.FunctionType(function.__code__, function.__globals__, function.__name__, defaults, cells)
    twin.__kwdefaults__ = function.__kwdefaults__
    return twin
