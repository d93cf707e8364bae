"""`check`: every check of a level, on a copy of the target, and the report."""

import time
from dataclasses import replace
from typing import Unpack

import torch

from attnkit.conformance.adapters import subject_of, told_of
from attnkit.conformance.case import Case, Check, Skip
from attnkit.conformance.comparing import compared_with
from attnkit.conformance.declared import Declared, Said, declared_by, explicit
from attnkit.conformance.described import in_words
from attnkit.conformance.diagnosis import diagnosed
from attnkit.conformance.findings import Finding
from attnkit.conformance.guarding import LIMITS_SECONDS, OutOfTime, held_back, limited, put_back
from attnkit.conformance.reference import Reference
from attnkit.conformance.relations import CHECKS
from attnkit.conformance.report import Report
from attnkit.conformance.subject import Subject, TargetError
from attnkit.errors import unknown_name

Made = tuple[list[Finding], tuple[str, ...], dict[str, str]]


@explicit
def check(target: object, **said: Unpack[Said]) -> Report:
    """Look for silent faults in a target.

    Args:
        target: an `nn.Module` that maps (batch, len, d_in) to (batch, len, d_out), or to a tuple that begins with
            that; or a function of query, key and value on heads.
        said: what it is said to be, the attributes of `conformance.Declared`: d_in, causal, num_heads, ...

    Returns:
        What was found. The target is as it was, and so are random states and PyTorch's modes. What it prints, and its
        warnings, are held back.

    Raises:
        TargetError: it cannot be called; the message names the adapter to write.
        OptionError: a value means nothing, or weights of a reference find no partner in the target.
        UnknownNameError: there is no such argument, level, kind of positions, check or mechanism.

    Example:
        >>> from attnkit import Attention
        >>> check(Attention(24, 4, mechanism="causal"), causal=True).ok
        True
    """
    began, declared = time.perf_counter(), declared_by(said)
    _check_expected(declared)
    with put_back(), held_back() as printed:
        torch.manual_seed(declared.seed)
        declared = told_of(target, declared)
        case = Case(subject_of(target, declared), declared)
        _try_once(case)
        if declared.reference is not None:
            case.facts["reference"] = compared_with(case, Reference.of(declared.reference))
        made = _made(case)
        case.facts["printed"] = printed.written
        return _reported(case, made, began)


def _reported(case: Case, made: Made, began: float) -> Report:
    findings, passed, skipped = made
    known = case.declared.expected
    expected = tuple(finding for finding in findings if finding.check in known)
    rest = tuple(finding for finding in findings if finding.check not in known)
    fault, confidence, sentence = diagnosed(rest, case.subject.module)
    return Report(
        target=case.subject.name,
        findings=rest,
        fault=fault,
        confidence=confidence,
        diagnosis=sentence,
        passed=passed,
        skipped=skipped,
        expected=expected,
        described=in_words(case) + (", prints while it runs (held back)" if case.facts["printed"] else ""),
        seconds=time.perf_counter() - began,
    )


def _made(case: Case) -> Made:
    findings: list[Finding] = []
    passed: list[str] = []
    skipped: dict[str, str] = {}
    limit = case.declared.limit_seconds or LIMITS_SECONDS[case.declared.level]
    case = replace(case, subject=limited(case.subject, limit))
    for one in (check for check in CHECKS if check.is_asked(case.declared)):
        found, reason = _run(one, case, limit)
        findings += found
        if reason:
            skipped[one.name] = reason
        elif not found:
            passed.append(one.name)
    return findings, tuple(passed), skipped


def _run(one: Check, case: Case, limit: float) -> tuple[list[Finding], str]:
    """What a check found, and why it ended early; "" where it did not."""
    found: list[Finding] = []
    fresh = replace(case, subject=case.subject.copied())  # what calls leave behind is not the next check's
    try:
        with put_back():
            for finding in one.run(fresh):
                found.append(finding)  # noqa: PERF402, what was found before the end counts
    except Skip as reason:
        return found, str(reason)
    except OutOfTime:
        return found, f"{limit:g} seconds are over; limit_seconds sets how long all checks may take"
    except Exception as trouble:  # whatever a strange target makes of a check
        return found, f"it stopped with {type(trouble).__name__}: {trouble}"
    return found, ""


def _try_once(case: Case) -> None:
    """One plain call before all checks, so that a target that cannot be called at all is refused in words."""
    subject: Subject = case.subject.copied()
    x = case.tokens()
    try:
        with put_back():
            output = subject(x, memory=case.memory())
    except TargetError:
        raise
    except Exception as trouble:  # whatever the target raises
        raise TargetError(
            where="check",
            what=f"{subject.name} raised {type(trouble).__name__} for x {tuple(x.shape)} in float64: {trouble}",
            fix=_other_call(case),
        ) from trouble
    if output.shape[:-1] != x.shape[:-1]:
        raise TargetError(
            where="check",
            what=f"{subject.name} gives {tuple(output.shape)} for x {tuple(x.shape)}; it is (batch, len, d_out)",
            fix="check(module, call=lambda module, x, memory, keep, cache: module(x.transpose(0, 1)).transpose(0, 1))",
        )
    if not output.isfinite().any():
        raise TargetError(
            where="check",
            what=f"{subject.name} gives no finite number for x {tuple(x.shape)}, so that nothing can be compared",
            fix="look for numbers that are not set (torch.empty), and for a mask that hides every token",
        )


def _other_call(case: Case) -> str:
    """What to write where a call fails: dtypes where float32 goes well, else a call of one's own."""
    single = case.subject.copied(dtype=torch.float32)
    memory = case.memory()
    try:
        with put_back():
            single(case.tokens().float(), memory=None if memory is None else memory.float())
    except Exception:  # whatever the target raises
        return "check(module, d_in=..., call=lambda module, x, memory, keep, cache: module(...))"
    return "in float32 it runs: make new tensors in the dtype of x, such as torch.zeros(..., dtype=x.dtype)"


def _check_expected(declared: Declared) -> None:
    names = {one.name for one in CHECKS}
    for name in declared.expected:
        if name not in names:
            raise unknown_name("check", "check", name, names)
