"""One more token of a layer, over a cache: time, against the layer's own projections and one SDPA call.

    python benchmarks/decoding.py [--turns 30] [--threads 1] [--length 2048]

One layer, 768 wide, 12 heads, batch 1, float32, without gradients. The peer computes the four projections of the same
layer and one scaled_dot_product_attention on tensors of the same length that are ready-made: what no layer can do
without, and no cache. Each kind of cache starts a turn with the same past, up to `--length`, and decodes 32 tokens;
four more before them are not timed, since the copy of a past lies in no processor's cache.
All take turns in one process, each turn in another order; a row gives the median time of a token, the median of the
ratios within a turn, and the ratio of the quickest turns.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import attnkit as ak
from attnkit.caches import Cache

WIDTH, HEADS, TOKENS, UNTIMED = 768, 12, 32, 4
KINDS = ("growing", "static", "sliding", "quantised")
Step = Callable[[Tensor], Tensor]


def peer(layer: ak.Attention, length: int) -> Step:
    """Four projections and one SDPA call over `length` keys."""
    linear = {name: getattr(layer, name) for name in ("query", "key", "value", "output")}
    key, value = (torch.randn(1, HEADS, length, WIDTH // HEADS) for _ in range(2))

    def step(token: Tensor) -> Tensor:
        query = linear["query"](token).view(1, 1, HEADS, -1).transpose(1, 2)
        for side in ("key", "value"):
            linear[side](token)
        context = scaled_dot_product_attention(query, key, value)
        return linear["output"](context.transpose(1, 2).reshape(1, 1, WIDTH))

    return step


def layers(length: int) -> tuple[dict[str, ak.Attention], dict[str, Cache]]:
    """A layer and a cache of each kind, which holds all but the tokens of one turn."""
    made, caches = {}, {}
    prompt = torch.randn(1, length - 2 * TOKENS - UNTIMED, WIDTH)
    for kind in KINDS:
        # a window of the whole length: a sliding cache reads as many keys as the others
        mask = ak.masks.causal & ak.masks.window(length) if kind == "sliding" else ak.masks.causal
        layer = ak.Attention(WIDTH, HEADS, mechanism=ak.Rule(mask=mask), bias=True).eval()
        cache = layer.new_cache(kind=kind, max_tokens=length if kind == "static" else None)
        layer(prompt, cache=cache)
        for _ in range(
            TOKENS
        ):  # the first token after a prompt finds no room; it is not one of those that count
            layer(torch.randn(1, 1, WIDTH), cache=cache)
        made[kind], caches[kind] = layer, cache
    return made, caches


def seconds(step: Step) -> float:
    """Of one token, the mean of a turn."""
    tokens = torch.randn(UNTIMED + TOKENS, 1, 1, WIDTH).unbind(0)
    for token in tokens[:UNTIMED]:
        step(token)
    start = time.perf_counter()
    for token in tokens[UNTIMED:]:
        step(token)
    return (time.perf_counter() - start) / TOKENS


def turns(length: int, count: int) -> list[dict[str, float]]:
    """Seconds of a token, turn by turn; two turns to warm up are left out."""
    made, caches = layers(length)
    alone = peer(made["growing"], length)
    names, found = ["peer", *KINDS], []
    for _ in range(count + 2):
        names, turn = names[1:] + names[:1], {}
        for name in names:
            if name == "peer":
                turn[name] = seconds(alone)
                continue
            layer, cache = made[name], copy.deepcopy(caches[name])
            turn[name] = seconds(lambda token, layer=layer, cache=cache: layer(token, cache=cache))
        found.append(turn)
    return found[2:]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=30, help="counted turns of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--length", type=int, default=2048, help="keys in the cache, in tokens")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        found = turns(options.length, options.turns)
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.length} keys, {options.turns} turns"
    )
    print(f"{'':<30}{'token ms':>9}{'ratio':>8}{'quickest':>10}")
    for name in ("peer", *KINDS):
        times = [turn[name] for turn in found]
        ratio = statistics.median(turn[name] / turn["peer"] for turn in found)
        best = min(times) / min(turn["peer"] for turn in found)
        label = "projections and one SDPA" if name == "peer" else f"Attention, {name} cache"
        print(f"{label:<30}{statistics.median(times) * 1000:>9.3f}{ratio:>8.2f}{best:>10.2f}")


if __name__ == "__main__":
    main()
