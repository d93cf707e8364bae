"""Eleven models on which a test for leaks is judged: three honest ones and eight that read the future."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnkit.learn.answers import Answer, kind_of
from attnkit.learn.properties import largest_leak
from attnkit.learn.task import Draws
from attnkit.learn.tasks.parts import Parts, merge_by_reshape, past, shares, split_by_view
from attnkit.learn.wording import shape

_draw = Draws(140)


@dataclass(frozen=True, eq=False)
class Model:
    """An attention of 3 heads that maps words (len, 6) to (len, 12).

    Args:
        name: what it is called in a verdict.
        honest: whether no output depends on a later word.
        parts: the attention.
        matrices: the four matrices that it projects with.
    """

    name: str
    honest: bool
    parts: Parts
    matrices: tuple[Tensor, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Words (len, 6) to outputs (len, 12)."""
        return self.parts(x[None], *self.matrices, num_heads=3)[0]

    def leak(self, x: Tensor) -> tuple[int, int, float]:
        """The largest leak: an output, a later word, and how far the output moves with the word."""
        return largest_leak(self, x)


def _peek(length: int) -> Tensor:
    """Causal but for one cell: word 4 reads word 5. It shows only where a change begins at word 5."""
    keep = past(length)
    keep[4:5, 5:6] = True
    return keep


def _weigh(keep: Callable[[int], Tensor], fill: float = -torch.inf) -> Parts:
    return Parts(weigh=lambda scores: shares(scores, keep(scores.shape[-1]), fill))


def _average_before(scores: Tensor) -> Tensor:
    """Every word before counts the same, whatever is asked; word 0 has none and reads nothing."""
    return shares(torch.zeros_like(scores), past(scores.shape[-1], -1))


def _panel() -> tuple[Model, ...]:
    """Honest models first; each draws its own matrices."""
    plain = Parts()
    honest = {
        "plain causal attention": plain,
        "attention without a scale": replace(plain, divisor=lambda *_: 1.0),
        "the plain average of the words before": replace(plain, weigh=_average_before),
    }
    cheats = {
        "no mask": replace(plain, weigh=lambda scores: scores.softmax(-1)),
        "mask off by one": _weigh(lambda length: past(length, 1)),
        "heads merged by reshape": replace(plain, merge=merge_by_reshape),
        "heads split by view": replace(plain, split=split_by_view),
        "masked after the softmax": replace(
            plain, weigh=lambda scores: scores.softmax(-1) * past(scores.shape[-1])
        ),
        "hidden scores set to 0": _weigh(past, 0.0),
        "hidden scores set to -10": _weigh(past, -10.0),
        "a mask with one hole": _weigh(_peek),
    }
    return tuple(
        Model(
            name,
            name in honest,
            parts,
            (*(_draw(6, 12, spread=0.6) for _ in range(3)), _draw(12, 12, spread=0.4)),
        )
        for name, parts in (honest | cheats).items()
    )


PANEL = _panel()


class PanelAnswer(Answer):
    """A test: called with each model of the panel and x, it answers True or False."""

    def ask(self, function: Callable[..., object], inputs: tuple[object, ...]) -> object:
        """The eleven answers; where one is not True or False, that one alone."""
        _, x = inputs
        assert isinstance(x, Tensor)
        answers, seen = [], x
        for model in PANEL:
            seen = x.clone()
            answer = function(model, seen)
            if not _is_true_or_false(answer):
                return answer
            answers.append(bool(answer))
        # What the test wrote into its copy is the mistake of one model; leave it where the judge can see it.
        x.copy_(seen)
        return answers

    def trouble(self, raw: object, want: Tensor) -> str | None:
        """No True or False."""
        if isinstance(raw, list):
            return None
        if isinstance(raw, Tensor):
            return (
                f"A tensor {shape(raw)} of {raw.numel()} answers came back; one True or False is wanted for "
                "the whole model."
            )
        return f"True or False is wanted; {kind_of(raw)} came back."

    def praise(self, wants: list[Tensor]) -> str:
        """Counts the models."""
        return "Right: the 3 honest models pass, and all 8 cheats are caught."

    def tensor(self, raw: object, inputs: tuple[object, ...]) -> Tensor:
        """The eleven answers, 1 for True."""
        return torch.tensor(raw, dtype=torch.float64)


def _is_true_or_false(answer: object) -> bool:
    if isinstance(answer, Tensor):
        return answer.dtype == torch.bool and answer.numel() == 1
    return type(answer).__name__ in ("bool", "bool_")  # NumPy's too
