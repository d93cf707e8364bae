"""What masks say of tiles: how often PARTIAL is said in vain, and what a million tokens cost.

    python benchmarks/masks.py [--table] [--length 2048] [--tile 64] [--tokens 1000000] [--threads 1]

The first table holds the tile answers of common masks against the masks written out: a PARTIAL tile is in vain if all
of its pairs are kept, or none. `--table` prints it alone, as docs/decisions/tile-answers.md has it. The second holds
the first call of `mask.tiles` in a process of its own, how far it lifts the peak memory there (read from /proc, so on
Linux alone), and the median of three more calls.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from attnkit import masks
from attnkit.masks import Mask, Tiles

RUNS = 3
PARTIAL = 1


def packed(length: int, *, documents: int) -> Tensor:
    """Ids of documents of uneven lengths, one after another."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.randperm(length - 1, generator=generator)[: documents - 1] + 1
    return torch.bucketize(torch.arange(length), ends.sort().values, right=True)


def common(length: int) -> dict[str, Mask]:
    """Masks that people use, by the text that makes them, for a sequence of `length` tokens."""
    ids = packed(length, documents=8)
    size = max(length // 32, 1)
    causal, window, first = masks.causal, masks.window, masks.first
    return {
        "causal": causal,
        "causal & window(256)": causal & window(256),
        "causal & (window(256) | first(4))": causal & (window(256) | first(4)),
        "causal & documents(8 of uneven length)": causal & masks.documents(ids),
        "causal & window(256) & documents(3 that take turns)": causal
        & window(256)
        & masks.documents(ids % 3),
        "prefix(500)": masks.prefix(500),
        "causal & lengths([700, 2000])": causal & masks.lengths([700, 2000]),
        "causal & dilated(4, 64)": causal & masks.dilated(4, 64),
        f"causal & (window({size}) | strided({size}))": causal & (window(size) | masks.strided(size)),
        f"causal & (window({size}) | first({size}) | random_blocks({size}, 3))": causal
        & (window(size) | first(size) | masks.random_blocks(size, 3)),
        "causal & random_blocks(16, 3)": causal & masks.random_blocks(16, 3),
        "prefix(500) & (window(256) | first(4))": masks.prefix(500) & (window(256) | first(4)),
        "where(lambda q, k: (k <= q) & (q - k < 256))": masks.where(lambda q, k: (k <= q) & (q - k < 256)),
    }


def truth(mask: Mask, length: int, tile: int) -> Tensor:
    """The state of each tile, 0 EMPTY, 1 PARTIAL or 2 FULL, from the mask written out; the tile divides the length."""
    blocks = mask.dense(length, length).unflatten(-2, (-1, tile)).unflatten(-1, (-1, tile))
    return blocks.any(-1).any(-2).int() + blocks.all(-1).all(-2).int()


def vanity(mask: Mask, length: int, tile: int) -> tuple[Tiles, int]:
    """The tiles of a mask, and how many of them are PARTIAL in vain."""
    tiles = mask.tiles(length, length, tile=tile)
    told, true = tiles.table(), truth(mask, length, tile)
    if bool(((told != true) & (told != PARTIAL)).any()):
        raise AssertionError(f"{mask!r} is wrong about a tile")
    return tiles, int(((told == PARTIAL) & (true != PARTIAL)).sum())


def print_table(length: int, tile: int) -> None:
    """Tiles of each kind, and the share of PARTIAL answers that are in vain."""
    print(f"| mask, {length:,} tokens, tiles of {tile} | empty | partial | full | partial in vain |")
    print("|---|---|---|---|---|")
    for name, mask in common(length).items():
        tiles, vain = vanity(mask, length, tile)
        share = f"{vain} ({vain / tiles.num_partial:.1%})".replace("%", " %") if vain else "0"
        name = name.replace("|", "\\|")
        print(f"| `{name}` | {tiles.num_empty:,} | {tiles.num_partial:,} | {tiles.num_full:,} | {share} |")


def long(tokens: int) -> dict[str, Mask]:
    """Masks that are cheap at a million tokens."""
    ids = packed(tokens, documents=500)
    return {
        "causal & (window(4096) | first(64))": masks.causal & (masks.window(4096) | masks.first(64)),
        "causal & documents(500)": masks.causal & masks.documents(ids),
        "causal & window(4096) & documents(50 that take turns)": masks.causal
        & masks.window(4096)
        & masks.documents(ids % 50),
        "causal & (window(4096) | random_blocks(1024, 3))": masks.causal
        & (masks.window(4096) | masks.random_blocks(1024, 3)),
        "causal": masks.causal,
    }


def seconds(mask: Mask, tokens: int) -> float:
    """The median of a few calls, after one to warm up."""
    taken = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        mask.tiles(tokens, tokens)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


def print_first_call(name: str, tokens: int) -> None:
    """Seconds of the first call in this process, and the bytes by which it lifts the peak memory."""
    mask = long(tokens)[name]
    masks.causal.tiles(8, 8)  # what torch loads at its first operations is not the mask's
    before, start = _highest_resident_bytes(), time.perf_counter()
    mask.tiles(tokens, tokens)
    print(time.perf_counter() - start, _highest_resident_bytes() - before)


def _highest_resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", action="store_true", help="print the table of the documentation alone")
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--first-call", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.first_call:
        print_first_call(options.first_call, options.tokens)
        return
    print_table(options.length, options.tile)
    if options.table:
        return
    print(f"\ntorch {torch.__version__}, threads: {options.threads}, {options.tokens:,} tokens, tiles of 128")
    print(f"{'':<58}{'first s':>9}{'then s':>9}{'peak MB':>9}{'runs':>9}")
    for name, mask in long(options.tokens).items():
        command = [sys.executable, __file__, "--first-call", name, "--tokens", str(options.tokens)]
        command += ["--threads", str(options.threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        first, peak = map(float, done.stdout.split())
        runs = mask.tiles(options.tokens, options.tokens).row.numel()
        print(f"{name:<58}{first:>9.3f}{seconds(mask, options.tokens):>9.3f}{peak / 1e6:>9.0f}{runs:>9,}")


if __name__ == "__main__":
    main()
