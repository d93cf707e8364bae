"""The plan: which batches of equal tiles a mask comes down to, at the tile size that is expected to take least time.

Tiles of one size whose queries and keys both move on by a fixed step are one batch: a strided view, and one call.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import torch

from attnkit.backends.tiled import cost
from attnkit.backends.tiled.leftover import judged
from attnkit.backends.tiled.runs import Runs, keys_read, runs_of
from attnkit.masks import Area, Causal, Mask

_ALL, _MORE, _SOME, _FEWER = 1 << 30, 256, 64, 32
_WIDE = 1024
_WRITTEN_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class Batch:
    """Tiles of one size: tile i is queries `q_from + i * q_step` onwards against keys `kv_from + i * kv_step` onwards.

    Attributes:
        q_from: index of the first query.
        q_step: how far queries move on from tile to tile.
        rows: queries in a tile.
        kv_from: index of the first key.
        kv_step: how far keys move on.
        width: keys in a tile.
        count: how many tiles.
        mask: what hides pairs in these tiles; None when nothing is hidden.
        square: the tile is causal from its own first key on, so that no mask need be written out.
        rank: how many batches before this one had the same queries.
    """

    q_from: int
    q_step: int
    rows: int
    kv_from: int
    kv_step: int
    width: int
    count: int
    mask: Mask | None
    square: bool
    rank: int

    @property
    def moves_together(self) -> bool:
        """Whether the distance from queries to keys is the same in all tiles."""
        return self.q_step == self.kv_step or self.count == 1


@dataclass(frozen=True)
class Question:
    """What a plan depends on besides the mask, which is the same for every sample.

    Attributes:
        q_len: how many queries.
        kv_len: how many keys.
        q_start: the position of the first query.
        lanes: how many pairs of query head and sample run at once.
        dim: the width of queries and values.
        biased: how many heads have a bias of their own, that is added to every tile; 0 for none.
        backward: for the gradients rather than the context.
    """

    q_len: int
    kv_len: int
    q_start: int
    lanes: int
    dim: int
    biased: int = 0
    backward: bool = False

    @property
    def q_range(self) -> tuple[int, int]:
        """The position of the first query, and one past the last."""
        return self.q_start, self.q_start + self.q_len


@dataclass(frozen=True)
class Plan:
    """Batches in the order in which they run, and what they are expected to take.

    Attributes:
        batches: those of rank 0 before others, as they are the first to write.
        covers: whether each query is in a batch; the others read nothing.
        seconds: the estimate, on two cores.
    """

    batches: tuple[Batch, ...]
    covers: bool
    seconds: float

    def shifted(self, keys: int) -> "Plan":
        """The same tiles of keys that come so many places later."""
        if not keys:
            return self
        batches = (replace(batch, kv_from=batch.kv_from + keys) for batch in self.batches)
        return replace(self, batches=tuple(batches))


def plan_of(mask: Mask, question: Question) -> Plan:
    """The cheapest plan for `mask`. It rests on tile answers: what a function of the reader's says is not stored.

    Where distance is all that counts, keys that nobody reads do not: a token after a longer cache has a known plan.
    """
    unread, last = (
        keys_read(mask, question.q_range, question.kv_len) if mask.relative else (0, question.kv_len)
    )
    question = replace(question, kv_len=last - unread, q_start=question.q_start - unread)
    try:
        return _cached(mask, question).shifted(unread)
    except TypeError:  # a mask of the reader's own that has no hash
        return _searched(mask, question).shifted(unread)


@lru_cache(maxsize=512)  # as many as there are samples in a few layers
def _cached(mask: Mask, question: Question) -> Plan:
    return _searched(mask, question)


def _searched(mask: Mask, question: Question) -> Plan:
    best: Plan | None = None
    too_much = False
    for runs in _candidates(mask, question):
        if best is not None and not too_much and cost.floor(runs, question) >= best.seconds:
            continue
        batches = batches_of(mask, runs, question)
        seconds = sum((cost.seconds(batch, question) for batch in batches), start=0.0)
        if best is None or too_much or (seconds < best.seconds and not _holds_too_much(batches, question)):
            best = Plan(batches, int(runs.rows[runs.rank == 0].sum()) == question.q_len, seconds)
            too_much = _holds_too_much(batches, question)
        if not too_much and best.seconds < 1.35 * cost.least(batches, question):
            break
    assert best is not None
    return best


def _candidates(mask: Mask, question: Question) -> Iterator[Runs]:
    """The runs of rows of all queries, of some, and of more or fewer: of more where runs are wide anyway.

    Large rows keep full and partial runs apart, so that squares show.
    """
    where = mask, question.q_range, question.kv_len
    yield runs_of(*where, _ALL, joined=False)
    if question.q_len <= _FEWER:
        return
    runs = runs_of(*where, _SOME, joined=True)
    yield runs
    pairs = int((runs.rows * runs.width).sum())
    if pairs > _WIDE * question.q_len:
        yield runs_of(*where, _MORE, joined=False)
    if pairs <= _WIDE * question.q_len or pairs * _SOME > _WRITTEN_ELEMENTS * question.q_len:
        yield runs_of(*where, _FEWER, joined=True)


def _holds_too_much(batches: tuple[Batch, ...], question: Question) -> bool:
    """Whether what is written out for one tile takes more memory than a tile should."""
    if question.biased:
        return max((b.rows * b.width for b in batches), default=0) * question.biased > 4 * _WRITTEN_ELEMENTS
    masked = [b.rows * b.width for b in batches if b.mask is not None and not b.square]
    return max(masked, default=0) > _WRITTEN_ELEMENTS


def batches_of(mask: Mask, runs: Runs, question: Question) -> tuple[Batch, ...]:
    """`runs` as batches, those of rank 0 first."""
    area = Area(runs.q_from, runs.q_to, runs.kv_from, runs.kv_to)
    whole = None if bool(runs.full.all()) else judged(mask, area)
    shapes: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    for run, (rank, q_from, rows, kv_from, width, full) in _stacked(runs, question.q_start):
        shapes.setdefault((rank, rows, width, full), []).append((q_from, kv_from, run))
    found: list[Batch] = []
    for (rank, rows, width, full), places in sorted(shapes.items()):
        for part in _progressions(places):
            (q_from, kv_from, _), (q_next, kv_next, _) = part[0], part[min(1, len(part) - 1)]
            steps = q_next - q_from, kv_next - kv_from
            hidden = None if full or whole is None else whole.left([run for *_, run in part])
            square = isinstance(hidden, Causal) and q_from + question.q_start == kv_from
            square = square and steps[0] == steps[1] and not question.biased
            found.append(
                Batch(q_from, steps[0], rows, kv_from, steps[1], width, len(part), hidden, square, rank)
            )
    return tuple(found)


def _stacked(runs: Runs, q_start: int) -> list[tuple[int, list[int]]]:
    """Each run's number, and rank, first query, rows, first key, width and full; full ones that stack up are one."""
    parts = (runs.rank, runs.q_from - q_start, runs.rows, runs.kv_from, runs.width, runs.full.long())
    listed = torch.stack(parts, dim=1).tolist()
    last: dict[int, list[int]] = {}
    found: list[tuple[int, list[int]]] = []
    for number, run in enumerate(listed):
        above = last.get(run[0])
        if above and above[5] and above[3:] == run[3:] and above[1] + above[2] == run[1]:
            above[2] += run[2]
        else:
            found.append((number, run))
            last[run[0]] = run
    return found


def _progressions(places: list[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """Cuts `places` where the step from one to the next changes, or where a key lies before the key that came last."""
    found = [[places[0]]]
    for before, place in pairwise(places):
        part = found[-1]
        step = place[0] - before[0], place[1] - before[1]
        if step[1] < 0 or (len(part) > 1 and step != (part[1][0] - part[0][0], part[1][1] - part[0][1])):
            found.append([place])
        else:
            part.append(place)
    return found
