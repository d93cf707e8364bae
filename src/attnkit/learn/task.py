"""What an exercise is: what to write, on which inputs it is judged, and which mistakes have a name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attnkit.learn.answers import Answer, TensorAnswer

Function = Callable[..., object]
OnHeads = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Sample:
    """One input of an exercise with what came back: what sentences and properties look at.

    Args:
        inputs: the arguments, as they were before the call.
        got: the reader's answer as a tensor.
        want: the right answer, in the same form.
        call: the reader's function; takes arguments like `inputs` and returns the answer as a tensor.
        changed: names of the arguments into which the function wrote.
    """

    inputs: tuple[object, ...]
    got: Tensor
    want: Tensor
    call: Callable[..., Tensor]
    changed: tuple[str, ...] = ()

    def tensor(self, index: int) -> Tensor:
        """Argument `index`, which is a tensor."""
        value = self.inputs[index]
        assert isinstance(value, Tensor)
        return value

    def integer(self, index: int) -> int:
        """Argument `index`, which is a whole number."""
        value = self.inputs[index]
        assert isinstance(value, int)
        return value


Property = Callable[[Sample], str | None]


@dataclass(frozen=True, eq=False)
class Wrong:
    """A wrong answer that has a name.

    Args:
        name: what the mistake is called.
        does: the mistake, written out as a function.
        says: from the first sample that is wrong, the sentence: what the function did, a number, a pointer.
        match: recognises the mistake in a sample; without it, all answers must equal those of `does`.
    """

    name: str
    does: Function
    says: Callable[[Sample], str]
    match: Callable[[Sample], bool] | None = None


@dataclass(frozen=True, eq=False)
class Whole:
    """How the function of an exercise becomes attention that `attnkit.check` takes.

    Args:
        setting: where it is tried, as the beginning of a sentence.
        around: from the function, a module, or a function of query, key and value on heads.
        said: what `check` is told of it.
    """

    setting: str
    around: Callable[[Function], object]
    said: Mapping[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """An exercise.

    Args:
        name: the name by which `learn.exercise` knows it.
        section: the section of the tutorial that it belongs to.
        stars: how hard it is, 1 to 3.
        core: whether it is one of the eight that carry the story.
        signature: the call and what comes back, as the reader is told.
        statement: what to write, in one or two sentences.
        cases: the inputs of each call, in the order in which they are tried.
        right: a right answer, as a function.
        wrongs: the mistakes that have a name, the most telling first.
        hints: a first step, and one that nearly gives it away.
        solution: the code of a right answer.
        answer: what kind of thing the function returns.
        properties: what holds for a right answer, the strongest first; each gives a sentence where it fails.
        accepts: recognises a right answer in a sample; without it, the answer must equal that of `right`.
        whole: the attention that the answer is, or a part of, for what `attnkit.check` says of other mistakes.
    """

    name: str
    section: int
    stars: int
    core: bool = False
    signature: str
    statement: str
    cases: tuple[tuple[object, ...], ...]
    right: Function
    wrongs: tuple[Wrong, ...]
    hints: tuple[str, str]
    solution: str
    answer: Answer = field(default_factory=TensorAnswer)
    properties: tuple[Property, ...] = ()
    accepts: Callable[[Sample], bool] | None = None
    whole: Whole | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the arguments, as in the signature."""
        inside = self.signature.partition("(")[2].partition(")")[0]
        return tuple(name.strip() for name in inside.split(","))


class Draws:
    """Numbers for inputs, from a generator of their own: the reader's random numbers stay as they are.

    Example:
        >>> Draws(1)(2, 3).shape
        torch.Size([2, 3])
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *sizes: int, spread: float = 1.5) -> Tensor:
        """Normal numbers, float64; a spread of 1.5 makes weights peaked, and mistakes visible."""
        return spread * torch.randn(*sizes, generator=self._generator, dtype=torch.float64)

    def uniform(self, *sizes: int) -> Tensor:
        """Uniform numbers in [0, 1), in float64, of the given sizes."""
        return torch.rand(*sizes, generator=self._generator, dtype=torch.float64)
