import pytest

from attnkit.conformance.diagnosis import RULES, below, both, by, diagnosed, has, on_path, only_by, without
from attnkit.conformance.faults import FAULTS
from attnkit.conformance.findings import Finding


def found(fault, sentence="", *, check="test", path="", measured=1.0):
    return Finding(check, fault, sentence or fault, measured, path=path)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_found_alone_is_the_root(fault):
    assert diagnosed([found(fault, "told")]) == (fault, 0.9, "told")


def test_every_rule_names_a_fault():
    assert [rule for rule in RULES if rule.fault not in FAULTS or not 0 < rule.confidence <= 1] == []


def test_nothing_found_is_nothing_to_explain():
    assert diagnosed([]) == (None, 1.0, "nothing was found")


@pytest.mark.parametrize(
    ("root", "consequences"),
    [
        ("heads-split-wrong", ("future-leak", "mask-ignored", "blind")),
        ("softmax-wrong-axis", ("future-leak", "mask-after-softmax")),
        ("nondeterministic", ("mask-ignored", "batch-crosstalk")),
        ("dropout-in-eval", ("nondeterministic", "batch-crosstalk")),
        ("mask-added-as-number", ("future-leak", "dead-row-junk")),
        ("cache-causal-alignment", ("cache-mismatch",)),
    ],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_cause_goes_before_its_consequences(root, consequences, backwards):
    findings = [found(fault) for fault in (*consequences, root)]
    fault, confidence, sentence = diagnosed(findings[::-1] if backwards else findings)
    assert (fault, sentence) == (root, root)
    assert confidence < 0.9


@pytest.mark.parametrize(
    ("findings", "root"),
    [
        (
            [found("batch-crosstalk", check="samples"), found("mask-skipped", path="a batch of one")],
            "mask-skipped",
        ),
        (
            [found("batch-crosstalk", check="padding"), found("mask-skipped", path="a batch of one")],
            "batch-crosstalk",
        ),
        ([found("blind", check="influence"), found("softmax-wrong-axis", check="constant")], "blind"),
        (
            [found("blind", check="influence"), found("softmax-wrong-axis", check="influence")],
            "softmax-wrong-axis",
        ),
        (
            [found("future-leak", check="influence"), found("mask-fill-too-weak", check="padding")],
            "future-leak",
        ),
        (
            [found("future-leak", check="decoding"), found("mask-fill-too-weak", check="padding")],
            "mask-fill-too-weak",
        ),
        ([found("mask-stale"), found("state-changed")], "state-changed"),
        ([found("mask-stale"), found("mask-ignored")], "mask-stale"),
        ([found("position-layout", measured=0.01), found("position-precision")], "position-precision"),
        ([found("position-layout", measured=0.5), found("position-precision")], "position-layout"),
        (
            [found("low-precision", check="smooth"), found("softmax-wrong-axis", check="constant")],
            "low-precision",
        ),
    ],
)
def test_a_rule_of_several_findings_names_the_root(findings, root):
    assert diagnosed(findings)[0] == diagnosed(findings[::-1])[0] == root


def test_the_sentence_is_of_what_is_so_on_every_path():
    told = [found("future-leak", "in training", path="training"), found("future-leak", "always")]
    assert diagnosed(told)[2] == "always"


BLIND = {"blind": [found("blind", check="influence", path="a batch of one")]}
TWO = {**BLIND, "layout": [found("layout")]}


@pytest.mark.parametrize(
    ("when", "holds", "fails"),
    [
        (has("blind", "layout"), TWO, BLIND),
        (without("layout"), BLIND, TWO),
        (by("influence", "blind"), BLIND, {"blind": [found("blind")]}),
        (only_by("test", "layout"), TWO, {"layout": [found("layout"), found("layout", check="other")]}),
        (only_by("test", "layout"), {}, {"layout": [found("layout", check="other")]}),
        (on_path("blind", "batch of one"), BLIND, {"blind": [found("blind", path="training")]}),
        (both(has("blind"), has("layout")), TWO, BLIND),
        (
            below("layout", 0.1),
            {"layout": [found("layout", measured=0.05)]},
            {"layout": [found("layout", measured=0.2)]},
        ),
        (
            below("layout", 0.1),
            {},
            {"layout": [found("layout", measured=0.05), found("layout", measured=0.2)]},
        ),
    ],
)
def test_what_a_rule_asks_for_holds_and_fails(when, holds, fails):
    assert when(holds)
    assert not when(fails)


def swapped(query, key, value):
    return (key @ query.mT).softmax(-1) @ value


def test_the_line_of_the_target_stands_behind_the_sentence():
    told = diagnosed([found("query-key-swapped", "swapped")], target=swapped)[2]
    assert told.startswith("swapped; see test_diagnosis.py:")
    assert told.endswith(": return (key @ query.mT).softmax(-1) @ value")
