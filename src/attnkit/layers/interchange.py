"""Parameters from `nn.MultiheadAttention` and back: the same numbers under our names, equal outputs.

    in_proj_weight, (3 * d_model, d_model)    query.weight, key.weight, value.weight, one under the other
    out_proj                                  output

The traps: our layers are batch-first, whatever `batch_first` was; our masks keep where they are True; and what hides
the future is a mechanism here, an argument of each call there. `converters.from_multihead` reads the masks of calls.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attnkit.errors import OptionError
from attnkit.masks import Full
from attnkit.normalizers import softmax_sink
from attnkit.shapes import type_of

if TYPE_CHECKING:
    from attnkit.layers.attention import Attention

_SIDES = ("query", "key", "value")


def sizes_from_torch(module: object) -> dict[str, Any]:
    """The arguments of a layer that is as large as `module`.

    Raises:
        OptionError: it is no nn.MultiheadAttention; or one with keys that belong to no token, or with keys and values
            from tokens of two widths.
    """
    where = "Attention.from_torch"
    if not isinstance(module, nn.MultiheadAttention):
        raise OptionError(
            where=where,
            what=f"module is a torch.nn.MultiheadAttention; got {type_of(module)}",
            fix="other layers go by their tensors: layer.query.weight.copy_(...), under torch.no_grad()",
        )
    if module.bias_k is not None or module.add_zero_attn:
        option = "add_bias_kv" if module.bias_k is not None else "add_zero_attn"
        raise OptionError(
            where=where,
            what=f"{option}=True reads a key that belongs to no token, and there is none here",
            fix='mechanism="off_by_one" has a score of 0 without a key, as add_zero_attn; "sink" learns one a head'
            if option == "add_zero_attn"
            else 'mechanism="sink" learns a score without a key; it is another layer, to be trained',
        )
    if module.kdim != module.vdim:
        raise OptionError(
            where=where,
            what=f"kdim={module.kdim} and vdim={module.vdim} differ; here keys and values come from one memory",
            fix="a memory that holds both, torch.cat([key, value], -1), and zeros in the weights",
        )
    return {
        "d_model": module.embed_dim,
        "num_heads": module.num_heads,
        "memory_dim": module.kdim,
        "dropout": module.dropout,
        "bias": module.in_proj_bias is not None,
    }


@torch.no_grad()
def copy_from_torch(layer: "Attention", module: nn.MultiheadAttention) -> None:
    """Copy the numbers of `module` into a `layer` as large as it is, and dtype, device and mode with them."""
    weights = (
        module.in_proj_weight.chunk(3)
        if module.in_proj_weight is not None
        else (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    )
    biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    layer.to(weights[0]).train(module.training)
    for side, weight, bias in zip(_SIDES, weights, biases, strict=True):
        _copy(getattr(layer, side), weight, bias)
    _copy(layer.output, module.out_proj.weight, module.out_proj.bias)


@torch.no_grad()
def to_torch(layer: "Attention", *, batch_first: bool) -> nn.MultiheadAttention:
    """A `torch.nn.MultiheadAttention` with the numbers of `layer`.

    Raises:
        OptionError: the layer does something that it cannot.
    """
    _check_plain(layer)
    query: nn.Linear = getattr(layer, "query")  # noqa: B009 - made by a name
    weight, bias = query.weight, query.bias is not None
    module = nn.MultiheadAttention(
        layer.d_model,
        layer.num_heads,
        dropout=layer.dropout,
        bias=bias,
        kdim=layer.memory_dim,
        vdim=layer.memory_dim,
        batch_first=batch_first,
        device=weight.device,
        dtype=weight.dtype,
    ).train(layer.training)
    packed = layer.memory_dim == layer.d_model
    targets = (
        module.in_proj_weight.chunk(3)
        if packed
        else (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    )
    for place, side in enumerate(_SIDES):
        linear: nn.Linear = getattr(layer, side)
        targets[place].copy_(linear.weight)
        if module.in_proj_bias is not None:
            module.in_proj_bias.chunk(3)[place].copy_(linear.bias)
    _copy(module.out_proj, layer.output.weight, layer.output.bias)
    return module


def _check_plain(layer: "Attention") -> None:
    """Refuse what nn.MultiheadAttention has not.

    Raises:
        OptionError: there is something.
    """
    different = _differences(layer)
    if different:
        raise OptionError(
            where="Attention.to_torch",
            what=f"nn.MultiheadAttention has no {different[0]}; this layer has {different[1]}",
            fix=different[2],
        )


def _differences(layer: "Attention") -> tuple[str, str, str] | None:
    name = layer.mechanism.name
    own = "only layers of plain softmax attention go there"
    if layer.mechanism.rule is None or layer.mechanism.parts or layer.mechanism.prepare is not None:
        return "mechanism of its own", f"mechanism={name!r}", own
    rule = layer.bound.rule({}, layer.sizes)
    softmax, sink = softmax_sink(rule.normalizer)
    if rule.scores or rule.scale is not None or not softmax or sink is not None:
        return "scores or weights of its own", f"mechanism={name!r}, {rule!r}", own
    if layer.positions is not None or rule.positions is not None:
        return "positions", f"{layer.positions or rule.positions!r}", own
    if not isinstance(rule.mask, Full):
        return (
            "mask of its own, it takes one in each call",
            f"mechanism={name!r}, {rule.mask!r}",
            'plain = Attention(..., mechanism="full"); plain.load_state_dict(layer.state_dict()); plain.to_torch(), '
            "and converters.to_multihead(mask, ...) as attn_mask in each call",
        )
    sizes = layer.sizes
    if sizes.num_kv_heads != sizes.num_heads:
        return (
            "heads that share keys",
            f"num_kv_heads={sizes.num_kv_heads}",
            f"num_kv_heads={sizes.num_heads}",
        )
    if sizes.head_dim * sizes.num_heads != sizes.d_model:
        return (
            "head_dim of its own",
            f"head_dim={sizes.head_dim} for {sizes.num_heads} heads of d_model={sizes.d_model}",
            f"head_dim={sizes.d_model // sizes.num_heads}",
        )
    return None


def _copy(linear: nn.Linear, weight: Tensor, bias: Tensor | None) -> None:
    linear.weight.copy_(weight)
    if bias is not None:
        linear.bias.copy_(bias)
