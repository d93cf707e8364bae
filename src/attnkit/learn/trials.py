"""One call of a function on one input of an exercise, and everything that can be known from it."""

from dataclasses import dataclass

from torch import Tensor

from attnkit.learn.agreement import close
from attnkit.learn.answers import Answer
from attnkit.learn.calling import Failure, copies, failure_of, guarded
from attnkit.learn.task import Function, Sample


@dataclass(frozen=True, eq=False)
class Trial:
    """What came of one call.

    Args:
        inputs: the arguments, as they were.
        after: the arguments that the function saw, as it left them.
        raw: what it returned.
        tensor: the answer in the form that is compared; None where there is none.
        failure: the error, if one was raised.
        trouble: what is wrong with the answer before any number is compared.
    """

    inputs: tuple[object, ...]
    after: tuple[object, ...]
    raw: object = None
    tensor: Tensor | None = None
    failure: Failure | None = None
    trouble: str | None = None

    def agrees(self, other: "Trial") -> bool:
        """Whether two functions did the same here: both failed, or both gave the same numbers."""
        if self.tensor is None or other.tensor is None:
            return self.tensor is None and other.tensor is None
        return close(self.tensor, other.tensor)


def tried(
    answer: Answer,
    function: Function,
    inputs: tuple[object, ...],
    want: Tensor | None,
    *,
    aloud: bool = False,
) -> Trial:
    """Call `function` on copies of `inputs`; with `aloud`, what it prints is shown."""
    seen = copies(inputs)
    raw: object = None
    try:
        with guarded(aloud=aloud):
            raw = answer.ask(function, seen)
        trouble = None if want is None else answer.trouble(raw, want)
        tensor = None if trouble else answer.tensor(raw, inputs)
    except Exception as error:
        return Trial(inputs, seen, raw, failure=failure_of(error))
    return Trial(inputs, seen, raw, tensor, trouble=trouble)


def sample_of(
    answer: Answer, function: Function, trial: Trial, want: Tensor, names: tuple[str, ...]
) -> Sample:
    """The sample that sentences and properties look at; `trial` has a tensor."""

    def call(*inputs: object) -> Tensor:
        with guarded():
            return answer.tensor(answer.ask(function, copies(inputs)), inputs)

    assert trial.tensor is not None
    return Sample(trial.inputs, trial.tensor, want, call, changed_inputs(trial, names))


def changed_inputs(trial: Trial, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the arguments into which the function wrote."""
    return tuple(
        name
        for name, before, after in zip(names, trial.inputs, trial.after, strict=True)
        if isinstance(before, Tensor) and isinstance(after, Tensor) and not close(before, after)
    )
