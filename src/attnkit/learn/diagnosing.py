"""What `attnkit.check` says of a wrong answer that nobody foresaw, where the answer can be made part of attention."""

import re

from attnkit.conformance import check
from attnkit.conformance.diagnosis import diagnosed
from attnkit.conformance.suspects import suspect
from attnkit.learn.calling import guarded
from attnkit.learn.task import Function, Sample, Task

SECONDS = 2.0
# wrong numbers of float64 do not come of these: whatever else is wrong shows in them too
_BESIDE = (
    "gradient-wrong",
    "gradient-blocked",
    "layout",
    "low-precision",
    "shape-assumption",
    "state-changed",
)


def diagnosis(task: Task, function: Function, sample: Sample) -> str | None:
    """The sentence of `check`; None where it cannot be asked, or finds nothing that makes numbers wrong."""
    whole = task.whole
    if whole is None or not sample.got.isfinite().all():
        return None
    try:
        with guarded():
            report = check(whole.around(function), **whole.said, limit_seconds=SECONDS)
    except Exception:  # on other sizes a function may do whatever it likes
        return None
    findings = [finding for finding in report.findings if finding.fault not in _BESIDE]
    fault, _, sentence = diagnosed(findings)
    if fault is None:
        return None
    sentence = sentence.partition("; where ")[0]  # what to declare, were it meant
    sentence = re.sub(r"\b(query|key|value)\.weight", r"W_\1", sentence)
    return f"{whole.setting}: {sentence}.{_line(function, fault)}"


def _line(function: Function, fault: str) -> str:
    """Where the reader's code most likely does it, as the end of a text."""
    where, _, code = suspect(function, fault).partition(": ")
    return f" Look at line {where.rpartition(':')[2]}, `{code}`." if code else ""
