"""A box of the strip: one matrix, its name, and the operation that made it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import unknown_name
from attnkit.viewer.arguments import Array, labels, numbers, same_shape
from attnkit.viewer.sheet import Point

KINDS = ("signed", "weights", "mask")
LONGEST_SIDE = 2.9
CELL = 0.37


@dataclass(frozen=True)
class Box:
    """One matrix of the strip; made by `box`."""

    name: str
    entries: Array
    shape: str
    by: str
    kind: str
    keep: Array | None
    columns: tuple[str, ...] | bool
    note: str

    @property
    def cell(self) -> float:
        """The side of a cell in inches."""
        return min(CELL, LONGEST_SIDE / max(self.entries.shape))

    @property
    def size(self) -> Point:
        """The width and height of the cells in inches."""
        return self.entries.shape[1] * self.cell, self.entries.shape[0] * self.cell


def box(
    name: str,
    tensor: Tensor,
    *,
    by: str = "",
    kind: str = "signed",
    keep: Tensor | None = None,
    columns: Sequence[str] | bool | None = None,
    note: str = "",
) -> Box:
    r"""A box of the strip.

    Args:
        name: what stands above it.
        tensor: `rows columns`, or `columns` for one vector, which is drawn as a row.
        by: the operation that made it, written under the arrow that leads to it; `\n` starts a new line.
        kind: "signed" numbers (red above zero, blue below), "weights" (0 to 1) or a "mask" (True keeps).
        keep: bool of the same shape; cells where it is False are hatched.
        columns: the words above the columns; True takes the words of the rows.
        note: a few words under the shape.

    Raises:
        ShapeError: `tensor` has other axes, `keep` another shape, or `columns` the wrong number of words.
        UnknownNameError: there is no such `kind`.
    """
    where = f"viewer.box({name!r})"
    if kind not in KINDS:
        raise unknown_name(where, "kind", kind, KINDS)
    entries, shape = _matrix(where, "tensor", tensor)
    hidden = entries.astype(bool) if kind == "mask" else None
    if keep is not None:
        hidden = _matrix(where, "keep", keep)[0].astype(bool)
        same_shape(where, ("tensor", entries), ("keep", hidden))
    words = bool(columns)
    if columns is not None and not isinstance(columns, bool):
        words = tuple(labels(where, "columns", columns, entries.shape[1]))
    return Box(name, entries, shape, by, kind, hidden, words, note)


def _matrix(where: str, name: str, given: Tensor) -> tuple[Array, str]:
    """`given` as rows and columns, and its shape as text; a vector is one row."""
    flat = torch.as_tensor(given).dim() == 1
    entries = numbers(where, name, given, "columns" if flat else "rows columns")
    return (
        entries[None] if flat else entries
    ), f"({', '.join(map(str, entries.shape))}{',' if flat else ''})"
