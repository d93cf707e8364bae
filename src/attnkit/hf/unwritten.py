"""A mask on its way from the mask function of transformers to its attention function, without being written out.

transformers hands masks from one to the other as tensors (batch, 1, q_len, kv_len). This is such a tensor to all that
look at it, and our attention function reads the mask in it. Whoever cuts or copies it gets the bools. Whoever computes
with it is a model that attends by code of its own, which would not run the rule: that is refused, not passed over.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from attnkit.errors import OptionError
from attnkit.masks import Mask

# what moves numbers and computes none
_LAYOUT = "_to_copy alias clone copy_ detach expand index_select select slice unsqueeze view"


class Unwritten(Tensor):
    """Bools (batch, 1, q_len, kv_len), True keeps, that are known and not there.

    Args:
        mask: what is kept; positions are counted from the first key.
        sizes: how many samples, queries and keys.
        q_start: the position of the first query, counted from the first key.
        first: where the first key stands in the text.
        starts: (batch,), where the text of each sample begins, counted from the first key; None where at the first key.
        device: where the bools would be.
    """

    mask: Mask
    q_start: int
    first: int
    starts: Tensor | None

    @staticmethod
    def __new__(
        cls: type["Unwritten"],
        mask: Mask,
        sizes: tuple[int, int, int],
        *,
        q_start: int,
        first: int = 0,
        starts: Tensor | None = None,
        device: torch.device | None = None,
    ) -> "Unwritten":
        """An empty tensor of that shape, that knows the mask."""
        batch, q_len, kv_len = sizes
        shape = (batch, 1, q_len, kv_len)
        made = Tensor._make_wrapper_subclass(cls, shape, dtype=torch.bool, device=device)  # pyright: ignore[reportAttributeAccessIssue]
        made.mask, made.q_start, made.first, made.starts = mask, q_start, first, starts
        return made

    def written(self) -> Tensor:
        """The bools."""
        batch, _, q_len, kv_len = self.shape
        kept = self.mask.dense(q_len, kv_len, q_start=self.q_start, device=self.device)
        kept = kept[:, None] if kept.dim() == 3 else kept[None, None]
        return kept.expand(batch, 1, q_len, kv_len)

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Unwritten({self.mask!r}, shape={tuple(self.shape)}, q_start={self.q_start})"

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The bools, for what moves them.

        Raises:
            OptionError: it computes with them.
        """
        if func.overloadpacket.__name__ not in _LAYOUT.split():
            raise OptionError(
                where="hf",
                what=f"this model computes with attention_mask itself, by {func}: its attention does not go through "
                "the registry of transformers, so that no rule would run",
                fix='attn_implementation="eager" for this model',
            )
        args, kwargs = tree_map_only(Unwritten, Unwritten.written, (args, kwargs or {}))
        return func(*args, **kwargs)
