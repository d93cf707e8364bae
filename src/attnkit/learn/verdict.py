"""What a reader hears about an attempt."""

import textwrap
from dataclasses import dataclass
from typing import Literal

Kind = Literal["unwritten", "trouble", "right", "almost", "named", "unnamed"]

_MARKS = {"unwritten": "○", "right": "✓", "almost": "◐"}
_WIDTH = 96


@dataclass(frozen=True, repr=False)
class Verdict:
    """The outcome of one attempt; a notebook shows it when it is the last line of a cell.

    Args:
        exercise: the name of the exercise.
        kind: "unwritten"; "trouble", before any number is compared; "right"; "almost", where the numbers are
            right and something else is not; "named", a mistake that has a name; "unnamed", any other.
        text: what to tell the reader.
        mistake: the name of a named mistake, otherwise empty.
    """

    exercise: str
    kind: Kind
    text: str
    mistake: str = ""

    @property
    def solved(self) -> bool:
        """Whether the answer is right in every respect."""
        return self.kind == "right"

    def __repr__(self) -> str:
        return wrapped(f"{_MARKS.get(self.kind, '✗')} {self.exercise}: {self.text}")


def wrapped(text: str) -> str:
    """`text` in lines of at most 96 characters, paragraph by paragraph."""
    lines = [textwrap.wrap(line, _WIDTH) or [""] for line in text.splitlines()]
    return "\n".join(part for line in lines for part in line)
