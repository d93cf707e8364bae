"""An encoder: each token's vector, after it has read all the others."""

import torch
from torch import Tensor, nn

from attnkit.masks import Mask
from attnkit.models.block import stack, through
from attnkit.models.config import Config
from attnkit.models.embedding import Embedding


class Encoder(nn.Module):
    """Maps token ids (batch, len) to vectors (batch, len, d_model).

    Args:
        config: the stack of blocks; each token reads all the others where it says nothing else.
        vocabulary_size: how many ids there are.
        context_length: how many tokens it can read.
        positions: "learned", "sinusoidal", or None where attention says where tokens stand.
        kinds: how many kinds of token there are besides (BERT's token types); 0 for none.
        norm_embeddings: whether what goes into the first block is normalised, as BERT does.

    Attributes:
        checkpointing: set it to True to compute what is in a block again for gradients: less memory, more time.

    Example:
        >>> config = Config(d_model=32, num_layers=2, num_heads=4)
        >>> Encoder(config, vocabulary_size=50, context_length=16)(torch.tensor([[3, 1, 4]])).shape
        torch.Size([1, 3, 32])
    """

    def __init__(
        self,
        config: Config,
        *,
        vocabulary_size: int,
        context_length: int,
        positions: str | None = "learned",
        kinds: int = 0,
        norm_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.checkpointing = config, False
        self.embedding = Embedding(
            vocabulary_size, config.d_model, context_length=context_length, positions=positions
        )
        self.kind = nn.Embedding(kinds, config.d_model) if kinds else None
        self.norm_embeddings = config.new_norm() if norm_embeddings else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = stack(config, "full")
        self.norm = config.last_norm()

    def forward(
        self, tokens: Tensor, *, mask: Mask | Tensor | None = None, kinds: Tensor | None = None
    ) -> Tensor:
        """The vectors of tokens.

        Args:
            tokens: (batch, len).
            mask: (batch, len), True where there is a token, or any mask.
            kinds: (batch, len), of what kind each token is; all of kind 0 when not given.

        Returns:
            (batch, len, d_model).
        """
        x = self.embedding(tokens, mask=mask if isinstance(mask, Tensor) else None)
        if self.kind is not None:
            x = x + self.kind(torch.zeros_like(tokens) if kinds is None else kinds)
        x = self.dropout(self.norm_embeddings(x))
        return self.norm(through(self.blocks, x, mask=mask, checkpointing=self.checkpointing))
