"""The tutorial's MultiHeadAttention against nn.MultiheadAttention and the textbook form: time and peak memory.

    python benchmarks/classic.py [--runs 15] [--threads 2]

One training step (forward and backward) of 12 heads of 64 on (4, 1024, 768), float32, causal. The layers take
turns in one process, each turn in another order; a row gives the median, and the median of the ratios within a
turn. nn.MultiheadAttention has biases for query, key and value, which ours has only when asked: 0.6 % of the step.
Peak memory is how far one step lifts the peak of a process of its own, the median of three (read from /proc, so
on Linux alone).
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import attnkit as ak
from attnkit.layers import teaching

BATCH, LENGTH, WIDTH, HEADS = 4, 1024, 768, 12
PROCESSES = 3


class Torch(nn.Module):
    """nn.MultiheadAttention(need_weights=False) with a causal mask; with is_causal it drops the mask again."""

    def __init__(self, *, is_causal: bool) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.is_causal = is_causal
        self.register_buffer("mask", torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of `x`, (batch, len, width)."""
        options = {"attn_mask": self.mask, "is_causal": self.is_causal}
        return self.layer(x, x, x, need_weights=False, **options)[0]


CONTENDERS: dict[str, Callable[[], nn.Module]] = {
    "attnkit": lambda: ak.MultiHeadAttention(WIDTH, WIDTH, LENGTH, 0.0, HEADS),
    "nn.MultiheadAttention, mask": lambda: Torch(is_causal=False),
    "nn.MultiheadAttention, mask and is_causal": lambda: Torch(is_causal=True),
    "textbook": lambda: teaching.MultiHeadAttention(WIDTH, WIDTH, LENGTH, 0.0, HEADS),
}


def step(layer: nn.Module, x: Tensor) -> float:
    """Seconds of one forward and backward pass; gradients are cleared first, as a training loop does."""
    layer.zero_grad()
    x.grad = None
    start = time.perf_counter()
    layer(x).sum().backward()
    return time.perf_counter() - start


def turns(runs: int) -> list[dict[str, float]]:
    """Seconds of each layer's step, turn by turn; two turns to warm up are left out."""
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    layers = {name: make() for name, make in CONTENDERS.items()}
    names, seconds = list(layers), []
    for _ in range(runs + 2):
        names = names[1:] + names[:1]
        seconds.append({name: step(layers[name], x) for name in names})
    return seconds[2:]


def peak_bytes(name: str, threads: int) -> float:
    """How far one step lifts the peak memory of a process, the median of a few processes."""
    command = [sys.executable, __file__, "--peak", name, "--threads", str(threads)]
    done = [subprocess.run(command, check=True, capture_output=True, text=True) for _ in range(PROCESSES)]
    return statistics.median(int(process.stdout) for process in done)


def print_peak_bytes(name: str) -> None:
    """What `peak_bytes` runs in a process of its own."""
    layer, x = CONTENDERS[name](), torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    before = _highest_resident_bytes()
    step(layer, x)
    print(_highest_resident_bytes() - before)


def _highest_resident_bytes() -> int:
    # not getrusage: its peak is inherited from the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15, help="counted turns of each layer")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.peak:
        print_peak_bytes(options.peak)
        return
    seconds = turns(options.runs)
    print(f"torch {torch.__version__}, {options.threads} threads, {options.runs} turns, forward + backward")
    print(f"{'':<44}{'median ms':>10}{'attnkit /':>11}{'peak MB':>9}")
    for name in CONTENDERS:
        median = statistics.median(turn[name] for turn in seconds)
        ratio = statistics.median(turn["attnkit"] / turn[name] for turn in seconds)
        peak = peak_bytes(name, options.threads)
        print(f"{name:<44}{median * 1000:>10.0f}{ratio:>11.2f}{peak / 1e6:>9.0f}")


if __name__ == "__main__":
    main()
