"""The proof of `check`: right attention with one thing done wrong, many times.

docs/decisions/check-detects.md has the table.
"""

import pytest
import torch

from attnkit.conformance.bench import outcome, outcomes, table
from attnkit.conformance.faults import FAULTS
from tests.mutants import CONTROLS, MUTANTS
from tests.mutants.base import Attention

# what no check is meant to tell, each with the reason
MISSED = {
    "encoder/fails-without-tokens": "a text without tokens is tried at level strict",
    "encoder/fails-on-strides": "it raises, which misleads nobody: a finding at level strict",
    "cross/positions-in-cross-attention": "positions that nobody said are missing are described, not accused",
}
# seen by checks of level full alone
SLOW = {"dead-row-junk", "position-precision", "low-precision"}


def named(mutant):
    return mutant.name


def of_each_fault():
    """One mutant of each fault: all of them take minutes."""
    first = {mutant.fault: mutant for mutant in MUTANTS[::-1] if mutant.name not in MISSED}
    return list(first.values())


def test_at_least_150_different_things_are_done_wrong():
    assert len({mutant.name.split("/")[1] for mutant in MUTANTS}) >= 150


def test_every_fault_is_planted():
    # but for what is found with a reference alone: tests/conformance/test_references.py
    assert {mutant.fault for mutant in MUTANTS} == set(FAULTS) - {"reference-mismatch"}


def test_no_two_mutants_have_one_name():
    assert len({mutant.name for mutant in (*MUTANTS, *CONTROLS)}) == len(MUTANTS) + len(CONTROLS)


def test_names_that_are_right_as_well_are_names_of_other_faults():
    assert [m.name for m in MUTANTS if not set(m.also) <= set(FAULTS) - {m.fault}] == []


@pytest.mark.slow
@pytest.mark.parametrize("right", CONTROLS, ids=named)
def test_right_attention_is_silent(right):
    got = outcome(right, level="basic")
    assert (got.fault, got.told) == (None, "nothing was found")


@pytest.mark.parametrize("causal", [False, True])
def test_the_attention_that_mutants_start_from_is_as_torch_computes_it(causal):
    # independent oracle: nn.MultiheadAttention with the same numbers
    module = Attention(causal=causal).double().eval()
    other = torch.nn.MultiheadAttention(24, 4, batch_first=True, dtype=torch.float64)
    parts = (module.query, module.key, module.value)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        other.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        other.out_proj.load_state_dict(module.output.state_dict())
    x = 3 * torch.randn(2, 7, 24, dtype=torch.float64)
    hidden = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    torch.testing.assert_close(module(x), other(x, x, x, attn_mask=hidden, need_weights=False)[0])


@pytest.mark.slow
@pytest.mark.parametrize("mutant", of_each_fault(), ids=named)
def test_a_planted_fault_is_called_by_its_name(mutant):
    got = outcome(mutant, level="full" if mutant.fault in SLOW else "basic")
    assert got.named, (got.fault, got.told)


@pytest.mark.exhaustive
def test_at_least_97_percent_are_found_and_90_percent_named_with_each_of_three_seeds():
    told = list(outcomes(MUTANTS, level="full", seeds=3))
    print(table(told))
    accused = [one for one in outcomes(CONTROLS, level="full", seeds=3) if one.fault is not None]
    assert [(one.mutant.name, one.seed, one.told) for one in accused] == []
    for seed in range(3):
        some = [one for one in told if one.seed == seed]
        assert sum(one.fault is not None for one in some) >= 0.97 * len(some)
        assert sum(one.named for one in some) >= 0.9 * len(some)
    assert {one.mutant.name for one in told if one.fault is None} <= set(MISSED)
