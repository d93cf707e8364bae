"""`parametrize`: every check is a test of pytest."""

import pytest
import torch
from torch import nn

from attnkit import conformance
from attnkit.conformance import CHECKS, FaultError
from attnkit.conformance.parametrizing import OneCheck
from tests.conformance.lookalikes import CAUSAL, ComplexRotary, Fused

pytestmark = pytest.mark.slow  # whole checks


@conformance.parametrize(lambda: Fused(), num_heads=4)
def test_a_right_module(one_check):
    one_check()


@conformance.parametrize(ComplexRotary(), **CAUSAL)
def test_a_right_causal_module(one_check):
    one_check()


def leaky():
    made.append(1)
    torch.manual_seed(0)
    return Fused()


made = []


def calls(one_check):
    one_check()


def parameters(level="basic", **said):
    decorated = conformance.parametrize(leaky, level=level, causal=True, **said)(calls)
    mark = decorated.pytestmark[-1]
    assert mark.args[0] == "one_check"
    return {str(one): one for one in mark.args[1]}


def test_there_is_a_test_for_each_check_of_a_level():
    assert list(parameters()) == [one.name for one in CHECKS if one.level == "basic" and not one.asks]
    assert len(parameters("strict")) == len([one for one in CHECKS if not one.asks])


def test_the_target_is_made_once_and_not_before_the_first_test():
    made.clear()
    checks = parameters()
    assert made == []
    for one in checks.values():
        try:
            one()
        except (FaultError, pytest.skip.Exception):
            continue
    assert made == [1]


def test_a_check_that_finds_something_fails_its_own_test():
    checks = parameters()
    with pytest.raises(FaultError):
        checks["influence"]()


@pytest.mark.messages
def test_a_failure_says_what_was_found_and_the_root():
    text = r"Fused, influence: future-leak: output \d moves (?s:.*)fix: the root is most likely future-leak: output"
    with pytest.raises(FaultError, match=text):
        parameters()["influence"]()


def test_a_check_that_cannot_be_made_is_skipped_with_the_reason():
    with pytest.raises(pytest.skip.Exception, match="it takes no memory"):
        parameters()["memory"]()


def test_a_check_that_was_said_to_fail_is_an_expected_failure():
    with pytest.raises(pytest.xfail.Exception, match="said to fail"):
        parameters(expected={"influence": "it is meant to read all"})["influence"]()


def test_a_function_of_query_key_and_value_is_itself_the_target():
    def attend(query, key, value):
        return nn.functional.scaled_dot_product_attention(query, key, value)

    decorated = conformance.parametrize(attend)(calls)
    one = next(one for one in decorated.pytestmark[-1].args[1] if str(one) == "influence")
    assert isinstance(one, OneCheck)
    one()
    assert one.report().target == "attend"
    assert torch.is_grad_enabled()
