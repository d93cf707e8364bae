"""Score steps: how a score is changed after scaling and before it is normalised."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from torch import Tensor

from attnkit.errors import OptionError
from attnkit.shapes import Scores


@runtime_checkable
class ScoreStep(Protocol):
    """Any callable on scores and the places they stand at.

    It is called for many scores at once. `score` is `*batch heads q_len kv_len`; `head` (heads, 1, 1), `q_pos`
    (q_len, 1) and `kv_pos` (1, kv_len) are whole numbers that broadcast against it. The result has the
    shape of `score`, and is brought back to its dtype. A step that cares for distance reads `q_pos - kv_pos`.
    """

    def __call__(self, score: Scores, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Scores:
        """The changed scores."""
        ...


def stepped(steps: Iterable[ScoreStep], score: Scores, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Scores:
    """`score` after all of `steps`, in order; shapes as in `ScoreStep`.

    Raises:
        OptionError: a step gives something else than one new score for each.
    """
    for step in steps:
        changed = step(score, head, q_pos, kv_pos)
        if not isinstance(changed, Tensor) or changed.shape != score.shape:
            given = tuple(changed.shape) if isinstance(changed, Tensor) else type(changed).__name__
            raise OptionError(
                where="Rule",
                what=f"the score step {getattr(step, '__name__', step)!s} gave {given} for scores {tuple(score.shape)}",
                fix="return one new score for each, for instance score + bias",
            )
        score = changed.to(score.dtype)
    return score
