"""The verdict on a reader's function, in four steps.

1. Before any number: nothing written or returned, an error, no tensor, another dtype or shape.
2. Equal to the right answer on every input; then what keeps it from being right all the same (see almost.py).
3. Equal on every input to a mistake that has a name: its sentence.
4. Otherwise what `attnkit.check` says of it, the strongest property that fails, or the first entry that differs.
"""

import inspect
import re

import torch
from torch import Tensor

from attnkit.learn.agreement import close, same_entries
from attnkit.learn.almost import almost_right, other_answer
from attnkit.learn.answers import kind_of
from attnkit.learn.calling import Failure, is_stub, untouched
from attnkit.learn.diagnosing import diagnosis
from attnkit.learn.task import Function, Property, Sample, Task, Wrong
from attnkit.learn.trials import Trial, sample_of, tried
from attnkit.learn.verdict import Kind, Verdict
from attnkit.learn.wording import count, given, number, shape


def judge(task: Task, function: object) -> Verdict:
    """The verdict on `function`, which need not even be one; nothing it does reaches beyond the call."""
    misfit = _misfit(task, function)
    if misfit:
        return Verdict(task.name, "trouble", misfit)
    assert callable(function)
    with untouched():
        return _Attempt(task, function).outcome()


def _unwritten(task: Task) -> Verdict:
    text = f'Not written yet. {task.statement}\nA first step: learn.hint("{task.name}")'
    return Verdict(task.name, "unwritten", text)


def _misfit(task: Task, function: object) -> str | None:
    """Why `function` cannot even be called, if it cannot."""
    if inspect.isclass(function):
        return (
            f"A function is wanted, and this is {kind_of(function)}: make an instance that can be called, or "
            "write a function."
        )
    if not callable(function):
        return (
            f"A function is wanted, and this is {kind_of(function)}: hand over the name of your function "
            "alone, without parentheses behind it."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*task.inputs)
    except TypeError:
        names = ", ".join(task.inputs)
        return (
            f"Your function is called with {count(len(task.inputs), 'argument')}, {task.name}({names}); yours takes "
            f"{signature}."
        )
    return None


class _Attempt:
    """A function tried on every input of an exercise."""

    def __init__(self, task: Task, function: Function) -> None:
        self.task, self.function = task, function
        answers = [tried(task.answer, task.right, inputs, None).tensor for inputs in task.cases]
        self.wants = [answer for answer in answers if answer is not None]
        assert len(self.wants) == len(task.cases)
        self.trials = [
            tried(task.answer, function, inputs, want, aloud=index == 0)
            for index, (inputs, want) in enumerate(zip(task.cases, self.wants, strict=True))
        ]
        self.samples = [
            sample_of(task.answer, function, trial, want, task.inputs)
            for trial, want in zip(self.trials, self.wants, strict=True)
            if trial.tensor is not None
        ]

    def outcome(self) -> Verdict:
        """The verdict, by the four steps."""
        first = self.trials[0]
        untouched_stub = first.raw is None and not first.failure and is_stub(self.function)
        if untouched_stub or first.raw is Ellipsis or _not_implemented(first):
            return _unwritten(self.task)
        if any(trial.trouble for trial in self.trials):
            return self._says("trouble", self._trouble())
        if self._right():
            fault = almost_right(self.task, self.function, self.trials, self.wants)
            praise = self.task.answer.praise(self.wants)
            return self._says("almost", fault) if fault else self._says("right", praise)
        named = self._named()
        if named:
            return named
        failed = self._failure() or self._other_shape()
        return self._says("trouble", failed) if failed else self._says("unnamed", self._unnamed())

    def _says(self, kind: Kind, text: str) -> Verdict:
        return Verdict(self.task.name, kind, text)

    def _trouble(self) -> str:
        if any(trial.raw is None and not trial.failure for trial in self.trials):
            return "Nothing came back: is `return` missing, perhaps on one of the ways through the function?"
        return next(trial.trouble for trial in self.trials if trial.trouble)

    def _accepts(self, sample: Sample) -> bool:
        return self.task.accepts(sample) if self.task.accepts else close(sample.got, sample.want)

    def _right(self) -> bool:
        return len(self.samples) == len(self.trials) and all(self._accepts(sample) for sample in self.samples)

    def _named(self) -> Verdict | None:
        for wrong in self.task.wrongs:
            text = _said(wrong.says, self._first_wrong()) if self._is(wrong) else None
            if text:
                return Verdict(self.task.name, "named", text + self._stops(), mistake=wrong.name)
        return None

    def _is(self, wrong: Wrong) -> bool:
        if wrong.match:
            return len(self.samples) == len(self.trials) and all(
                wrong.match(sample) for sample in self.samples
            )
        return all(
            trial.agrees(tried(self.task.answer, wrong.does, trial.inputs, None)) for trial in self.trials
        )

    def _first_wrong(self) -> Sample:
        return next((sample for sample in self.samples if not self._accepts(sample)), self.samples[0])

    def _given(self, inputs: tuple[object, ...]) -> str:
        return given(self.task.inputs, inputs)

    def _stops(self) -> str:
        """On which input a named mistake raises an error, if on any."""
        failed = next((trial for trial in self.trials if trial.failure), None)
        if failed is None or failed.failure is None:
            return ""
        return f" (It stops at {self._given(failed.inputs)}: {failed.failure.text})"

    def _failure(self) -> str | None:
        failed = next((trial for trial in self.trials if trial.failure), None)
        if failed is None or failed.failure is None:
            return None
        given_it = self._given(failed.inputs)
        advice = _advice(failed.failure, dict(zip(self.task.inputs, failed.inputs, strict=True)))
        return f"{self._so_far()}{failed.failure.text} It was given {given_it}.{advice}"

    def _other_shape(self) -> str | None:
        for sample in self.samples:
            if sample.got.shape != sample.want.shape:
                return (
                    f"{self._so_far()}Shape {shape(sample.got)} came back for {self._given(sample.inputs)}; it "
                    f"should be {shape(sample.want)}."
                )
        return None

    def _so_far(self) -> str:
        """How many inputs the answer is right on, where it is right on any."""
        right = sum(self._accepts(sample) for sample in self.samples)
        return f"Right on {right} of {count(len(self.trials), 'input')}. Then: " if right else ""

    def _unnamed(self) -> str:
        again = other_answer(self.task, self.function, self.trials[0])
        if again:
            return f"Not right, and {again}"
        sample = self._first_wrong()
        told = diagnosis(self.task, self.function, sample)
        if told:
            return f"{self._so_far()}{told}"
        for holds in self.task.properties:
            broken = _said(holds, sample)
            if broken:
                return f"{self._so_far()}{broken}"
        difference = _first_difference(sample.got, sample.want)
        return f"{self._so_far()}{difference} Input: {self._given(sample.inputs)}."


