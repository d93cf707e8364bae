"""A session: one text or several being written by a model, with its caches, token by token."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.caches import Cache
from attnkit.errors import OptionError, ShapeError
from attnkit.layers.attention import Attention
from attnkit.layers.caching import counts_distances_alone
from attnkit.models.block import each
from attnkit.models.decoder import Decoder
from attnkit.models.embedding import check_token_mask
from attnkit.models.encoder_decoder import Reading
from attnkit.models.parts import check_count
from attnkit.shapes import type_of

Writer = Decoder | Reading


class Session:
    """A decoder, or an encoder-decoder that reads a source, going on from what it has written.

    Args:
        writer: a decoder, or `model.reading(source)`.

    Raises:
        OptionError: it is none of them, or dropout acts in it.
    """

    def __init__(self, writer: Writer) -> None:
        if not isinstance(writer, Decoder | Reading):
            raise OptionError(
                where="generate",
                what=f"a decoder writes, or an encoder-decoder with what it reads; got {type(writer).__name__}",
                fix="generate(model.reading(source), tokens) for an EncoderDecoder",
            )
        self.model = writer if isinstance(writer, Decoder) else writer.model
        if self.model.training and _drops(self.model):
            raise OptionError(
                where="generate",
                what="the model is in training mode, where dropout changes what it writes",
                fix="model.eval() before, and model.train() after",
            )
        self.caches = self.model.new_caches()
        self.mask: Tensor | None = None
        self.memory: Tensor | None = None
        self.memory_mask: Tensor | None = None
        if isinstance(writer, Reading):
            self.memory, self.memory_mask = writer.encoded()

    @property
    def length(self) -> int:
        """How many tokens it has read."""
        return next(self._each_cache()).length

    def read(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """The logits (batch, vocabulary_size) of what follows `tokens` (batch, len); `mask` is of these alone."""
        if mask is None and self.mask is not None:
            mask = torch.ones_like(tokens, dtype=torch.bool)
        if mask is not None:
            self.mask = mask if self.mask is None else torch.cat([self.mask, mask], -1)
        told: dict[str, Any] = {"mask": self.mask, "caches": self.caches, "last": 1}
        if isinstance(self.model, Decoder):
            return self.model(tokens, **told)[:, -1]
        assert self.memory is not None
        return self.model.decode(tokens, self.memory, memory_mask=self.memory_mask, **told)[:, -1]

    def reorder(self, samples: Tensor) -> None:
        """Sample i goes on from what was sample `samples[i]`."""
        for cache in self._each_cache():
            cache.reorder(samples)
        self.mask, self.memory, self.memory_mask = (
            None if held is None else held.index_select(0, samples)
            for held in (self.mask, self.memory, self.memory_mask)
        )

    def _each_cache(self) -> Iterator[Cache]:
        for held in self.caches:
            yield from held if isinstance(held, tuple) else (held,)


def check_prompt(session: Session, tokens: Tensor, mask: Tensor | None, new: int) -> None:
    """Refuse a prompt that `new` tokens cannot follow.

    Raises:
        DtypeError: the mask holds no bools.
        ShapeError: it is empty or too long, or its mask is for other sizes.
        OptionError: `new` is no whole number from 1 on, or the mask has padding on the right, or anywhere where a layer
            may count it.
    """
    if not isinstance(tokens, Tensor) or tokens.dim() != 2 or tokens.shape[-1] == 0:
        shape = f"shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else f"type {type_of(tokens)}"
        raise ShapeError(
            where="generate",
            what=f"tokens have {shape}; generation goes on from (batch, len), len at least 1",
            fix="torch.tensor([tokenizer.encode(text)]); begin an empty text with the model's first token",
        )
    check_count("generate", "max_new_tokens", new, fix="max_new_tokens=20")
    length, most = tokens.shape[-1] + new - 1, session.model.embedding.context_length
    if length > most:
        raise ShapeError(
            where="generate",
            what=f"{tokens.shape[-1]} tokens and {new} new ones are more than context_length={most} can read",
            fix=f"max_new_tokens={max(most - tokens.shape[-1] + 1, 1)}, or a shorter text",
        )
    if mask is not None:
        check_token_mask(mask, (tokens.shape[0], tokens.shape[1]), "generate")
        check_padding(session, mask)


def check_padding(session: Session, mask: Tensor) -> None:
    """Refuse padding that changes what is written.

    Raises:
        OptionError: it is on the right, or a layer may count it: it is not known to know distances alone.
    """
    if not mask[:, -1].all():
        raise OptionError(
            where="generate",
            what="a text is padded on its right, where new tokens are to follow",
            fix="pad on the left: the last column of the mask is all True",
        )
    if mask.all():
        return
    for layer, block in enumerate(each(session.model.blocks)):
        if not counts_distances_alone(block.attention):
            raise OptionError(
                where="generate",
                what=f"layer {layer}, {block.attention.mechanism.name}, is not known to read a text after padding "
                "as it reads the text alone",
                fix="write each text by itself, or texts of one length, without a mask",
            )


def check_stop(session: Session, stop: object) -> None:
    """Refuse a `stop` that is no token.

    Raises:
        OptionError: it is none.
    """
    size = session.model.embedding.token.num_embeddings
    if stop is not None and (isinstance(stop, bool) or not isinstance(stop, int) or not 0 <= stop < size):
        raise OptionError(
            where="generate",
            what=f"stop is one token of the vocabulary of {size}, a whole number; got {stop!r}",
            fix="stop=tokenizer.token_to_id(name), or leave it out",
        )


def _drops(model: nn.Module) -> bool:
    """Whether a part of a model drops something while it trains."""
    rates = (
        part.p if isinstance(part, nn.Dropout) else part.dropout
        for part in model.modules()
        if isinstance(part, nn.Dropout | Attention)
    )
    return any(rates)
