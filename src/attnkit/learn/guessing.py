"""Guessing before looking: the reader's guess is noted, and the next cell answers it."""

from attnkit.errors import unknown_name
from attnkit.learn.guesses import ALL, LETTERS, Guess
from attnkit.learn.verdict import wrapped

_noted: dict[str, str] = {}


def guess(key: str, choice: str) -> None:
    """Note what the reader expects, before the cell that shows it.

    A slip of the finger is answered in a line: a traceback would stop a run of all cells.

    Args:
        key: the name of the guess, as the notebook writes it.
        choice: a letter, "A", "B", ..., or "?" for not yet.

    Raises:
        UnknownNameError: there is no such guess.
    """
    asked = _find(key)
    letters = LETTERS[: len(asked.choices)]
    letter = str(choice).strip().upper()
    if letter not in list(letters):
        _noted.pop(key, None)
        trouble = "No guess yet" if letter in ("", "?") else f"{choice!r} is no choice here"
        print(f"{trouble}. Put {_listed(letters)} between the quotes, run this cell, then the next one.")
        return
    _noted[key] = letter
    print(f"Noted: {letter}, {asked.choices[letters.index(letter)]}. Now run the next cell.")


def answer(key: str) -> None:
    """Print what is true, next to what the reader guessed.

    Raises:
        UnknownNameError: there is no such guess.
    """
    asked = _find(key)
    truth = f"{asked.truth}, {asked.choices[LETTERS.index(asked.truth)]}"
    mine = _noted.get(key)
    if mine is None:
        opening = f"It is {truth}"
    elif mine == asked.truth:
        opening = f"You guessed {mine}, and it is {truth}"
    else:
        opening = f"You guessed {mine}. It is {truth}"
    print(wrapped(f"{opening}: {asked.because}"))


def right_guesses() -> dict[str, bool]:
    """For each guess that was made, whether it was right."""
    return {key: letter == ALL[key].truth for key, letter in _noted.items()}


def _find(key: str) -> Guess:
    if key not in ALL:
        raise unknown_name("learn.guess", "guess", key, ALL)
    return ALL[key]


def _listed(letters: str) -> str:
    return f"{', '.join(letters[:-1])} or {letters[-1]}"
