"""What a layer of attention reads inside of a model."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attnkit.errors import OptionError
from attnkit.layers.attention import Attention
from attnkit.layers.weighing import weights_of


def weights_in(layer: Attention, call: Callable[[], object]) -> Tensor:
    """The weights of `layer` for what it is given while `call` runs; the last time where it is run more than once.

    Args:
        layer: somewhere in a model.
        call: calls the model, in eval mode.

    Returns:
        (batch, heads, len, kv_len).

    Raises:
        OptionError: the layer does not run, or reads from a cache.
    """
    given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = layer.register_forward_pre_hook(
        lambda module, args, kwargs: given.append((args, dict(kwargs))), with_kwargs=True
    )
    try:
        with torch.no_grad():
            call()
            if not given:
                raise OptionError(
                    where="weights_in", what="the layer did not run", fix="a layer of the model that runs"
                )
            args, kwargs = given[-1]
            if kwargs.pop("cache", None) is not None:
                raise OptionError(
                    where="weights_in", what="the layer reads from a cache", fix="a call without caches"
                )
            return weights_of(layer, *args, **kwargs)
    finally:
        handle.remove()
