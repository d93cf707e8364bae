"""What a score step is, what one that only adds offers besides, and how steps follow each other."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from attnkit.errors import OptionError, ShapeError
from attnkit.shapes import Scores, type_of


@runtime_checkable
class ScoreStep(Protocol):
    """Any callable on scores and the places they stand at.

    It is called for many scores at once. `score` is `*batch heads q_len kv_len`; `head` (heads, 1, 1), `q_pos`
    (q_len, 1) and `kv_pos` (1, kv_len) are whole numbers that broadcast against it. The result has the
    shape of `score`, and is brought back to its dtype. A step that cares for distance reads `q_pos - kv_pos`.

    It may be called several times, for a part of the scores each, so it should do nothing but compute.
    """

    def __call__(self, score: Scores, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Scores:
        """The changed scores."""
        ...


class Additive(ABC):
    """A step that only adds: changed = score + bias(head, q_pos, kv_pos).

    A subclass says what the bias is. It may also say that the bias is `relative`, and what in it is learned.

    Example:
        >>> class Nearer(Additive):
        ...     relative = True
        ...     def bias(self, head, q_pos, kv_pos):
        ...         return -0.1 * (q_pos - kv_pos).abs()
        >>> places = torch.tensor([[[0]]]), torch.tensor([[2]]), torch.tensor([[0, 1, 2]])
        >>> Nearer()(torch.zeros(1, 1, 3), *places)
        tensor([[[-0.2000, -0.1000,  0.0000]]])
    """

    @abstractmethod
    def bias(self, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """What is added: floats that broadcast to `*batch heads q_len kv_len`.

        Args:
            head: (heads, 1, 1), every head.
            q_pos: (q_len, 1), the positions of the queries.
            kv_pos: (1, kv_len), the positions of the keys.
        """

    @property
    def relative(self) -> bool:
        """Whether the bias depends on nothing but `q_pos - kv_pos` and the head."""
        return False

    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors in the bias that a gradient may have to reach."""
        return ()

    def __call__(self, score: Scores, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Scores:
        """The scores and their bias, added up.

        Raises:
            ShapeError: the bias does not fit the scores.
        """
        bias = self.bias(head, q_pos, kv_pos)
        check_bias(self, bias, score.shape)
        return score + bias


def check_bias(step: Additive, bias: Tensor, shape: torch.Size) -> None:
    """Refuse a `bias` that does not broadcast to the `shape` of the scores.

    Raises:
        ShapeError: an axis is neither 1 nor the scores', or the bias has more axes.
    """
    missing = len(shape) - bias.dim()
    pairs = zip(bias.shape, shape[missing:], strict=False)
    # no `own not in (1, size)`: torch.compile gets that wrong for lengths that it does not know
    if missing < 0 or any(own != 1 and own != size for own, size in pairs):
        raise ShapeError(
            where=type(step).__name__,
            what=f"the bias of {step!r} has shape {tuple(bias.shape)}; the scores are {tuple(shape)}",
            fix="each axis (*batch, heads, q_len, kv_len) of a bias is the scores' own, or 1 to be the same for all",
        )


def check_num_heads(where: str, num_heads: int, head: Tensor, fix: str) -> None:
    """Refuse scores of another number of heads than `num_heads`; one `head` without axes says nothing of the others.

    Raises:
        ShapeError: the numbers differ.
    """
    if head.dim() and head.numel() != num_heads:
        raise ShapeError(
            where=where,
            what=f"it was made for {num_heads} heads; the scores have {head.numel()}",
            fix=fix,
        )


def stepped(steps: Iterable[ScoreStep], score: Scores, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Scores:
    """`score` after all of `steps`, in order; shapes as in `ScoreStep`.

    Raises:
        OptionError: a step does not take what it is called with, or gives something else than one new score for each.
    """
    for step in steps:
        try:
            changed = step(score, head, q_pos, kv_pos)
        except TypeError as error:
            if "positional argument" not in str(error):
                raise
            raise OptionError(
                where="Rule",
                what=f"the score step {_name(step)} is called as step(score, head, q_pos, kv_pos), and failed: {error}",
                fix="a function of these four; a step that is a class is made first, as in Alibi(8); a score_mod of "
                "FlexAttention is lambda score, head, q, k: score_mod(score, 0, head, q, k)",
            ) from error
        score = _one_score_each(step, changed, score).to(score.dtype)
    return score


def _one_score_each(step: ScoreStep, changed: object, score: Tensor) -> Tensor:
    if isinstance(changed, Tensor) and changed.shape == score.shape and changed.dtype != torch.bool:
        return changed
    given: object = type_of(changed)
    if isinstance(changed, Tensor) and changed.shape != score.shape:
        given = tuple(changed.shape)
    raise OptionError(
        where="Rule",
        what=f"the score step {_name(step)} gave {given} for scores {tuple(score.shape)}",
        fix="return one new score for each, for instance score + bias; what hides keys is a mask, masks.where",
    )


def _name(step: ScoreStep) -> str:
    return str(getattr(step, "__name__", step))
