import pytest
import torch
from torch import nn

from attnkit import Attention
from attnkit.conformance.bench import (
    Mutant,
    MutantsError,
    Outcome,
    bench_check,
    outcome,
    outcomes,
    planted,
    table,
)


class Leaking(nn.Module):
    """Each token gets the mean of all."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(8, 8)

    def forward(self, x):
        return self.query(x) + x.mean(1, keepdim=True)


class Refusing(Leaking):
    def forward(self, x):
        raise RuntimeError("no")


LEAK = Mutant("causal/leak", "future-leak", Leaking, {"d_in": 8, "causal": True})
RIGHT = Mutant("causal/right", None, lambda: Attention(8, 2, mechanism="causal"), {"causal": True})


def told(fault, called, *, also=(), name="here/there"):
    return Outcome(Mutant(name, fault, Leaking, {}, also=also), 0, called, "told", 0.5)


def test_a_planted_leak_is_found():
    assert outcome(LEAK, level="basic").fault == "future-leak"


def test_right_attention_is_not_accused():
    assert outcome(RIGHT, level="basic").fault is None


def test_what_cannot_be_called_counts_as_not_found():
    got = outcome(Mutant("causal/refusing", "future-leak", Refusing, {"d_in": 8}), level="basic")
    assert got.fault is None
    assert "no" in got.told


def test_each_seed_draws_other_parameters_and_leaves_the_random_state():
    before = torch.get_rng_state()
    made = []

    def make():
        made.append(Leaking())
        return made[-1]

    list(
        outcomes(
            [Mutant("causal/leak", "future-leak", make, {"d_in": 8, "causal": True})], level="basic", seeds=2
        )
    )
    assert not torch.equal(made[0].query.weight, made[1].query.weight)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("called", "also", "exact", "named"),
    [
        ("blind", (), True, True),
        ("layout", ("layout",), False, True),
        ("layout", (), False, False),
        (None, (), False, False),
    ],
)
def test_a_name_is_exact_or_right_as_well_or_neither(called, also, exact, named):
    got = told("blind", called, also=also)
    assert (got.exact, got.named) == (exact, named)


def test_the_table_counts_a_row_for_each_fault_and_one_for_all():
    lines = table(
        [told("blind", "blind"), told("blind", "layout", also=("layout",)), told("layout", None)]
    ).splitlines()
    assert lines[2:5] == [
        "| `blind` | 2 | 2 | 2 | 1 |",
        "| `layout` | 1 | 0 | 0 | 0 |",
        "| **all** | 3 | 2 | 2 | 1 |",
    ]


def test_the_table_names_what_was_missed_misnamed_and_accused():
    text = table(
        [
            told("blind", None, name="a/b"),
            told("blind", "layout", name="c/d"),
            told(None, "blind", name="e/right"),
        ]
    )
    assert "Missed: a/b." in text
    assert "Called something else: c/d (layout)." in text
    assert "1 checked, 1 accused" in text
    assert "e/right, seed 0: blind, told" in text


def test_the_repository_holds_its_mutants():
    mutants, rights = planted()
    assert len(mutants) >= 150
    assert all(one.fault is None for one in rights)


@pytest.mark.messages
def test_a_folder_without_mutants_is_refused(tmp_path):
    with pytest.raises(MutantsError, match=r"holds none\n  fix: git clone"):
        bench_check(folder=tmp_path)
