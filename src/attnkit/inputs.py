"""What a query, a key and a value must be to belong together, and what a scale must be."""

import math
from typing import NoReturn

import torch
from torch import Tensor

from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.shapes import type_of


def check_inputs(where: str, query: Tensor, key: Tensor, value: Tensor) -> None:
    """Refuse a query, key and value that do not belong together.

    Raises:
        DtypeError: they are not float tensors of one dtype on one device.
        ShapeError: an axis is missing, or two that must be equal differ.
    """
    named = {"query": query, "key": key, "value": value}
    _check_numbers(where, named)
    for name, tensor in named.items():
        if tensor.dim() < 3:
            axes = ", ".join(["None"] * (3 - tensor.dim()))
            _refuse(
                where, f"{name} {tuple(tensor.shape)} has no axis of heads", f"one head is {name}[{axes}]"
            )
    if query.shape[-1] != key.shape[-1]:
        size = max(query.shape[-1], key.shape[-1])
        _refuse(
            where,
            _pair(named, "query", "key", "end in different head_dim"),
            f"project both to one size, for instance head_dim={size}",
        )
    if query.shape[-1] == 0:
        _refuse(
            where,
            _pair(named, "query", "key", "end in a head_dim of 0"),
            "project both to head_dim=1 or more",
        )
    if key.shape[:-1] != value.shape[:-1]:
        _refuse(
            where,
            _pair(named, "key", "value", "differ before the last axis"),
            "each key needs its value: same batch, kv_heads and kv_len",
        )
    if query.shape[:-3] != key.shape[:-3]:
        _refuse(
            where, _pair(named, "query", "key", "have different batch axes"), _one_batch(query, key, value)
        )
    _check_heads(where, named)


def check_scale(where: str, scale: object) -> None:
    """Refuse a `scale` that is no finite number; None stands for the usual one.

    Raises:
        OptionError: it is none.
    """
    if scale is None or (isinstance(scale, int | float | torch.SymFloat) and -math.inf < scale < math.inf):
        return
    raise OptionError(
        where=where,
        what=f"scale is a finite number that multiplies the scores; got {scale!r}",
        fix=f"a scale that is learned multiplies the query: {where}(scale=1.0)(query * scale, key, value)",
    )


def _check_numbers(where: str, named: dict[str, Tensor]) -> None:
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise DtypeError(
                where=where,
                what=f"{name} must be a tensor of floats; got {type_of(tensor)}",
                fix=f"give a tensor; numbers become one by torch.as_tensor({name}).float()",
            )
        if tensor.is_nested:
            raise DtypeError(
                where=where,
                what=f"{name} is a nested tensor; attention needs one with axes (*batch, heads, len, size)",
                fix=f"torch.nested.to_padded_tensor({name}, 0.0), and masks.lengths for where padding begins",
            )
    if len({(tensor.dtype, tensor.device) for tensor in named.values()}) > 1:
        given = ", ".join(f"{name} {tensor.dtype} on {tensor.device}" for name, tensor in named.items())
        raise DtypeError(
            where=where,
            what=f"one dtype and one device for all; got {given}",
            fix="key.to(query), value.to(query)",
        )


def _check_heads(where: str, named: dict[str, Tensor]) -> None:
    heads, kv_heads = named["query"].shape[-3], named["key"].shape[-3]
    if heads != kv_heads and (kv_heads == 0 or heads % kv_heads):
        _refuse(
            where,
            _pair(named, "query", "key", f"have {heads} and {kv_heads} heads, which cannot be shared evenly"),
            "a number of kv heads that divides the query heads; the axes are (*batch, heads, len, head_dim)",
        )


def _one_batch(query: Tensor, key: Tensor, value: Tensor) -> str:
    if query.shape[:-3].numel() < key.shape[:-3].numel():
        wanted = (*key.shape[:-3], *query.shape[-3:])
        return f"query.expand{wanted} where the same queries are asked of a whole batch"
    wanted = [(*query.shape[:-3], *tensor.shape[-3:]) for tensor in (key, value)]
    return f"key.expand{wanted[0]} and value.expand{wanted[1]} where one memory serves a whole batch"


def _pair(named: dict[str, Tensor], first: str, second: str, trouble: str) -> str:
    return f"{first} {tuple(named[first].shape)} and {second} {tuple(named[second].shape)} {trouble}"


def _refuse(where: str, what: str, fix: str) -> NoReturn:
    raise ShapeError(where=where, what=what, fix=fix)
