"""How far the reader has come: guesses that were right, exercises that are solved, and what to read again."""

from attnkit.learn.exercises import progress
from attnkit.learn.guesses import ALL
from attnkit.learn.guessing import right_guesses
from attnkit.learn.tasks import TASKS


def score() -> None:
    """Print the reader's score of this session, and the section to read again for each miss."""
    guessed, so_far = right_guesses(), progress()
    solved = [task for task in TASKS if so_far[task.name].solved]
    unsolved = [task for task in TASKS if not so_far[task.name].solved]
    core = [task for task in TASKS if task.core]
    print(f"Guesses    {sum(guessed.values())} of {len(guessed)} right; {len(ALL) - len(guessed)} not made")
    print(
        f"Exercises  {len(solved)} of {len(TASKS)} solved; "
        f"of the {len(core)} core ones {sum(task.core for task in solved)}"
    )
    missed = [(ALL[key].section, f"the guess {key!r}") for key, right in guessed.items() if not right]
    missed += [(t.section, f"the exercise {t.name!r}") for t in unsolved if so_far[t.name].attempts]
    for section in sorted({section for section, _ in missed}):
        whats = " and ".join(what for place, what in missed if place == section)
        print(f"  read again: section {section}, for {whats}")
    if unsolved:
        # the core carries the story, so it comes first
        following = min(unsolved, key=lambda task: not task.core)
        print(f"  next: the exercise {following.name!r} in section {following.section}")
    else:
        print("  all exercises solved")
