"""The exercises, in the order of the tutorial: one file a section, two for section 13."""

from attnkit.learn.task import Task
from attnkit.learn.tasks.section_02 import SCORES
from attnkit.learn.tasks.section_03 import SOFTMAX
from attnkit.learn.tasks.section_04 import CONTEXT
from attnkit.learn.tasks.section_05 import ATTEND
from attnkit.learn.tasks.section_07 import PREVIOUS_WORD
from attnkit.learn.tasks.section_08 import SCALED_SCORES
from attnkit.learn.tasks.section_09 import TO_LINEAR
from attnkit.learn.tasks.section_10 import CAUSAL_MASK, MASKED_WEIGHTS
from attnkit.learn.tasks.section_11 import DROPOUT
from attnkit.learn.tasks.section_12 import PADDING_MASK
from attnkit.learn.tasks.section_13 import MERGE_HEADS, SPLIT_HEADS
from attnkit.learn.tasks.section_13_multi_head import MULTI_HEAD
from attnkit.learn.tasks.section_14 import IS_CAUSAL
from attnkit.learn.tasks.section_15 import PREVIOUS_WORD_SCORE
from attnkit.learn.tasks.section_17 import CROSS_ATTENTION

TASKS: tuple[Task, ...] = (
    SCORES,
    SOFTMAX,
    CONTEXT,
    ATTEND,
    PREVIOUS_WORD,
    SCALED_SCORES,
    TO_LINEAR,
    CAUSAL_MASK,
    MASKED_WEIGHTS,
    DROPOUT,
    PADDING_MASK,
    SPLIT_HEADS,
    MERGE_HEADS,
    MULTI_HEAD,
    IS_CAUSAL,
    PREVIOUS_WORD_SCORE,
    CROSS_ATTENTION,
)
