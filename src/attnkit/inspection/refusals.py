"""What an inspection is asked for and cannot give: tiles of no size, results too large."""

import math
from collections.abc import Sequence

from attnkit.errors import OptionError
from attnkit.request import Request

_UNITS = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


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
