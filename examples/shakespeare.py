"""A model that writes, letter by letter, what it has learned from Shakespeare's plays, or from a text of yours.

    python examples/shakespeare.py                        # half an hour on two slow cores
    python examples/shakespeare.py --steps 100            # a minute or two, to try
    python examples/shakespeare.py --text my_diary.txt

Ctrl-C keeps what is learned, and the same command goes on from there. The plays are in the public domain.
"""

from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, as PyTorch's own pages call it

from attnkit import models, viewer
from attnkit.lab import Plan, command, train, weights_in
from attnkit.lab.data import Characters, text_of
from attnkit.positions import Rotary

LENGTH, BATCH, WINDOW = 128, 32, 32

# three layers that read the last letters, then one that reads all that is there
NEAR = {"mechanism": "sliding_window", "window": WINDOW, "positions": Rotary(), "dropout": 0.0}
FAR = {"mechanism": "causal", "positions": Rotary(), "dropout": 0.0}
CONFIG = models.Config(
    d_model=128,
    num_layers=4,
    num_heads=4,
    attention=(NEAR, NEAR, NEAR, FAR),
    feed_forward="swiglu",
    hidden=320,
    norm="rms",
    bias=False,
    dropout=0.1,
)


def batch(text: Tensor, generator: torch.Generator) -> Tensor:
    """Pieces of a text, from anywhere, each one letter longer than what a model reads."""
    starts = torch.randint(len(text) - LENGTH, (BATCH,), generator=generator)
    return torch.stack([text[start : start + LENGTH + 1] for start in starts.tolist()])


def loss_of(model: models.Decoder, pieces: Tensor) -> Tensor:
    """How badly each letter was foreseen, in nats."""
    return F.cross_entropy(model(pieces[:, :-1]).flatten(0, 1), pieces[:, 1:].flatten())


def picture(model: models.Decoder, history: object, prompt: str, known: Characters) -> viewer.Picture:
    """How the loss fell, and what the last letters of a prompt read in the last layer."""
    words = [letter if letter.strip() else "␣" for letter in prompt]
    tokens = known.encode(prompt)[None]
    seen = weights_in(model.blocks[-1].attention, lambda: model(tokens))[0]
    sharpest = int(seen.amax(-1).mean(-1)[1:].argmax()) + 1  # a head that has made up its mind
    told = viewer.weights(seen[sharpest], words, title=f"What each letter reads: last layer, head {sharpest}")
    return viewer.grid(history.picture(), told)


@command("shakespeare", steps=2000)
@click.option("--text", type=click.Path(path_type=Path), help="A text of yours, UTF-8.")
@click.option("--prompt", default="ROMEO.\n", show_default=True, help="What the sample begins with.")
@click.option(
    "--letters", default=400, show_default=True, type=click.IntRange(1, 1000), help="How long the sample is."
)
def main(
    text: Path | None, prompt: str, letters: int, *, steps: int, folder: Path, seed: int, fresh: bool
) -> None:
    """Learn to write like a text, then write."""
    whole = text_of(text)
    if not 0 < len(prompt) <= 1000:
        raise click.UsageError(f"--prompt has {len(prompt)} letters; it needs 1 to 1,000")
    known = Characters.of(whole)
    numbers, start = known.encode(whole), known.encode(prompt)
    learned, held_out = numbers[: -len(numbers) // 10], numbers[-len(numbers) // 10 :]

    torch.manual_seed(seed)
    model = models.Decoder(CONFIG, vocabulary_size=len(known), context_length=2048, positions=None)
    click.echo(
        f"{len(whole):,} letters of {len(known)} kinds; {sum(p.numel() for p in model.parameters()):,} parameters"
    )
    pieces = batch(held_out, torch.Generator().manual_seed(0))
    history = train(
        model,
        lambda generator: loss_of(model, batch(learned, generator)),
        Plan(folder=folder, steps=steps, learning_rate=2e-3, seed=seed, fresh=fresh),
        held_out=lambda: loss_of(model, pieces),
        settings={"letters": known.known, "text": len(whole)},
    )

    click.echo(f"\n{prompt}", nl=False)
    choice = models.Choice(temperature=0.8, top_p=0.95, generator=torch.Generator().manual_seed(seed))
    for token in models.stream(model, start[None], max_new_tokens=letters, choice=choice):
        click.echo(known.decode(token.flatten()), nl=False)
    picture(model, history, whole[-5000:-4972], known).save(folder / "picture.png")
    click.echo(f"\n\n{folder / 'picture.png'} shows how it learned, and what it reads")


if __name__ == "__main__":
    main()
