"""A whole decoder against transformers' GPT-2 of the same size, on the same weights: training and writing.

    pip install transformers
    python benchmarks/models.py [--turns 9] [--threads 1] [--layers 12]

12 layers, 768 wide, 12 heads, 50,257 tokens, float32, attention by SDPA on both sides. "training" is the forward and
the backward pass of the loss of 2 texts of 512 tokens, without dropout; "writing" is 128 tokens after a prompt of 8,
greedily, by `generate` of each. Logits are compared before anything is timed, and so are the texts.
Both take turns in one process; a row gives the medians, the median of the ratios within a turn, and the ratio of the
quickest turns.
"""

import argparse
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from _turns import Contender, take_turns
from torch import Tensor
from torch.nn.functional import cross_entropy

from attnkit.models import Decoder, generate
from attnkit.models.loading import load

BATCH, LENGTH, PROMPT, NEW = 2, 512, 8, 128


def both(layers: int) -> tuple[Decoder, Any]:
    """Our decoder and transformers' GPT-2, with the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel  # pyright: ignore[reportMissingImports]

    # wide draws: a model that repeats one token would tell nothing of whether texts agree
    settings = GPT2Config(
        n_layer=layers, initializer_range=0.06, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0
    )
    theirs = GPT2LMHeadModel._from_config(settings, attn_implementation="sdpa").eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return load(folder).eval(), theirs  # pyright: ignore[reportReturnType]


def loss_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """How badly each next token is predicted."""
    following = tokens.roll(-1, 1)
    following[:, -1] = -100  # nothing follows the last; cross_entropy leaves such targets out
    return cross_entropy(logits.flatten(0, 1), following.flatten())


def training(ours: Decoder, theirs: Any) -> dict[str, Contender]:
    """The forward and the backward pass of both."""
    tokens = torch.randint(50_257, (BATCH, LENGTH))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, rtol=1e-4, atol=1e-4)
    calls: dict[str, Callable[[], Tensor]] = {
        "attnkit": lambda: loss_of(ours(tokens), tokens),
        "transformers": lambda: loss_of(theirs(tokens).logits, tokens),
    }
    models = {"attnkit": ours, "transformers": theirs}
    return {name: Contender(call, tuple(models[name].parameters())) for name, call in calls.items()}


def writing(ours: Decoder, theirs: Any) -> dict[str, Contender]:
    """A text by both."""
    tokens = torch.randint(50_257, (1, PROMPT))
    told = {"do_sample": False, "min_new_tokens": NEW, "max_new_tokens": NEW, "pad_token_id": 0}
    mask = torch.ones_like(tokens)
    calls = {
        "attnkit": lambda: generate(ours, tokens, max_new_tokens=NEW),
        "transformers": lambda: theirs.generate(tokens, attention_mask=mask, eos_token_id=None, **told),
    }
    assert torch.equal(calls["attnkit"](), calls["transformers"]())
    return {name: Contender(call) for name, call in calls.items()}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=9, help="counted turns of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    ours, theirs = both(options.layers)
    print(
        f"torch {torch.__version__}, {options.threads} threads, {options.layers} layers, {options.turns} turns"
    )
    print(f"{'':<24}{'seconds':>10}{'ratio':>8}{'quickest':>10}", flush=True)
    for task in (writing, training):
        contenders = task(ours, theirs)
        take_turns(list(contenders.values()), options.turns)
        peer = contenders["transformers"]
        for name, one in contenders.items():
            row = f"{one.median:>10.3f}{one.ratio_to(peer):>8.2f}{one.best_ratio_to(peer):>10.2f}"
            print(f"{task.__name__ + ', ' + name:<24}{row}", flush=True)


if __name__ == "__main__":
    main()
