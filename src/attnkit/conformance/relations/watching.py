"""What a call does inside: what it drops, how large its numbers get, and whether it reads memory that nobody wrote.

Each is a mode of PyTorch that sees every function of a call, in anybody's code; nothing is patched.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Given = dict[str, Any]

_LAYER, _FUSED = functional.multi_head_attention_forward, functional.scaled_dot_product_attention
_PLAIN = (functional.dropout, torch.dropout)
_MADE = ("empty", "empty_like", "new_empty")
_NAMES = {  # of built-in functions, which cannot be asked for them
    _FUSED: ("query", "key", "value", "attn_mask", "dropout_p"),
    torch.dropout: ("input", "p", "train"),
}


@dataclass(frozen=True)
class Drop:
    """One act of dropping.

    Attributes:
        probability: of each number.
        shape: of what is dropped from; () for a fused function, which drops weights.
        fused: whether it is one.
    """

    probability: float
    shape: tuple[int, ...]
    fused: bool = False

    def of_pairs(self, q_len: int, kv_len: int) -> bool:
        """Whether weights, scores, or a row for all queries are what is dropped from."""
        return self.fused or self.shape[-2:] in ((q_len, kv_len), (1, kv_len))


class Dropping(TorchFunctionMode):
    """Sees what is dropped by PyTorch's own functions, and switches some of it off.

    Args:
        off: whether a `Drop` is left out.

    Attributes:
        seen: what was dropped, or would have been.
    """

    def __init__(self, off: Callable[[Drop], bool] = lambda drop: False) -> None:
        super().__init__()
        self.off, self.seen = off, list[Drop]()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `function`, without its dropout where that is off."""
        kwargs = kwargs or {}
        if function in (_LAYER, _FUSED):
            return self._weights(function, args, kwargs)
        if function in _PLAIN:
            return self._plain(function, args, kwargs)
        return function(*args, **kwargs)

    def _weights(self, function: Any, args: Any, kwargs: Given) -> Any:
        given = _named(function, args, kwargs)
        drop = Drop(given.get("dropout_p", 0.0), (), fused=True)
        if not drop.probability or not given.get("training", True):  # a layer is told its mode
            return function(*args, **kwargs)
        self.seen.append(drop)
        return function(**given | {"dropout_p": 0.0}) if self.off(drop) else function(*args, **kwargs)

    def _plain(self, function: Any, args: Any, kwargs: Given) -> Any:
        given = _named(function, args, kwargs)
        probability, acts = given.get("p", 0.5), given.get("training", given.get("train", True))
        if not acts or not probability:
            return function(*args, **kwargs)
        self.seen.append(Drop(probability, tuple(given["input"].shape)))
        return given["input"] if self.off(self.seen[-1]) else function(*args, **kwargs)


def _named(function: Any, args: Any, kwargs: Given) -> Given:
    names = _NAMES.get(function) or tuple(inspect.signature(function).parameters)
    return dict(zip(names, args, strict=False)) | kwargs


class Poisoned(TorchFunctionMode):
    """Fills memory that is asked for and not written.

    Args:
        value: with what.
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `function`."""
        made = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") in _MADE and made.is_floating_point():
            made.fill_(self.value)
        return made


class Sizing(TorchFunctionMode):
    """Sees how large the finite numbers of a call get.

    Attributes:
        largest: of them all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0.0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `function`."""
        made = function(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.is_floating_point() and made.numel():
            finite = made.detach().abs()
            finite = finite[finite.isfinite()]
            self.largest = max(self.largest, finite.max().item() if finite.numel() else 0.0)
        return made
