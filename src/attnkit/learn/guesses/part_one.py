"""Guesses of the first sitting, with bare hands: sections 1 to 6."""

from attnkit.learn.guesses.guess import Guess

GUESSES: tuple[Guess, ...] = (
    Guess(
        "same bank",
        section=1,
        choices=("0", "a little", "far"),
        truth="A",
        because="a table knows the word and not its sentence, so both are the same row and their distance is 0.",
    ),
    Guess(
        "plain average",
        section=1,
        choices=("none, each keeps its own", 'only the two "the"', "all of them"),
        truth="C",
        because="the average does not ask who is looking, so all 5 words of a sentence get one and the same vector.",
    ),
    Guess(
        "with reads",
        section=2,
        choices=("with itself", 'with "journey"', 'with "one"'),
        truth="B",
        because='"journey" gets 0.84, "with" itself 0.49, "one" 0.35: '
        '"journey" is 1.22 long, "with" 0.70, and long vectors shout.',
    ),
    Guess(
        "add ten",
        section=3,
        choices=("stay the same", "get more equal", "get less equal"),
        truth="A",
        because="exp(score + 10) is exp(score) times 22,026 for every key, and the division cancels it.",
    ),
    Guess(
        "large scores",
        section=3,
        choices=("0.27 and 0.73", "0.50 and 0.50", "nan and nan"),
        truth="C",
        because="exp(1000) is above the largest 32-bit float, 3.4e38, so it becomes inf, and inf / inf is nan; "
        "0.27 and 0.73 is what it should be.",
    ),
    Guess(
        "longest context",
        section=4,
        choices=("yes, with the right query", "never", "only if some scores are negative"),
        truth="B",
        because="shares that are never negative and sum to 1 cannot lead out of the shape with the words as corners, "
        "and its farthest corner is the longest value, 2.247 long.",
    ),
    Guess(
        "loop",
        section=5,
        choices=("about 10", "about 100", "above 1,000"),
        truth="C",
        because="the loop starts 16,384 separate operations from Python, the matrix product one.",
    ),
    Guess(
        "sixteen times",
        section=5,
        choices=("16", "64", "256"),
        truth="C",
        because="16 times the queries, and each asks 16 times the keys: 16 x 16 = 256 times the pairs.",
    ),
    Guess(
        "man bites dog",
        section=6,
        choices=("quite another", "slightly another", "the same"),
        truth="C",
        because="the scores of a word depend on who is there and not on where, and a sum does not depend on its order.",
    ),
)
