"""Nobody is accused who is right: modules that many people trust, and right ones that look like bugs.

Each row is checked at the level "full", which makes the checks of "basic" as well.
"""

import pytest
import torch

from attnkit.conformance import check
from tests.conformance.trusted import EXPECTED, GROUPS, TRUSTED, seeded
from tests.conformance.trusted_transformers import ROWS, transformers_module


def test_there_are_enough_of_them():
    assert len(TRUSTED) + len(ROWS) >= 150
    assert {row[0] for row in TRUSTED} >= set(EXPECTED)
    assert len(GROUPS["look-alikes"]) >= 10


def assert_silent(report):
    assert (report.fault, report.diagnosis) == (None, "nothing was found")
    assert [reason for reason in report.skipped.values() if "stopped" in reason or "are over" in reason] == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "make", "said"), TRUSTED, ids=[row[0] for row in TRUSTED])
def test_it_is_not_accused(name, make, said):
    for package in ("x_transformers", "local_attention"):
        if package.replace("_", "-") in name:
            pytest.importorskip(package)
    assert_silent(check(seeded(make), level="full", expected=EXPECTED.get(name, {}), **said))


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_an_attention_of_transformers_is_not_accused(row):
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    module, said = transformers_module(row)
    assert_silent(check(module, level="full", **said))


QUICK = [row for row in TRUSTED if not row[0].startswith("attnkit")]


@pytest.mark.parametrize(("name", "make", "said"), QUICK, ids=[row[0] for row in QUICK])
def test_a_quick_look_does_not_accuse_it(name, make, said):
    for package in ("x_transformers", "local_attention"):
        if package.replace("_", "-") in name:
            pytest.importorskip(package)
    report = check(seeded(make), **said)
    assert {finding.check for finding in report.findings} <= set(EXPECTED.get(name, {}))
