"""Score steps: how a score is changed after scaling and before it is normalised."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from attnkit.shapes import Scores


@runtime_checkable
class ScoreStep(Protocol):
    """Any callable on scores and the places they stand at.

    It is called once for all scores. `score` is `*batch heads q_len kv_len`; `head` (heads, 1, 1), `q_pos`
    (q_len, 1) and `kv_pos` (1, kv_len) are whole numbers that broadcast against it. The result has the
    shape of `score`. A step that cares for distance reads `q_pos - kv_pos`.
    """

    def __call__(self, score: Scores, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Scores:
        """The changed scores."""
        ...
