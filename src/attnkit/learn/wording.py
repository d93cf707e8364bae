"""How numbers, shapes and inputs are written in the sentences that a reader gets."""

from collections.abc import Sequence

import torch
from torch import Tensor


def number(value: float | Tensor) -> str:
    """`value` with three significant digits; whole numbers up to a million are written out."""
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        return str(bool(value))
    value = float(value)
    if value == 0:
        return "0"
    if abs(value) < 1e6 and value == round(value):
        return str(round(value))
    return f"{value:.3g}"


def extent(values: Tensor) -> str:
    """The smallest and the largest of `values`: "0.31 to 1.46", or one number where they are the same."""
    low, high = number(values.min()), number(values.max())
    return low if low == high else f"{low} to {high}"


def shape(value: Tensor | Sequence[int]) -> str:
    """A shape as Python writes it, "(2, 3)" or "(3,)", of a tensor or of a sequence of sizes."""
    return str(tuple(value.shape if isinstance(value, Tensor) else value))


def dtype(value: Tensor) -> str:
    """The type of the numbers without the word torch: "float64", "bool"."""
    return str(value.dtype).removeprefix("torch.")


def given(names: Sequence[str], inputs: Sequence[object]) -> str:
    """The inputs of one call, "scores (4, 6), p 0.3"; what is neither tensor nor number is left out."""
    words = []
    for name, value in zip(names, inputs, strict=True):
        if isinstance(value, Tensor):
            words.append(f"{name} {shape(value)}")
        elif isinstance(value, int | float):
            words.append(f"{name} {value}")
    return ", ".join(words)


def count(amount: int, noun: str) -> str:
    """An amount with its noun: "1 input", "3 inputs"."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"
