"""Guesses of the second sitting, "Attention that learns": sections 7 to 13."""

from attnkit.learn.guesses.guess import Guess

GUESSES: tuple[Guess, ...] = (
    Guess(
        "mirror",
        section=7,
        choices=("0.9 as well", "less", "depends on the other words"),
        truth="A",
        because="word i times word j adds up the same products as word j times word i, so the table is its own mirror.",
    ),
    Guess(
        "sum of 64",
        section=8,
        choices=("about 1", "about 8", "about 64"),
        truth="B",
        because="chance cancels much, not all: a sum of n such products spreads like the root of n.",
    ),
    Guess(
        "same seed",
        section=9,
        choices=("no, other numbers", "yes, to the digit", "the same numbers in another order"),
        truth="A",
        because="torch.rand draws from 0 to 1, nn.Linear from -0.58 to 0.58 here, in a matrix turned the other way.",
    ),
    Guess(
        "zero after",
        section=10,
        choices=("1", "less than 1, but for the last", "more than 1"),
        truth="B",
        because="hidden words take their share before it is set to zero, and the first row keeps only 0.57.",
    ),
    Guess(
        "dead row",
        section=10,
        choices=("nan", "all equal", "depends on who wrote the code"),
        truth="C",
        because="-inf gives nan, -1e9 gives 0.25 each, PyTorch's fused function gives zeros, and so do we.",
    ),
    Guess(
        "dropout rows",
        section=11,
        choices=("always 1", "anything from 0 to 2", "always 0.5"),
        truth="B",
        because="what is left is doubled and no row is evened out, so it is 1 only on average, over 4,000 draws.",
    ),
    Guess(
        "padding share",
        section=12,
        choices=("0", "about 5 %", "nearly half"),
        truth="C",
        because="a row of zeros scores 0, and exp(0) is 1, so three of them take 47 % of the weights.",
    ),
    Guess(
        "two questions",
        section=13,
        choices=("10 % and 100 %", "50 % and 100 %", "90 % and 100 %"),
        truth="A",
        because="one head reads one card and guesses the other digit, right once in ten at any width; two read both.",
    ),
)
