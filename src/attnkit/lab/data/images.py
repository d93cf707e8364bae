"""Images with a class each: 1,797 handwritten digits, or a folder with a folder for each class."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnkit.errors import need
from attnkit.lab.data.fetching import DataError

LEAST = 20
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


@dataclass(frozen=True)
class Images:
    """Images and what they show.

    Attributes:
        pixels: (count, channels, size, size), from 0 to 1.
        classes: (count,), numbers of classes.
        names: of the classes.
    """

    pixels: Tensor
    classes: Tensor
    names: tuple[str, ...]


def images_of(folder: Path | None = None, *, size: int = 32) -> Images:
    """The digits of scikit-learn, 8 by 8 and grey, or the images in a folder's folders, one for each class.

    Args:
        folder: of yours; its images are cut to squares in the middle, and become `size` by `size`, in colour.
        size: pixels of a side.

    Raises:
        DataError: there is no such folder, it has fewer than two folders of images, or one cannot be read.
    """
    if folder is None:
        digits = need("sklearn.datasets", extra="lab", where="--images").load_digits()
        pixels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
        return Images(pixels, torch.tensor(digits.target), tuple(str(name) for name in digits.target_names))
    files = _files(folder)
    names = tuple(sorted({file.parent.name for file in files}))
    if len(names) < 2 or len(files) < LEAST:
        raise DataError(
            where="--images",
            what=f"{folder} holds {len(files)} images in {len(names)} folders; least are {LEAST} images in 2",
            fix="a folder for each class, such as photos/cats/1.png and photos/dogs/1.png",
        )
    pixels = torch.stack([_pixels(file, size) for file in files])
    return Images(pixels, torch.tensor([names.index(file.parent.name) for file in files]), names)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(
            where="--images", what=f"there is no folder {folder}", fix="a folder with a folder for each class"
        )
    return sorted(file for file in folder.glob("*/*") if file.suffix.lower() in _ENDINGS)


def _pixels(file: Path, size: int) -> Tensor:
    numpy, pictures, fitting = (
        need(name, extra="lab", where="--images") for name in ("numpy", "PIL.Image", "PIL.ImageOps")
    )
    try:
        with pictures.open(file) as image:
            square: Any = fitting.fit(image.convert("RGB"), (size, size))
    except (OSError, SyntaxError, ValueError, pictures.DecompressionBombError) as trouble:
        raise DataError(
            where="--images", what=f"{file} is no image that can be read: {trouble}", fix="remove it"
        ) from trouble
    return torch.tensor(numpy.asarray(square), dtype=torch.float32).permute(2, 0, 1) / 255
