"""The five recurrences, a chunk at a time, against scaled_dot_product_attention(is_causal=True): time.

    python benchmarks/recurrence.py [--runs 9] [--threads 2] [--length 4096] [--chunks 64]

Batch 1, 8 heads of 64, float32, forward alone and forward + backward, gradients of the gates included. All take turns
in one process, each turn in another order; a cell is the median time in ms and, after it, the median of the ratios to
SDPA within a turn. `--chunks 16 32 64 128 256` has a row for each size of a chunk. The last column is the time of one
more token, decoded with a state, to SDPA with a cache of that length.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, scaled_dot_product_attention

from attnkit import recurrence

HEADS, SIZE = 8, 64
RECURRENCES: dict[str, tuple[type[recurrence.Recurrence], tuple[str, ...]]] = {
    "linear": (recurrence.Linear, ()),
    "decay": (recurrence.Decay, ("decay",)),
    "gated linear": (recurrence.GatedLinear, ("channel decay",)),
    "delta": (recurrence.Delta, ("beta",)),
    "gated delta": (recurrence.GatedDelta, ("decay", "beta")),
}
Run = Callable[[], object]


def inputs(length: int, *, grad: bool) -> dict[str, Tensor]:
    """Query, key, value and gates, drawn as a trained layer would give them: keys of length 1, decays near 1."""
    shape = (1, HEADS, length, SIZE)
    drawn = {
        "query": torch.randn(shape),
        "key": normalize(torch.randn(shape), dim=-1),
        "value": torch.randn(shape),
        "decay": 1 - 0.1 * torch.rand(shape[:-1]),
        "channel decay": 1 - 0.1 * torch.rand(shape),
        "beta": torch.rand(shape[:-1]),
    }
    return {name: tensor.requires_grad_(grad) for name, tensor in drawn.items()}


def contenders(length: int, chunks: list[int], *, grad: bool) -> dict[str, Run]:
    """What takes turns: SDPA, and each recurrence with each size of a chunk."""
    drawn = inputs(length, grad=grad)
    qkv = drawn["query"], drawn["key"], drawn["value"]

    def finished(context: Tensor) -> None:
        if grad:
            context.sum().backward()

    runs: dict[str, Run] = {"sdpa": lambda: finished(scaled_dot_product_attention(*qkv, is_causal=True))}
    for name, (kind, gates) in RECURRENCES.items():
        given: dict[str, Any] = {gate.split()[-1]: drawn[gate] for gate in gates}
        for size in chunks:
            rule = kind(chunk_tokens=size)
            runs[f"{name} {size}"] = lambda rule=rule, given=given: finished(rule(*qkv, **given))
    return runs


def decoders(length: int) -> dict[str, Run]:
    """One more token: SDPA with a cache of `length` tokens, each recurrence with its state."""
    drawn = inputs(length, grad=False)
    token = {name: tensor[:, :, :1] for name, tensor in drawn.items()}
    qkv = token["query"], token["key"], token["value"]
    runs: dict[str, Run] = {
        "sdpa": lambda: scaled_dot_product_attention(token["query"], drawn["key"], drawn["value"])
    }
    for name, (kind, gates) in RECURRENCES.items():
        given: dict[str, Any] = {gate.split()[-1]: token[gate] for gate in gates}
        _, state = kind().run(*qkv, **given)
        runs[name] = lambda kind=kind, given=given, state=state: kind().run(*qkv, **given, state=state)
    return runs


def turns(runs: dict[str, Run], count: int) -> list[dict[str, float]]:
    """Seconds of each, turn by turn; two turns to warm up are left out."""
    names, seconds = list(runs), []
    for _ in range(count + 2):
        names = names[1:] + names[:1]
        turn = {}
        for name in names:
            start = time.perf_counter()
            runs[name]()
            turn[name] = time.perf_counter() - start
        seconds.append(turn)
    return seconds[2:]


def cell(seconds: list[dict[str, float]], name: str) -> str:
    """The median in ms, and the median ratio to SDPA."""
    median = statistics.median(turn[name] for turn in seconds)
    ratio = statistics.median(turn[name] / turn["sdpa"] for turn in seconds)
    return f"{median * 1000:>11.2f}{ratio:>7.2f}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=9, help="counted turns of each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--length", type=int, default=4096, help="tokens")
    parser.add_argument("--chunks", type=int, nargs="+", default=[64], help="sizes of a chunk, powers of two")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        forward = turns(contenders(options.length, options.chunks, grad=False), options.runs)
        decoding = turns(decoders(options.length), 20 * options.runs)
    training = turns(contenders(options.length, options.chunks, grad=True), options.runs)
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.length} tokens, {options.runs} turns"
    )
    print(f"{'':<18}{'forward ms':>11}{'ratio':>7}{'+ back ms':>11}{'ratio':>7}{'token ms':>11}{'ratio':>7}")
    for name in sorted(training[0], key=list(contenders(1, options.chunks, grad=False)).index):
        decoder = name.rsplit(" ", 1)[0]
        print(f"{name:<18}{cell(forward, name)}{cell(training, name)}{cell(decoding, decoder)}")


if __name__ == "__main__":
    main()
