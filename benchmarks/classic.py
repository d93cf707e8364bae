"""The tutorial's MultiHeadAttention against nn.MultiheadAttention and the textbook form: time and peak memory.

    python benchmarks/classic.py [--runs 15] [--threads 2]

One training step (forward and backward) of 12 heads of 64 on (4, 1024, 768), float32, causal. The layers take
turns in one process; a row gives the median and the median of the ratios, turn by turn. Peak memory is how
far one step lifts the peak of a process of its own (read from /proc, so on Linux alone).
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


def ours() -> Callable[[Tensor], Tensor]:
    """attnkit.MultiHeadAttention."""
    return ak.MultiHeadAttention(WIDTH, WIDTH, LENGTH, 0.0, HEADS)


def torch_with_a_mask() -> Callable[[Tensor], Tensor]:
    """nn.MultiheadAttention(need_weights=False), given a causal mask."""
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    return _with_parameters(layer, lambda x: layer(x, x, x, need_weights=False, attn_mask=mask)[0])


def torch_with_a_hint() -> Callable[[Tensor], Tensor]:
    """The same, with is_causal=True: it then drops the mask and runs the causal kernel."""
    layer = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    return _with_parameters(
        layer, lambda x: layer(x, x, x, need_weights=False, attn_mask=mask, is_causal=True)[0]
    )


def textbook() -> Callable[[Tensor], Tensor]:
    """The tutorial's class: scores, mask, softmax and weights written out."""
    return teaching.MultiHeadAttention(WIDTH, WIDTH, LENGTH, 0.0, HEADS)


CONTENDERS = {
    "attnkit": ours,
    "nn.MultiheadAttention, mask": torch_with_a_mask,
    "nn.MultiheadAttention, mask and is_causal": torch_with_a_hint,
    "textbook": textbook,
}


def _with_parameters(layer: nn.Module, call: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    call.parameters = layer.parameters  # pyright: ignore[reportFunctionMemberAccess]
    return call


def step(layer: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Seconds of one forward and backward pass; gradients are cleared first, as a training loop does."""
    for parameter in layer.parameters():  # pyright: ignore[reportFunctionMemberAccess]
        parameter.grad = None
    x.grad = None
    start = time.perf_counter()
    layer(x).sum().backward()
    return time.perf_counter() - start


def peak_bytes(name: str) -> None:
    """Print how far one step lifts this process's peak above what was there before the step."""
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
    if options.peak:
        peak_bytes(options.peak)
        return
    torch.manual_seed(0)
    x = torch.randn(BATCH, LENGTH, WIDTH, requires_grad=True)
    layers = {name: make() for name, make in CONTENDERS.items()}
    turns = [{name: step(layer, x) for name, layer in layers.items()} for _ in range(options.runs + 2)][2:]
    print(f"torch {torch.__version__}, {options.threads} threads, {options.runs} turns, forward + backward")
    print(f"{'':<44}{'median ms':>10}{'attnkit /':>11}{'peak MB':>9}")
    for name in CONTENDERS:
        command = [sys.executable, __file__, "--peak", name, "--threads", str(options.threads)]
        peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        median = statistics.median(turn[name] for turn in turns)
        ratio = statistics.median(turn["attnkit"] / turn[name] for turn in turns)
        print(f"{name:<44}{median * 1000:>10.0f}{ratio:>11.2f}{peak / 1e6:>9.0f}")


if __name__ == "__main__":
    main()
