import pytest
import torch

from attnkit.conformance.relations.positions import run_far, run_order, run_positions
from tests.conformance.weighing import Pairs, case_of, faults, made, reason, turned_by
from tests.mutants.base import Attention, rotated, slopes


def rotary(kind, **said):
    return case_of(made(kind, causal=True), causal=True, **{"positions": "rotary", **said})


def biased(bias):
    kind = type("Biased", (Attention,), {"bias": lambda layer, scores, start: bias(layer, scores)})
    return made(kind, causal=True, num_heads=6)


@pytest.mark.parametrize(
    ("query", "key", "fault"),
    [
        (lambda places: places, lambda places: places + 1, "position-offset"),
        (lambda places: places, lambda places: -places, "position-layout"),
    ],
)
def test_places_of_queries_and_keys_that_differ_are_found(query, key, fault):
    assert faults(run_positions, rotary(turned_by(query, key))) == [fault]


def test_pairs_for_the_query_and_halves_for_the_key_are_a_wrong_layout():
    class Both(Pairs):
        def turn(self, query, key, value, start):
            return self.turned(query), rotated(key, 0), value

    assert faults(run_positions, rotary(Both)) == ["position-layout"]


def test_turning_along_the_heads_has_no_effect():
    class AlongHeads(Attention):
        def turn(self, query, key, value, start):
            return *(rotated(part.transpose(1, 2), 0).transpose(1, 2) for part in (query, key)), value

    assert faults(run_positions, rotary(AlongHeads)) == ["position-missing"]
    assert faults(run_order, rotary(AlongHeads)) == ["position-missing"]


@pytest.mark.parametrize("change", [lambda places: places.bfloat16(), lambda places: places.clamp(max=16)])
def test_far_places_that_collapse_are_found(change):
    case = rotary(turned_by(change, change))
    assert faults(run_positions, case) == []
    assert faults(run_far, case) == ["position-precision"]


def test_far_places_in_float32_are_told_apart():
    class Single(Attention):
        def turn(self, query, key, value, start):
            return *(rotated(part.float(), 0).to(part) for part in (query, key)), value

    case = rotary(Single)
    assert faults(run_positions, case) + faults(run_far, case) == []


def test_turned_places_that_nobody_declared_are_described():
    case = case_of(made(Pairs, causal=True), causal=True)
    assert faults(run_positions, case) == []
    assert case.facts["rotary"] == "pairs"


def test_wrong_places_that_nobody_declared_are_not_accused():
    assert faults(run_positions, rotary(turned_by(lambda p: p, lambda p: p + 1), positions=None)) == []


def by_distance(layer, scores):
    return slopes(layer.num_heads).to(scores)[:, None, None] * layer.distance(scores).abs()


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        (lambda layer, scores: scores - by_distance(layer, scores), []),
        (lambda layer, scores: scores + by_distance(layer, scores), ["alibi-sign"]),
        (lambda layer, scores: scores - 0.5 * by_distance(layer, scores), ["alibi-slope"]),
        (
            lambda layer, scores: scores - by_distance(layer, scores) * layer.distance(scores).abs(),
            ["alibi-slope"],
        ),
        (lambda layer, scores: scores - 0.25 * layer.distance(scores).abs(), ["alibi-slope"]),
        (lambda layer, scores: scores, ["position-missing"]),
    ],
)
def test_the_slopes_of_alibi_are_read(bias, expected):
    assert (
        faults(run_positions, case_of(biased(bias), causal=True, positions="alibi", num_heads=6)) == expected
    )


def test_slopes_that_are_a_multiple_say_so():
    case = case_of(
        biased(lambda layer, scores: scores - 0.5 * by_distance(layer, scores)),
        causal=True,
        positions="alibi",
    )
    (finding,) = run_positions(case)
    assert finding.sentence.endswith("0.5 times as much")


def test_a_relative_bias_depends_on_the_distance():
    class ByKey(Attention):
        def bias(self, scores, start):
            return scores + self.relative[:, None, : scores.shape[-1]]

    right = made(Attention, positions="relative")
    assert faults(run_positions, case_of(right, positions="relative")) == []
    assert faults(run_positions, case_of(made(ByKey, positions="relative"), positions="relative")) == [
        "position-offset"
    ]


def test_absolute_places_change_the_last_output():
    class Missing(Attention):
        def placed(self, x, start):
            return x + self.places[0]

    right, wrong = (made(kind, positions="absolute") for kind in (Attention, Missing))
    assert faults(run_order, case_of(right, positions="absolute")) == []
    assert faults(run_order, case_of(wrong, positions="absolute")) == ["position-missing"]


def test_a_window_has_an_order_of_its_own():
    case = case_of(made(Attention, causal=True, window=3), causal=True, window=3)
    case.facts["support"] = torch.ones(6, 6, dtype=torch.bool).tril().triu(-2)
    assert reason(run_order, case) == "it does not read all tokens before"
