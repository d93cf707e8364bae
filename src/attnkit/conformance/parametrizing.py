"""`check` as tests of pytest: each check is one test, so that a failure names it, and what is skipped is seen.

    @attnkit.conformance.parametrize(lambda: MyAttention(24, 4), d_in=24, causal=True)
    def test_my_attention(one_check):
        one_check()

All checks are made once, by the first of these tests: later checks use what earlier ones found out.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Unpack

from torch import nn

from attnkit.conformance.declared import Said, declared_by, explicit
from attnkit.conformance.relations import CHECKS
from attnkit.conformance.report import FaultError, Report
from attnkit.conformance.running import check
from attnkit.errors import need


class OneCheck:
    """One check of a target, to be called by a test.

    Args:
        name: which check.
        report: makes the report of all checks.
    """

    def __init__(self, name: str, report: Callable[[], Report]) -> None:
        self.name, self.report = name, report

    def __call__(self) -> None:
        """Fail where the check found something; skip where it could not be made, and say why.

        Raises:
            FaultError: the check found something.
        """
        import pytest

        report = self.report()
        found = [finding for finding in report.findings if finding.check == self.name]
        if found:
            sentences = "; ".join(finding.sentence for finding in found)
            raise FaultError(
                where=f"{report.target}, {self.name}",
                what=f"{found[0].fault}: {sentences}",
                fix=f"the root is most likely {report.fault}: {report.diagnosis}",
            )
        if any(finding.check == self.name for finding in report.expected):
            pytest.xfail("it was said to fail")
        if self.name in report.skipped:
            pytest.skip(report.skipped[self.name])

    def __repr__(self) -> str:
        return self.name


@explicit
def parametrize(target: object, **said: Unpack[Said]) -> Any:
    """A decorator that gives a test each check of a level, as its only argument.

    Args:
        target: what `check` takes; or a function without arguments that makes it, which is called by the first test.
        said: what it is said to be, as for `check`.

    Raises:
        MissingExtraError: pytest is not installed.
        OptionError: a value means nothing.
        UnknownNameError: there is no such argument, level or kind of positions.

    Example:
        >>> @parametrize(lambda: nn.MultiheadAttention(24, 4), num_heads=4)
        ... def test_mine(one_check):
        ...     one_check()
    """
    pytest = need("pytest", extra="test", where="conformance.parametrize")
    declared = declared_by(said)
    report = functools.cache(lambda: check(_made(target), **said))
    names = [one.name for one in CHECKS if one.is_asked(declared)]

    def decorated(test: Callable[..., Any]) -> Callable[..., Any]:
        (argument,) = inspect.signature(test).parameters
        return pytest.mark.parametrize(argument, [OneCheck(name, report) for name in names], ids=names)(test)

    return decorated


def _made(target: Any) -> object:
    if isinstance(target, nn.Module | type) or not callable(target):
        return target
    return target if inspect.signature(target).parameters else target()
