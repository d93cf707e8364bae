import pytest

from attnkit import learn
from attnkit.learn import desk, guessing
from attnkit.learn.guesses import ALL


@pytest.fixture(autouse=True)
def _start_anew(monkeypatch):
    monkeypatch.setattr(guessing, "_noted", {})
    desk.forget()
    yield
    desk.forget()


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
