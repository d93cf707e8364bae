"""A call changes nothing but what it returns: not its inputs, not the module, not later results, nothing global.

What a first call makes for good, such as a table of positions, is no change: calls are watched from the second on.
"""

import io
import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.conformance.case import LENGTH, ROUNDING, Case, Check
from attnkit.conformance.findings import Finding
from attnkit.conformance.relations.reads import attempted
from attnkit.conformance.subject import Subject

Given = tuple[Tensor, Tensor | None, Tensor | None]
NOT_SEEN = 11  # tokens


def _given(case: Case, seed: int, *, batch: int = 2, masked: bool = False) -> Given:
    """Tokens, a memory where one is read, and a mask of keys where one is taken."""
    length = _length(case)
    x, memory = case.tokens(batch, length, seed=seed), case.memory(batch, length, seed=seed)
    keep = torch.ones((x if memory is None else memory).shape[:2], dtype=torch.bool)
    keep[0, -2:] = False
    return x, memory, keep if masked else None


def _length(case: Case) -> int:
    """A length that no other check gives, so that nothing is left of it; 7 where a target is made for that."""
    x, memory, before = case.tokens(2, NOT_SEEN), case.memory(2, NOT_SEEN), _settings()
    refused = attempted(case.untouched.copied(), x, memory=memory) is None
    _restore(before)
    return LENGTH if refused else NOT_SEEN


def _copies(given: Given) -> Given:
    x, memory, keep = given
    return x.clone(), None if memory is None else memory.clone(), None if keep is None else keep.clone()


def run_inputs(case: Case) -> Iterator[Finding]:
    """Tokens, memory and mask after a call, in both modes."""
    for training in (False, True):
        for masked in (False, True) if case.subject.takes_keep else (False,):
            given = _given(case, 40, masked=masked)
            kept, subject = _copies(given), case.untouched.copied(training=training)
            if attempted(subject, *given) is None:
                continue
            for name, before, after in zip(("tokens", "memory", "mask"), kept, given, strict=True):
                if before is None or after is None or torch.equal(before, after):
                    continue
                off = case.off(after.double(), before.double())
                mode = "training" if training else "evaluation"
                sentence = f"a call in {mode} changes its own {name}, by {off:.2g} of their size"
                yield Finding(
                    "arguments", "state-changed", sentence, off, path="training" if training else ""
                )
                return


def run_state(case: Case) -> Iterator[Finding]:
    """Buffers and parameters after a second call of the same sizes."""
    for training in (False, True):
        subject = case.untouched.copied(training=training)
        _called(subject, _given(case, 41))
        before = {name: tensor.detach().clone() for name, tensor in _held(subject.module, training).items()}
        _called(subject, _given(case, 42))
        changed = [
            name
            for name, tensor in _held(subject.module, training).items()
            if name not in before or not _same(before[name], tensor)
        ]
        if changed:
            mode = "training" if training else "evaluation"
            kind = "parameters" if changed[0] in dict(subject.module.named_parameters()) else "buffers"
            sentence = f"a call in {mode} changes the {kind} {', '.join(changed[:3])}"
            yield Finding("state", "state-changed", sentence, float(len(changed)), path=training * "training")
            return


def _held(module: nn.Module, training: bool) -> dict[str, Tensor]:
    """What a call may not change; in training, buffers may hold statistics."""
    return dict(module.named_parameters()) | ({} if training else dict(module.named_buffers()))


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.detach().nan_to_num())


def _called(subject: Subject, given: Given) -> Tensor:
    return subject(*_copies(given))


def run_later(case: Case) -> Iterator[Finding]:
    """A call after others against the first call of a copy."""
    given = _given(case, 43)
    first, again = (_called(case.untouched.copied(), given) for _ in range(2))
    case.need(case.off(again, first) == 0, "equal calls differ")
    before = {
        "a call with other tokens": _given(case, 44),
        "a call with more samples": _given(case, 45, batch=5),
        "an equal call": given,
    }
    for told, call in before.items():
        subject = case.untouched.copied()
        _called(subject, call)
        off = case.off(_called(subject, given), first)
        if off > ROUNDING:
            sentence = f"after {told}, a call gives {off:.2g} of its size else than it gives as the first"
            yield Finding("later_results", "state-changed", sentence, off, ROUNDING)
            return
    yield from _held_back(case, given, first)


def _held_back(case: Case, given: Given, first: Tensor) -> Iterator[Finding]:
    """An output stays what it was when the next is made."""
    subject = case.untouched.copied()
    output = _called(subject, given)
    _called(subject, _given(case, 44))
    off = case.off(output, first)
    if off > ROUNDING:
        sentence = (
            f"an output changes by {off:.2g} of its size when the next is made: both are the same memory"
        )
        yield Finding("later_results", "state-changed", sentence, off, ROUNDING)


def run_globals(case: Case) -> Iterator[Finding]:
    """The random state, the default dtype and the recording of gradients after a call."""
    given, subject = _given(case, 46), case.untouched.copied()
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = _settings()
        _called(subject, given)
        found.append(torch.get_rng_state())
        changed = [name for name, value in _settings().items() if value != before[name]]
        if changed:
            _restore(before)
            yield Finding("globals", "state-changed", f"a call changes {', '.join(changed)} of PyTorch")
            return
    if torch.equal(*found):
        sentence = "a call sets PyTorch's random state: after it, all that follows is drawn the same"
        yield Finding("globals", "state-changed", sentence)


def _settings() -> dict[str, Any]:
    return {
        "the default dtype": torch.get_default_dtype(),
        "the recording of gradients": torch.is_grad_enabled(),
        "the number of threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _restore(before: dict[str, Any]) -> None:
    torch.set_default_dtype(before["the default dtype"])
    torch.set_grad_enabled(before["the recording of gradients"])
    torch.set_num_threads(before["the number of threads"])
    torch.use_deterministic_algorithms(before["deterministic algorithms"])


def run_pickled(case: Case) -> Iterator[Finding]:
    """A module that was pickled in memory and read again."""
    given, subject = _given(case, 47), case.untouched.copied()
    first, again = (_called(case.untouched.copied(), given) for _ in range(2))
    case.need(case.off(again, first) == 0, "equal calls differ")
    held = io.BytesIO()
    try:
        pickle.dump(subject.module, held)
    except Exception as trouble:  # classes of a shell or of a function cannot be pickled
        case.need(False, f"it cannot be pickled: {type(trouble).__name__}")
    held.seek(0)
    module = pickle.load(held)
    off = case.off(_called(replace(subject, module=module), given), first)
    if off > ROUNDING:
        sentence = f"pickled and read again, a module gives {off:.2g} of its size else"
        yield Finding("pickled", "state-changed", sentence, off, ROUNDING, path="pickled")


CHECKS = (
    Check("arguments", "basic", run_inputs, "a call does not change its tokens, its memory or its mask"),
    Check("state", "basic", run_state, "a call changes no parameter, and no buffer in evaluation"),
    Check("later_results", "basic", run_later, "what a call gives does not depend on the calls before it"),
    Check("globals", "basic", run_globals, "a call leaves the random state and the settings of PyTorch"),
    Check("pickled", "full", run_pickled, "a module gives the same after it was pickled"),
)
