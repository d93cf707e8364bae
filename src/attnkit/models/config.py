"""What a transformer is made of: widths, norms, feed-forward layers, and how each layer attends.

    attention = ({"mechanism": "sliding_window", "window": 256},) * 3 + ({"mechanism": "causal"},)

The layouts of attention are taken in turn, again from the first when they are used up: three windows, then one full.
Where none are given, a decoder hides the future and an encoder reads all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from attnkit.errors import OptionError, unknown_name
from attnkit.layers.attention import Attention
from attnkit.models.parts import FEED_FORWARDS, NORMS, check_count
from attnkit.shapes import check_dropout

PLACEMENTS = ("pre", "post", "both")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The stack of blocks that an encoder or a decoder has.

    Attributes:
        d_model: numbers of a token.
        num_layers: how many blocks.
        num_heads: heads of each layer of attention.
        attention: what `Attention` is given besides, layer by layer, in turn; as the model usually attends when not
            given.
        hidden: numbers of a token inside of the feed-forward layer; `4 * d_model` when not given.
        feed_forward: "gelu", "gelu_tanh", "relu", or gated: "swiglu", "geglu".
        norm: "layer" or "rms".
        norm_at: "pre", before each part; "post", after the sum, as in 2017; "both", before and after each part.
        norm_eps: what keeps a norm from dividing by 0.
        bias: whether projections add something.
        dropout: the share of weights, and of what each part adds, to drop while training.

    Raises:
        OptionError: a number means nothing.
        UnknownNameError: there is no such norm, placement or feed-forward layer.
    """

    d_model: int
    num_layers: int
    num_heads: int
    attention: Sequence[Mapping[str, Any]] | None = None
    hidden: int | None = None
    feed_forward: str = "gelu"
    norm: str = "layer"
    norm_at: str = "pre"
    norm_eps: float = 1e-5
    bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("d_model", "num_layers", "num_heads"):
            check_count("Config", name, getattr(self, name))
        if self.hidden is not None:
            check_count("Config", "hidden", self.hidden)
        for name, known in (("feed_forward", FEED_FORWARDS), ("norm", NORMS), ("norm_at", PLACEMENTS)):
            if getattr(self, name) not in known:
                raise unknown_name("Config", name, getattr(self, name), known)
        if self.attention is not None and not _are_layouts(self.attention):
            raise OptionError(
                where="Config",
                what=f"attention is a layout or several, each with its mechanism; got {self.attention!r}",
                fix='attention=({"mechanism": "causal"},), with the comma',
            )
        check_dropout("Config", self.dropout, fix="dropout=0.1 drops one in ten")

    def new_norm(self) -> nn.Module:
        """A norm of tokens."""
        return NORMS[self.norm](self.d_model, eps=self.norm_eps)

    def last_norm(self) -> nn.Module:
        """What follows the blocks: a norm, where not each block ends with one."""
        return nn.Identity() if self.norm_at == "post" else self.new_norm()

    def attention_of(self, layer: int, usual: str) -> Attention:
        """The attention of one layer; by the mechanism `usual` where no layouts are given."""
        layouts = self.attention or ({"mechanism": usual},)
        return self.attention_by(layouts[layer % len(layouts)])

    def attention_by(self, layout: Mapping[str, Any]) -> Attention:
        """Attention as a `layout` says, with the bias and dropout of all."""
        usual: dict[str, Any] = {"bias": self.bias, "dropout": self.dropout}
        return Attention(self.d_model, self.num_heads, **(usual | dict(layout)))


def _are_layouts(given: object) -> bool:
    layouts = given if isinstance(given, Sequence) else ()
    return len(layouts) > 0 and all(isinstance(one, Mapping) and "mechanism" in one for one in layouts)
