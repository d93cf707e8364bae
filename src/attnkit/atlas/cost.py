"""What a mechanism costs: operations by length, parameters of a layer, and bytes that a cache holds.

    rule          pairs that its mask keeps * heads * 2 * (width of the key + width of the value)
    recurrence    tokens * 4 * numbers of the state
    function      the products of matrices that it ran

An operation is a multiplication or an addition. Those of the products are counted, the softmax and the like are not. A
function is counted as it is written here, which need not be the best that can be done. An option `context_length`
or `length` is taken as long as the sequence.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.atlas.counter import counted
from attnkit.atlas.draw import Draw, fitted, longest
from attnkit.atlas.pairs import kept_pairs
from attnkit.errors import AttentionError, OptionError
from attnkit.layers.attention import Attention
from attnkit.mechanism import Bound

D_MODEL, NUM_HEADS = 512, 8
_LENGTHS = (512, 2048, 8192)
_LENGTHS_OF_A_FUNCTION = (256, 512, 1024)  # some have to be run to be counted
_LINEAR_UP_TO = 1.05  # of the power; rows at the borders make it no round number
_CACHED = 128  # tokens, enough to tell what grows with them from what does not


@dataclass(frozen=True)
class Cost:
    """What one layer costs on one sequence.

    Attributes:
        length: of the sequence, in tokens.
        operations: of its attention, without the projections.
        pairs: how many pairs of query and key a head scores; None where it is no rule.
        cache_bytes: what its own cache holds after the sequence, in float32; None where it cannot go on from one.
    """

    length: int
    operations: float
    pairs: float | None
    cache_bytes: float | None


@dataclass(frozen=True)
class Costs:
    """What a layer of 8 heads on 512 numbers costs.

    Attributes:
        how: what the operations are counted from.
        rows: the cost at each length.
        power: of the length that its operations grow with: 1 is linear, 2 quadratic. It is that of what a longer
            sequence adds, so that a fixed part hides nothing. None where its mask knows too few positions to tell.
        parameters: how many numbers the layer learns.
        undecodable: why it cannot be given one token after the other; None where it can.
    """

    how: str
    rows: tuple[Cost, ...]
    power: float | None
    parameters: int
    undecodable: str | None

    @property
    def is_linear(self) -> bool:
        """Whether the operations grow as the length; False where that is not known."""
        return self.power is not None and 0 < self.power <= _LINEAR_UP_TO


def layer_of(bound: Bound) -> Attention:
    """A layer of the stated size, its numbers drawn by a seed.

    Raises:
        AttentionError: an option has a value that means nothing, or none that fits such a layer.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Attention(D_MODEL, NUM_HEADS, mechanism=bound.mechanism, **bound.options)


def why_undecodable(layer: Attention) -> str | None:
    """Why it cannot be given one token after the other, or None where it can."""
    try:
        _bytes_after(layer, 2)
    except AttentionError as refusal:
        return refusal.what
    return None


def costs(bound: Bound, lengths: Sequence[int] = ()) -> Costs:
    """What a layer of the mechanism costs.

    Args:
        bound: the mechanism and its options.
        lengths: in tokens; three that tell how it grows when not given, and no more than its mask knows.

    Raises:
        OptionError: a length is more than the mask knows.
        AttentionError: the mechanism refuses a length, or such a layer.
    """
    layer = layer_of(bound)
    known = longest(bound, layer.sizes)
    _check_known(bound, lengths, known)
    usual = _LENGTHS if bound.mechanism.attend is None else _LENGTHS_OF_A_FUNCTION
    measured = [length for length in usual if known is None or length <= known]
    shown = lengths or measured or [known or 1]
    found = {length: operations(bound, layer, length) for length in {*shown, *measured}}
    undecodable = why_undecodable(layer)
    fixed, each = (0.0, 0.0) if undecodable else _held(layer, known)
    rows = (Cost(n, *found[n], None if undecodable else fixed + each * n) for n in shown)
    power = _power([(n, found[n][0]) for n in measured]) if measured == list(usual) else None
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    return Costs(_how(bound), tuple(rows), power, parameters, undecodable)


def operations(bound: Bound, layer: Attention, length: int) -> tuple[float, float | None]:
    """How many operations attention takes on `length` tokens, and how many pairs it scores, None if it is no rule.

    Raises:
        AttentionError: the mechanism refuses so many tokens.
    """
    bound = fitted(bound, length)
    if bound.mechanism.attend is not None:
        return counted(Draw.of(bound, layer.sizes, length=length).to(torch.float32)), None
    drawn = Draw.of(bound, layer.sizes, length=1)
    tensors = drawn.prepared
    if bound.mechanism.recurrence is not None:
        return 4.0 * length * _state_numbers(drawn, tensors), None
    pairs = kept_pairs(drawn.mask, length)
    widths = tensors["query"].shape[-1] + tensors["value"].shape[-1]
    return pairs * tensors["query"].shape[-3] * 2 * widths, pairs


def _check_known(bound: Bound, lengths: Sequence[int], known: int | None) -> None:
    beyond = [length for length in lengths if known is not None and length > known]
    if beyond:
        raise OptionError(
            where="costs",
            what=f"the mask of {bound.mechanism.name} knows {known} positions; got a length of {beyond[0]:,}",
            fix=f"lengths up to {known}, or options that tell it of more",
        )


def _how(bound: Bound) -> str:
    if bound.mechanism.rule is not None:
        return "two products of each head for each pair that the mask keeps"
    if bound.mechanism.recurrence is not None:
        return "each number of the state is written and read once a token, with a product and a sum"
    return "products of matrices, of the function as it is written here"


def _power(measured: list[tuple[int, float]]) -> float:
    (first, low), (second, middle), (third, high) = measured
    if not high > middle > low:
        return 0.0
    return math.log((high - middle) / (middle - low)) / math.log((third - second) / (second - first))


def _held(layer: Attention, known: int | None) -> tuple[float, float]:
    """What its own cache holds, in bytes: whatever the length is, and for each token. Found by filling one twice."""
    most = min(_CACHED, known or _CACHED)
    half, whole = _bytes_after(layer, most // 2), _bytes_after(layer, most)
    each = (whole - half) / (most - most // 2)
    return whole - each * most, each


def _bytes_after(layer: Attention, length: int) -> int:
    cache = layer.new_cache()
    with torch.no_grad():
        layer(torch.zeros(1, length, layer.d_model), cache=cache)
    return cache.held_bytes


def _state_numbers(drawn: Draw, tensors: dict[str, Tensor]) -> int:
    query, key, value = (tensors[name] for name in ("query", "key", "value"))
    gates: dict[str, Any] = drawn.bound.gates(tensors, drawn.sizes)
    _, state = drawn.bound.recurrence(drawn.sizes).run(query, key, value, **gates)
    return sum(part.numel() for part in state)
