"""`attnkit list`."""

import json

import pytest
from click.testing import CliRunner

from attnkit import all_mechanisms
from attnkit.catalog import FAMILIES
from attnkit.cli import main


def run(*arguments):
    return CliRunner().invoke(main, ["list", *arguments])


def names(*arguments):
    """What is listed."""
    told = run(*arguments, "--json")
    assert told.exit_code == 0
    return [mechanism["name"] for mechanism in json.loads(told.output)]


def test_every_mechanism_is_listed_with_what_it_does():
    told = run().output
    for mechanism in all_mechanisms().values():
        assert f"\n  {mechanism.name} " in told
    assert "  sink " in told
    assert "Each head has one more score" in told


def test_families_come_in_their_order():
    told = run().output
    places = [told.index(f"{family}: {meaning}\n") for family, meaning in FAMILIES.items()]
    assert places == sorted(places)


def test_no_line_is_wider_than_a_terminal():
    assert max(map(len, run().output.splitlines())) <= 80


def test_a_family_is_chosen():
    chosen = names("--family", "recurrence")
    assert "gated_delta" in chosen
    assert {all_mechanisms()[name].family for name in chosen} == {"recurrence"}


@pytest.mark.messages
def test_an_unknown_family_gets_the_nearest():
    told = run("--family", "recurence")
    assert told.exit_code == 2
    assert "there is no family 'recurence'\n  fix: did you mean 'recurrence'?" in told.output


def test_what_decodes_is_chosen():
    chosen = names("--family", "where", "--decodable")
    assert "causal" in chosen
    assert "full" not in chosen


def test_what_is_linear_is_chosen_by_what_it_costs():
    chosen = names("--family", "where", "--linear")
    assert "sliding_window" in chosen
    assert not {"causal", "full"} & set(chosen)


def test_where_nothing_passes_that_is_said(monkeypatch):
    monkeypatch.setattr("attnkit.cli.listing._passes", lambda mechanism, **_: False)
    assert run().output == "none is all of that\n"


def test_the_map_draws_what_becomes_what():
    told = run("--map").output
    assert "causal\n" in told
    assert any("sliding_window" in line and "window=64" in line for line in told.splitlines())


def test_the_map_of_a_family_has_nothing_else():
    told = run("--map", "--family", "recurrence").output
    assert "gated_delta" in told
    assert "sliding_window" not in told


def test_the_map_is_told_in_json():
    told = json.loads(run("--map", "--json").output)
    assert set(told["mechanisms"]) == set(all_mechanisms())
    edge = {"source": "off_by_one", "target": "causal"}
    assert edge not in told["reductions"]
    assert any(r["source"] == "sink" and r["target"] == "off_by_one" for r in told["reductions"])


def test_json_tells_paper_and_options():
    (told,) = [m for m in json.loads(run("--json").output) if m["name"] == "alibi"]
    assert told["options"] == ["mask"]
    assert told["paper"]["url"] == "https://arxiv.org/abs/2108.12409"
    assert told["package"] is None
