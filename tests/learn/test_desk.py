"""What the reader calls: an exercise, its hints, its solution, and what has been done so far."""

import pytest

from attnkit.errors import UnknownNameError
from attnkit.learn import desk


@pytest.fixture(autouse=True)
def _fresh():
    desk.forget()
    yield
    desk.forget()


def done(name):
    return next(entry for entry in desk.progress() if entry.name == name)


def right(query, keys):
    return keys @ query


def test_an_exercise_called_with_a_function_gives_a_verdict():
    assert desk.exercise("scores")(right).solved


def test_an_exercise_alone_shows_what_is_asked():
    shown = repr(desk.exercise("scores"))
    assert shown.startswith("scores (section 2, ★, core)\nscores(query, keys) -> (kv_len,)")


@pytest.mark.messages
@pytest.mark.parametrize("ask", [desk.exercise, desk.hint, desk.solution])
def test_an_unknown_name_is_answered_with_the_nearest(ask):
    with pytest.raises(UnknownNameError, match="did you mean 'softmax'"):
        ask("sofmax")


def test_the_second_hint_goes_further_than_the_first():
    first, second, third = (desk.hint("softmax") for _ in range(3))
    assert first.startswith("softmax, hint 1 of 2: ")
    assert second.startswith("softmax, hint 2 of 2: ")
    assert third == second


def test_hints_and_solutions_show_themselves_without_quotes():
    assert repr(desk.solution("scores")) == "def scores(query, keys):\n    return keys @ query\n"


def test_an_empty_function_is_no_attempt():
    desk.exercise("scores")(lambda query, keys: None)
    assert done("scores").attempts == 0


def test_attempts_are_counted_and_a_solved_exercise_stays_solved():
    desk.exercise("scores")(right)
    desk.exercise("scores")(lambda query, keys: keys * query)
    assert (done("scores").attempts, done("scores").solved) == (2, True)


def test_progress_knows_section_stars_and_core_of_every_exercise():
    entry = done("softmax")
    assert (entry.section, entry.stars, entry.core, entry.solved) == (3, 2, True, False)
    assert len(desk.progress()) == 17


def test_progress_remembers_hints_and_solutions_that_were_read():
    desk.hint("context")
    desk.solution("attend")
    assert (done("context").hints, done("attend").revealed) == (1, True)
