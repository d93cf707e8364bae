"""The encoder block that the tutorial fills with a trained model's numbers.

Written by book/build.py from the tutorial's cells: edit those.
"""

import torch
from torch import Tensor, nn

from attnkit.layers.teaching import attend, merge_heads, split_heads


class EncoderBlock(nn.Module):
    """Attention, then a small network for each word; each adds to its input, and the sum is normalised.

    Maps (*batch, len, d_model) to the same shape. Every word reads every word that `mask` keeps.
    """

    def __init__(self, d_model: int, num_heads: int, d_hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.W_query, self.W_key, self.W_value = (nn.Linear(d_model, d_model) for _ in range(3))
        self.out_proj = nn.Linear(d_model, d_model)
        self.norm1, self.norm2 = (nn.LayerNorm(d_model, eps=1e-12) for _ in range(2))
        self.expand, self.shrink = nn.Linear(d_model, d_hidden), nn.Linear(d_hidden, d_model)

    def project(self, x: Tensor) -> list[Tensor]:
        """Query, key and value of every head, each (*batch, num_heads, len, head_dim)."""
        return [split_heads(matrix(x), self.num_heads) for matrix in (self.W_query, self.W_key, self.W_value)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One new vector for each word of `x`."""
        query, key, value = self.project(x)
        x = self.norm1(x + self.out_proj(merge_heads(attend(query, key, value, mask))))
        return self.norm2(x + self.shrink(nn.functional.gelu(self.expand(x))))  # gelu: a soft max(0, x)

    def weights(self, x: Tensor) -> Tensor:
        """What every head reads, (*batch, num_heads, len, len)."""
        query, key, _ = self.project(x)
        return (query @ key.mT / key.shape[-1] ** 0.5).softmax(dim=-1)


# The file calls the same matrices by longer names.
NAMES_IN_FILE = {
    "W_query": "attention.self.query",
    "W_key": "attention.self.key",
    "W_value": "attention.self.value",
}
NAMES_IN_FILE |= {"out_proj": "attention.output.dense", "norm1": "attention.output.LayerNorm"}
NAMES_IN_FILE |= {"expand": "intermediate.dense", "shrink": "output.dense", "norm2": "output.LayerNorm"}


def make_blocks(weights: dict[str, Tensor]) -> nn.ModuleList:
    """The six blocks of all-MiniLM-L6-v2, filled from the tensors of its file."""
    blocks = nn.ModuleList(EncoderBlock(384, 12, 1536) for _ in range(6))
    for layer, block in enumerate(blocks):
        for name, parameter in block.named_parameters():
            part, kind = name.split(".")
            parameter.data = weights[f"encoder.layer.{layer}.{NAMES_IN_FILE[part]}.{kind}"]
    return blocks.eval().requires_grad_(False)


def embed(weights: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Token numbers (len,) become vectors (len, 384): a row for the token plus one for its place, normalised."""
    words, places, kinds = (
        weights[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")
    )
    norm = [weights[f"embeddings.LayerNorm.{n}"] for n in ("weight", "bias")]
    x = words[ids] + places[: len(ids)] + kinds[0]  # tables of words (section 1) and of places (section 6)
    return nn.functional.layer_norm(x, x.shape[-1:], *norm, eps=1e-12)


def run_blocks(blocks: nn.ModuleList, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """What enters the first block and what leaves each: (layers + 1, len, d_model)."""
    states = [x]
    for block in blocks:
        states.append(block(states[-1], mask))
    return torch.stack(states)
