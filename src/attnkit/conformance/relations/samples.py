"""A sample is alone in its batch, and two equal calls in evaluation give equal outputs.

Each call of a comparison is the first of a fresh copy: what a call leaves behind is another fault.
"""

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.declared import LEVELS
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import BATCHES
from attnkit.conformance.relations.reads import Source, apart, attempted
from attnkit.conformance.relations.walking import BASE, PATHS, Path, walked
from attnkit.conformance.relations.watching import Dropping
from attnkit.conformance.subject import Subject


def run_samples(case: Case) -> Iterator[Finding]:
    """Each sample alone against the same in its batch."""
    x, memory = case.tokens(), case.memory()
    together = case.subject(x, memory=memory)
    case.need(case.off(together, case.subject(x, memory=memory)) == 0, "equal calls differ")
    for sample in range(x.shape[0]):
        alone = _alone(case, x, memory, sample)
        case.need(alone is not None, "it refuses a batch of one, which another check tells of")
        assert alone is not None  # for the type checker
        off = case.off(together[sample : sample + 1], alone)
        if off > ROUNDING:
            fault, why = _why(case, x, memory)
            sentence = f"sample {sample} moves by {off:.2g} of its size with the samples beside it{why}"
            yield Finding("samples", fault, sentence, off, ROUNDING, data={"sample": sample})
            return


def _alone(case: Case, x: Tensor, memory: Tensor | None, sample: int) -> Tensor | None:
    read = None if memory is None else memory[sample : sample + 1]
    found = attempted(case.subject, x[sample : sample + 1], memory=read)
    return found if found is not None and found.dim() == 3 else None


def _why(case: Case, x: Tensor, memory: Tensor | None) -> tuple[str, str]:
    """The fault behind samples that are mixed, and words that tell it."""
    if memory is None and _swapped(case, x):
        return (
            "batch-time-swapped",
            ": an output moves with its own place in other samples, and with no other place",
        )
    if _affine(case, x, memory):
        return "softmax-wrong-axis", ": alone it is an affine map of its tokens, as if every weight were 1"
    return "batch-crosstalk", ""


def _swapped(case: Case, x: Tensor) -> bool:
    """Whether outputs move with tokens at the same place in other samples, and with none at another place."""
    length = x.shape[1]
    places = torch.zeros(length, length, dtype=torch.bool)
    others = torch.zeros(length, dtype=torch.bool)
    base, other = case.subject(x), case.tokens(*x.shape[:2], seed=1)
    for t in range(length):
        changed = x.clone()
        changed[0, t] = other[0, t]
        far = apart(base, case.subject(changed)) > ROUNDING
        places[t] = far.any(0)
        others[t] = far[1:, t].any()
    return bool(others.any() and not places[~torch.eye(length, dtype=torch.bool)].any())


def _affine(case: Case, x: Tensor, memory: Tensor | None) -> bool:
    """Whether one sample alone is mapped as an affine function maps it, though its tokens move it."""
    one, two = x[:1], case.tokens(1, x.shape[1], seed=1)
    read, other = (None, None) if memory is None else (memory[:1], memory[1:2])
    calls: tuple[tuple[Tensor, Tensor | None], ...] = (
        (one, read),
        (two, other),
        (one + two, None if read is None or other is None else read + other),
        (torch.zeros_like(one), None if read is None else torch.zeros_like(read)),
    )
    first, second, both, none = (case.subject(tokens, memory=read) for tokens, read in calls)
    return case.off(both + none, first + second) <= ROUNDING < case.off(first, second)


def run_determinism(case: Case) -> Iterator[Finding]:
    """Two equal calls in evaluation, on every path."""
    for path in _paths(case):
        if path is not BASE and walked(case, path) is None:
            continue
        off = _off(case, path)
        if off is None or off == 0:
            continue
        fault, why = _why_random(case, path)
        with_path = "" if path is BASE else f", {path.name},"
        sentence = f"two equal calls in evaluation{with_path} differ by {off:.2g} of their size{why}"
        yield Finding("determinism", fault, sentence, off, 0.0, path="" if path is BASE else path.name)
        return


def _paths(case: Case) -> list[Path]:
    level = LEVELS.index(case.declared.level)
    return [BASE] + [path for path in PATHS if not path.training and LEVELS.index(path.level) <= level]


def _off(case: Case, path: Path, mode: Dropping | None = None) -> float | None:
    """How far the first calls of two copies are apart; None where the target refuses the path."""
    source = Source(case, case.declared.cross)
    keys = source.keys(path.batch, path.length, seed=30)
    keep = torch.ones(keys.shape[:2], dtype=torch.bool) if path.mask else None
    if keep is not None and path.mask == "some":
        keep[:, 1] = False
    x = keys if not source.memory else case.tokens(path.batch, seed=30)
    memory = keys if source.memory else None
    found = []
    for _ in range(2):
        subject = _copied(case, path)
        with torch.set_grad_enabled(path.grad), mode or nullcontext():
            # the random state goes on from call to call, so that what is drawn differs
            found.append(attempted(subject, x, memory=memory, keep=keep))
    if found[0] is None or found[1] is None:
        return None
    return case.off(found[0].detach(), found[1].detach())


def _copied(case: Case, path: Path) -> Subject:
    subject = case.untouched.copied()
    if path.change is not None:
        path.change(subject.module)
    return subject


def _why_random(case: Case, path: Path) -> tuple[str, str]:
    """Whether it is dropout that makes calls differ, and words that tell it."""
    without = Dropping(lambda drop: True)
    if _off(case, path, without) == 0 and without.seen:
        share = max(drop.probability for drop in without.seen)
        return "dropout-in-eval", f"; without a dropout of {share:g} they do not"
    if case.declared.dropout:
        return "dropout-in-eval", f"; dropout={case.declared.dropout:g} was declared, for training"
    return "nondeterministic", ""


CHECKS = (
    Check(
        "samples",
        "basic",
        run_samples,
        "a sample's output is the same alone and in a batch",
        BATCHES,
    ),
    Check("determinism", "basic", run_determinism, "two equal calls in evaluation give the same output"),
)
