"""The map of what becomes what."""

from dataclasses import replace

from attnkit import all_mechanisms
from attnkit.atlas import Reduction, reductions, tree

PLAIN = Reduction("b", "a", {}, (), {}, False)


def test_a_condition_says_what_is_set_of_whom():
    assert PLAIN.condition == "as it is"
    assert replace(PLAIN, options={"window": 3, "cap": 1e8}).condition == "window=3, cap=1e+08"
    assert replace(PLAIN, parts=("x", "y")).condition == "certain values of x, y"
    assert replace(PLAIN, options={"n": 1}, theirs={"m": 2}).condition == "n=1; a has m=2"
    assert replace(PLAIN, rearranged=True).condition == "its tensors rearranged"


def test_every_law_of_what_becomes_what_is_on_the_map():
    found = {(r.source, r.target, str(r.options)) for r in reductions(all_mechanisms())}
    assert ("sliding_window", "causal", str({"window": 64, "causal": True})) in found
    assert {("sink", "off_by_one", "{}"), ("sink", "causal", "{}")} <= found


def test_the_tree_has_what_becomes_it_below_and_tells_it_once():
    found = [
        PLAIN,
        replace(PLAIN, source="c", target="b", options={"n": 1}),
        replace(PLAIN, source="b", target="z"),
    ]
    assert tree(found, ["a", "b", "c", "d", "z"]) == (
        "a\n"
        "└── b          as it is\n"
        "    └── c      n=1\n"
        "\n"
        "z\n"
        "└── b (above)  as it is\n"
        "\n"
        "alone: d"
    )  # fmt: skip


def test_several_ways_stand_below_each_other():
    found = [PLAIN, replace(PLAIN, options={"n": 1}), replace(PLAIN, source="c")]
    assert tree(found, []) == "a\n├── b  as it is\n│      or n=1\n└── c  as it is"


def test_a_ring_is_drawn_and_ends():
    found = [PLAIN, replace(PLAIN, source="a", target="b")]
    assert tree(found, []) == "a\n└── b              as it is\n    └── a (above)  as it is"
