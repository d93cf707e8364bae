"""What a mechanism that is written out is made of: which pairs are kept, and values mixed by weights.

weights = normalizer(scores, kept(mask, scores, q_start));    context = mixed(weights, value, dropout)
"""

from torch import Tensor
from torch.nn.functional import dropout as dropped

from attnkit.backends.eager import each_head
from attnkit.errors import OptionError
from attnkit.masks import Mask
from attnkit.positions import Positions
from attnkit.positions.position import Places, Vectors
from attnkit.shapes import Context, Keep, Scores, Value, Weights


def shared(tensor: Tensor, num_heads: int) -> Tensor:
    """One entry for each of `num_heads` query heads: head h reads kv head `h // (num_heads // kv_heads)`."""
    return each_head(tensor, num_heads // tensor.shape[-3])


def kept(mask: Mask, scores: Scores, q_start: int) -> Keep:
    """Which pairs the mask keeps, in axes that broadcast to the scores `*batch heads q_len kv_len`."""
    q_len, kv_len = scores.shape[-2:]
    keep = mask.dense(q_len, kv_len, q_start=q_start, device=scores.device)
    return keep if keep.dim() == 2 else keep.unsqueeze(-3)


def mixed(weights: Weights, value: Value, dropout: float = 0.0) -> Context:
    """The values of each row, mixed; dropout of the weights acts if it is not 0."""
    weights = dropped(weights, dropout) if dropout else weights
    return weights @ shared(value, weights.shape[-3])


def turned(where: str, rotary: Positions | None, x: Vectors, positions: Places) -> Vectors:
    """`x` turned by its positions, or as it is where `rotary` is None.

    Raises:
        OptionError: `rotary` is something else.
    """
    if rotary is None:
        return x
    if not isinstance(rotary, Positions):
        raise OptionError(
            where=where,
            what=f"rotary is one of attnkit.positions; got {rotary!r}",
            fix="rotary=positions.Rotary(), with the brackets; rotary=None turns nothing",
        )
    return rotary.rotate(x, positions)
