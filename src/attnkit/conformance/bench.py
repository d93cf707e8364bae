"""How many planted faults `check` finds, and how many it calls by their name: the checker is checked too.

    found   the report has a finding of any kind
    named   the fault of the report is the one that was planted, or another name that is right for it as well

The mutants are in tests/mutants: right attention with one step done wrong. The package does not hold them.
"""

import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attnkit.conformance.running import check
from attnkit.errors import AttentionError, unknown_name


class MutantsError(AttentionError):
    """There are no mutants to be had."""


@dataclass(frozen=True)
class Mutant:
    """Right attention with one thing done wrong.

    Attributes:
        name: configuration and fault, such as "causal/softmax-over-queries".
        fault: what `check` should call it; None for right attention.
        make: makes the target.
        said: what `check` is told of it.
        source: where it was seen in public code, "owner/repository#thread" on GitHub; "" where it was not.
        also: other names that are right for it as well, for what nobody could tell apart.
    """

    name: str
    fault: str | None
    make: Callable[[], Any]
    said: Mapping[str, Any]
    source: str = ""
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What `check` said of one mutant.

    Attributes:
        mutant: which.
        seed: of its parameters, and of all inputs.
        fault: what the report calls it; None where nothing was found.
        told: the sentence of the report, or of what stopped it.
        seconds: how long it took.
    """

    mutant: Mutant
    seed: int
    fault: str | None
    told: str
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether the report calls it by the name that it was planted under."""
        return self.fault == self.mutant.fault

    @property
    def named(self) -> bool:
        """Whether the report calls it by a name that is right."""
        return self.exact or self.fault in self.mutant.also


def outcome(mutant: Mutant, *, level: str = "full", seed: int = 0) -> Outcome:
    """Make one mutant and check it; what stops the check counts as not found, for a right target could stop it too."""
    began = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        target = mutant.make()
    said: dict[str, Any] = {**mutant.said, "level": level, "seed": seed}
    try:
        report = check(target, **said)
        fault, told = report.fault, report.diagnosis
    except Exception as trouble:  # whatever stops a check
        fault, told = None, f"{type(trouble).__name__}: {trouble}"
    return Outcome(mutant, seed, fault, told, time.perf_counter() - began)


def outcomes(mutants: Iterable[Mutant], *, level: str = "full", seeds: int = 1) -> Iterator[Outcome]:
    """Each mutant with each seed."""
    for mutant in mutants:
        for seed in range(seeds):
            yield outcome(mutant, level=level, seed=seed)


def planted(folder: Path | None = None) -> tuple[tuple[Mutant, ...], tuple[Mutant, ...]]:
    """The mutants and the right controls of the project's own tests.

    Args:
        folder: the root of the project's repository; the one that this package is installed from when not given.

    Raises:
        MutantsError: it holds none.
    """
    root = folder or Path(__file__).parents[3]
    if not (root / "tests" / "mutants" / "__init__.py").is_file():
        raise MutantsError(
            where="bench check",
            what=f"the mutants are in tests/mutants of the repository, and {root} holds none",
            fix="git clone the repository, and pip install -e . in it",
        )
    sys.path.insert(0, str(root))
    try:
        found = importlib.import_module("tests.mutants")
    finally:
        sys.path.remove(str(root))
    return found.MUTANTS, found.CONTROLS


def chosen(mutants: Iterable[Mutant], text: str) -> tuple[Mutant, ...]:
    """Those whose name or fault has this text in it.

    Raises:
        UnknownNameError: none has.
    """
    every = tuple(mutants)
    found = tuple(one for one in every if text in one.name or text in (one.fault or ""))
    if not found:
        raise unknown_name("bench check", "mutant", text, {one.fault for one in every if one.fault})
    return found


def table(told: Sequence[Outcome]) -> str:
    """Markdown: a row for each fault, then all of them, the missed ones and the misnamed ones by name."""
    mutants = [one for one in told if one.mutant.fault is not None]
    alarms = [one for one in told if one.mutant.fault is None and one.fault is not None]
    lines = ["| fault | planted | found | named | by the first name |", "|---|---|---|---|---|"]
    faults = sorted({str(one.mutant.fault) for one in mutants})
    lines += [_row(f"`{fault}`", [one for one in mutants if one.mutant.fault == fault]) for fault in faults]
    lines += [_row("**all**", mutants), "", *_listed(mutants)]
    rights = len(told) - len(mutants)
    lines.append(f"Right controls: {rights} checked, {len(alarms)} accused.")
    lines += [f"- {one.mutant.name}, seed {one.seed}: {one.fault}, {one.told}" for one in alarms]
    seconds = sorted(one.seconds for one in told)
    if seconds:
        lines.append(
            f"A check took {statistics.median(seconds):.2f} s (median), {seconds[-1]:.2f} s at most."
        )
    return "\n".join(lines) + "\n"


def _row(name: str, group: Sequence[Outcome]) -> str:
    counts = (
        len(group),
        sum(one.fault is not None for one in group),
        sum(one.named for one in group),
        sum(one.exact for one in group),
    )
    return f"| {name} | " + " | ".join(str(count) for count in counts) + " |"


def _listed(mutants: Sequence[Outcome]) -> Iterator[str]:
    missed = sorted({one.mutant.name for one in mutants if one.fault is None})
    if missed:
        yield f"Missed: {', '.join(missed)}."
        yield ""
    other = sorted({(one.mutant.name, str(one.fault)) for one in mutants if one.fault and not one.named})
    if other:
        yield "Called something else: " + ", ".join(f"{name} ({fault})" for name, fault in other) + "."
        yield ""


def bench_check(*, level: str = "full", seeds: int = 3, folder: Path | None = None) -> str:
    """Check every mutant and every right control, and tell how many were found and named.

    Args:
        level: of the checks.
        seeds: how many of each mutant.
        folder: the root of the project's repository; the one that this package is installed from when not given.

    Returns:
        A table in Markdown.

    Raises:
        MutantsError: the package is installed without its tests.
    """
    mutants, rights = planted(folder)
    return table(list(outcomes((*mutants, *rights), level=level, seeds=seeds)))
