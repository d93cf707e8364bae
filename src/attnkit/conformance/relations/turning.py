"""How query and key are turned by their places: the matrix between them at each pair of places.

score(t, s) = scale * q @ between[t, s] @ k          rotary: between[t, s] = R(t - s), R(0) = 1
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.conformance.probe import Probe
from attnkit.conformance.readings import SMALL

PLACES = 4
NEAR = 1e-3
ROUGH = 0.03  # what half precision makes of an angle of a few


@dataclass(frozen=True)
class Turned:
    """What was found.

    Attributes:
        layout: "halves", "pairs", "other", or "" where nothing is turned.
        fault: what is wrong with it; "" where nothing is.
        words: how that shows.
        off: how far it is off.
    """

    layout: str
    fault: str = ""
    words: str = ""
    off: float = 0.0


def between(probe: Probe, heads: int, size: int) -> dict[tuple[int, int], Tensor]:
    """The matrix (size, size) between query and key of the first head at each pair of places that is read."""
    groups = probe.widths["key"] // size
    one = SMALL * torch.eye(size + 1, size, dtype=torch.float64)
    many_q = one.repeat_interleave(size + 1, 0).repeat(1, heads)
    many_k = one.repeat(size + 1, 1).repeat(1, groups)
    found = {}
    for s in range(PLACES):
        query = many_q[:, None].expand(-1, PLACES, -1)
        key = probe.zeros("key", len(many_k), PLACES)
        key[:, s] = many_k
        scores = probe.weights(query, key).log()[..., 0]  # batch, q_len, kv_len
        for t in range(1, PLACES):
            other = s - 1 if s else 1
            table = (scores[:, t, s] - scores[:, t, other]).view(size + 1, size + 1)
            if s <= t and table.isfinite().all():
                found[t, s] = (table - table[-1:] - table[:, -1:] + table[-1:, -1:])[:-1, :-1]
    return found


def turned(probe: Probe, heads: int, size: int) -> Turned | None:
    """What positions do to query and key; None where too little is read."""
    found = between(probe, heads, size)
    if not all(pair in found for pair in ((1, 0), (1, 1), (2, 1), (2, 2))):
        return None
    norm = max(table.norm().item() for table in found.values()) / size**0.5
    if norm < 1e-9:
        return None
    found = {pair: table / norm for pair, table in found.items()}
    if _spread(list(found.values())) < NEAR:
        return Turned("")
    layout, one = _layout(found[1, 0], found[2, 1]), torch.eye(size, dtype=torch.float64)
    own = max((table - one).abs().max().item() for (t, s), table in found.items() if t == s)
    by_distance = max(
        _spread([table for (t, s), table in found.items() if t - s == d]) for d in range(PLACES)
    )
    if own < NEAR and by_distance < NEAR:
        return Turned(layout)
    if max(own, by_distance) < ROUGH:
        words = f"a query is turned by {own:.2g} of its size against the key of its own place, as in half precision"
        return Turned(layout, "position-precision", words, max(own, by_distance))
    by_query = max(_spread([table for (t, _), table in found.items() if t == at]) for at in range(1, PLACES))
    told = f"a query is turned by {own:.2g} of its size against the key of its own place"
    if by_query < NEAR:
        return Turned(layout, "position-offset", f"{told}: the key is not turned", own)
    if by_distance < NEAR:
        return Turned(
            layout, "position-offset", f"{told}, the same at every place: their positions are shifted", own
        )
    words = f"{told}, more at some places: they are not turned in the same way"
    return Turned(layout, "position-layout", words, max(own, by_distance))


def _spread(tables: list[Tensor]) -> float:
    """How far matrices are apart."""
    return max(((table - tables[0]).abs().max().item() for table in tables), default=0.0)


def _layout(first: Tensor, second: Tensor) -> str:
    """Which numbers are turned with each other."""
    size = len(first)
    seen = ((first.abs() > NEAR) | (second.abs() > NEAR)) & ~torch.eye(size, dtype=torch.bool)
    a, b = (one.tolist() for one in seen.nonzero(as_tuple=True))
    apart = {abs(i - j) for i, j in zip(a, b, strict=True)}
    if apart == {1} and all(min(i, j) % 2 == 0 for i, j in zip(a, b, strict=True)):
        return "pairs"
    return "halves" if len(apart) == 1 else "other"
