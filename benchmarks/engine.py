"""What the engine costs: rules with their masks, against PyTorch's own causal attention and against other packages.

    python benchmarks/engine.py [--turns 9] [--threads 2] [--no-peers] [--json FILE]

Batch 1, 8 heads of 64, 8,192 tokens, float32 (bfloat16 on a GPU). All that is compared takes turns in one process, each
turn in another order. A ratio is the median of the ratios within a turn; "best" is that of the quickest turns, which a
busy machine disturbs least. attnkit chooses its backend itself. Peak memory is how far one forward and backward pass
lifts the peak of a process of its own, less its outputs (read from /proc, so on Linux alone).
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from _peers import compiled_flex, dense_mask, local_attention, x_transformers
from _turns import Contender, take_turns
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import attnkit as ak
from attnkit import masks

HEADS, WIDTH, LENGTH, LONG, WINDOW = 8, 64, 8_192, 65_536, 256
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
BAND = masks.causal & masks.window(WINDOW)
RULES = {
    "window 256": ak.Rule(mask=BAND),
    "window 256 or first 4": ak.Rule(mask=masks.causal & (masks.window(WINDOW) | masks.first(4))),
    "8 documents of 1,024": ak.Rule(mask=masks.causal & masks.documents(torch.arange(LENGTH) // 1024)),
    "causal": ak.Rule(mask=masks.causal),
}
TARGETS = {
    ("window 256", "forward"): 0.09,
    ("window 256", "both"): 0.12,
    ("window 256 or first 4", "forward"): 0.12,
    ("8 documents of 1,024", "both"): 0.20,
    ("causal", "forward"): 1.02,
    ("causal", "both"): 1.02,
}


@dataclass
class Row:
    """One line of the table; ratios are to what `against` says."""

    case: str
    against: str
    milliseconds: float
    ratio: float
    best_ratio: float
    at_most: float | None = None
    backend: str = ""

    def __str__(self) -> str:
        target = "" if self.at_most is None else f"{self.at_most:g}"
        numbers = f"{self.milliseconds:>10.1f}{self.ratio:>9.3f}{self.best_ratio:>9.3f}{target:>9}"
        return f"{self.case:<52}{numbers}  {self.backend:<8}{self.against}"


def inputs(
    length: int = LENGTH, *, q_len: int | None = None, kv_heads: int = HEADS, heads: int = HEADS, d=(64, 64)
):
    """A query, key and value that want gradients."""
    shapes = ((heads, q_len or length, d[0]), (kv_heads, length, d[0]), (kv_heads, length, d[1]))
    query, key, value = (
        torch.randn(1, *shape, device=DEVICE, dtype=DTYPE, requires_grad=True) for shape in shapes
    )
    return query, key, value


def causal_sdpa(query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0) -> Tensor:
    """PyTorch's own."""
    return scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=dropout)


def masked_rows(turns: int, *, peers: bool) -> Iterator[Row]:
    """Each mask against SDPA's `is_causal`, and the peers that can do the same."""
    sides = inputs()
    for direction, leaves in (("forward", ()), ("both", sides)):
        base = Contender(lambda: causal_sdpa(*sides), leaves)
        found = {name: Contender(lambda rule=rule: rule(*sides), leaves) for name, rule in RULES.items()}
        others = dict(peer_contenders(sides, leaves)) if peers else {}
        running = {name: other for name, other in others.items() if isinstance(other, Contender)}
        take_turns([base, *found.values(), *running.values()], turns)
        for name, contender in found.items():
            backend = RULES[name].explain(*sides).chosen
            target = TARGETS.get((name, direction))
            yield row(f"{name}, {direction}", contender, base, "SDPA is_causal", target, backend)
        for name, contender in running.items():
            yield row(f"  peer: {name}, {direction}", contender, base, "SDPA is_causal")
        for name, reason in others.items():
            if isinstance(reason, str):
                print(f"  peer: {name}, {direction}: {reason}")


def peer_contenders(
    sides: tuple[Tensor, ...], leaves: tuple[Tensor, ...]
) -> Iterator[tuple[str, Contender | str]]:
    """Those that compute the same window or the same causal attention, or why one is left out."""
    query, key, value = sides
    keep = BAND.dense(LENGTH, LENGTH, device=query.device)
    found = {
        "SDPA, dense window mask": dense_mask(query, key, value, keep),
        "local-attention, window": local_attention(query, key, value, WINDOW),
        "x-transformers, causal": x_transformers(query, key, value),
    }
    if leaves and DEVICE == "cpu":
        yield "compiled FlexAttention, window", "it has no backward pass on a CPU"
    else:
        query, key, value = sides if leaves else (side.detach() for side in sides)
        found["compiled FlexAttention, window"] = compiled_flex(query, key, value, WINDOW)
    for name, call in found.items():
        yield name, call if isinstance(call, str) else Contender(call, leaves)