def _not_implemented(trial: Trial) -> bool:
    return trial.failure is not None and isinstance(trial.failure.error, NotImplementedError)


def _advice(failure: Failure, inputs: dict[str, object]) -> str:
    """A pointer for the errors whose message says little to a beginner."""
    message = str(failure.error)
    if "leaf Variable" in message:
        return " The weights of a layer are watched for the gradient: copy inside `with torch.no_grad():`."
    if "must match the size" in message:
        return _misfit_of_axes(failure, inputs)
    if "dtype" in message or ("Float" in message and "Double" in message):
        return " The inputs are float64: a tensor that you make yourself should take its dtype from them."
    if isinstance(failure.error, RecursionError):
        return " Your function calls itself."
    return ""


def _misfit_of_axes(failure: Failure, inputs: dict[str, object]) -> str:
    """A pointer where two shapes do not fit: `.T` of more than two axes, or a row that should be a column."""
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    if re.search(r"\.T\b", failure.source) and any(value.ndim > 2 for value in tensors.values()):
        return " .T turns all axes round; .mT exchanges the last two alone."
    sizes = re.findall(r"\((\d+)\)", str(failure.error))
    for name, value in tensors.items():
        if value.ndim == 1 and str(len(value)) in sizes:
            return (
                f" `{name}` lies down as a row of {len(value)}; to meet each of the others it has to stand as a "
                f"column, {name}[:, None]."
            )
    return ""


def _said(says: Property, sample: Sample) -> str | None:
    """The sentence about `sample`; none where the reader's function, called once more for it, fails."""
    try:
        return says(sample)
    except Exception:
        return None


def _first_difference(got: Tensor, want: Tensor) -> str:
    agree = same_entries(got, want)
    if want.dtype == torch.bool and not agree.any():
        return "True and False are exchanged everywhere."
    times = (got * want).sum() / (want * want).sum()
    if want.dtype != torch.bool and times != 0 and close(got, times * want):
        return f"Every number is {number(times)} times the right one."
    place = (~agree).nonzero()[0].tolist()
    index = tuple(place)
    where = f"entry {place}" if place else "the number"
    mine, right = number(got[index]), number(want[index])
    if mine == right:
        mine, right = repr(float(got[index])), repr(float(want[index]))
    return (
        f"{int(agree.sum())} of {agree.numel()} numbers are right. The first that is not, {where}: {mine}, "
        f"not {right}."
    )
