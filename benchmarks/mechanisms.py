"""Every mechanism as a layer, against nn.MultiheadAttention with a causal mask: time, forward and forward + backward.

    python benchmarks/mechanisms.py [--only NAME ...] [--length 1024] [--runs 7] [--threads 2]

Batch 1, 8 heads of 64 on 512 numbers, float32, each mechanism with the options of its first example, plug-ins included.
The layer and nn.MultiheadAttention (need_weights=False, is_causal=True) take turns in one process, each turn in another
order; a row gives the median of the layer, and the median of the ratios within a turn: below 1 the layer is quicker. A
mechanism that is written out makes tables of length x length, so a long `--length` wants memory for these.
"""

import argparse

import torch
from _turns import Contender, take_turns
from torch import Tensor, nn

import attnkit as ak
from attnkit.errors import unknown_name
from attnkit.mechanism import Mechanism

WIDTH, HEADS = 512, 8


class Torch(nn.Module):
    """nn.MultiheadAttention with a causal mask, in its quickest form."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=True)
        self.register_buffer("mask", torch.ones(length, length, dtype=torch.bool).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        """What the layer makes of `x`, (batch, len, width)."""
        return self.layer(x, x, x, need_weights=False, attn_mask=self.mask, is_causal=True)[0]


def layer_of(mechanism: Mechanism, length: int) -> nn.Module:
    """A layer of the mechanism's first example, for as many tokens where an option says for how many."""
    options = dict(mechanism.examples[0])
    if "context_length" in {option.name for option in mechanism.options}:
        options["context_length"] = length
    return ak.Attention(WIDTH, HEADS, mechanism=mechanism, **options)


def contender(layer: nn.Module, length: int, *, grad: bool) -> Contender:
    """The layer on tokens of its own; gradients go back to all that they reach, which a choice of keys stops."""
    x = torch.randn(1, length, WIDTH, requires_grad=grad)
    if not grad:
        return Contender(lambda: layer(x))
    leaves = (x, *layer.parameters())
    context = layer(x)
    reached = torch.autograd.grad(context, leaves, context.detach(), allow_unused=True)
    used = tuple(leaf for leaf, gradient in zip(leaves, reached, strict=True) if gradient is not None)
    return Contender(lambda: layer(x), used)


def cell(layer: nn.Module, length: int, runs: int, *, grad: bool) -> str:
    """The median in ms, and the median ratio to nn.MultiheadAttention."""
    own, peer = (contender(each, length, grad=grad) for each in (layer, Torch(length)))
    take_turns([own, peer], runs)
    return f"{own.median * 1000:>11.2f}{own.ratio_to(peer):>7.2f}"


def row(mechanism: Mechanism, length: int, runs: int) -> str:
    """Both cells of a mechanism, or what it says of this length."""
    torch.manual_seed(0)
    try:
        layer = layer_of(mechanism, length)
        return "".join(cell(layer, length, runs, grad=grad) for grad in (False, True))
    except ak.AttentionError as refusal:
        return f"  {refusal.what}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mechanisms; all when left out")
    parser.add_argument("--length", type=int, default=1024, help="tokens")
    parser.add_argument("--runs", type=int, default=7, help="turns of each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    every = ak.all_mechanisms()
    for name in options.only or ():
        if name not in every:
            parser.error(str(unknown_name("--only", "mechanism", name, every)))
    torch.set_num_threads(options.threads)
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.length} tokens, {options.runs} turns"
    )
    print(f"{'':<26}{'forward ms':>11}{'ratio':>7}{'+ back ms':>11}{'ratio':>7}")
    for name in options.only or every:
        print(f"{name:<26}{row(every[name], options.length, options.runs)}", flush=True)


if __name__ == "__main__":
    main()
