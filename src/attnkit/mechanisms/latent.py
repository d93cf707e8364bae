"""Latent attention (MLA): keys and values of all heads are made from one short vector a token, which a cache holds.

    latent = rms_norm(x W_down)                       key_h = [latent key_up_h, turned(x W_rotary)]
    query_h = [content_h, turned(rotary_h)]           value_h = latent value_up_h
    context_h = softmax(query_h key_h^T / sqrt(head_dim + rope_dim)) value_h

A rotation between latent and key would keep `key_up` from being moved to the query, so positions have numbers of their
own: `rope_dim` more for each query head, and as many for a key that all heads share.

Two forms compute the same. The plain one makes keys and values from the latents, `2 kv_rank head_dim` products for each
key. The absorbed one brings the query into the space of the latents, so that all heads read the latents themselves:
`2 kv_rank head_dim` products for each query, and `2 kv_rank + rope_dim` for each pair instead of
`2 head_dim + rope_dim`. The one with fewer products runs, all pairs counted: the plain one for a long text, the
absorbed one for a step of decoding.

Here `value` is the latent, and `key` is the rotary key. The latent's norm has no gain: multiply a checkpoint's
`kv_a_layernorm.weight` into `key_up` and `value_up`. The paper also makes the query from a latent of its own, which
saves memory in training and changes nothing here. Released weights turn neighbouring numbers (layout "pairs"), and
multiply the scale where YaRN stretches positions; the latter is left out.
"""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import rms_norm

from attnkit import masks
from attnkit.errors import OptionError, ShapeError
from attnkit.laws import no_future_leak, reduces_to, rows_sum_to_one
from attnkit.masks import Mask
from attnkit.mechanism import Learned, Mechanism, Paper, Projected, Sizes, turned
from attnkit.mechanisms import multi_head
from attnkit.positions import Positions, Rotary
from attnkit.rule import Rule
from attnkit.shapes import Context, Weights

PAIRS = Rotary(layout="pairs")
EPS = 1e-6

Asking = Float[Tensor, "*heads q_len content_and_rope"]
Turning = Float[Tensor, "*one kv_len rope_dim"]
Latent = Float[Tensor, "*one kv_len kv_rank"]
Up = Float[Tensor, "num_heads kv_rank head_dim"]


