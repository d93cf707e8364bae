"""Which output depends on which input: the picture in which every masking fault has its own shape."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnkit import viewer
from attnkit.errors import OptionError, ShapeError


def xray(
    module: nn.Module | Callable[[Tensor], Tensor],
    d_in: int | None = None,
    *,
    length: int = 8,
    title: str = "",
) -> viewer.Picture:
    """Draw which output token of `module` depends on which input token; the future is orange.

    Args:
        module: maps (batch, len, d_in) or (len, d_in) to as many tokens.
        d_in: width of its input; not needed for modules with a `W_query`.
        length: how many tokens, at least 2.
        title: what stands above the picture.

    Returns:
        The fingerprint, rows are outputs and columns are inputs.

    Raises:
        OptionError: `d_in` is not given and cannot be found out.
        ShapeError: the module does not give one output for each token.
    """
    width = d_in if d_in is not None else _input_width(module)
    name = title or getattr(module, "__name__", type(module).__name__)
    return viewer.fingerprint(influence(module, width, length=length), title=name)


def influence(module: nn.Module | Callable[[Tensor], Tensor], d_in: int, *, length: int = 8) -> Tensor:
    """How strongly output i moves with input j, (length, length): the norm of d output_i / d input_j.

    Measured in evaluation at one peaked random input, so that no dropout blurs it. The module's mode and
    the global random state are left as they were.

    Raises:
        OptionError: `length` is below 2: one token has no future.
        ShapeError: the module does not give one output for each token.
    """
    if length < 2:
        raise OptionError(
            where="learn.xray", what=f"one token has no future; got length={length}", fix="length=8"
        )
    like = next(iter(getattr(module, "parameters", list)()), torch.zeros(()))
    x = 2 * torch.randn(length, d_in, generator=torch.Generator().manual_seed(0)).to(like)
    training = getattr(module, "training", False)
    try:
        if isinstance(module, nn.Module):
            module.eval()
        jacobian = torch.autograd.functional.jacobian(_batched(module), x)
    finally:
        if isinstance(module, nn.Module):
            module.train(training)
    assert isinstance(jacobian, Tensor)
    return jacobian.pow(2).sum(dim=(1, 3)).sqrt()


def _batched(module: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def call(x: Tensor) -> Tensor:
        output = module(x[None])
        if output.dim() != 3 or output.shape[:2] != (1, x.shape[0]):
            raise ShapeError(
                where="learn.xray",
                what=f"the module made {tuple(output.shape)} of {tuple(x[None].shape)}; one output a token is needed",
                fix="give a module that maps (batch, len, d_in) to (batch, len, d_out)",
            )
        return output[0]

    return call


def _input_width(module: object) -> int:
    query = getattr(module, "W_query", None)
    heads = getattr(module, "heads", None)
    if isinstance(query, nn.Linear):
        return query.in_features
    if isinstance(query, Tensor):
        return query.shape[0]
    if isinstance(heads, nn.ModuleList) and len(heads):
        return _input_width(heads[0])
    raise OptionError(
        where="learn.xray",
        what=f"{type(module).__name__} has no W_query to read the width of its input from",
        fix="say it: learn.xray(module, d_in=16)",
    )
