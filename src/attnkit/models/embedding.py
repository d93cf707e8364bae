"""Tokens as vectors: one for each word, and, where nothing else says where a token stands, one for each position."""

from typing import Any

import torch
from torch import Tensor, nn

from attnkit.errors import DtypeError, OptionError, ShapeError, unknown_name
from attnkit.models.parts import check_count, sinusoids
from attnkit.shapes import type_of

POSITIONS = ("learned", "sinusoidal")


class Embedding(nn.Module):
    """Maps token ids (batch, len) to (batch, len, d_model).

    Args:
        vocabulary_size: how many ids there are.
        d_model: numbers of a token.
        context_length: how many positions there are.
        positions: "learned", "sinusoidal", or None where attention says where tokens stand, as with rotary positions.
        scale: multiplies the vectors of tokens before positions are added.
    """

    def __init__(
        self,
        vocabulary_size: int,
        d_model: int,
        *,
        context_length: int,
        positions: str | None = "learned",
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        for name, number in {"vocabulary_size": vocabulary_size, "context_length": context_length}.items():
            check_count("Embedding", name, number)
        if positions is not None and positions not in POSITIONS:
            raise unknown_name("Embedding", "kind of positions", positions, POSITIONS)
        self.context_length, self.scale = context_length, scale
        self.token = nn.Embedding(vocabulary_size, d_model)
        self.position = nn.Embedding(context_length, d_model) if positions == "learned" else None
        nn.init.normal_(self.token.weight, std=0.02)
        if self.position is not None:
            nn.init.normal_(self.position.weight, std=0.02)
        waves = sinusoids(context_length, d_model) if positions == "sinusoidal" else None
        self.register_buffer("waves", waves, persistent=False)

    waves: Tensor | None

    def forward(self, tokens: Tensor, *, start: int = 0, mask: Tensor | None = None) -> Tensor:
        """The vectors of `tokens`.

        Args:
            tokens: (batch, len), whole numbers.
            start: the position of the first token.
            mask: (batch, start + len), True where there is a token; positions count only those.

        Raises:
            DtypeError: tokens are no whole numbers, or the mask holds no bools.
            ShapeError: there are more tokens than positions, or the mask is for other sizes.
            OptionError: a token is not in the vocabulary.
        """
        self._check(tokens, start)
        if mask is not None:
            check_token_mask(mask, (tokens.shape[0], start + tokens.shape[-1]))
        x = self.token(tokens) * self.scale if self.scale != 1.0 else self.token(tokens)
        table = self.waves if self.position is None else self.position.weight
        if table is None:
            return x
        if mask is None:
            return x + table[start : start + tokens.shape[-1]]
        places = (mask.long().cumsum(-1) - 1).clamp(min=0)[..., start:]
        return x + table[places]

    def _check(self, tokens: Tensor, start: int) -> None:
        where, size = "Embedding", self.token.num_embeddings
        if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int32, torch.int64):
            raise DtypeError(
                where=where,
                what=f"tokens are whole numbers (batch, len); got {type_of(tokens)}",
                fix="torch.tensor([tokenizer.encode(text)])",
            )
        if tokens.dim() != 2:
            raise ShapeError(
                where=where,
                what=f"tokens have shape {tuple(tokens.shape)}; it is (batch, len)",
                fix="tokens[None]",
            )
        if start + tokens.shape[-1] > self.context_length:
            raise ShapeError(
                where=where,
                what=f"{start + tokens.shape[-1]} tokens are more than context_length={self.context_length}",
                fix=f"shorten the text to its last {self.context_length} tokens, tokens[:, -{self.context_length}:]",
            )
        if torch.compiler.is_compiling() or tokens.device.type != "cpu" or not tokens.numel():
            return  # looking at values would stop a compiler, and wait for a device
        low, high = (int(end) for end in torch.aminmax(tokens))
        if low < 0 or high >= size:
            raise OptionError(
                where=where,
                what=f"token {high if high >= size else low} is not in the vocabulary of {size}",
                fix="use the tokenizer of this model"
                + (f", or make the model with vocabulary_size={high + 1}" if high >= size else ""),
            )


def check_token_mask(mask: Tensor, sizes: tuple[int, int], where: str = "Embedding") -> None:
    """Refuse a mask that does not say of each token whether it is one.

    Raises:
        DtypeError: it holds no bools.
        ShapeError: it is for other sizes.
    """
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise DtypeError(
            where=where,
            what=f"mask is bool, True where there is a token; got {type_of(mask)}",
            fix="mask.bool() of 0 and 1",
        )
    if tuple(mask.shape) != sizes:
        raise ShapeError(
            where=where,
            what=f"mask {tuple(mask.shape)} is no {sizes}, (batch, len), tokens in caches included",
            fix="one bool for each token",
        )


def tie(model: Any, _: object = None) -> None:
    """Make the table by which `model` writes tokens the one by which it reads them, if they are tied.

    It is called anew whenever a state dict was loaded, since `assign=True` puts others in their places.
    """
    if model.tied:
        model.unembedding.weight = model.embedding.token.weight
