"""Gradients are what a small step measures, for tokens, memory and each parameter, in both modes.

    (loss(a + h d) - loss(a - h d)) / 2h = gradient . d          loss = probe . output, in float64

Steps of several sizes tell how exact the measure is: where they disagree,
a rounding or a hard choice stands in the way.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.conformance.case import Case, Check, Skip
from attnkit.conformance.findings import Finding
from attnkit.conformance.relations.reads import attempted
from attnkit.conformance.subject import Subject

STEPS = (1e-3, 3e-4, 1e-4, 3e-5)
RELATIVE = 1e-3  # what is wrong is wrong by a factor; what is measured is right to 1e-6 and better
UNSURE = 20.0  # times what the steps disagree by
MOST = 24  # parameters that are looked at
SMALL = 1 / 3  # of the tokens: a step on a steep slope measures little


@dataclass(frozen=True)
class Measured:
    """A slope in one direction.

    Attributes:
        given: by autograd.
        stepped: by steps.
        unsure: how far steps may be off.
    """

    given: float
    stepped: float
    unsure: float

    @property
    def off(self) -> float:
        """The difference, as a part of the larger, beyond what steps may be off."""
        beyond = max(abs(self.given - self.stepped) - UNSURE * self.unsure, 0.0)
        return beyond / max(abs(self.given), abs(self.stepped), 1e-300)

    @property
    def blocked(self) -> bool:
        """Whether a step moves the output, and the gradient is exactly zero."""
        return self.given == 0 and abs(self.stepped) > UNSURE * self.unsure


class Slopes:
    """The slopes of one target in one mode.

    Args:
        case: the run.
        subject: a copy of the target.
        length: of the tokens.
    """

    def __init__(self, case: Case, subject: Subject, length: int = 7) -> None:
        self.case, self.subject = case, subject
        memory = case.memory(seed=50)
        self.leaves = {"the tokens": (SMALL * case.tokens(length=length, seed=50)).requires_grad_()}
        if memory is not None:
            self.leaves["the memory"] = (SMALL * memory).requires_grad_()
        own = [(n, p) for n, p in subject.module.named_parameters() if p.requires_grad]
        self.leaves |= dict(own[:MOST])
        self.probe = torch.randn(self._output().shape, generator=case.generator(51), dtype=torch.float64)
        with torch.no_grad():
            self.size = float((self._output() * self.probe).norm())

    def _output(self) -> Tensor:
        torch.manual_seed(self.case.declared.seed)  # so that dropout drops the same
        return self.subject(self.leaves["the tokens"], memory=self.leaves.get("the memory"))

    def loss(self) -> Tensor:
        """A number that each output has a part in."""
        return (self._output() * self.probe).sum()

    def gradients(self) -> dict[str, Tensor]:
        """By autograd, zeros where nothing reaches.

        Raises:
            Skip: the target has no backward pass.
        """
        with torch.enable_grad():
            loss = self.loss()
            leaves = list(self.leaves.values())
            if not loss.requires_grad:
                return {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
            try:
                found = torch.autograd.grad(loss, leaves, allow_unused=True)
            except RuntimeError as trouble:  # said aloud, so that nobody is misled
                raise Skip(f"autograd refuses: {str(trouble).splitlines()[0][:90]}") from trouble
        pairs = zip(self.leaves, leaves, found, strict=True)
        return {name: torch.zeros_like(leaf) if one is None else one for name, leaf, one in pairs}

    @torch.no_grad()
    def measured(self, name: str, gradient: Tensor, seed: int) -> Measured:
        """The slope of one leaf in one direction."""
        leaf, generator = self.leaves[name], self.case.generator(seed)
        direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
        direction *= leaf.detach().double().std(correction=0).clamp_min(0.1)
        found = [self._stepped(leaf, direction.to(leaf), step) for step in STEPS]
        apart = sorted(abs(a - b) for a, b in itertools.pairwise(found))
        best = min(range(len(STEPS) - 1), key=lambda i: abs(found[i] - found[i + 1])) + 1
        noise = 1e-9 * self.size  # of sums in float64, by the smallest step
        return Measured(float((gradient.double() * direction).sum()), found[best], apart[1] + noise)

    def _stepped(self, leaf: Tensor, direction: Tensor, step: float) -> float:
        kept, ends = leaf.detach().clone(), []
        for sign in (1, -1):
            leaf.copy_(kept + sign * step * direction)
            ends.append(self.loss().item())
        leaf.copy_(kept)
        return (ends[0] - ends[1]) / (2 * step)


def run_gradients(case: Case) -> Iterator[Finding]:
    """Each leaf in evaluation, then in training with the same draws."""
    for training in (False, True):
        slopes = Slopes(case, case.untouched.copied(training=training))
        steady = _repeats(slopes)
        case.need(training or steady, "equal calls differ")
        found = _compared(slopes, "training" if training else "") if steady else None
        if found is not None:
            yield found
            return


def _repeats(slopes: Slopes) -> bool:
    with torch.no_grad():
        one, two = slopes.loss(), slopes.loss()
    return torch.equal(one, two)


def _compared(slopes: Slopes, path: str) -> Finding | None:
    gradients = slopes.gradients()
    infinite = [name for name, one in gradients.items() if not one.isfinite().all()]
    if infinite:
        sentence = f"the gradient of {', '.join(infinite[:3])} is not finite, though outputs are"
        return Finding("gradients", "gradient-wrong", sentence, float("inf"), RELATIVE, path=path)
    wrong: dict[str, Measured] = {}
    for seed, (name, gradient) in enumerate(gradients.items()):
        one = slopes.measured(name, gradient, 60 + seed)
        if one.off > RELATIVE:
            wrong[name] = one
    return _finding(wrong, path) if wrong else None


def _finding(wrong: dict[str, Measured], path: str) -> Finding:
    blocked = [name for name, one in wrong.items() if one.blocked]
    data = {name: (one.given, one.stepped) for name, one in wrong.items()}
    if blocked:
        one = wrong[blocked[0]]
        sentence = (
            f"no gradient reaches {', '.join(blocked[:3])}, though a small step of {blocked[0]} "
            f"moves the output with a slope of {one.stepped:.3g}"
        )
        return Finding("gradients", "gradient-blocked", sentence, 0.0, RELATIVE, path=path, data=data)
    name, one = max(wrong.items(), key=lambda item: item[1].off)
    sentence = (
        f"the gradient of {name} gives a slope of {one.given:.4g} where a small step measures {one.stepped:.4g}"
        f"{f' (also: {len(wrong) - 1} others)' if len(wrong) > 1 else ''}"
    )
    return Finding("gradients", "gradient-wrong", sentence, one.off, RELATIVE, path=path, data=data)


def run_gradients_at_rest(case: Case) -> Iterator[Finding]:
    """Gradients where tokens are equal, or zero: roots and norms have none there."""
    for told, size in (("equal tokens", 1.0), ("tokens of zeros", 0.0)):
        subject = case.untouched.copied()
        x = (size * case.tokens(seed=52)[:, :1].expand(-1, 7, -1)).clone().requires_grad_()
        memory = case.memory(seed=52)
        with torch.enable_grad():
            output = attempted(subject, x, memory=memory)
            if output is None or not output.isfinite().all() or not output.requires_grad:
                continue
            if attempted(lambda loss: loss.backward() or loss, output.sum()) is None:
                continue
        named = {"the tokens": x} | dict(subject.module.named_parameters())
        bad = [n for n, leaf in named.items() if leaf.grad is not None and not leaf.grad.isfinite().all()]
        if bad:
            sentence = f"with {told}, outputs are finite and the gradient of {', '.join(bad[:3])} is not"
            yield Finding("gradients_at_rest", "gradient-wrong", sentence, float(len(bad)), path=told)
            return


CHECKS = (
    Check(
        "gradients",
        "basic",
        run_gradients,
        "a gradient is what a small step measures, for tokens, memory and parameters, in both modes",
    ),
    Check(
        "gradients_at_rest", "full", run_gradients_at_rest, "equal tokens, and zeros, have finite gradients"
    ),
)
