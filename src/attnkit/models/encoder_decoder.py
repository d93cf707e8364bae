"""An encoder-decoder: a decoder whose blocks read, besides the tokens before, what an encoder made of another text."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attnkit.caches import Cache
from attnkit.models.block import Pasts, each, stack, through
from attnkit.models.config import Config
from attnkit.models.decoder import check_causal
from attnkit.models.embedding import Embedding, tie
from attnkit.models.encoder import Encoder


class EncoderDecoder(nn.Module):
    """Maps a source (batch, source_len) and the target so far (batch, len) to logits (batch, len, vocabulary_size).

    Args:
        encoder: what reads the source.
        config: the decoder's stack of blocks.
        vocabulary_size: how many ids the target has.
        context_length: how many tokens of the target it can read.
        positions: "learned", "sinusoidal", or None where attention says where tokens stand.
        memory: how the source is read, as `Attention` is given it.
        tied: whether the same table reads and writes tokens.
        logit_scale: multiplies what the last norm gives before it becomes logits.

    Attributes:
        checkpointing: set it to True to compute what is in a block of the decoder again for gradients: less memory,
            more time. The encoder has its own.

    Raises:
        OptionError: a layer of the decoder reads the future.
    """

    def __init__(
        self,
        encoder: Encoder,
        config: Config,
        *,
        vocabulary_size: int,
        context_length: int,
        positions: str | None = "learned",
        memory: dict[str, Any] | None = None,
        tied: bool = True,
        logit_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder, self.config, self.checkpointing = encoder, config, False
        self.embedding = Embedding(
            vocabulary_size, config.d_model, context_length=context_length, positions=positions
        )
        reading = {"memory_dim": encoder.config.d_model} | (memory or {"mechanism": "full"})
        self.blocks = stack(config, "causal", reading)
        self.norm = config.last_norm()
        self.unembedding = nn.Linear(config.d_model, vocabulary_size, bias=False)
        nn.init.normal_(self.unembedding.weight, std=0.02)
        for layer, block in enumerate(each(self.blocks)):
            check_causal(layer, block.attention)
        self.tied, self.logit_scale = tied, logit_scale
        tie(self)
        self.register_load_state_dict_post_hook(tie)

    def forward(
        self,
        source: Tensor,
        tokens: Tensor,
        *,
        source_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The logits of the target token that follows each.

        Args:
            source: (batch, source_len).
            tokens: (batch, len), the target so far.
            source_mask: (batch, source_len), True where there is a token.
            mask: (batch, len), True where there is a token.

        Returns:
            (batch, len, vocabulary_size).
        """
        return self.decode(tokens, self.encoder(source, mask=source_mask), memory_mask=source_mask, mask=mask)

    def reading(self, source: Tensor, *, mask: Tensor | None = None) -> "Reading":
        """The model with a source (batch, source_len) before it; `mask` is True where there is a token."""
        return Reading(self, source, mask)

    def decode(
        self,
        tokens: Tensor,
        memory: Tensor,
        *,
        memory_mask: Tensor | None = None,
        mask: Tensor | None = None,
        caches: Pasts | None = None,
        last: int | None = None,
    ) -> Tensor:
        """The same after the source is encoded.

        Args:
            tokens: (batch, len), those after what the caches hold.
            memory: (batch, source_len, d_model), what the encoder made of the source.
            memory_mask: (batch, source_len), True where there is a token.
            mask: (batch, kv_len), True where there is a token, those in caches included.
            caches: two a layer, as `new_caches` makes them.
            last: logits of so many last tokens alone; of all when not given.

        Returns:
            (batch, len or last, vocabulary_size).
        """
        x = self.embedding(tokens, start=caches[0][0].length if caches else 0, mask=mask)
        masks = {"mask": mask, "memory_mask": memory_mask}
        x = through(self.blocks, x, memory, caches=caches, checkpointing=self.checkpointing, **masks)
        x = self.norm(x if last is None else x[..., -last:, :])
        return self.unembedding(x * self.logit_scale)

    def new_caches(self, kind: str | None = None, **options: Any) -> list[tuple[Cache, Cache]]:
        """Empty caches for each layer: of the target, and of the source."""
        chosen = {} if kind is None else {"kind": kind}
        return [
            (block.attention.new_cache(**chosen, **options), block.memory.new_cache())
            for block in each(self.blocks)
            if block.memory is not None
        ]


@dataclass(frozen=True)
class Reading:
    """An encoder-decoder and what it reads.

    Attributes:
        model: what reads and writes.
        source: (batch, source_len).
        mask: (batch, source_len), True where there is a token.
    """

    model: EncoderDecoder
    source: Tensor
    mask: Tensor | None = None

    def encoded(self) -> tuple[Tensor, Tensor | None]:
        """The memory (batch, source_len, d_model), and which of it are tokens."""
        return self.model.encoder(self.source, mask=self.mask), self.mask
