"""Section 12: sentences of unequal length."""

import torch
from torch import Tensor

from attnkit.learn.task import Sample, Task, Wrong
from attnkit.learn.wording import shape

_UNEQUAL, _SQUARE = torch.tensor([3, 5, 0]), torch.tensor([2, 4, 1, 3])


def _words(lengths: Tensor, kv_len: int) -> Tensor:
    """True at the words of each sentence: bool (batch, kv_len)."""
    return torch.arange(kv_len) < lengths[:, None]


def _one_too_many(lengths: Tensor, kv_len: int) -> Tensor:
    return (torch.arange(kv_len) <= lengths[:, None])[:, None]


def _one_too_few(lengths: Tensor, kv_len: int) -> Tensor:
    return (torch.arange(1, kv_len + 1) < lengths[:, None])[:, None]


def _left(lengths: Tensor, kv_len: int) -> Tensor:
    return (torch.arange(kv_len) >= kv_len - lengths[:, None])[:, None]


def _longest(lengths: Tensor, kv_len: int) -> Tensor:
    return (torch.arange(kv_len) < lengths.max()).expand(len(lengths), 1, kv_len).clone()


def _kept(at: Sample) -> str:
    """How many positions of sentence 0 are kept, and how many should be."""
    return f"{int(at.got[0].sum())} positions of sentence 0, which has {int(at.tensor(0)[0])} words"


PADDING_MASK = Task(
    name="padding_mask",
    section=12,
    stars=2,
    signature="padding_mask(lengths, kv_len) -> bool (batch, 1, kv_len), True keeps, from lengths (batch,)",
    statement=(
        "True where a key is a word of its sentence, False where it is padding; sentence b has lengths[b] "
        "words, and they come first. The axis of one stands for the queries, which all see the same keys."
    ),
    cases=((_UNEQUAL, 6), (_SQUARE, 4)),
    right=lambda lengths, kv_len: _words(lengths, kv_len)[:, None],
    wrongs=(
        Wrong(
            "one too many",
            _one_too_many,
            lambda at: f"You keep {_kept(at)}: one pad too many. The positions of 3 words are 0, 1 and 2.",
        ),
        Wrong(
            "one too few",
            _one_too_few,
            lambda at: (
                f"You keep {_kept(at)}: one word too few. Positions count from 0, so 3 words stand at 0, 1 and 2."
            ),
        ),
        Wrong(
            "inverted",
            lambda lengths, kv_len: ~_words(lengths, kv_len)[:, None],
            lambda at: (
                f"You keep {_kept(at)}, and they are the padding; the words are hidden. Here True keeps "
                "(nn.MultiheadAttention wants its padding mask the other way round)."
            ),
        ),
        Wrong(
            "hides queries",
            lambda lengths, kv_len: _words(lengths, kv_len)[:, :, None],
            lambda at: (
                f"Your mask is {shape(at.got)}, with the axis of one last: it hides padded queries, and the "
                f"words go on reading padding. Keys are the last axis: {shape(at.want)}."
            ),
        ),
        Wrong(
            "no query axis",
            _words,
            lambda at: (
                f"Your mask is {shape(at.got)}. Against scores (batch, q_len, kv_len) its {len(at.got)} "
                f"sentences line up with the queries, and with {len(at.got)} queries nothing complains. Put "
                f"an axis of one between: {shape(at.want)}."
            ),
        ),
        Wrong(
            "left",
            _left,
            lambda at: (
                f"You keep the last {int(at.got[0].sum())} positions of sentence 0; its "
                f"{int(at.tensor(0)[0])} words are the first ones. Yours is right for padding on the left."
            ),
        ),
        Wrong(
            "longest",
            _longest,
            lambda at: (
                f"You keep {_kept(at)}: every sentence got the length of the longest, "
                f"{int(at.tensor(0).max())}. Each has its own."
            ),
        ),
    ),
    hints=(
        "For one sentence: number the positions 0, 1, 2, ... and ask of each whether it is below the "
        "length. Which shape must the lengths have so that one comparison does all sentences?",
        "torch.arange(kv_len) against the lengths as a column gives (batch, kv_len); the axis for the "
        "queries goes in between.",
    ),
    solution="""\
def padding_mask(lengths, kv_len):
    words = torch.arange(kv_len) < lengths[:, None]
    return words[:, None, :]
""",
)
