"""The exercises, in the order of the tutorial: one file a section."""

from attnkit.learn.task import Task
from attnkit.learn.tasks import (
    section_02,
    section_03,
    section_04,
    section_05,
    section_07,
    section_08,
    section_09,
    section_10,
    section_11,
    section_12,
    section_13,
    section_13_whole,
    section_14,
    section_15,
    section_16,
)

_SECTIONS = (
    section_02,
    section_03,
    section_04,
    section_05,
    section_07,
    section_08,
    section_09,
    section_10,
    section_11,
    section_12,
    section_13,
    section_13_whole,
    section_14,
    section_15,
    section_16,
)

TASKS: tuple[Task, ...] = tuple(task for section in _SECTIONS for task in section.TASKS)
