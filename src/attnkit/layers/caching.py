"""Which cache a layer gets: the kinds by name, and whether a mechanism lets old tokens go.

    kind        holds                             for
    growing     every token                       any mechanism; a recurrence holds its state instead
    static      every token up to max_tokens      memory that is laid out once
    sliding     the last window - 1 tokens        masks of a window, such as causal & window(256)
    quantised   every token, as int8              memory for a little precision: caches.Int8 says how little
    state       what a recurrence hands on        recurrences

A cache that lets tokens go counts the rest from 0 again. That is right where a mechanism knows the distance of two
tokens alone; rotary positions are, since keys are turned before they are held.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnkit import masks
from attnkit.caches import Cache, Cast, Growing, Int8, Plain, Quantised, Recurrent, Sliding, Static
from attnkit.errors import AttentionError, DtypeError, OptionError, unknown_name
from attnkit.masks import Area
from attnkit.mechanism import Sizes

if TYPE_CHECKING:
    from attnkit.layers.attention import Attention

WHERE = "Attention.new_cache"
KINDS = ("growing", "static", "sliding", "quantised", "state")
_FAR = 1 << 40  # of positions; a mask that reads half as far back has no window


def cache_for(
    layer: "Attention", kind: str, *, batch: int | None, max_tokens: int | None, dtype: torch.dtype | None
) -> Cache:
    """An empty cache of this `kind` for `layer`.

    Raises:
        UnknownNameError: there is no such kind.
        OptionError: the kind is not for this mechanism, or an option not for this kind.
        DtypeError: `dtype` is none of floats.
    """
    if kind not in KINDS:
        raise unknown_name(WHERE, "kind of cache", kind, KINDS)
    _check_batch(batch)
    _check_options(kind, max_tokens, dtype)
    if layer.mechanism.recurrence is not None:
        return _of_recurrence(layer, kind, batch, dtype)
    form = Plain() if dtype is None else Int8() if dtype == torch.int8 else Cast(dtype)
    if kind == "static":
        assert max_tokens is not None
        return Static(max_tokens, form=form, batch=batch)
    if kind == "sliding":
        return Sliding(window_of(layer), form=form, batch=batch)
    if kind == "quantised":
        return Quantised(batch=batch)
    if kind == "state":
        raise OptionError(
            where=WHERE,
            what=f"{layer.mechanism.name} is no recurrence and has no state; it reads every token again",
            fix="kind='growing'",
        )
    return Growing(form=form, batch=batch)


def counts_distances_alone(layer: "Attention") -> bool:
    """Whether padding before a text leaves what `layer` computes as it is, as far as a few tokens tell."""
    if layer.mechanism.recurrence is not None:
        return True  # a token that is hidden is not written into the state
    mask = layer.bound.own_mask(layer.learned_tensors, layer.sizes)
    return mask.relative and _knows_distances_alone(layer)


def window_of(layer: "Attention") -> int:
    """How many positions a query of `layer` reads, its own included, if it knows nothing but distances.

    Raises:
        OptionError: it reads without a limit, or knows more than distances.
    """
    name = layer.mechanism.name
    mask = layer.bound.own_mask(layer.learned_tensors, layer.sizes)
    query, none = torch.tensor(_FAR, device="cpu"), torch.tensor(0, device="cpu")
    area = Area(query, query + 1, none, query + 1)
    for _ in range(2):  # what the first part leaves may be narrowed further once the last has spoken
        area = mask.narrow(area).tight()
    far = int(area.far)
    if not mask.relative or far > _FAR // 2:
        raise OptionError(
            where=WHERE,
            what=f"a sliding cache lets go of what is too far back, and the mask of {name}, {mask!r}, "
            "is not known to be a window",
            fix="kind='growing', or a mask such as masks.causal & masks.window(256)",
        )
    if not _knows_distances_alone(layer):
        raise OptionError(
            where=WHERE,
            what=f"a sliding cache counts what it holds from 0 again, and {name} would read it in another way then",
            fix="kind='growing'",
        )
    return max(far + 1, 1)


@torch.no_grad()
def _knows_distances_alone(layer: "Attention") -> bool:
    """Whether it is all the same if the first tokens are hidden, or gone and the rest counted anew.

    A few tokens tell it of how scores and weights are made. What picks keys by blocks or by buckets may do so at sizes
    that a few tokens do not show.
    """
    if layer.mechanism.rule is None and layer.mechanism.family in ("selection", "approximation"):
        return False
    length, queries = 33, 7
    tensors = layer.bound.prepared(_drawn(layer, queries, length), layer.sizes, q_start=length - queries)
    keys = [part.name for part in layer.projections if part.of == "key"]
    start = length - queries
    for gone in (1, 2, 3):
        rest = tensors | {name: tensors[name][..., gone:, :] for name in keys}
        try:
            hidden = layer.bound.attended(tensors, layer.sizes, mask=~masks.first(gone), q_start=start)
            cut = layer.bound.attended(rest, layer.sizes, mask=None, q_start=start - gone)
        except AttentionError:  # a table with fewer positions than these, for instance
            return False
        if not torch.allclose(hidden, cut, rtol=0, atol=1e-9):
            return False
    return True


def _drawn(layer: "Attention", q_len: int, kv_len: int) -> dict[str, Tensor]:
    """Tensors of some queries and keys, drawn; learned ones moved, since many start where they do nothing."""
    sizes: Sizes = layer.sizes
    generator = torch.Generator("cpu").manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")

    tensors = {}
    for part in layer.projections:
        heads, width = (sizes.of(extent, layer.bound.options) for extent in (part.heads, part.width))
        tensors[part.name] = part.then(draw(1, heads, q_len if part.of == "query" else kv_len, width))
    for name, tensor in layer.learned_tensors.items():
        tensors[name] = tensor.detach().to("cpu", torch.float64) + draw(*tensor.shape)
    return tensors


def _of_recurrence(layer: "Attention", kind: str, batch: int | None, dtype: torch.dtype | None) -> Recurrent:
    if kind not in ("growing", "state") or dtype is not None:
        given = f"kind={kind!r}" if dtype is None else f"dtype={dtype}"
        raise OptionError(
            where=WHERE,
            what=f"{layer.mechanism.name} is a recurrence, which holds a state of one size; got {given}",
            fix="layer.new_cache(), or kind='state'",
        )
    return Recurrent(batch=batch)


def _check_batch(batch: object) -> None:
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise OptionError(
            where=WHERE,
            what=f"batch is how many samples there will be, from 1 upwards; got {batch!r}",
            fix="batch=x.shape[0], or leave it out to take that of the first tokens",
        )


def _check_options(kind: str, max_tokens: object, dtype: object) -> None:
    if kind == "static" and max_tokens is None:
        raise OptionError(
            where=WHERE,
            what="a static cache is laid out once, so it must be told for how many tokens",
            fix="max_tokens=1024: those of the prompt and those that will follow it",
        )
    if kind != "static" and max_tokens is not None:
        raise OptionError(
            where=WHERE,
            what=f"max_tokens={max_tokens!r} is the size of a static cache; got kind={kind!r}",
            fix="kind='static', or leave max_tokens out",
        )
    if dtype is None:
        return
    if not isinstance(dtype, torch.dtype) or not (dtype.is_floating_point or dtype == torch.int8):
        raise DtypeError(
            where=WHERE,
            what=f"dtype is one of floats, or torch.int8, in which numbers are held; got {dtype!r}",
            fix="dtype=torch.bfloat16",
        )
    if kind == "quantised":
        raise OptionError(
            where=WHERE,
            what=f"a quantised cache holds int8; got dtype={dtype}",
            fix="leave dtype out, or kind='growing'; dtype=torch.int8 quantises the other kinds",
        )
