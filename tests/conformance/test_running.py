"""Strange targets: `check` refuses them in words, or reports; nothing escapes, and nothing stays changed."""

import random
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from attnkit.conformance import Check, TargetError, check, running
from tests.conformance.lookalikes import Fused


def given(forward):
    """A module with this forward, and the projections of a right one."""
    return type("Strange", (Fused,), {"forward": forward})()


def right(self, x):
    return Fused.forward(self, x)


def raises(self, x):
    raise KeyError("weights")


def nothing_finite(self, x):
    return right(self, x) * float("nan")


def scores_only(self, x):
    return (self.query(x) @ self.key(x).mT)[:, None]


def needs_more(self, x, table):
    return right(self, x) + table


def makes_float32(self, x):
    return torch.zeros(x.shape[1], x.shape[1]) @ right(self, x)


def a_dictionary(self, x):
    return {"output": right(self, x)}


REFUSED = [
    (
        raises,
        r"Strange raised KeyError for x \(3, 7, 24\) in float64: 'weights'\n  fix: check\(module, d_in=..., call=",
    ),
    (
        nothing_finite,
        r"gives no finite number for x \(3, 7, 24\)(?s:.*)fix: look for numbers that are not set",
    ),
    (
        scores_only,
        r"gives \(3, 1, 7, 7\) for x \(3, 7, 24\); it is \(batch, len, d_out\)\n  fix: check\(module, call=",
    ),
    (needs_more, r"missing 1 required positional argument: 'table'\n  fix: check\(module, d_in=..., call="),
    (makes_float32, r"fix: in float32 it runs: make new tensors in the dtype of x"),
    (a_dictionary, r"gives a dict, no tensor(?s:.*)fix: check\(module, call="),
]


@pytest.mark.messages
@pytest.mark.parametrize(("forward", "text"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_target_that_gives_nothing_to_compare_is_refused_with_what_to_write(forward, text):
    with pytest.raises(TargetError, match=text):
        check(given(forward))


def test_a_target_that_ignores_its_tokens_is_found():
    module = given(lambda self, x: self.output(torch.ones_like(x)))
    assert check(module).fault == "blind"


def test_a_target_without_parameters_can_be_checked():
    class Bare(nn.Module):
        def forward(self, x):
            return torch.softmax(x @ x.mT / x.shape[-1] ** 0.5, -1) @ x

    report = check(Bare(), d_in=6)
    assert report.fault is None
    assert "influence" in report.passed


def test_what_a_target_prints_and_its_warnings_are_held_back(capfd, recwarn):
    def loud(self, x):
        print("here")
        warnings.warn("careful", stacklevel=1)
        return right(self, x)

    report = check(given(loud))
    assert report.ok
    assert report.described.endswith("prints while it runs (held back)")
    assert capfd.readouterr().out == ""
    assert not recwarn.list


def test_nothing_that_a_target_changes_for_everybody_stays_changed():
    def careless(self, x):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        return right(self, x)

    module = given(careless)
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    check(module)
    found = (torch.rand(1).item(), random.random(), np.random.rand())
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)
    assert found == (torch.rand(1).item(), random.random(), np.random.rand())
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()


def test_checks_end_when_the_time_is_over():
    def slow(self, x):
        time.sleep(0.05)
        return right(self, x)

    began = time.perf_counter()
    report = check(given(slow), limit_seconds=0.5)
    assert (
        time.perf_counter() - began < 20
    )  # one call is never interrupted; nothing here takes long by itself
    over = [reason for reason in report.skipped.values() if reason.startswith("0.5 seconds are over")]
    assert over
    assert report.ok


def broken(case):
    raise ZeroDivisionError("by nothing")
    yield


def finds_then_breaks(case):
    yield running.Finding("broken", "blind", "one thing", 1.0)
    raise ZeroDivisionError("by nothing")


def test_a_check_that_breaks_is_skipped_with_what_it_raised(monkeypatch):
    monkeypatch.setattr(running, "CHECKS", (*running.CHECKS[:1], Check("broken", "basic", broken, "nothing")))
    report = check(Fused())
    assert report.skipped == {"broken": "it stopped with ZeroDivisionError: by nothing"}
    assert report.ok


def test_what_a_check_found_before_it_broke_counts(monkeypatch):
    monkeypatch.setattr(running, "CHECKS", (Check("broken", "basic", finds_then_breaks, "nothing"),))
    report = check(Fused())
    assert (report.fault, list(report.skipped)) == ("blind", ["broken"])


def test_a_check_that_changes_something_leaves_nothing_to_the_next(monkeypatch):
    def careless(case):
        torch.set_default_dtype(torch.float64)
        yield from ()

    def asks(case):
        assert torch.get_default_dtype() is torch.float32
        yield from ()

    checks = tuple(Check(run.__name__, "basic", run, "nothing") for run in (careless, asks))
    monkeypatch.setattr(running, "CHECKS", checks)
    assert check(Fused()).passed == ("careless", "asks")


def test_equal_seeds_give_equal_reports():
    module = Fused()
    one, two = (replace(check(module, seed=3), seconds=0.0) for _ in range(2))
    assert str(one) == str(two)
