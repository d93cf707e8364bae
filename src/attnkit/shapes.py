"""Names for shapes, and the checks that turn a wrong one into a sentence.

The axes are read from the right: `*heads` stands for any number of leading axes (batch and heads).
Keys may have fewer heads than queries, hence `*kv_heads`.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.errors import DtypeError, OptionError, ShapeError

Tokens = Float[Tensor, "*batch len d_in"]
Output = Float[Tensor, "*batch len d_out"]
Memory = Float[Tensor, "*batch kv_len d_memory"]
Query = Float[Tensor, "*heads q_len head_dim"]
Key = Float[Tensor, "*kv_heads kv_len head_dim"]
Value = Float[Tensor, "*kv_heads kv_len d_value"]
Scores = Float[Tensor, "*heads q_len kv_len"]
Weights = Float[Tensor, "*heads q_len kv_len"]
Context = Float[Tensor, "*heads q_len d_value"]
Keep = Bool[Tensor, "*#heads q_len kv_len"]


def type_of(given: object) -> str:
    """What `given` is, for a message: the dtype of a tensor, the type of anything else."""
    return str(given.dtype) if isinstance(given, Tensor) else type(given).__name__


def whole_numbers(given: object, *, device: torch.device | None = None) -> Tensor | None:
    """`given` as a tensor of whole numbers, or None if that is not what it holds."""
    try:
        numbers = torch.as_tensor(given, device=device)
    except (RuntimeError, TypeError, ValueError):
        return None
    if not numbers.numel():
        return numbers.long()  # torch takes an empty list for floats
    other = numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool
    return None if other else numbers


def one_batch_axis(tensor: Tensor) -> Tensor:
    """Four axes, which is what fused kernels take; other numbers of batch axes would fall to slow code."""
    if tensor.dim() == 4:
        return tensor
    return tensor[None] if tensor.dim() == 3 else tensor.flatten(0, -4)


def checked_rows(indices: object, count: int, noun: str, device: torch.device) -> Tensor:
    """`indices` as a tensor (n,) that counts `count` rows from 0; each row is a `noun`.

    Raises:
        OptionError: there is no such row, or an index is no whole number.
    """
    rows = whole_numbers(indices, device=device)
    if rows is None or any(not -count <= row < count for row in rows.flatten().tolist()):
        raise OptionError(
            where="inspect.rows",
            what=f"indices are whole numbers that count the {count} {noun} from 0, or from -1 backwards; "
            f"got {indices!r}",
            fix="rows([0, -1]) gives the first and the last; rows(chosen.nonzero()) those of a bool tensor",
        )
    return rows.flatten().long() % max(count, 1)


def check_tokens(where: str, x: object, d_in: int) -> None:
    """Refuse an `x` that is not a float tensor `*batch len d_in`.

    Raises:
        DtypeError: `x` is no tensor, or holds whole numbers.
        ShapeError: `x` has no axis of tokens, or its last axis is not `d_in`.
    """
    if not isinstance(x, Tensor):
        raise DtypeError(
            where=where,
            what=f"x is a {type(x).__name__}; attention needs a tensor of floats (*batch, len, {d_in})",
            fix="torch.as_tensor(x, dtype=torch.float32)",
        )
    if not x.is_floating_point():
        raise DtypeError(
            where=where,
            what=f"x holds {str(x.dtype).removeprefix('torch.')}; attention needs floats (*batch, len, {d_in})",
            fix=f"token ids go through torch.nn.Embedding(vocabulary_size, {d_in}); other numbers, x.float()",
        )
    if x.dim() < 2:
        raise ShapeError(
            where=where,
            what=f"x has shape {tuple(x.shape)}; attention needs (*batch, len, {d_in})",
            fix=f"one single token is x[None], shape (1, {d_in})",
        )
    if x.shape[-1] != d_in:
        raise ShapeError(
            where=where,
            what=f"the last axis of x {tuple(x.shape)} is {x.shape[-1]}; this layer was made for d_in={d_in}",
            fix=f"give x as (*batch, len, {d_in}), or make the layer with d_in={x.shape[-1]}",
        )


def check_length(where: str, x: Tensor, context_length: int) -> None:
    """Refuse an `x` of more than `context_length` tokens.

    Raises:
        ShapeError: `x` is longer.
    """
    if x.shape[-2] > context_length:
        raise ShapeError(
            where=where,
            what=f"x {tuple(x.shape)} has {x.shape[-2]} tokens, more than context_length={context_length}",
            fix=f"shorten it, x[..., -{context_length}:, :], or make the layer with context_length={x.shape[-2]}",
        )


_ORDER = "the order is (d_in, d_out, context_length, dropout, ...); dropout=0.1 drops one in ten"


def check_dropout(where: str, dropout: object, *, fix: str = _ORDER) -> None:
    """Refuse a `dropout` that is no probability.

    Raises:
        OptionError: `dropout` is no number from 0 to 1.
    """
    if not isinstance(dropout, int | float) or not 0.0 <= dropout <= 1.0:
        raise OptionError(
            where=where,
            what=f"dropout is the share of weights to drop, from 0 to 1; got {dropout!r}",
            fix=fix,
        )


def check_heads(where: str, d_out: int, num_heads: int, *, width: str = "d_out") -> None:
    """Refuse a `d_out`, in messages named `width`, that `num_heads` heads cannot share evenly.

    Raises:
        OptionError: `num_heads` is no whole number from 1 upwards.
        ShapeError: `d_out` is no multiple of `num_heads`.
    """
    if not isinstance(num_heads, int) or num_heads < 1:
        raise OptionError(where=where, what=f"num_heads is 1, 2, 3, ...; got {num_heads}", fix="num_heads=1")
    if d_out % num_heads:
        each = d_out // num_heads
        raise ShapeError(
            where=where,
            what=f"{num_heads} heads cannot share {width}={d_out} evenly: {d_out / num_heads:.2f} numbers each",
            fix=f"{width}={(each + 1) * num_heads} ({each + 1} each), or a num_heads that divides {d_out}",
        )