def latent(
    query: Asking,
    key: Turning,
    value: Latent,
    *,
    q_start: int,
    key_up: Up,
    value_up: Up,
    absorbed: bool | None = None,
    mask: Mask = masks.causal,
    dropout: float = 0.0,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len (head_dim + rope_dim)`, the rotary part last.
        key: `*batch 1 kv_len rope_dim`, the rotary key.
        value: `*batch 1 kv_len kv_rank`, the latent.
        q_start: the position of the first query.
        key_up: (num_heads, kv_rank, head_dim), what makes keys of latents.
        value_up: (num_heads, kv_rank, head_dim), what makes values of latents.
        absorbed: which form runs; the one with fewer products when not given. It changes speed alone.
        mask: where each query looks.
        dropout: the share of weights to drop.
    """
    rule = Rule(mask=mask, scale=query.shape[-1] ** -0.5, dropout=dropout)
    call = {"q_start": q_start, "training": dropout > 0}
    if absorbed is None:
        absorbed = _absorbing_is_cheaper(query, key, value, key_up.shape[-1])
    if absorbed:
        return finish(rule(*_absorbed(query, key, value, key_up), value, **call), value_up=value_up)
    return rule(query, _keys(key, value, key_up), value @ value_up, **call)


def prepare(
    query: Asking,
    key: Turning,
    value: Latent,
    *,
    q_pos: Int[Tensor, " q_len"],
    kv_pos: Int[Tensor, " kv_len"],
    rotary: Positions | None = PAIRS,
    kv_rank: int | None = None,
    rope_dim: int | None = None,
) -> dict[str, Tensor]:
    """The rotary parts turned, and the latent normalised.

    Args:
        query: `*batch heads q_len (head_dim + rope_dim)`, the rotary part last.
        key: `*batch 1 kv_len rope_dim`, the rotary key.
        value: `*batch 1 kv_len kv_rank`, the latent.
        q_pos: the positions of the queries.
        kv_pos: the positions of the keys.
        rotary: turns the rotary parts; None leaves them as they are.
        kv_rank: numbers of a latent; 4 head_dim when not given, as in the paper.
        rope_dim: numbers of the rotary key, even; head_dim / 2 when not given, as in the paper.

    Raises:
        OptionError: `rotary` is none of `attnkit.positions`.
        ShapeError: an axis is not what the options or the other tensors say.
    """
    _check(query, key, value, {"value": kv_rank, "key": rope_dim})
    content, turning = _parts(query, key)
    return {
        "query": torch.cat([content, turned("latent", rotary, turning, q_pos)], -1),
        "key": turned("latent", rotary, key, kv_pos),
        "value": rms_norm(value, value.shape[-1:], eps=EPS),
    }


def weigh(query: Asking, key: Turning, value: Latent, *, q_start: int, key_up: Up, mask: Mask) -> Weights:
    """The weights, `*batch heads q_len kv_len`."""
    rule = Rule(mask=mask, scale=query.shape[-1] ** -0.5)
    return rule.inspect(*_absorbed(query, key, value, key_up), q_start=q_start).weights()


def finish(mixed: Float[Tensor, "*heads q_len kv_rank"], *, value_up: Up) -> Context:
    """The values of mixed latents."""
    return mixed @ value_up


def written_out(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value of multi-head attention that give the same, for tokens from position 0 on."""
    query, key, value = (tensors[name] for name in ("query", "key", "value"))
    q_pos, kv_pos = torch.arange(query.shape[-2]), torch.arange(key.shape[-2])
    ready = prepare(query, key, value, q_pos=q_pos, kv_pos=kv_pos)
    keys = _keys(ready["key"], ready["value"], tensors["key_up"])
    return {"query": ready["query"], "key": keys, "value": ready["value"] @ tensors["value_up"]}


def _parts(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    rope_dim = key.shape[-1]
    return query[..., :-rope_dim], query[..., -rope_dim:]


def _keys(key: Tensor, value: Tensor, key_up: Tensor) -> Tensor:
    """The keys of all heads, with the rotary key beside them: `*batch heads kv_len (head_dim + rope_dim)`."""
    content = value @ key_up
    return torch.cat([content, key.expand(*content.shape[:-1], -1)], -1)


def _absorbed(query: Tensor, key: Tensor, value: Tensor, key_up: Tensor) -> tuple[Tensor, Tensor]:
    """Query and key in the space of the latents: `*batch heads q_len (kv_rank + rope_dim)`, and with one head."""
    content, turning = _parts(query, key)
    return torch.cat([content @ key_up.mT, turning], -1), torch.cat([value, key], -1)


def _absorbing_is_cheaper(query: Tensor, key: Tensor, value: Tensor, head_dim: int) -> bool:
    q_len, (kv_len, rope_dim), kv_rank = query.shape[-2], key.shape[-2:], value.shape[-1]
    plain = kv_len * 2 * kv_rank * head_dim + q_len * kv_len * (2 * head_dim + rope_dim)
    return q_len * 2 * kv_rank * head_dim + q_len * kv_len * (2 * kv_rank + rope_dim) < plain


def _check(query: Tensor, key: Tensor, value: Tensor, widths: Mapping[str, int | None]) -> None:
    for name, tensor in {"key": key, "value": value}.items():
        wanted = widths[name] or tensor.shape[-1]
        if tensor.shape[-3] != 1 or tensor.shape[-1] != wanted:
            raise ShapeError(
                where="latent",
                what=f"{name} has one head, of {wanted} numbers; got {tuple(tensor.shape)}",
                fix="value is the latent (*batch, 1, kv_len, kv_rank), and key the rotary key, rope_dim wide",
            )
    if query.shape[-1] <= key.shape[-1]:
        raise ShapeError(
            where="latent",
            what=f"a query has head_dim + rope_dim numbers, here more than {key.shape[-1]}; got {tuple(query.shape)}",
            fix="torch.cat([content, rotary], -1), the part that turns last",
        )


def _kv_rank(sizes: Sizes, options: Mapping[str, Any]) -> int:
    """How many numbers a latent has."""
    given = 4 * sizes.head_dim if options["kv_rank"] is None else options["kv_rank"]
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise OptionError(
            where="latent",
            what=f"kv_rank is how many numbers a latent has: 1, 2, 3, ...; got {given!r}",
            fix=f"leave kv_rank out for 4 * head_dim = {4 * sizes.head_dim}",
        )
    return given


def _rope_dim(sizes: Sizes, options: Mapping[str, Any]) -> int:
    """How many numbers of a query head turn."""
    given = sizes.head_dim // 2 if options["rope_dim"] is None else options["rope_dim"]
    if not isinstance(given, int) or isinstance(given, bool) or given < 2 or given % 2:
        raise OptionError(
            where="latent",
            what=f"rope_dim counts numbers that turn in pairs: 2, 4, 6, ...; got {given!r}",
            fix="rope_dim=64, as released; when left out it is half of head_dim, which must be even too",
        )
    return given


def _small(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape) * shape[-2] ** -0.5


MECHANISM = Mechanism(
    name="latent",
    family="heads",
    summary="Keys and values of all heads are made from one short vector a token, which is all a cache holds.",
    formula=r"C_h = \mathrm{softmax}\left(\frac{[q^C_h, q^R_h] \, [c \, U^K_h, k^R]^T}{\sqrt{d + d_R}}\right) "
    r"c \, U^V_h",
    paper=Paper(
        "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts Language Model",
        2024,
        "https://arxiv.org/abs/2405.04434",
        "equations 9 to 19",
    ),
    attend=latent,
    prepare=prepare,
    weigh=weigh,
    finish=finish,
    parts=(
        Projected(
            "query",
            of="query",
            width=lambda s, o: s.head_dim + _rope_dim(s, o),
            meaning="content, then what turns",
        ),
        Projected("key", of="key", heads=1, width=_rope_dim, meaning="the rotary key, which all heads share"),
        Projected("value", of="key", heads=1, width=_kv_rank, meaning="the latent"),
        Learned("key_up", ("num_heads", _kv_rank, "head_dim"), _small, "what makes keys of latents"),
        Learned("value_up", ("num_heads", _kv_rank, "head_dim"), _small, "what makes values of latents"),
    ),
    laws=(no_future_leak, rows_sum_to_one, reduces_to(multi_head.MECHANISM, given=written_out)),
    examples=({"kv_rank": 5, "rope_dim": 2}, {"kv_rank": 3, "rope_dim": 4, "absorbed": True}),
    own_positions=True,
)
