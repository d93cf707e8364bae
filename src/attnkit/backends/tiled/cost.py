"""What a batch of tiles is expected to take, in seconds on two cores: arithmetic, and what surrounds it.

The rates were measured with PyTorch 2.13 on two cores of an AMD EPYC (docs/decisions/tiles-on-the-cpu.md). They choose
between tile sizes and between backends; nothing else depends on them.
"""

from typing import TYPE_CHECKING

import torch

from attnkit.backends import rates
from attnkit.backends.tiled.runs import Runs

if TYPE_CHECKING:
    from attnkit.backends.tiled.plan import Batch, Question

# operations a second of the fused kernel by queries in a tile: it takes 32, 64 (from 192) or 256 (from 768) at a time
_FORWARD_RATES = ((768, 155e9), (192, 128e9), (64, 111e9), (0, 105e9))
_BACKWARD_RATES = ((768, 140e9), (192, 145e9), (32, 130e9), (0, 105e9))
_CALL_SECONDS = 60e-6
_TILE_SECONDS = 1.5e-6
_BYTES_A_SECOND = 8e9
_BIAS_SECONDS = 1e-9  # one score
_ASKED_SECONDS = 60e-6  # a mask, of one tile that is not like the others
_WRITTEN_SECONDS = 1.5e-9  # one element of it


def floor(runs: Runs, question: "Question") -> float:
    """No plan of these runs takes less: their arithmetic, as if every partial run were half empty."""
    rate = torch.zeros_like(runs.rows, dtype=torch.float64)
    for rows, best in reversed(_rates(question)):
        rate = torch.where(runs.rows >= rows, best, rate)
    share = torch.where(runs.full, 1.0, 0.5 if bool((runs.rows >= 256).any()) else 1.0)
    return float((_operations(question) * runs.rows * runs.width * share / rate).sum())


def least(batches: tuple["Batch", ...], question: "Question") -> float:
    """What the pairs that these batches keep would take at the best rate; 0 where a mask hides unknown ones."""
    if any(batch.mask is not None and not batch.square for batch in batches):
        return 0.0
    kept = sum(b.count * b.rows * b.width * (0.5 if b.square else 1.0) for b in batches)
    return _operations(question) * kept / max(rate for _, rate in _rates(question))


def seconds(batch: "Batch", question: "Question") -> float:
    """What `batch` is expected to take."""
    pairs = batch.count * batch.rows * batch.width
    rate = next(best for rows, best in _rates(question) if batch.rows >= rows)
    work = _operations(question) * pairs * (0.55 if batch.square else 1.0) / rate
    read = 8 * question.lanes * question.dim * batch.count * batch.width
    work = max(work, read / rates.BYTES_READ_PER_SECOND)
    row_bytes = 4 * question.lanes * question.dim * batch.count
    if question.backward:
        moved = row_bytes * (2 * batch.rows + 6 * batch.width)
    else:
        moved = row_bytes * batch.rows * (2 if batch.rank == 0 else 4)
    calls = 1 + moved // (16 << 20)
    spent = work + moved / _BYTES_A_SECOND + calls * _CALL_SECONDS
    spent += batch.count * question.lanes * _TILE_SECONDS
    if question.biased:
        spent += pairs * question.lanes * _BIAS_SECONDS
    shared = batch.moves_together and (batch.mask is None or batch.mask.relative)
    if (batch.mask is not None or question.biased) and not batch.square and not shared:
        spent += batch.count * _ASKED_SECONDS
        spent += pairs * max(question.biased, 1) * _WRITTEN_SECONDS
    return spent


def _operations(question: "Question") -> int:
    """Floating-point operations of one pair of positions, in all lanes."""
    return (10 if question.backward else 4) * question.dim * question.lanes


def _rates(question: "Question") -> tuple[tuple[int, float], ...]:
    return _BACKWARD_RATES if question.backward else _FORWARD_RATES
