"""A prediction that a reader makes before running a cell."""

from dataclasses import dataclass

LETTERS = "ABCDE"


@dataclass(frozen=True)
class Guess:
    """One question of the tutorial that is answered by running its next cell.

    Attributes:
        key: the name that the notebook calls it by, for instance "off by one".
        section: the section that asks, from 1.
        choices: what may be answered, in the order A, B, C.
        truth: the letter of the right one.
        because: one sentence, with the number that shows it.
    """

    key: str
    section: int
    choices: tuple[str, ...]
    truth: str
    because: str
