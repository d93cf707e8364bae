"""How many pairs a mask keeps, counted exactly: full tiles by their size, partial ones pair by pair.

    pairs = sum of full tiles' areas + sum over partial tiles of keep(q, k)

No table of q_len x kv_len is made, so that a window on 65,536 tokens is counted as quickly as one on 1,024.
"""

import itertools
import math

import torch

from attnkit.masks import Mask

_TILE = 128


def kept_pairs(mask: Mask, length: int) -> float:
    """How many pairs of `length` queries and as many keys are kept: the mean over samples where they differ."""
    tiles = mask.tiles(length, length, tile=_TILE)
    samples = list(itertools.product(*map(range, mask.batch)))
    total = 0
    for index in samples:
        own, one = tiles.of(index), mask.sample(index)
        spans = zip(own.row.tolist(), own.start.tolist(), own.stop.tolist(), own.full.tolist(), strict=True)
        for row, start, stop, full in spans:
            q_pos = torch.arange(int(own.q_edges[row]), int(own.q_edges[row + 1]))
            kv_pos = torch.arange(int(own.kv_edges[start]), int(own.kv_edges[stop]))
            pairs = q_pos.numel() * kv_pos.numel()
            if not full:
                keep = one.keep(q_pos[:, None], kv_pos[None, :])
                pairs = int(keep.expand(*keep.shape[:-2], q_pos.numel(), kv_pos.numel()).sum())
            total += pairs
    return total / math.prod(mask.batch)
