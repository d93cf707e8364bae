"""A vision transformer that tells handwritten digits apart, and where it looks.

    python examples/digits.py                             # two minutes on two slow cores
    python examples/digits.py --steps 100                 # some seconds, to try
    python examples/digits.py --images photos             # photos/cats/1.png, photos/dogs/1.png, ...

Ctrl-C keeps what is learned, and the same command goes on from there. The digits come with scikit-learn (BSD licence).
"""

from pathlib import Path

import click
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812, as PyTorch's own pages call it

from attnkit import models, viewer
from attnkit.lab import Plan, command, train, weights_in
from attnkit.lab.data import Images, images_of

BATCH = 64
LOOKS = {"mechanism": "full", "dropout": 0.0}  # weights are not dropped: that is slow on a CPU
CONFIG = models.Config(d_model=64, num_layers=4, num_heads=4, attention=(LOOKS,), dropout=0.1)


def shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by a pixel at most, up or down and left or right: a digit is the same digit there."""
    down, right = torch.randint(-1, 2, (2, len(pixels)), generator=generator).tolist()
    moved = [image.roll((y, x), (-2, -1)) for image, y, x in zip(pixels, down, right, strict=True)]
    return torch.stack(moved)


def gallery(
    model: models.VisionTransformer, images: Images, guessed: Tensor, *, patch: int
) -> viewer.Picture:
    """Six images, wrong ones first, and how much the token of the whole reads of every patch in the last layer."""
    chosen = (guessed == images.classes).long().argsort(stable=True)[:6]
    pixels, side = images.pixels[chosen], images.pixels.shape[-1] // patch
    seen = weights_in(model.blocks[-1].attention, lambda: model(pixels))[:, :, 0, 1:].mean(1)
    names = []
    for took, of in zip(guessed[chosen].tolist(), images.classes[chosen].tolist(), strict=True):
        said = "" if took == of else f", taken for {images.names[took]}"
        names.append(images.names[of] + said)
    return viewer.looks(pixels, seen.unflatten(-1, (side, side)), names, title="Where it looks")


@command("digits", steps=1500)
@click.option(
    "--images",
    "given",
    type=click.Path(path_type=Path),
    help="A folder of yours, a folder in it for each class.",
)
@click.option("--patch", default=2, show_default=True, help="Pixels of a side of a patch; 8 suits photos.")
def main(given: Path | None, patch: int, *, steps: int, folder: Path, seed: int, fresh: bool) -> None:
    """Learn to tell images apart, then say how well."""
    images = images_of(given)
    order = torch.randperm(len(images.pixels), generator=torch.Generator().manual_seed(0))
    held, kept = order[: len(order) // 5], order[len(order) // 5 :]
    held_out = Images(images.pixels[held], images.classes[held], images.names)

    torch.manual_seed(seed)
    channels, size = images.pixels.shape[1:3]
    model = models.VisionTransformer(
        CONFIG, image_size=size, patch_size=patch, channels=channels, num_classes=len(images.names)
    )
    count = sum(parameter.numel() for parameter in model.parameters())
    click.echo(f"{len(kept):,} images of {len(images.names)} classes; {count:,} parameters")

    def loss_of(generator: torch.Generator) -> Tensor:
        some = kept[torch.randint(len(kept), (BATCH,), generator=generator)]
        return F.cross_entropy(model(shifted(images.pixels[some], generator)), images.classes[some])

    history = train(
        model,
        loss_of,
        Plan(folder=folder, steps=steps, learning_rate=3e-3, warmup=100, seed=seed, fresh=fresh),
        held_out=lambda: F.cross_entropy(model(held_out.pixels), held_out.classes),
        settings={"images": len(order), "classes": images.names, "patch": patch},
    )

    with torch.no_grad():
        guessed = model(held_out.pixels).argmax(-1)
    right = int((guessed == held_out.classes).sum())
    click.echo(
        f"\n{right} of {len(held)} images that it never learned from are told right, {right / len(held):.1%}"
    )
    drawn = gallery(model, held_out, guessed, patch=patch)
    viewer.grid(history.picture(), drawn).save(folder / "picture.png")
    click.echo(f"{folder / 'picture.png'} shows how it learned, and where it looks")


if __name__ == "__main__":
    main()
