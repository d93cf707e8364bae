"""A decoder: a language model that predicts each next token from those before it.

logits = unembed(norm(block_n(... block_1(embed(tokens)))))
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.caches import Cache
from attnkit.errors import OptionError
from attnkit.layers.attention import Attention
from attnkit.models.block import each, stack, through
from attnkit.models.config import Config
from attnkit.models.embedding import Embedding, tie


class Decoder(nn.Module):
    """A language model. Maps token ids (batch, len) to logits (batch, len, vocabulary_size).

    Args:
        config: the stack of blocks.
        vocabulary_size: how many ids there are.
        context_length: how many tokens it can read.
        positions: "learned", "sinusoidal", or None where attention says where tokens stand.
        tied: whether the same table reads and writes tokens.
        embedding_scale: multiplies the vectors of tokens.
        logit_cap: bounds the logits to plus and minus this, softly; None leaves them.

    Attributes:
        checkpointing: set it to True to compute what is in a block again for gradients: less memory, more time.

    Example:
        >>> model = Decoder(Config(d_model=32, num_layers=2, num_heads=4), vocabulary_size=50, context_length=16)
        >>> model(torch.tensor([[3, 1, 4]])).shape
        torch.Size([1, 3, 50])
    """

    def __init__(
        self,
        config: Config,
        *,
        vocabulary_size: int,
        context_length: int,
        positions: str | None = "learned",
        tied: bool = True,
        embedding_scale: float = 1.0,
        logit_cap: float | None = None,
    ) -> None:
        super().__init__()
        self.config, self.logit_cap = config, logit_cap
        self.checkpointing = False
        self.embedding = Embedding(
            vocabulary_size,
            config.d_model,
            context_length=context_length,
            positions=positions,
            scale=embedding_scale,
        )
        self.blocks = stack(config, "causal")
        for layer, block in enumerate(each(self.blocks)):
            check_causal(layer, block.attention)
        self.norm = config.last_norm()
        self.unembedding = nn.Linear(config.d_model, vocabulary_size, bias=False)
        nn.init.normal_(self.unembedding.weight, std=0.02)
        self.tied = tied
        tie(self)
        self.register_load_state_dict_post_hook(tie)

    @property
    def context_length(self) -> int:
        """How many tokens it can read."""
        return self.embedding.context_length

    def forward(
        self,
        tokens: Tensor,
        *,
        mask: Tensor | None = None,
        caches: Sequence[Cache] | None = None,
        last: int | None = None,
    ) -> Tensor:
        """The logits of the token that follows each.

        Args:
            tokens: (batch, len), those after what the caches hold.
            mask: (batch, kv_len), True where there is a token, those in caches included; padding may be on the left.
            caches: one a layer, as `new_caches` makes them.
            last: logits of so many last tokens alone, which saves the others' work; of all when not given.

        Returns:
            (batch, len or last, vocabulary_size).

        Raises:
            DtypeError: tokens are no whole numbers, or the mask holds no bools.
            ShapeError: there are more tokens than positions, or the mask is for other sizes.
            OptionError: a token is not in the vocabulary, or there are not as many caches as layers.
        """
        start = caches[0].length if caches else 0
        x = self.embedding(tokens, start=start, mask=mask)
        pasts = None if caches is None else [(cache, None) for cache in caches]
        x = through(self.blocks, x, mask=mask, caches=pasts, checkpointing=self.checkpointing)
        x = self.norm(x if last is None else x[..., -last:, :])
        logits = self.unembedding(x)
        if self.logit_cap is not None:
            logits = self.logit_cap * torch.tanh(logits / self.logit_cap)
        return logits

    def new_caches(self, kind: str | None = None, **options: Any) -> list[Cache]:
        """An empty cache for each layer; arguments as in `Attention.new_cache`."""
        chosen = {} if kind is None else {"kind": kind}
        return [block.attention.new_cache(**chosen, **options) for block in each(self.blocks)]


def check_causal(layer: int, attention: Attention) -> None:
    """Refuse a layer of a decoder that reads the future.

    Raises:
        OptionError: it does.
    """
    if not attention.is_causal or not attention.mechanism.settles:
        raise OptionError(
            where="Decoder",
            what=f"layer {layer}, {attention.mechanism.name}, reads the future, which a decoder is to predict",
            fix='a causal mechanism, such as {"mechanism": "causal"}, or mask=masks.causal in its layout',
        )
