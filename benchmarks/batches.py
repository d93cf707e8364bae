"""Texts of unequal length, padded into a batch whose lengths are new in each call, as in training.

    python benchmarks/batches.py [--turns 7] [--threads 2]

Forward and backward, 4 heads of 32, float32; a batch is half full at the least. The peer is PyTorch's fused attention
with the mask written out, which is made outside of the timed call. "of three" is a layer of a stack of three that share
a mask. attnkit chooses its backend itself. All that is compared takes turns in one process; a ratio is the median of
the ratios within a turn.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from _turns import Contender, take_turns
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import attnkit as ak

HEADS, WIDTH = 4, 32
SIZES = ((48, 48), (32, 128), (16, 512), (8, 1024), (4, 4096))


def drawn(batch: int, length: int) -> Iterator[tuple[list[int], Tensor]]:
    """Lengths, other ones each time, and the mask of them written out."""
    generator = torch.Generator().manual_seed(0)
    while True:
        lengths = torch.randint(length // 2, length + 1, (batch,), generator=generator)
        yield lengths.tolist(), (torch.arange(length) < lengths[:, None])[:, None, None]


def ours(asked: Iterator[tuple[list[int], Tensor]], tensors: tuple[Tensor, ...], layers: int) -> Tensor:
    """A rule with a mask of lengths that nobody saw before, `layers` times."""
    rule, (query, key, value) = ak.Rule(mask=ak.masks.lengths(next(asked)[0])), tensors
    return sum((rule(query, key, value) for _ in range(layers)), start=torch.zeros(()))


def theirs(asked: Iterator[tuple[list[int], Tensor]], tensors: tuple[Tensor, ...], layers: int) -> Tensor:
    """PyTorch's own, with a dense mask."""
    mask = next(asked)[1]
    return sum(
        (scaled_dot_product_attention(*tensors, attn_mask=mask) for _ in range(layers)), start=torch.zeros(())
    )


def row(batch: int, length: int, layers: int, turns: int) -> str:
    """One line of the table."""
    query, key, value = (torch.randn(batch, HEADS, length, WIDTH, requires_grad=True) for _ in range(3))
    tensors = query, key, value
    calls: list[Callable[[], Tensor]] = [
        partial(call, drawn(batch, length), tensors, layers) for call in (ours, theirs)
    ]
    one, other = (Contender(call, tensors) for call in calls)
    take_turns([one, other], turns)
    chosen = ak.Rule(mask=ak.masks.lengths(next(drawn(batch, length))[0])).explain(*tensors).chosen
    name = f"{batch} texts of up to {length}" + (f", of {layers}" if layers > 1 else "")
    return f"{name:<34}{one.median / layers * 1e3:>10.1f}{one.ratio_to(other):>9.2f}  {chosen}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(f"{'padded batch, forward + backward':<34}{'ms':>10}{'ratio':>9}  backend")
    for layers in (1, 3):
        for batch, length in SIZES:
            print(row(batch, length, layers, asked.turns), flush=True)


if __name__ == "__main__":
    main()
