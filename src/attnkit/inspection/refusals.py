"""What an inspection is asked for and cannot give: queries that are not there, tiles of no size, results too large."""

import math
from collections.abc import Sequence

from torch import Tensor

from attnkit.errors import OptionError
from attnkit.request import Request
from attnkit.shapes import whole_numbers

_UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


def checked_rows(indices: Sequence[int] | Tensor, request: Request) -> Tensor:
    """`indices` as a tensor (n,) that counts the queries from 0.

    Raises:
        OptionError: there is no such query, or an index is no whole number.
    """
    q_len = request.q_len
    rows = whole_numbers(indices, device=request.query.device)
    if rows is None or any(not -q_len <= row < q_len for row in rows.flatten().tolist()):
        raise OptionError(
            where="inspect.rows",
            what=f"indices are whole numbers that count the {q_len} queries from 0, or from -1 backwards; "
            f"got {indices!r}",
            fix="rows([0, -1]) gives the first and the last; rows(chosen.nonzero()) those of a bool tensor",
        )
    return rows.flatten().long() % max(q_len, 1)


def checked_tile(tile: object) -> tuple[int, int]:
    """`tile` as `(q_tile, kv_tile)`.

    Raises:
        OptionError: it is no size.
    """
    sizes = tuple(tile) if isinstance(tile, tuple | list) else (tile, tile)
    counted = [size for size in sizes if isinstance(size, int) and not isinstance(size, bool) and size >= 1]
    if len(sizes) != 2 or len(counted) != 2:
        raise OptionError(
            where="inspect.pooled",
            what=f"a tile has a whole number of queries and of keys, from 1 upwards; got {tile!r}",
            fix="pooled(256), or pooled((16, 256)) for 16 queries by 256 keys",
        )
    return counted[0], counted[1]


def check_size(what: str, shape: Sequence[int], request: Request, at_most_bytes: object) -> None:
    """Refuse a result of `shape` that takes more than `at_most_bytes`.

    Raises:
        OptionError: it does; or `at_most_bytes` is no number.
    """
    if (
        isinstance(at_most_bytes, bool)
        or not isinstance(at_most_bytes, int | float)
        or not at_most_bytes >= 0
    ):
        raise OptionError(
            where=f"inspect.{what}",
            what=f"at_most_bytes is a number of bytes; got {at_most_bytes!r}",
            fix=f"{what}(at_most_bytes=4e9)",
        )
    size = math.prod(shape) * request.query.element_size()
    if size > at_most_bytes:
        raise OptionError(
            where=f"inspect.{what}",
            what=f"{tuple(shape)} take {_in_words(size)}, more than at_most_bytes={at_most_bytes:.4g}",
            fix="pooled(256), rows([-1]), entropy() and received() stay small at any length; "
            f"{what}(..., at_most_bytes={size}) gives it all the same",
        )


def _in_words(size: int) -> str:
    for unit, step in _UNITS.items():
        if size >= step:
            return f"{size / step:.3g} {unit}"
    return f"{size} bytes"
