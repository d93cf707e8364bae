"""A model that reads a sentence in English and writes it in Spanish, and what it reads for each word that it writes.

    python examples/translate.py                          # 40 minutes on two slow cores
    python examples/translate.py --steps 100              # two minutes, to try
    python examples/translate.py --pairs mine.tsv --say "a sentence of mine"

Ctrl-C keeps what is learned, and the same command goes on from there. The 7,948 verses are in the public domain.
"""

from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, as PyTorch's own pages call it

from attnkit import models, viewer
from attnkit.lab import History, Plan, command, train, weights_in
from attnkit.lab.data import Subwords, pairs_of
from attnkit.lab.data.subwords import END, PAD, START, side_by_side

Pair = tuple[list[int], list[int]]
BATCH, LONGEST, ENTRIES = 48, 48, 3000
# weights are not dropped: there is no fused code for that on a CPU
READS, WRITES = ({"mechanism": name, "dropout": 0.0} for name in ("full", "causal"))
SIZES = {"d_model": 128, "num_layers": 3, "num_heads": 4, "dropout": 0.15}
READER, WRITER = (models.Config(**SIZES, attention=(way,)) for way in (READS, WRITES))


def fitting(texts: list[tuple[str, str]], words: Subwords) -> list[Pair]:
    """Pairs of which neither side is too long."""
    pairs = [(words.encode(one), words.encode(other)) for one, other in texts]
    return [pair for pair in pairs if max(map(len, pair)) <= LONGEST]


def batch(pairs: list[Pair], generator: torch.Generator) -> list[Pair]:
    """Some pairs, from anywhere."""
    return [pairs[index] for index in torch.randint(len(pairs), (BATCH,), generator=generator).tolist()]


def loss_of(model: models.EncoderDecoder, pairs: list[Pair]) -> Tensor:
    """How badly each piece of the translation was foreseen, in nats."""
    source, source_mask = side_by_side([source for source, _ in pairs])
    target, _ = side_by_side([target for _, target in pairs])
    logits = model(source, target[:, :-1], source_mask=source_mask)
    return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)


def translated(model: models.EncoderDecoder, source: list[int]) -> list[int]:
    """What the model writes for a source, piece by piece, each the likeliest."""
    reading = model.reading(torch.tensor([source]))
    return models.generate(reading, torch.tensor([[START]]), max_new_tokens=LONGEST, stop=END)[0].tolist()


def alignment(
    model: models.EncoderDecoder, source: list[int], target: list[int], words: Subwords
) -> viewer.Picture:
    """For each piece that is written, what it reads of the source: mean of the heads of the last layer."""
    tokens = torch.tensor([source]), torch.tensor([target])
    seen = weights_in(model.blocks[-1].memory, lambda: model(*tokens))[0].mean(0)
    # the row that writes a piece is the one before it
    title = "What each written word reads"
    return viewer.weights(
        seen[: len(target) - 1], words.pieces(target[1:]), words.pieces(source), title=title
    )


@command("translate", steps=2500)
@click.option(
    "--pairs", "file", type=click.Path(path_type=Path), help="Lines of yours, a tab between two sentences."
)
@click.option("--say", default="In the beginning was the Word.", show_default=True, help="What to translate.")
def main(file: Path | None, say: str, *, steps: int, folder: Path, seed: int, fresh: bool) -> None:
    """Learn to translate, then translate."""
    texts = pairs_of(file)
    vocabulary = folder / "vocabulary.json"
    if fresh:
        vocabulary.unlink(missing_ok=True)
    held = len(texts) // 20
    words = Subwords.learned([text for pair in texts[held:] for text in pair], ENTRIES, vocabulary)
    held_out, learned = (fitting(some, words) for some in (texts[:held], texts[held:]))
    source = words.encode(say)
    if not held_out or not learned or len(source) > LONGEST:
        raise click.UsageError(
            f"sentences have at most {LONGEST - 2} pieces of words, in --pairs and in --say"
        )

    torch.manual_seed(seed)
    encoder = models.Encoder(READER, vocabulary_size=len(words), context_length=LONGEST)
    model = models.EncoderDecoder(
        encoder, WRITER, vocabulary_size=len(words), context_length=2 * LONGEST, memory=READS
    )
    click.echo(
        f"{len(learned):,} pairs of at most {LONGEST} pieces; {sum(p.numel() for p in model.parameters()):,} parameters"
    )
    history: History = train(
        model,
        lambda generator: loss_of(model, batch(learned, generator)),
        Plan(folder=folder, steps=steps, learning_rate=2e-3, warmup=100, seed=seed, fresh=fresh),
        held_out=lambda: loss_of(model, held_out[:200]),
        settings={"pairs": len(texts), "entries": len(words)},
    )

    for read in (source, *(pair[0] for pair in held_out[:2])):
        click.echo(f"\n{words.decode(read[1:])}\n  {words.decode(translated(model, read)[1:])}")
    drawn = alignment(model, source, translated(model, source), words)
    viewer.grid(history.picture(), drawn).save(folder / "picture.png")
    click.echo(f"\n{folder / 'picture.png'} shows how it learned, and what it reads")


if __name__ == "__main__":
    main()
