"""What can be asked of 65,536 tokens without a tensor of tokens x tokens: time, peak memory, and how exact it is.

    python benchmarks/inspection.py [--runs 5] [--threads 2] [--long]

8 heads of 64, float32, independent normal draws; "sharp" ones are three times as large, and their entropy is computed
in float64. A time is a median. A ratio is the median of the ratios to one forward pass of the same rule, in turn in one
process. Peak memory is that of a process of its own, less what it held before it asked (read from /proc, so on Linux
alone). Plain causal attention of 65,536 tokens takes half a minute, and maps of it minutes: they are asked with --long.
The last lines compare with the dense weights in float64, every entry.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import attnkit as ak
from attnkit import masks
from attnkit.inspection import Inspection

HEADS, HEAD_DIM, LONG, DENSE = 8, 64, 65_536, 2_048
SHARPNESS = {"": 1.0, "sharp": 3.0}
RULES = {
    "window": ak.Rule(mask=masks.causal & masks.window(256)),
    "causal": ak.Rule(mask=masks.causal),
}
ASKED: dict[str, Callable[[Inspection], object]] = {
    "16 rows": lambda found: found.rows(range(0, found.request.q_len, found.request.q_len // 16)),
    "lse": lambda found: found.lse(),
    "entropy": lambda found: found.entropy(),
    "received": lambda found: found.received(),
    "pooled(256)": lambda found: found.pooled(256),
}


class Case(NamedTuple):
    """One line of the table."""

    rule: str
    asked: str
    length: int = LONG
    kind: str = ""
    at_most: str = ""

    def inputs(self) -> tuple[Tensor, Tensor]:
        """A query and a key."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, HEADS, self.length, HEAD_DIM)
        query, key = (torch.randn(shape, generator=generator).mul_(SHARPNESS[self.kind]) for _ in range(2))
        return query, key

    def __str__(self) -> str:
        return f"{RULES[self.rule].mask!r}: {self.asked}, {self.length:,} {self.kind}"


AGAINST_FORWARD = (
    Case("window", "entropy", at_most="2.2"),
    Case("window", "entropy", kind="sharp"),
    Case("window", "lse"),
    Case("causal", "entropy", 16_384, at_most="2.2"),
    Case("causal", "entropy", 16_384, kind="sharp"),
    Case("causal", "lse", 16_384),
)
ALONE = (
    Case("window", "16 rows", at_most="0.5 s"),
    Case("causal", "16 rows", at_most="0.5 s"),
    Case("window", "received"),
    Case("window", "pooled(256)", at_most="1000 MB"),
    Case("causal", "received", 16_384),
    Case("causal", "pooled(256)", 16_384),
)
TAKES_LONG_AGAINST_FORWARD = (Case("causal", "entropy", at_most="2.2"),)
TAKES_LONG_ALONE = (Case("causal", "received"), Case("causal", "pooled(256)", at_most="1000 MB"))


def seconds(run: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def against_forward(case: Case, runs: int) -> tuple[float, float]:
    """Median seconds of an answer, and its median ratio to a forward pass just before it."""
    query, key = case.inputs()
    rule = RULES[case.rule]
    found, ask = rule.inspect(query, key), ASKED[case.asked]
    turns = [(seconds(lambda: rule(query, key, key)), seconds(lambda: ask(found))) for _ in range(runs + 1)]
    turns = turns[1:]  # the first plans and warms up
    return statistics.median(t[1] for t in turns), statistics.median(t[1] / t[0] for t in turns)


def alone(case: Case, runs: int, threads: int) -> tuple[float, float]:
    """Median seconds of an answer, and how many bytes it lifts the peak memory of a process."""
    command = [sys.executable, __file__, "--case", *map(str, case[:3]), "--runs", str(runs)]
    done = subprocess.run([*command, "--threads", str(threads)], check=True, capture_output=True, text=True)
    median, peak = done.stdout.split()
    return float(median), float(peak)


def print_alone(case: Case, runs: int) -> None:
    """What `alone` runs in a process of its own; a small question first brings in what any answer needs."""
    ask = ASKED[case.asked]
    ask(RULES[case.rule].inspect(*case._replace(length=300).inputs()))
    found = RULES[case.rule].inspect(*case.inputs())
    before = _resident_bytes("VmRSS")
    times = [seconds(lambda: ask(found)) for _ in range(runs)]
    print(statistics.median(times), _resident_bytes("VmHWM") - before)


def _resident_bytes(which: str) -> int:
    # not getrusage: its peak is inherited from the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{which}:")[1].split()[0]) * 1024


@torch.no_grad()
def largest_differences(case: Case) -> dict[str, float]:
    """How far each answer is from the dense one in float64."""
    query, key = case.inputs()
    rule = RULES[case.rule]
    scores = query.double() @ key.double().mT * HEAD_DIM**-0.5
    scores.masked_fill_(~rule.mask.dense(case.length, case.length), -torch.inf)
    weights = scores.softmax(-1)
    tiles = weights.unflatten(-1, (-1, 256)).unflatten(-3, (-1, 256))
    found, pooled = rule.inspect(query, key), rule.inspect(query, key).pooled(256)
    chosen = range(0, case.length, case.length // 16)
    pairs = {
        "rows": (found.rows(chosen), weights[..., chosen, :]),
        "lse": (found.lse(), scores.logsumexp(-1)),
        "entropy": (found.entropy(), torch.special.entr(weights).sum(-1)),
        "received": (found.received(), weights.sum(-2)),
        "mean": (pooled.mean, tiles.mean((-3, -1))),
        "max": (pooled.max, tiles.amax((-3, -1))),
    }
    return {name: (ours - exact).abs().max().item() for name, (ours, exact) in pairs.items()}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="counted turns")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--long", action="store_true", help="plain causal attention of all tokens too: minutes"
    )
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.case:
        rule, asked, length = options.case
        print_alone(Case(rule, asked, int(length)), options.runs)
        return
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.runs} turns, {HEADS} heads of {HEAD_DIM}"
    )
    print(f"{'':<52}{'median s':>10}{'/ forward':>11}{'peak MB':>9}   at most")
    for case in (*AGAINST_FORWARD, *(TAKES_LONG_AGAINST_FORWARD if options.long else ())):
        median, ratio = against_forward(case, options.runs)
        print(f"{case!s:<52}{median:>10.2f}{ratio:>11.2f}{'':>9}   {case.at_most}", flush=True)
    for case in (*ALONE, *(TAKES_LONG_ALONE if options.long else ())):
        median, peak = alone(case, 1 if case in TAKES_LONG_ALONE else options.runs, options.threads)
        print(f"{case!s:<52}{median:>10.2f}{'':>11}{peak / 1e6:>9.0f}   {case.at_most}", flush=True)
    print(f"\nlargest difference from the dense answer in float64, {DENSE:,} tokens; at most 1e-5")
    for case in [Case(rule, "", DENSE, kind) for rule in RULES for kind in SHARPNESS]:
        found = "  ".join(f"{name} {value:.0e}" for name, value in largest_differences(case).items())
        print(f"{case!s:<45}{found}", flush=True)


if __name__ == "__main__":
    main()
