"""What a picture is given: tensors turned into float32 arrays that nobody else can change, and labels counted."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import torch

from attnkit.errors import DtypeError, OptionError, ShapeError

Array = Any


def numbers(where: str, name: str, given: object, axes: str) -> Array:
    """`given` as a float32 NumPy array with the axes named in `axes`, for instance "q_len kv_len".

    Raises:
        DtypeError: `given` is not made of numbers.
        ShapeError: it has another number of axes, or an axis without entries.
    """
    try:
        tensor = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as failed:
        what = f"{name} is a {type(given).__name__} that does not turn into a tensor"
        raise DtypeError(where=where, what=what, fix=f"give a tensor ({axes.replace(' ', ', ')})") from failed
    if tensor.is_complex():
        raise DtypeError(
            where=where, what=f"{name} holds complex numbers", fix="draw x.real, x.imag or x.abs()"
        )
    expected = axes.split()
    if tensor.dim() != len(expected):
        what = f"{name} has shape {tuple(tensor.shape)}; this picture needs ({', '.join(expected)})"
        more = tensor.dim() > len(expected)
        fix = (
            "choose one batch and one head first, for instance x[0]"
            if more
            else "add the axes that are missing, x[None]"
        )
        raise ShapeError(where=where, what=what, fix=fix)
    if tensor.numel() == 0:
        raise ShapeError(
            where=where, what=f"{name} has shape {tuple(tensor.shape)}: nothing to draw", fix="give numbers"
        )
    return tensor.detach().to(device="cpu", dtype=torch.float32, copy=True).numpy()


def labels(where: str, name: str, given: Iterable[str] | None, count: int) -> list[str]:
    """`given` as `count` texts; positions 0, 1, 2, ... where it is None.

    Raises:
        ShapeError: there are more or fewer texts than `count`.
    """
    if given is None:
        return [str(position) for position in range(count)]
    if isinstance(given, str):
        fix = f"{given!r}.split(), or a list of {count} texts"
        raise ShapeError(where=where, what=f"{name} is one text; {count} are needed", fix=fix)
    texts = [str(text) for text in given]
    if len(texts) != count:
        what = f"{name} has {len(texts)} labels; the picture has {count}"
        raise ShapeError(where=where, what=what, fix=f"give {count} labels, or None for positions")
    return texts


def same_shape(where: str, one: tuple[str, Array], other: tuple[str, Array]) -> None:
    """Refuse two named arrays of different shapes.

    Raises:
        ShapeError: they differ.
    """
    if one[1].shape != other[1].shape:
        what = f"{one[0]} {one[1].shape} and {other[0]} {other[1].shape} differ in shape"
        raise ShapeError(where=where, what=what, fix="give both the same shape")


def finite(where: str, name: str, given: Array) -> None:
    """Refuse numbers that have no place in the plane.

    Raises:
        OptionError: one of them is nan or infinite.
    """
    if not numpy.isfinite(given).all():
        raise OptionError(
            where=where,
            what=f"{name} has a nan or an infinite number",
            fix="draw it before it turns into nan",
        )


def not_empty(where: str, name: str, given: Sequence[object] | dict[Any, Any]) -> None:
    """Refuse a collection without entries.

    Raises:
        OptionError: it is empty.
    """
    if not given:
        raise OptionError(
            where=where, what=f"{name} is empty: nothing to draw", fix=f"give at least one of {name}"
        )
