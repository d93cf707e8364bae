import pytest
from torch import nn

from attnkit.conformance.adapters import subject_of
from attnkit.conformance.case import Case, Skip
from attnkit.conformance.declared import Declared
from attnkit.conformance.relations.queries import run_equal_lengths


class Cross(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(12, 12) for _ in range(3))

    def forward(self, x, memory=None):
        return self.attend(x, x if memory is None else memory)

    def attend(self, x, memory):
        return (self.query(x) @ self.key(memory).mT).softmax(-1) @ self.value(memory)


class QueryOfTheMemory(Cross):
    def attend(self, x, memory):
        return super().attend(memory if x.shape == memory.shape else x, memory)


class MemoryOfTheTokens(Cross):
    def attend(self, x, memory):
        return super().attend(x, x if x.shape == memory.shape else memory)


class OtherScale(Cross):
    def attend(self, x, memory):
        return super().attend(x, memory) * (2 if x.shape == memory.shape else 1)


class Counting(Cross):
    def attend(self, x, memory):
        return super().attend(x, memory) * x.shape[1]


class Square(Cross):
    def attend(self, x, memory):
        assert x.shape == memory.shape, "of one length only"
        return super().attend(x, memory)


def found(module, **said):
    declared = Declared(**{"d_in": 12, "cross": True} | said)
    return list(run_equal_lengths(Case(subject_of(module, declared), declared)))


def test_right_cross_attention_is_silent():
    assert found(Cross()) == []


@pytest.mark.parametrize(
    ("module", "fault", "words"),
    [
        (QueryOfTheMemory(), "query-key-swapped", "do not depend on the queries"),
        (MemoryOfTheTokens(), "value-from-key", "read other queries as if they were the memory"),
        (OtherScale(), "shape-assumption", "with 5 queries and a memory of 5 tokens, outputs differ by"),
    ],
)
def test_what_is_wrong_at_one_length_alone_is_found(module, fault, words):
    (finding,) = found(module)
    assert finding.fault == fault
    assert words in finding.sentence
    assert finding.measured > 0.01


@pytest.mark.parametrize(
    ("module", "said", "reason"),
    [
        (Cross(), {"cross": False}, "reads no memory"),
        (Counting(), {}, "depends on how many queries"),
        (Square(), {}, "of one length only"),
    ],
)
def test_where_it_tells_nothing_it_is_left_out(module, said, reason):
    with pytest.raises(Skip, match=reason):
        found(module, **said)
