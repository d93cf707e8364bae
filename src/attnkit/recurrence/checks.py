"""What every recurrence refuses, whatever it computes."""

from typing import NoReturn

import torch
from torch import Tensor

from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.inputs import check_inputs
from attnkit.shapes import type_of


def check_one_stream(where: str, query: Tensor, key: Tensor, value: Tensor) -> None:
    """Refuse a query, key and value that do not belong together, or are not of the same tokens.

    Raises:
        DtypeError: they are not float tensors of one dtype on one device.
        ShapeError: an axis is missing, or two that must be equal differ.
    """
    check_inputs(where, query, key, value)
    if query.shape[-2] != key.shape[-2]:
        _refuse(
            where,
            f"query {tuple(query.shape)} and key {tuple(key.shape)} are not of the same tokens; "
            "a recurrence writes and reads once for each",
            "give the new tokens alone, and what came before as state=",
        )


def check_keep(where: str, keep: object, key: Tensor) -> None:
    """Refuse a `keep` that does not say of each token whether it is one; None stands for all of them.

    Raises:
        DtypeError: it is no tensor of bools on the device of the key.
        ShapeError: its axes are not those of the batch and the tokens.
    """
    if keep is None:
        return
    if not isinstance(keep, Tensor) or keep.dtype != torch.bool:
        raise DtypeError(
            where=where,
            what=f"keep is a tensor of bools, True keeps; got {type_of(keep)}",
            fix="keep.bool() where 1 is a token; ~padding where True is padding",
        )
    if keep.device != key.device:
        raise DtypeError(
            where=where,
            what=f"one device for all; got keep on {keep.device}, key on {key.device}",
            fix="keep.to(key.device)",
        )
    wanted = (*key.shape[:-3], key.shape[-2])
    axes = zip(reversed(keep.shape), reversed(wanted), strict=False)
    if not 1 <= keep.dim() <= len(wanted) or any(size not in (1, most) for size, most in axes):
        _refuse(
            where,
            f"keep {tuple(keep.shape)} does not fit key {tuple(key.shape)}; it is (*batch, len), without heads",
            f"{wanted}; an axis is 1, and a batch axis may be left out, where all share one answer",
        )


def check_state(where: str, state: object, expected: tuple[Tensor, ...]) -> None:
    """Refuse a `state` that is not one of this recurrence, this batch and these sizes, as `expected` is.

    Raises:
        OptionError: it is no state, or one of another recurrence.
        ShapeError: it is of another batch, or other heads or sizes.
        DtypeError: it is of another dtype or device.
    """
    kind = type(expected)
    if not isinstance(state, kind):
        raise OptionError(
            where=where,
            what=f"state is a {kind.__name__}, what an earlier run gave; got {type(state).__name__}",
            fix="context, state = recurrence.run(query, key, value, ..., state=state); None starts from nothing",
        )
    for name, given, wanted in zip(getattr(kind, "_fields", ()), state, expected, strict=True):
        if given.shape != wanted.shape:
            _refuse(
                where,
                f"state.{name} is {tuple(given.shape)}; these inputs need {tuple(wanted.shape)}",
                "a state goes on with the batch, heads, head_dim and d_value that it was made with",
            )
        if (given.dtype, given.device) != (wanted.dtype, wanted.device):
            raise DtypeError(
                where=where,
                what=f"state.{name} is {given.dtype} on {given.device}; "
                f"these inputs need {wanted.dtype} on {wanted.device}",
                fix=f"{kind.__name__}(*(part.to({wanted.dtype}) for part in state)), on the device of the inputs",
            )


def check_chunk_tokens(where: str, chunk_tokens: object) -> None:
    """Refuse a chunk whose size is no power of two: blocks are joined two by two.

    Raises:
        OptionError: it is none.
    """
    if isinstance(chunk_tokens, int) and chunk_tokens >= 1 and not chunk_tokens & (chunk_tokens - 1):
        return
    raise OptionError(
        where=where,
        what=f"chunk_tokens is a power of two: 1, 2, 4, ...; got {chunk_tokens!r}",
        fix="chunk_tokens=64, which is what it is when left out; the context does not depend on it",
    )


def _refuse(where: str, what: str, fix: str) -> NoReturn:
    raise ShapeError(where=where, what=what, fix=fix)
