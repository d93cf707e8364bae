"""The lessons that reports name are sections of the tutorial, by their numbers and titles."""

import re
from pathlib import Path

import pytest

from attnkit.conformance import CHECKS, lessons

BOOK = Path(__file__).parents[2] / "book"
NAMED = [name for name in vars(lessons) if name.isupper()]
TAUGHT = [check for check in CHECKS if check.lesson]


def titles():
    """The titles of the tutorial's sections, by their numbers."""
    chapters = "\n".join(chapter.read_text("utf-8") for chapter in sorted(BOOK.glob("[0-9]*.py")))
    return dict(re.findall(r"^# ## (\d+)\. (.*)$", chapters, re.MULTILINE))


@pytest.mark.parametrize("name", NAMED)
def test_a_lesson_is_a_section_of_the_tutorial(name):
    number, title = re.fullmatch(r"attention\.ipynb, section (\d+), (.*)", getattr(lessons, name)).groups()
    assert titles().get(number) == title


def test_every_lesson_is_named_by_a_check_and_checks_name_no_other():
    assert {check.lesson for check in TAUGHT} == {getattr(lessons, name) for name in NAMED}


def test_what_the_tutorial_teaches_has_a_lesson():
    without = {check.name for check in CHECKS} - {check.name for check in TAUGHT}
    taught = {
        "influence",
        "padding",
        "rows",
        "heads",
        "scale",
        "positions",
        "roles",
        "samples",
        "dropout",
        "memory",
    }
    assert without & taught == set()
