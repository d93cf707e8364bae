"""What is no reference, or cannot be compared with, is refused in words before anything is checked."""

import pytest
import torch
from torch import nn

from attnkit import Attention, MultiHeadAttention
from attnkit.conformance import Reference, check
from attnkit.errors import OptionError, UnknownNameError
from tests.mutants.base import Attention as Steps


def small():
    return nn.MultiheadAttention(12, 4)


def broken(module, x, memory, keep):
    raise KeyError("weights")


class NoHeads(nn.Module):
    """Says nowhere how many heads it has."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(24, 24) for _ in range(4))

    def forward(self, x):
        return self.output(self.value(x))


REFUSED = [
    (Steps, 3, OptionError, "it is the name of a mechanism, a Mechanism, a Rule, a module or a function; got 3"),
    (Steps, Steps, OptionError, "got <class 'tests.mutants.base.Attention'>"),
    (Steps, "casual", UnknownNameError, "did you mean 'causal'?"),
    (Steps, "sliding_window", OptionError, "window"),
    (Steps, "sink", OptionError, "these weights of sink find no partner in Attention: sink (4,); it has query.weight"),
    (Steps, "sink", OptionError, 'fix: Reference(..., weights={"sink": "query.weight"}), a line for each'),
    (Steps, Attention(24, 4, mechanism="full", bias=True), None, ""),
    (lambda: MultiHeadAttention(24, 24, 70, 0.1, 4), Steps(), OptionError, "no partner in MultiHeadAttention: query"),
    (Steps, small(), OptionError, "these weights of MultiheadAttention find no partner"),
    (Steps, Steps(d_in=12), OptionError, "query.weight of Attention is (12, 12), and query.weight of A"),
    (NoHeads, "full", OptionError, "nothing tells how many heads NoHeads has"),
    (Steps, broken, OptionError, "broken raised KeyError for x (3, 7, 24): 'weights'\n  fix: reference=lambda module"),
    (Steps, lambda module: module, OptionError, "raised TypeError"),
]  # fmt: skip


@pytest.mark.messages
@pytest.mark.parametrize(("make", "reference", "error", "text"), REFUSED)
def test_what_cannot_be_compared_with_is_refused(make, reference, error, text):
    if error is None:
        assert check(make(), reference=reference).ok
        return
    with pytest.raises(error) as refusal:
        check(make(), reference=reference)
    assert text in str(refusal.value)


TOLD = [
    ({"qery": "query"}, UnknownNameError, "no parameter or submodule of the reference 'qery'"),
    ({"query": "to_q"}, UnknownNameError, "no submodule of the target 'to_q'"),
    ({"query.weight": "query.wait"}, UnknownNameError, "did you mean 'query.weight'?"),
    ({"query": "key[0:25]"}, OptionError, "key.weight has 24 rows; got 'key[0:25]'"),
    ({"query": "key[3:3]"}, OptionError, "key.weight has 24 rows; got 'key[3:3]'"),
    ({"query": "key[0:12]"}, OptionError, "of full is (24, 24), and key.weight[0:12] of Attention is (12, 24)"),
    ({"query": ["key", "query"]}, OptionError, "key.weight, query.weight of Attention is (48, 24)"),
]  # fmt: skip


@pytest.mark.messages
@pytest.mark.parametrize(("weights", "error", "text"), TOLD)
def test_weights_that_are_not_there_are_refused(weights, error, text):
    with pytest.raises(error) as refusal:
        check(Steps(), reference=Reference("full", weights=weights))
    assert text in str(refusal.value)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"source": nn.Linear(2, 2), "options": {"window": 3}}, "got window for a module"),
        (
            {"source": broken, "weights": {"a": "b"}},
            "a function reads the parameters of the module that it is given",
        ),
    ],
)
def test_options_and_weights_without_a_use_are_refused(given, text):
    with pytest.raises(OptionError) as refusal:
        Reference(**given)
    assert text in str(refusal.value)


def test_a_reference_that_takes_no_mask_is_compared_without_one_and_says_so():
    torch.manual_seed(0)

    class Maskless(Steps):
        def forward(self, x):
            return super().forward(x)

    report = check(Steps(), reference=Maskless())
    assert "reference" in report.passed
    assert report.skipped["reference_padded"] == "Maskless takes no mask of keys (batch, kv_len)"
