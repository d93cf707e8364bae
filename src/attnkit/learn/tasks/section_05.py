"""Section 5: all pairs at once."""

import math

from torch import Tensor
from torch.nn.functional import normalize

from attnkit.learn.properties import follows_exchange, no_nan
from attnkit.learn.task import Draws, Task, Wrong
from attnkit.learn.tasks.wholes import SENTENCES
from attnkit.learn.wording import extent, number

_draw = Draws(5)


def _self_excluded(x: Tensor) -> Tensor:
    scores = (x @ x.T).fill_diagonal_(-math.inf)
    return scores.softmax(-1) @ x


ATTEND = Task(
    name="attend",
    section=5,
    stars=1,
    core=True,
    signature="attend(x) -> context (len, d), from words x (len, d)",
    statement=(
        "Self-attention with bare hands: score every word against every word, softmax each row, mix the "
        "words. No learned weights, no scale."
    ),
    cases=((_draw(6, 4, spread=0.8),), (_draw(4, 4, spread=0.8),)),
    right=lambda x: (x @ x.T).softmax(-1) @ x,
    wrongs=(
        Wrong(
            "over queries",
            lambda x: (x @ x.T).softmax(0) @ x,
            lambda at: (
                "In your weights the columns sum to one; the row of word 0 sums to "
                f"{number((at.tensor(0) @ at.tensor(0).T).softmax(0)[0].sum())}. Softmax along the wrong "
                "axis does this, and so does mixing with the transposed weights (the same thing here, as the "
                "scores are symmetric)."
            ),
        ),
        Wrong(
            "coordinates",
            lambda x: x @ (x.T @ x).softmax(-1),
            lambda at: (
                f"You compared coordinates with coordinates, {at.got.shape[1]} x {at.got.shape[1]} scores. "
                f"Words with words makes {len(at.got)} x {len(at.got)}: which of the two is transposed?"
            ),
        ),
        Wrong(
            "scaled",
            lambda x: (x @ x.T / x.shape[-1] ** 0.5).softmax(-1) @ x,
            lambda at: (
                f"You divided the scores by {number(at.got.shape[-1] ** 0.5)}, the root of "
                f"{at.got.shape[-1]}. Section 8 finds out why one does; here they go in as they are."
            ),
        ),
        Wrong(
            "no softmax",
            lambda x: x @ x.T @ x,
            lambda at: (
                f"You mixed with raw scores: your vectors are {number(at.got.norm() / at.want.norm())} times "
                "as long as a mixture should be, far outside the words. Turn each row into shares first."
            ),
        ),
        Wrong(
            "word added",
            lambda x: x + (x @ x.T).softmax(-1) @ x,
            lambda at: (
                "This is the context plus x itself: the first number of word 0 is "
                f"{number(at.got[0, 0])}, and {number(at.want[0, 0])} of it is context, "
                f"{number(at.tensor(0)[0, 0])} the word. The context alone is asked for."
            ),
        ),
        Wrong(
            "cosine",
            lambda x: (normalize(x, dim=-1) @ normalize(x, dim=-1).T).softmax(-1) @ x,
            lambda at: (
                "Your scores are cosines: the lengths of the words, "
                f"{extent(at.tensor(0).norm(dim=-1))}, were divided out. They count here; a score is the dot "
                "product as it is."
            ),
        ),
        Wrong(
            "self excluded",
            _self_excluded,
            lambda at: (
                "No word reads itself: word 0 gives itself 0, and it should give itself "
                f"{number((at.tensor(0) @ at.tensor(0).T).softmax(-1)[0, 0])}. A word is one of its own keys."
            ),
        ),
        Wrong(
            "hard",
            lambda x: x[(x @ x.T).argmax(-1)],
            lambda at: (
                "Each word copies its best match alone, with weight 1. Word 0 should give its best match "
                f"{number((at.tensor(0) @ at.tensor(0).T).softmax(-1)[0].max())} and the others their share."
            ),
        ),
    ),
    hints=(
        "Three lines: scores (len, len), weights (len, len), context (len, d). Row i of each belongs to "
        "word i.",
        "All dot products of all rows are one product of x with its own transpose. You know the other two "
        "steps from sections 3 and 4.",
    ),
    solution="""\
def attend(x):
    scores = x @ x.T
    weights = scores.softmax(dim=-1)
    return weights @ x
""",
    properties=(no_nan, follows_exchange({0: 0}, 0, "words")),
    whole=SENTENCES,
)
