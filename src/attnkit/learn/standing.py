"""How far the reader has come: guesses that were right, exercises that are solved, and what to read again."""

from attnkit.learn.desk import progress
from attnkit.learn.guesses import ALL
from attnkit.learn.guessing import right_guesses


def score() -> None:
    """Print the reader's score of this session, and the section to read again for each miss."""
    guessed = right_guesses()
    exercises = progress()
    solved = [exercise for exercise in exercises if exercise.solved]
    core = [exercise for exercise in exercises if exercise.core]
    print(f"Guesses    {sum(guessed.values())} of {len(guessed)} right; {len(ALL) - len(guessed)} not made")
    print(
        f"Exercises  {len(solved)} of {len(exercises)} solved; "
        f"of the {len(core)} core ones {sum(exercise.solved for exercise in core)}"
    )
    again = {ALL[key].section: f"the guess {key!r}" for key, right in guessed.items() if not right}
    again |= {e.section: f"the exercise {e.name!r}" for e in exercises if e.attempts and not e.solved}
    for section, why in sorted(again.items()):
        print(f"  read again: section {section}, for {why}")
    unsolved = [exercise for exercise in core if not exercise.solved]
    if unsolved:
        print(f"  next: the exercise {unsolved[0].name!r} in section {unsolved[0].section}")
    elif len(solved) == len(exercises):
        print("  all exercises solved")
