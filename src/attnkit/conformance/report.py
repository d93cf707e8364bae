"""A report: what was found in a target, what it is called, what it probably comes from, and what was not tested."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnkit.conformance.findings import Finding
from attnkit.errors import AttentionError


class FaultError(AttentionError):
    """A checked target has a fault."""


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Attributes:
        target: what was checked, in words.
        findings: every finding that was not expected.
        fault: the name of the most likely root of them all; None where nothing was found.
        confidence: how sure that is, from 0 to 1.
        diagnosis: the sentence that says so.
        passed: the checks that found nothing.
        skipped: the checks that could not be made, each with the reason.
        expected: findings of checks that were said to fail.
        described: what was found out, such as "causal, 4 heads, scale 1/sqrt(head_dim)".
        seconds: how long it took.
    """

    target: str
    findings: tuple[Finding, ...]
    fault: str | None
    confidence: float
    diagnosis: str
    passed: tuple[str, ...]
    skipped: Mapping[str, str]
    expected: tuple[Finding, ...]
    described: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of all that was found, the root first."""
        rest = sorted({finding.fault for finding in self.findings} - {self.fault})
        return (self.fault, *rest) if self.fault else tuple(rest)

    def raise_if_failed(self) -> None:
        """Refuse a target with a fault.

        Raises:
            FaultError: something was found.
        """
        if not self.ok:
            raise FaultError(where=self.target, what=f"{self.fault}: {self.diagnosis}", fix=str(self))

    def to_json(self) -> str:
        """The report as text that other programs read."""
        plain: dict[str, Any] = {
            "target": self.target,
            "ok": self.ok,
            "fault": self.fault,
            "confidence": self.confidence,
            "diagnosis": self.diagnosis,
            "findings": [finding.to_dict() for finding in self.findings],
            "expected": [finding.to_dict() for finding in self.expected],
            "passed": list(self.passed),
            "skipped": dict(self.skipped),
            "described": self.described,
            "seconds": self.seconds,
        }
        return json.dumps(plain, indent=2, default=str)

    def __str__(self) -> str:
        lines = [f"{self.target}: {self.described}"]
        if self.fault:
            lines.append(f"{self.fault}: {self.diagnosis}")
        lines += [
            f"  {finding.check}{f' ({finding.path})' if finding.path else ''}: {finding.sentence}"
            for finding in self.findings
        ]
        lines += [f"  not tested: {check}, {reason}" for check, reason in self.skipped.items()]
        found = len({finding.check for finding in self.findings})
        told = (
            f"{found} of {found + len(self.passed)} checks failed"
            if found
            else f"{len(self.passed)} checks passed"
        )
        return "\n".join([*lines, f"{told} in {self.seconds:.1f} s"])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
