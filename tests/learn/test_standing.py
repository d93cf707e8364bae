import pytest

from attnkit import learn
from attnkit.learn import exercises, guessing
from attnkit.learn.guesses import ALL
from attnkit.learn.tasks import TASKS


@pytest.fixture(autouse=True)
def _start_anew(monkeypatch):
    monkeypatch.setattr(guessing, "_noted", {})
    exercises.forget()
    yield
    exercises.forget()


def score(capsys):
    capsys.readouterr()
    learn.score()
    return capsys.readouterr().out


def test_a_reader_who_has_done_nothing_is_shown_the_first_step(capsys):
    assert score(capsys).splitlines() == [
        f"Guesses    0 of 0 right; {len(ALL)} not made",
        "Exercises  0 of 17 solved; of the 8 core ones 0",
        "  next: the exercise 'scores' in section 2",
    ]


def test_a_solved_exercise_counts(capsys):
    learn.exercise("scores")(lambda query, keys: keys @ query)
    assert "Exercises  1 of 17 solved; of the 8 core ones 1" in score(capsys)
    assert "next: the exercise 'softmax'" in score(capsys)


def test_a_missed_guess_names_the_section_to_read_again(capsys):
    key, guess = next(iter(ALL.items()))
    learn.guess(key, next(letter for letter in "ABC" if letter != guess.truth))
    assert f"read again: section {guess.section}, for the guess {key!r}" in score(capsys)


def test_an_exercise_tried_in_vain_names_the_section_to_read_again(capsys):
    learn.exercise("softmax")(lambda scores: scores.softmax(0))
    assert "read again: section 3, for the exercise 'softmax'" in score(capsys)
    learn.exercise("softmax")(lambda scores: scores.softmax(-1))
    assert "read again" not in score(capsys)


def test_all_misses_of_a_section_stand_in_one_line(capsys):
    learn.guess("loop", "A")
    learn.guess("sixteen times", "A")
    learn.exercise("attend")(lambda x: x)
    wanted = (
        "read again: section 5, for the guess 'loop' and the guess 'sixteen times' and the exercise 'attend'"
    )
    learn.exercise("softmax")(lambda scores: scores)
    lines = [line.strip() for line in score(capsys).splitlines()]
    assert lines[2:4] == ["read again: section 3, for the exercise 'softmax'", wanted]


def test_the_core_comes_before_the_other_exercises(capsys, monkeypatch):
    done = {task.name: exercises.Progress(solved=task.section < 4) for task in TASKS}
    monkeypatch.setattr(exercises, "_PROGRESS", done)
    assert "next: the exercise 'attend' in section 5" in score(capsys)


def test_after_the_core_the_other_exercises_come_next(capsys, monkeypatch):
    done = {task.name: exercises.Progress(attempts=1, solved=task.core) for task in TASKS}
    monkeypatch.setattr(exercises, "_PROGRESS", done)
    assert "next: the exercise 'context' in section 4" in score(capsys)


def test_a_reader_who_has_solved_everything_is_told_so(capsys, monkeypatch):
    done = {task.name: exercises.Progress(attempts=1, solved=True) for task in TASKS}
    monkeypatch.setattr(exercises, "_PROGRESS", done)
    assert score(capsys).splitlines()[1:] == [
        "Exercises  17 of 17 solved; of the 8 core ones 8",
        "  all exercises solved",
    ]
