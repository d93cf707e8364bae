import pytest

from attnkit import learn
from attnkit.errors import UnknownNameError
from attnkit.learn import guessing
from attnkit.learn.guesses import ALL, LETTERS

KEY = "same bank"


@pytest.fixture(autouse=True)
def _nothing_guessed(monkeypatch):
    monkeypatch.setattr(guessing, "_noted", {})


def wrong_letter(key):
    return next(letter for letter in "ABC" if letter != ALL[key].truth)


@pytest.mark.parametrize("guess", ALL.values(), ids=lambda guess: guess.key)
def test_the_truth_of_every_guess_is_one_of_its_choices(guess):
    assert guess.truth in LETTERS[: len(guess.choices)]
    assert 2 <= len(set(guess.choices)) == len(guess.choices)
    assert 1 <= guess.section <= 17
    assert guess.because.endswith(".")


def test_the_truths_are_not_all_the_same_letter():
    truths = [guess.truth for guess in ALL.values()]
    assert max(truths.count(letter) for letter in "ABC") <= 0.6 * len(truths)


def test_a_question_mark_is_no_guess(capsys):
    learn.guess(KEY, "?")
    assert capsys.readouterr().out.startswith("No guess yet. Put A, B or C between the quotes")
    assert guessing.right_guesses() == {}


def test_a_question_mark_takes_a_guess_back():
    learn.guess(KEY, "A")
    learn.guess(KEY, "?")
    assert guessing.right_guesses() == {}


def test_a_guess_is_noted_and_the_answer_is_not_given_away(capsys):
    learn.guess(KEY, "b")
    said = capsys.readouterr().out
    assert said.startswith("Noted: B, ")
    assert ALL[KEY].because not in said


def test_a_right_guess_is_told_to_be_right(capsys):
    learn.guess(KEY, ALL[KEY].truth)
    learn.answer(KEY)
    assert f"You guessed {ALL[KEY].truth}, and it is {ALL[KEY].truth}" in capsys.readouterr().out
    assert guessing.right_guesses() == {KEY: True}


def test_a_wrong_guess_is_answered_with_the_truth(capsys):
    learn.guess(KEY, wrong_letter(KEY))
    learn.answer(KEY)
    assert f"You guessed {wrong_letter(KEY)}. It is {ALL[KEY].truth}" in capsys.readouterr().out
    assert guessing.right_guesses() == {KEY: False}


def test_an_answer_without_a_guess_states_the_truth(capsys):
    learn.answer(KEY)
    assert capsys.readouterr().out.startswith(f"It is {ALL[KEY].truth}")


def test_the_last_guess_counts():
    learn.guess(KEY, wrong_letter(KEY))
    learn.guess(KEY, ALL[KEY].truth)
    assert guessing.right_guesses() == {KEY: True}


@pytest.mark.parametrize("choice", ["Q", "AB", "0", "D"])
def test_what_is_no_choice_is_told_and_not_noted(choice, capsys):
    learn.guess(KEY, ALL[KEY].truth)
    learn.guess(KEY, choice)
    assert f"'{choice}' is no choice here. Put A, B or C between the quotes" in capsys.readouterr().out
    assert guessing.right_guesses() == {}


@pytest.mark.messages
@pytest.mark.parametrize("call", [lambda key: learn.guess(key, "A"), learn.answer])
def test_a_misspelt_guess_is_corrected(call):
    with pytest.raises(UnknownNameError, match="did you mean 'same bank'"):
        call("same bnak")
