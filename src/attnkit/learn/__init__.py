"""What the tutorial calls: guesses, exercises that name the mistake, the x-ray, a trained model."""

from attnkit.learn.exercises import exercise, hint, solution
from attnkit.learn.guessing import answer, guess
from attnkit.learn.minilm import fan_of_bank, load_minilm
from attnkit.learn.standing import score
from attnkit.learn.xrays import influence, xray

__all__ = [
    "answer",
    "exercise",
    "fan_of_bank",
    "guess",
    "hint",
    "influence",
    "load_minilm",
    "score",
    "solution",
    "xray",
]
