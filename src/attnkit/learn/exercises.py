"""What the reader calls about an exercise: `exercise`, `hint`, `solution`; and what has been done so far."""

from dataclasses import dataclass, replace

from attnkit.errors import unknown_name
from attnkit.learn.judging import judge
from attnkit.learn.task import Task
from attnkit.learn.tasks import TASKS
from attnkit.learn.verdict import Verdict, wrapped


@dataclass(frozen=True)
class Progress:
    """What has been done about one exercise.

    Args:
        attempts: how many written answers were judged; an empty function is no attempt.
        solved: whether one of them was right.
        hints: how many of the two hints were read.
    """

    attempts: int = 0
    solved: bool = False
    hints: int = 0


class Note(str):
    """A text that a notebook shows as it is, without quotes."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, repr=False)
class Exercise:
    """An exercise to call with a function; alone at the end of a cell, it shows what is asked."""

    task: Task

    def __call__(self, function: object) -> Verdict:
        """Judge `function`; the verdict shows itself when the call ends a cell."""
        verdict = judge(self.task, function)
        if verdict.kind != "unwritten":
            so_far = _PROGRESS[self.task.name]
            solved = so_far.solved or verdict.solved
            _PROGRESS[self.task.name] = replace(so_far, attempts=so_far.attempts + 1, solved=solved)
        return verdict

    def __repr__(self) -> str:
        stars, core = "★" * self.task.stars, ", core" if self.task.core else ""
        heading = f"{self.task.name} (section {self.task.section}, {stars}{core})"
        return wrapped(f"{heading}\n{self.task.signature}\n{self.task.statement}")


_BY_NAME = {task.name: task for task in TASKS}
_PROGRESS = {task.name: Progress() for task in TASKS}


def exercise(name: str) -> Exercise:
    """The exercise called `name`: `exercise("softmax")(my_function)` gives the verdict.

    Raises:
        UnknownNameError: no exercise has this name.
    """
    return Exercise(_task("exercise", name))


def hint(name: str) -> Note:
    """A first step for the exercise `name`; called again, a second one that nearly gives it away.

    Raises:
        UnknownNameError: no exercise has this name.
    """
    task = _task("hint", name)
    step = min(_PROGRESS[name].hints, 1)
    _PROGRESS[name] = replace(_PROGRESS[name], hints=step + 1)
    return Note(wrapped(f"{name}, hint {step + 1} of 2: {task.hints[step]}"))


def solution(name: str) -> Note:
    """The code of a right answer to the exercise `name`.

    Raises:
        UnknownNameError: no exercise has this name.
    """
    return Note(_task("solution", name).solution)


def progress() -> dict[str, Progress]:
    """What has been done about each exercise in this session, by its name."""
    return dict(_PROGRESS)


def forget() -> None:
    """Start anew: no exercise tried, no hint read."""
    _PROGRESS.update(dict.fromkeys(_PROGRESS, Progress()))


def _task(where: str, name: str) -> Task:
    if name not in _BY_NAME:
        raise unknown_name(f"learn.{where}", "exercise", name, _BY_NAME)
    return _BY_NAME[name]
