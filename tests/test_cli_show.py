"""`attnkit show NAME`, and how values are written in a terminal."""

import json
import re

import pytest
import torch
from click.testing import CliRunner

from attnkit import find, masks, positions
from attnkit.atlas import sketched
from attnkit.cli import main
from attnkit.cli.values import options_of, value_of
from attnkit.cli.words import amount
from attnkit.errors import OptionError, UnknownNameError
from attnkit.mechanism import Option


def run(*arguments):
    return CliRunner().invoke(main, ["show", *arguments])


def option(name, default=Option.required, kind="int"):
    return Option(name, default, kind, "what it is")


def test_everything_of_a_mechanism_is_shown():
    told = run("sliding_window").output
    mechanism = find("sliding_window")
    assert "keep(q, k) = 0 <= q - k < window" in told
    assert mechanism.paper.title in told
    assert mechanism.paper.url in told
    assert "window  int, must be set, 3 here." in told
    assert str(sketched(mechanism.bind({"window": 3}))) in told
    assert "parameters  1,048,576" in told
    assert "they\n              grow as the length" in told
    assert "causal  window=64, causal=True" in told
    assert 'layer = attnkit.Attention(512, 8, mechanism="sliding_window", window=3)' in told


def test_the_line_of_code_makes_a_layer():
    import attnkit

    told = run("sliding_window", "--set", "window=5").output
    layer = eval(told.rstrip().rpartition("layer = ")[2], {"attnkit": attnkit})
    assert layer.bound.options == {"window": 5, "causal": True}


def test_the_picture_follows_the_options():
    told = run("sliding_window", "--set", "window=1").output
    assert "window=1" in told
    assert str(sketched(find("sliding_window").bind({"window": 1}))) in told


def test_the_picture_has_as_many_tokens_as_are_asked():
    assert str(sketched(find("causal").bind({}), length=9)) in run("causal", "--tokens", "9").output


def test_the_cost_is_told_at_the_lengths_that_are_asked():
    # by hand: a window of 3 keeps 3 n - 3 pairs; causal attention takes 256 operations of each pair and head
    told = run("sliding_window", "--length", "100", "--length", "65536").output
    assert "     100        608 k            297       409,600" in told
    assert "  65,536        403 M        196,605   268,435,456" in told


def test_parts_are_told_with_their_shapes():
    assert "sink  learned, 8. One score a head." in run("sink").output
    assert "beta" in run("delta").output
    assert "projected from the key, 8 x 1." in run("delta").output


def test_what_does_not_decode_says_why():
    assert "decodes     no: full reads the future here" in run("full").output


def test_a_cost_that_cannot_be_told_says_why():
    told = run("documents", "--length", "50")
    assert told.exit_code == 0
    said = " ".join(told.output.split())
    assert "the mask of documents knows 7 positions; got a length of 50 fix: lengths up to 7" in said


def test_json_tells_the_same():
    told = json.loads(run("sink", "--json").output)
    assert told["parts"] == [{"name": "sink", "kind": "learned", "shape": [8], "meaning": "one score a head"}]
    assert told["options"][0]["value"] == "causal"
    assert told["cost"]["parameters"] == 4 * 512 * 512 + 8
    assert told["cost"]["linear"] is False
    assert len(told["weights"]["values"][0]) == 24
    assert {r["target"] for r in told["reductions"] if r["source"] == "sink"} == {"off_by_one", "causal"}


@pytest.mark.messages
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["causl"], "there is no mechanism 'causl'\n  fix: did you mean 'causal'?"),
        (["sliding_window", "--set", "windw=3"], "there is no option 'windw'\n  fix: did you mean 'window'?"),
        (
            ["sliding_window", "--set", "window"],
            "a setting is NAME=VALUE; got 'window'\n  fix: --set window=3",
        ),
        (["sliding_window", "--set", "window=0"], "from 1 upwards; got 0\n  fix: causal & window(1)"),
        (
            ["sliding_window", "--set", "window=x"],
            "window: 'x' is not a whole number; it is how many positions",
        ),
        (["sliding_window", "--set", "window=2.5"], "'2.5' is not a whole number"),
        (["sliding_window", "--set", "causal=3"], "'3' is not true or false"),
        (["top_k", "--set", "mask=causl", "--set", "k=2"], "no value 'causl'\n  fix: did you mean 'causal'?"),
        (["causal", "--set", "window=3"], "it has no options; got window\n  fix: leave window out"),
        (["causal", "--tokens", "99"], "a sketch has from 1 to 34 tokens; got 99\n  fix: length=34"),
    ],
)
def test_wrong_usage_says_what_is_right_and_exits_with_2(arguments, said):
    told = run(*arguments)
    assert told.exit_code == 2
    assert said in told.output


def test_a_value_is_of_the_kind_of_its_option():
    assert value_of(option("n"), "5") == 5
    assert value_of(option("cap", kind="float"), "5") == 5.0
    assert isinstance(value_of(option("cap", kind="float"), "5"), float)
    assert value_of(option("causal", kind="bool"), "False") is False
    assert value_of(option("rank", kind="int | None"), "none") is None
    assert value_of(option("layout", kind="str"), "pairs") == "pairs"
    assert value_of(option("layout", kind="str"), "'pairs'") == "pairs"
    assert value_of(option("grid", kind="Sequence"), "(2,-4)") == (2, -4)


def test_masks_and_positions_are_written_as_in_python():
    mask = value_of(option("mask", kind="Mask"), "causal & (window(3) | ~first(2))")
    expected = masks.causal & (masks.window(3) | ~masks.first(2))
    assert torch.equal(mask.dense(9, 9), expected.dense(9, 9))
    rotary = value_of(option("rotary", kind="Positions | None"), "Rotary(base=100.0)")
    assert rotary == positions.Rotary(base=100.0)


@pytest.mark.messages
@pytest.mark.parametrize("text", ["(lambda: 1)()", "masks.causal", "[x for x in ()]", "causal +"])
def test_nothing_but_values_is_evaluated(text):
    with pytest.raises(OptionError, match=re.escape(text)):
        value_of(option("mask", kind="Mask"), text)


@pytest.mark.messages
@pytest.mark.parametrize("text", ["__import__('os')", "where(print)"])
def test_no_name_is_known_but_masks_and_positions(text):
    with pytest.raises(UnknownNameError, match=f"there is no value '{text.partition('(')[0]}'"):
        value_of(option("mask", kind="Mask"), text)


def test_settings_go_over_the_first_example():
    assert options_of(find("sliding_window"), []) == {"window": 3}
    assert options_of(find("sliding_window"), ["window = 7"]) == {"window": 7}


@pytest.mark.parametrize(
    ("number", "text"),
    [(7, "7"), (999, "999"), (12_600_000, "12.6 M"), (1e9, "1 G"), (999_900_000, "1,000 M")],
)
def test_amounts_have_three_digits(number, text):
    assert amount(number) == text
