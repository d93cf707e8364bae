"""What readers are asked to predict, one file a sitting of the tutorial."""

from attnkit.learn.guesses import part_one, part_three, part_two
from attnkit.learn.guesses.guess import LETTERS, Guess

ALL = {guess.key: guess for part in (part_one, part_two, part_three) for guess in part.GUESSES}

__all__ = ["ALL", "LETTERS", "Guess"]
