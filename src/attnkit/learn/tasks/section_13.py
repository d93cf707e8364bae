"""Section 13: splitting words into heads, and merging them again."""

import torch
from torch import Tensor

from attnkit.learn.agreement import same_entries
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.tasks.wholes import MERGED_BY, SPLIT_BY
from attnkit.learn.wording import number, shape

_draw = Draws(13)


def _cut(x: Tensor, num_heads: int) -> Tensor:
    """(batch, len, heads, head_dim)."""
    return x.reshape(*x.shape[:2], num_heads, -1)


def _mixed_batch(x: Tensor, num_heads: int) -> Tensor:
    return _cut(x.transpose(0, 1).reshape(x.shape), num_heads).transpose(1, 2)


def _right_numbers(at: Sample) -> str:
    """How many numbers are where they should be."""
    return f"{int(same_entries(at.got, at.want).sum())} of {at.got.numel()}"


SPLIT_HEADS = Task(
    name="split_heads",
    section=13,
    stars=2,
    core=True,
    signature=(
        "split_heads(x, num_heads) -> (batch, heads, len, head_dim), from x (batch, len, heads * head_dim)"
    ),
    statement=(
        "Cut each word's vector into equal runs of neighbouring numbers, one a head, and put heads before "
        "words."
    ),
    cases=((_draw(2, 5, 12), 3), (_draw(2, 4, 8), 4), (_draw(4, 4, 16), 4)),
    right=lambda x, num_heads: _cut(x, num_heads).transpose(1, 2),
    wrongs=(
        Wrong(
            "view only",
            lambda x, num_heads: x.reshape(x.shape[0], num_heads, x.shape[1], -1),
            lambda at: (
                f"The shape is right, and {_right_numbers(at)} numbers are: what you call word 1 of head 0 "
                "is still word 0, its next run. Reshaping never moves a number; split the last axis, then "
                "move the new axis."
            ),
        ),
        Wrong(
            "interleaved",
            lambda x, num_heads: x.reshape(*x.shape[:2], -1, num_heads).permute(0, 3, 1, 2),
            lambda at: (
                f"Head 0 took every number whose place is a multiple of {at.integer(1)}. A head is a run of "
                f"{at.want.shape[-1]} neighbours: the last axis is cut into heads first, head_dim second."
            ),
        ),
        Wrong(
            "not moved",
            _cut,
            lambda at: (
                f"Well cut, but heads stand behind the words: {shape(at.got)}, and {shape(at.want)} is asked "
                "for. Two axes have to change places."
            ),
        ),
        Wrong(
            "wrong transpose",
            lambda x, num_heads: _cut(x, num_heads).permute(0, 2, 3, 1),
            lambda at: (
                f"The last two axes are exchanged: {shape(at.got)}, and {shape(at.want)} is asked for. "
                "head_dim comes last."
            ),
        ),
        Wrong(
            "heads first",
            lambda x, num_heads: torch.stack(x.chunk(num_heads, -1)),
            lambda at: (
                f"Well cut, but heads stand before sentences: {shape(at.got)}, and {shape(at.want)} is asked "
                "for. The batch is the first axis, heads the second."
            ),
        ),
        Wrong(
            "batch mixed",
            _mixed_batch,
            lambda at: (
                "Sentences got mixed: what stands as word 1 of sentence 0 is word 0 of sentence 1 (first "
                f"number {number(at.got[0, 0, 1, 0])}, not {number(at.want[0, 0, 1, 0])}). The batch axis "
                "stays where it is."
            ),
        ),
    ),
    hints=(
        "Two steps. First say that the last axis is really two: (batch, len, heads, head_dim). Then look at "
        "which axes stand in the wrong order.",
        "view (or reshape) for the first step; transpose, with the numbers of two axes, for the second.",
    ),
    solution="""\
def split_heads(x, num_heads):
    batch, length, width = x.shape
    heads = x.view(batch, length, num_heads, width // num_heads)
    return heads.transpose(1, 2)
""",
    whole=SPLIT_BY,
)

MERGE_HEADS = Task(
    name="merge_heads",
    section=13,
    stars=2,
    core=True,
    signature=(
        "merge_heads(context) -> (batch, len, heads * head_dim), from context (batch, heads, len, head_dim)"
    ),
    statement="The way back of split_heads: for each word, its heads side by side, head 0 first.",
    cases=((_draw(2, 3, 5, 4),), (_draw(2, 4, 4, 4),), (_draw(4, 4, 4, 4),)),
    right=lambda context: context.transpose(1, 2).flatten(2),
    wrongs=(
        Wrong(
            "reshape only",
            lambda context: context.reshape(context.shape[0], context.shape[2], -1),
            lambda at: (
                f"The shape is right, and {_right_numbers(at)} numbers are: word 0 got words 0 to "
                f"{at.tensor(0).shape[1] - 1} of head 0, and so the future, through any mask. Reshaping "
                "never moves a number; move the axis first."
            ),
        ),
        Wrong(
            "interleaved",
            lambda context: context.permute(0, 2, 3, 1).flatten(2),
            lambda at: (
                f"The heads are interleaved: first number 0 of all {at.tensor(0).shape[1]} heads, then "
                f"number 1 of all. Head 0 should give its {at.tensor(0).shape[3]} numbers first, then head 1."
            ),
        ),
        Wrong(
            "wrong transpose",
            lambda context: context.transpose(2, 3).reshape(context.shape[0], context.shape[2], -1),
            lambda at: (
                f"The shape is right, and {_right_numbers(at)} numbers are: words changed places with "
                "head_dim, the axis behind them. They should change places with heads, the axis before them."
            ),
        ),
        Wrong(
            "heads reversed",
            lambda context: context.flip(1).transpose(1, 2).flatten(2),
            lambda at: (
                f"The heads stand in reverse order: every word opens with the {at.tensor(0).shape[3]} numbers "
                f"of head {at.tensor(0).shape[1] - 1}. Head 0 comes first."
            ),
        ),
        Wrong(
            "summed",
            lambda context: context.sum(1),
            lambda at: (
                f"You added the heads up: {at.got.shape[-1]} numbers a word are left. Side by side they make "
                f"{at.want.shape[-1]}."
            ),
        ),
        Wrong(
            "averaged",
            lambda context: context.mean(1),
            lambda at: (
                f"You averaged the heads: {at.got.shape[-1]} numbers a word are left. Side by side they make "
                f"{at.want.shape[-1]}."
            ),
        ),
        Wrong(
            "words last",
            lambda context: context.transpose(2, 3).flatten(1, 2),
            lambda at: (
                f"Words came out last: {shape(at.got)}. They belong on the middle axis: {shape(at.want)}."
            ),
        ),
    ),
    hints=(
        "Walk split_heads backwards: what was its last step? Undo that first.",
        "Once words stand before heads, the last two axes can become one. After a transpose view refuses; "
        "reshape does it.",
    ),
    solution="""\
def merge_heads(context):
    batch, num_heads, length, head_dim = context.shape
    words = context.transpose(1, 2)
    return words.reshape(batch, length, num_heads * head_dim)
""",
    whole=MERGED_BY,
)
