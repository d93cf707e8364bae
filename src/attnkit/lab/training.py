"""The loop of learning: AdamW, one random batch a step, shown as it goes, and broken off and taken up at any step.

The learning rate rises for `warmup` steps and then falls with the root of the step. It does not depend on how many
steps there will be, so that a run of 300 steps that goes on to 600 is the run of 600.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from attnkit.errors import OptionError
from attnkit.lab.checkpoint import Saved
from attnkit.lab.interrupts import Interrupts
from attnkit.lab.progress import Progress
from attnkit.viewer import Picture, curves

SAVED_EVERY_SECONDS = 60.0
Loss = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a run learns.

    Attributes:
        folder: where it keeps its checkpoint.
        steps: how many there are to be made, those of the checkpoint included.
        learning_rate: the highest.
        warmup: steps until the learning rate is highest.
        weight_decay: of matrices; vectors are left alone.
        clip: the longest gradient.
        measured_every: steps between two looks at the loss that is held out.
        seed: of the batches, and of what the model drops.
        fresh: whether a checkpoint in the folder is passed over.

    Raises:
        OptionError: a number means nothing.
    """

    folder: Path
    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.1
    clip: float = 1.0
    measured_every: int = 50
    seed: int = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "warmup", "measured_every"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise OptionError(
                    where="lab",
                    what=f"{name} is 1, 2, 3, ...; got {getattr(self, name)!r}",
                    fix=f"{name}=100",
                )

    @property
    def checkpoint(self) -> Path:
        """Where the run is kept."""
        return self.folder / "checkpoint.safetensors"

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.learning_rate * min((step + 1) / self.warmup, (self.warmup / (step + 1)) ** 0.5)


@dataclass(frozen=True)
class History:
    """What a run has learned by.

    Attributes:
        loss: of each step's batch.
        held_out: of what it never learns from, each `measured_every` steps; empty where nothing is held out.
        at: the step of each of those.
    """

    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    def picture(self) -> Picture:
        """Both losses over the steps, that of batches as the mean of the steps between two looks."""
        looks = self.at or [0, len(self.loss)]
        means = [mean(self.loss[start:end] or self.loss[:1]) for start, end in pairwise([0, *looks])]
        lines = {"learned from": torch.tensor(means)} | (
            {"held out": torch.tensor(self.held_out)} if self.at else {}
        )
        return curves(lines, x=looks, xlabel="step", ylabel="loss", title="How the loss fell")


def train(
    model: nn.Module,
    loss: Loss,
    plan: Plan,
    *,
    held_out: Callable[[], Tensor] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> History:
    """Make the steps of a plan, from the checkpoint in its folder if there is one.

    Args:
        model: what learns; in the end it is in eval mode.
        loss: of a batch that it draws with the generator it is given; it calls the model.
        plan: how.
        held_out: the loss of what the model never learns from; called in eval mode, without gradients.
        settings: what the run is made of, in words and numbers; a checkpoint with others is refused.

    Returns:
        The losses.

    Raises:
        CheckpointError: there is a checkpoint, and it cannot be read.
        OptionError: it is of a run with other settings, or the loss is no number any more.
        SystemExit: with 130, after Ctrl-C; a checkpoint is written.
    """
    saved = _begun(model, plan, settings or {})
    with Interrupts() as asked, Progress(saved.step, plan.steps) as progress:
        progress.tell_start(plan.checkpoint)
        _run(saved, loss, plan, held_out, (asked, progress))
    model.eval()
    numbers = saved.numbers
    return History(numbers["loss"], numbers["held_out"], [int(step) for step in numbers["at"]])


def _begun(model: nn.Module, plan: Plan, settings: Mapping[str, Any]) -> Saved:
    torch.manual_seed(plan.seed)
    saved = Saved(
        model,
        AdamW(_groups(model, plan.weight_decay), lr=plan.learning_rate, betas=(0.9, 0.98)),
        torch.Generator().manual_seed(plan.seed),
        settings=dict(settings) | _told(plan),
        numbers={"loss": [], "held_out": [], "at": []},
    )
    if plan.checkpoint.exists() and not plan.fresh:
        saved.read(plan.checkpoint)
    return saved


def _run(
    saved: Saved,
    loss: Loss,
    plan: Plan,
    held_out: Callable[[], Tensor] | None,
    watched: tuple[Interrupts, Progress],
) -> None:
    (asked, progress), written = watched, time.monotonic()
    if held_out is not None and saved.step == 0:
        _measure(saved, held_out, progress)
    while saved.step < plan.steps:
        value = _step(saved, loss, plan)
        progress.step(value)
        if held_out is not None and (saved.step % plan.measured_every == 0 or saved.step == plan.steps):
            _measure(saved, held_out, progress)
        if asked.to_stop:
            saved.write(plan.checkpoint)
            progress.tell_stop(plan.checkpoint)
            raise SystemExit(130)  # what shells expect of a program that Ctrl-C ended
        if time.monotonic() - written > SAVED_EVERY_SECONDS:
            saved.write(plan.checkpoint)
            written = time.monotonic()
    saved.write(plan.checkpoint)


def _step(saved: Saved, loss: Loss, plan: Plan) -> float:
    saved.model.train()
    for group in saved.optimizer.param_groups:
        group["lr"] = plan.rate(saved.step)
    value = loss(saved.generator)
    if not value.isfinite():
        raise OptionError(
            where="lab",
            what=f"the loss of step {saved.step + 1} is {value.item()}",
            fix=f"a lower learning_rate than {plan.learning_rate}, or a longer warmup than {plan.warmup}",
        )
    saved.optimizer.zero_grad(set_to_none=True)
    value.backward()
    nn.utils.clip_grad_norm_(saved.model.parameters(), plan.clip)
    saved.optimizer.step()
    saved.step += 1
    saved.numbers["loss"].append(value.item())
    return value.item()


def _measure(saved: Saved, held_out: Callable[[], Tensor], progress: Progress) -> None:
    saved.model.eval()
    with torch.no_grad():
        value = held_out().item()
    saved.numbers["held_out"].append(value)
    saved.numbers["at"].append(float(saved.step))
    progress.tell(saved.step, (saved.numbers["loss"] or [value])[-1], value)


def _groups(model: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices, which decay, and vectors, which do not."""
    parameters = list(model.parameters())
    return [
        {"params": [one for one in parameters if one.dim() > 1], "weight_decay": decay},
        {"params": [one for one in parameters if one.dim() < 2], "weight_decay": 0.0},
    ]


def _told(plan: Plan) -> dict[str, Any]:
    """What of a plan makes it another run; more steps do not."""
    names = ("learning_rate", "warmup", "weight_decay", "clip", "measured_every", "seed")
    return {name: getattr(plan, name) for name in names}
