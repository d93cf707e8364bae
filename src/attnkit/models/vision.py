"""A vision transformer: an image in patches, each patch a token, and one more token that stands for the whole."""

import torch
from torch import Tensor, nn

from attnkit.errors import OptionError, ShapeError
from attnkit.models.block import stack, through
from attnkit.models.config import Config
from attnkit.models.parts import check_count


class VisionTransformer(nn.Module):
    """Maps images (batch, channels, size, size) to logits (batch, num_classes), or vectors where that is 0.

    Args:
        config: the stack of blocks; each patch reads all the others where it says nothing else.
        image_size: pixels of a side.
        patch_size: pixels of a side of a patch; divides `image_size`.
        channels: numbers of a pixel.
        num_classes: how many there are to tell apart; 0 for the vector of the whole image.

    Attributes:
        checkpointing: set it to True to compute what is in a block again for gradients: less memory, more time.

    Raises:
        OptionError: patches do not fill an image, or a number means nothing.
    """

    def __init__(
        self, config: Config, *, image_size: int, patch_size: int, channels: int = 3, num_classes: int = 0
    ) -> None:
        super().__init__()
        for name, size in {"image_size": image_size, "patch_size": patch_size, "channels": channels}.items():
            check_count("VisionTransformer", name, size)
        if image_size % patch_size:
            raise OptionError(
                where="VisionTransformer",
                what=f"patches of {patch_size} pixels do not fill an image of {image_size}",
                fix=f"a patch_size that divides {image_size}",
            )
        self.config, self.image_size, self.channels = config, image_size, channels
        self.checkpointing = False
        self.patch = nn.Conv2d(channels, config.d_model, kernel_size=patch_size, stride=patch_size)
        patches = (image_size // patch_size) ** 2
        self.whole = nn.Parameter(torch.zeros(1, 1, config.d_model))
        self.position = nn.Parameter(0.02 * torch.randn(1, patches + 1, config.d_model))
        self.blocks = stack(config, "full")
        self.norm = config.last_norm()
        self.classes = nn.Linear(config.d_model, num_classes) if num_classes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """The logits of each image, or the vector of its whole."""
        return self.classes(self.tokens(images)[:, 0])

    def tokens(self, images: Tensor) -> Tensor:
        """The vector of the whole and of each patch, (batch, 1 + patches, d_model).

        Raises:
            ShapeError: images are of another size.
        """
        wanted = (self.channels, self.image_size, self.image_size)
        if images.dim() != 4 or tuple(images.shape[1:]) != wanted:
            raise ShapeError(
                where="VisionTransformer",
                what=f"images have shape {tuple(images.shape)}; this model was made for (batch, {wanted[0]}, "
                f"{wanted[1]}, {wanted[2]})",
                fix="one image is image[None]; another size goes through torch.nn.functional.interpolate",
            )
        patches = self.patch(images).flatten(-2).mT
        x = torch.cat([self.whole.expand(images.shape[0], -1, -1), patches], 1) + self.position
        return self.norm(through(self.blocks, x, checkpointing=self.checkpointing))
