"""Every exercise: its solution passes, and each of its named mistakes is told apart, in its own sentence."""

import itertools

import pytest
import torch

from attnkit.learn.judging import judge
from attnkit.learn.tasks import TASKS
from attnkit.learn.trials import sample_of, tried

CORE = {
    "scores",
    "softmax",
    "attend",
    "causal_mask",
    "masked_weights",
    "split_heads",
    "merge_heads",
    "is_causal",
}
OTHERS = {
    "context",
    "previous_word",
    "scaled_scores",
    "to_linear",
    "dropout",
    "padding_mask",
    "multi_head",
    "previous_word_score",
    "cross_attention",
}
TASK = {task.name: task for task in TASKS}
MISTAKES = [
    pytest.param(task, wrong, id=f"{task.name}-{wrong.name}") for task in TASKS for wrong in task.wrongs
]
EACH_TASK = pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)


def solution_of(task):
    names = {"torch": torch, "nn": torch.nn}
    exec(task.solution, names)
    return names[task.name]


def test_there_are_the_seventeen_exercises_that_the_tutorial_names():
    assert set(TASK) == CORE | OTHERS
    assert len(TASKS) == 17


def test_eight_exercises_are_core():
    assert {task.name for task in TASKS if task.core} == CORE


def test_the_exercises_stand_in_the_order_of_the_sections():
    sections = [task.section for task in TASKS]
    assert sections == sorted(sections)


def test_only_sections_1_6_and_16_have_no_exercise():
    assert {task.section for task in TASKS} == set(range(1, 18)) - {1, 6, 16}


def test_at_least_133_mistakes_have_a_name():
    assert len(MISTAKES) >= 133


@EACH_TASK
def test_an_exercise_names_at_least_four_mistakes(task):
    assert len(task.wrongs) >= 4


@EACH_TASK
def test_a_solution_is_right(task):
    verdict = judge(task, solution_of(task))
    assert verdict.solved, verdict


@EACH_TASK
def test_the_right_answer_is_right_in_every_respect(task):
    verdict = judge(task, task.right)
    assert verdict.solved, verdict


@EACH_TASK
def test_a_signature_names_the_arguments_that_the_cases_hold(task):
    assert {len(inputs) for inputs in task.cases} == {len(task.inputs)}


@EACH_TASK
def test_a_statement_says_what_to_write_and_hints_have_two_steps(task):
    assert len(task.statement) > 40
    assert len(set(task.hints)) == 2


@pytest.mark.parametrize(("task", "wrong"), MISTAKES)
def test_a_named_mistake_is_recognised_as_itself(task, wrong):
    verdict = judge(task, wrong.does)
    assert (verdict.kind, verdict.mistake) == ("named", wrong.name), verdict


@pytest.mark.parametrize(("task", "wrong"), MISTAKES)
def test_the_sentence_of_a_mistake_measures_and_gives_no_code_away(task, wrong):
    text = judge(task, wrong.does).text
    assert any(letter.isdigit() for letter in text), text
    assert not set("{}") & set(text), text
    assert len(text) < 420, text
    for line in task.solution.splitlines()[1:]:
        code = line.strip().removeprefix("return ")
        assert code not in text or len(code) < 10, text


@EACH_TASK
def test_the_right_answer_and_the_mistakes_differ_pairwise_on_the_inputs(task):
    # a mistake that `match` recognises may see more than the answer (whether x was written into)
    functions = [
        ("right", task.right),
        *((wrong.name, wrong.does) for wrong in task.wrongs if not wrong.match),
    ]
    trials = {
        name: [tried(task.answer, function, inputs, None) for inputs in task.cases]
        for name, function in functions
    }
    for one, other in itertools.combinations(trials, 2):
        agree = [mine.agrees(theirs) for mine, theirs in zip(trials[one], trials[other], strict=True)]
        assert not all(agree), f"{one} and {other} cannot be told apart"


@EACH_TASK
def test_no_mistake_is_recognised_in_the_answers_of_another(task):
    names = [judge(task, wrong.does).text for wrong in task.wrongs]
    assert len(set(names)) == len(names)


@EACH_TASK
def test_a_property_holds_for_the_right_answer(task):
    for inputs in task.cases:
        trial = tried(task.answer, task.right, inputs, None)
        sample = sample_of(task.answer, task.right, trial, trial.tensor, task.inputs)
        assert [holds(sample) for holds in task.properties] == [None] * len(task.properties)


@pytest.mark.parametrize("scale", [50.0, 80.0, 400.0])
def test_a_previous_word_head_may_wrap_around_and_be_as_sharp_as_it_likes(scale):
    def wrapped(n):
        return scale * torch.eye(n), torch.eye(n).roll(1, dims=1)

    assert judge(TASK["previous_word"], wrapped).solved


def test_a_previous_word_head_that_reads_with_less_than_99_percent_is_too_weak():
    # 8 positions: exp(10 / 8 ** 0.5) = 34.3 against 7 times 1, that is 0.831
    verdict = judge(TASK["previous_word"], lambda n: (10 * torch.eye(n), torch.eye(n).roll(1, dims=1)))
    assert verdict.mistake == "too weak"
    assert "0.831" in verdict.text


def test_a_previous_word_head_may_shift_the_queries_instead():
    def shifted(n):
        return 40 * torch.diag(torch.ones(n - 1), -1), torch.eye(n)

    assert judge(TASK["previous_word"], shifted).solved


def test_a_causality_test_may_use_the_jacobian():
    def by_jacobian(attention, x):
        jacobian = torch.autograd.functional.jacobian(attention, x)
        return bool((jacobian.abs().sum((1, 3)).triu(1) < 1e-8).all())

    assert judge(TASK["is_causal"], by_jacobian).solved


def test_a_causality_test_that_uses_random_words_is_right():
    def by_noise(attention, x):
        for t in range(1, len(x)):
            other = torch.cat([x[:t], torch.randn_like(x[t:])])
            if not torch.equal(attention(x)[:t], attention(other)[:t]):
                return False
        return True

    assert judge(TASK["is_causal"], by_noise).solved
