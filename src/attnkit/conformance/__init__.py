"""check: silent faults in anybody's attention, named in a sentence."""

from attnkit.conformance.case import Case, Check, Skip
from attnkit.conformance.declared import Declared
from attnkit.conformance.faults import FAULTS
from attnkit.conformance.findings import Finding
from attnkit.conformance.parametrizing import parametrize
from attnkit.conformance.reference import Reference
from attnkit.conformance.relations import CHECKS
from attnkit.conformance.report import FaultError, Report
from attnkit.conformance.running import check
from attnkit.conformance.subject import Subject, TargetError

__all__ = [
    "CHECKS",
    "FAULTS",
    "Case",
    "Check",
    "Declared",
    "FaultError",
    "Finding",
    "Reference",
    "Report",
    "Skip",
    "Subject",
    "TargetError",
    "check",
    "parametrize",
]
