"""What the reader calls: an exercise, its hints, its solution, and what has been done so far."""

import pytest

from attnkit.errors import UnknownNameError
from attnkit.learn import exercises


@pytest.fixture(autouse=True)
def _fresh():
    exercises.forget()
    yield
    exercises.forget()


def done(name):
    return exercises.progress()[name]


def right(query, keys):
    return keys @ query


def test_an_exercise_called_with_a_function_gives_a_verdict():
    assert exercises.exercise("scores")(right).solved


def test_an_exercise_alone_shows_what_is_asked():
    shown = repr(exercises.exercise("scores"))
    assert shown.startswith("scores (section 2, ★, core)\nscores(query, keys) -> (kv_len,)")


@pytest.mark.messages
@pytest.mark.parametrize("ask", [exercises.exercise, exercises.hint, exercises.solution])
def test_an_unknown_name_is_answered_with_the_nearest(ask):
    with pytest.raises(UnknownNameError, match="did you mean 'softmax'"):
        ask("sofmax")


def test_the_second_hint_goes_further_than_the_first():
    first, second, third = (exercises.hint("softmax") for _ in range(3))
    assert first.startswith("softmax, hint 1 of 2: ")
    assert second.startswith("softmax, hint 2 of 2: ")
    assert third == second


def test_hints_and_solutions_show_themselves_without_quotes():
    assert repr(exercises.solution("scores")) == "def scores(query, keys):\n    return keys @ query\n"


def test_an_empty_function_is_no_attempt():
    exercises.exercise("scores")(lambda query, keys: None)
    assert done("scores").attempts == 0


def test_attempts_are_counted_and_a_solved_exercise_stays_solved():
    exercises.exercise("scores")(right)
    exercises.exercise("scores")(lambda query, keys: keys * query)
    assert (done("scores").attempts, done("scores").solved) == (2, True)


def test_progress_remembers_hints_that_were_read():
    exercises.hint("context")
    assert [name for name, so_far in exercises.progress().items() if so_far.hints] == ["context"]
