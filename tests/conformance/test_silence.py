"""Nobody is accused who is right: modules that many people trust, and right ones that look like bugs.

A quick look at some belongs to every run of the tests: at all look-alikes, and at each fourth of the others. All of
them, at the level "full", which makes the checks of "basic" as well, take ten minutes with three seeds.
"""

import pytest

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


def module_of(row, seed):
    """What a row makes, and what is said of it."""
    for package in ("x_transformers", "local_attention"):
        if package.replace("_", "-") in row[0]:
            pytest.importorskip(package)
    if row in ROWS:
        pytest.importorskip("transformers")
        return seeded(lambda: transformers_module(row), seed)
    name, make, said = row
    return seeded(make, seed), said | {"expected": EXPECTED.get(name, {})}


LOOKALIKES = [row for row in TRUSTED if row[0].startswith("look-alikes")]
SOME = [*LOOKALIKES, *[row for row in (*TRUSTED, *ROWS) if row not in LOOKALIKES][::4]]


@pytest.mark.slow
@pytest.mark.parametrize("row", SOME, ids=[row[0] for row in SOME])
def test_a_quick_look_does_not_accuse_it(row):
    module, said = module_of(row, 0)
    assert_silent(check(module, **said))


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("row", [*TRUSTED, *ROWS], ids=[row[0] for row in (*TRUSTED, *ROWS)])
def test_it_is_not_accused(row, seed):
    module, said = module_of(row, seed)
    assert_silent(check(module, level="full", seed=seed, **said))