def other_rows(turns: int) -> Iterator[Row]:
    """Dropout, values narrower than keys, one token more, and a longer text: each against a case of its own."""
    sides = inputs()
    dropped = ak.Rule(mask=masks.causal, dropout=0.1)
    pair = (
        Contender(lambda: dropped(*sides, training=True), sides),
        Contender(lambda: causal_sdpa(*sides), sides),
    )
    slow = Contender(lambda: causal_sdpa(*sides, dropout=0.1), sides)
    take_turns([*pair, slow], turns)
    yield row("causal, dropout 0.1, both", *pair, "SDPA is_causal without", 2.0, _backend(dropped, sides))
    yield row("  peer: SDPA, dropout 0.1, both", slow, pair[1], "SDPA is_causal without")

    narrow, even = inputs(2048, d=(192, 128)), inputs(2048, d=(192, 192))
    causal = RULES["causal"]
    pair = Contender(lambda: causal(*narrow), narrow), Contender(lambda: causal_sdpa(*even), even)
    take_turns(pair, turns)
    yield row(
        "causal, values of 128 to keys of 192, both",
        *pair,
        "SDPA, values of 192",
        1.3,
        _backend(causal, narrow),
    )

    token = inputs(q_len=1, heads=32)
    grouped = Contender(lambda: scaled_dot_product_attention(*token, enable_gqa=True))
    pair = Contender(lambda: causal(*token)), grouped
    take_turns(pair, turns)
    yield row("one token, 32 heads on 8, forward", *pair, "SDPA enable_gqa", 0.40, _backend(causal, token))

    band, long = RULES["window 256"], inputs(LONG)
    pair = Contender(lambda: band(*long), long), Contender(lambda: band(*sides), sides)
    take_turns(pair, turns)
    yield row("window 256, 65,536 tokens, both", *pair, "8,192 tokens", 9.0, _backend(band, long))


def row(
    case: str, one: Contender, other: Contender, against: str, at_most: float | None = None, backend: str = ""
) -> Row:
    """What the turns of two contenders come to."""
    return Row(
        case, against, one.median * 1e3, one.ratio_to(other), one.best_ratio_to(other), at_most, backend
    )


def _backend(rule: ak.Rule, sides: tuple[Tensor, ...]) -> str:
    query, key, value = sides
    return rule.explain(query, key, value, training=True).chosen


def peak_bytes() -> int:
    """How far a pass over a long text lifts the peak of a process of its own, less its outputs."""
    command = [sys.executable, __file__, "--peak"]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak_bytes() -> None:
    """What `peak_bytes` runs in a process of its own."""
    sides = inputs(LONG)
    peak = torch.cuda.max_memory_allocated if DEVICE == "cuda" else _highest_resident_bytes
    before = peak()
    context = RULES["window 256"](*sides)
    context.backward(torch.ones_like(context))
    outputs = [context, *(side.grad for side in sides)]
    print(peak() - before - sum(output.nbytes for output in outputs if output is not None))


def _highest_resident_bytes() -> int:
    # not getrusage: its peak is inherited from the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def machine() -> str:
    """The processor, or the GPU."""
    if DEVICE == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def printed(rows: Iterator[Row], collected: list[Row]) -> None:
    """Print rows as they come."""
    for found in rows:
        print(found, flush=True)
        collected.append(found)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=9, help="counted turns of each contender")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--no-peers", action="store_true", help="leave other packages out")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.peak:
        print_peak_bytes()
        return
    print(
        f"torch {torch.__version__}, {machine()}, {options.threads} threads, {options.turns} turns, {DTYPE}"
    )
    print(f"{'':<52}{'ms':>10}{'ratio':>9}{'best':>9}{'at most':>9}  backend against")
    rows: list[Row] = []
    printed(masked_rows(options.turns, peers=not options.no_peers), rows)
    printed(other_rows(options.turns), rows)
    lifted = peak_bytes()
    print(f"{'window 256, 65,536 tokens, both: peak GB':<52}{lifted / 1e9:>10.2f}{'':>18}{'1':>9}")
    if options.json:
        told = {
            "machine": machine(),
            "torch": torch.__version__,
            "threads": options.threads,
            "peak_bytes": lifted,
        }
        options.json.write_text(
            json.dumps(told | {"rows": [asdict(found) for found in rows]}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
