"""Guesses of the third sitting, can you trust it: sections 14 to 17."""

from attnkit.learn.guesses.guess import Guess

GUESSES: tuple[Guess, ...] = (
    Guess(
        "five curves",
        section=14,
        choices=("the fastest", "one of the three slow ones", "the second fastest"),
        truth="B",
        because="the two fastest read the answer instead of finding it, and cut off from it they are right less than "
        "one time in four; the slow three play on, and it takes two more tests to tell the right one.",
    ),
    Guess(
        "off by one",
        section=14,
        choices=("always", "two times in three", "about one time in ten"),
        truth="C",
        because="it learned to copy the next symbol and nothing else; without it, it guesses among 10 digits.",
    ),
    Guess(
        "reads nothing",
        section=15,
        choices=("3", "25", "68"),
        truth="C",
        because="weights must go somewhere, and in 68 of 72 heads no token gets more of them than [CLS].",
    ),
    Guess(
        "changes its mind",
        section=15,
        choices=("13", "7", "0"),
        truth="C",
        because="it leans to the same noun in both sentences of all 14 pairs: right in 14 of 28, like a coin.",
    ),
    Guess(
        "bank alone",
        section=15,
        choices=("it stays as wide", "it gets half as wide", "it closes to one line"),
        truth="C",
        because="the same word at the same place starts as one vector, and with nobody else to read it stays one: "
        "eight sentences end at most 6e-07 from their mean, instead of 4.2.",
    ),
    Guess(
        "your own",
        section=16,
        choices=("a word reads later ones", "the scores", "how the heads are joined"),
        truth="B",
        because="they are divided by the root of 24, the width of the layer, and a head has 6 numbers: each is half "
        "of what it should be, which no shape and no loss complains of.",
    ),
    Guess(
        "cross shape",
        section=17,
        choices=("(3, 3)", "(3, 5)", "(5, 3)"),
        truth="B",
        because="rows ask and columns are read, so 3 questions to 5 words make 3 rows of 5 weights.",
    ),
)
